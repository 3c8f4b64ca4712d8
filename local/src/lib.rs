//! The embedded stack: what the pipeline needs around it, in one process, on loopback.
//!
//! Each service is a module that can be started by itself, inside a tokio runtime:
//!
//! | module | plays |
//! | --- | --- |
//! | [`price_api`] | LiveCoinWatch's API, from recorded answers |

pub mod credentials;
pub mod price_api;

mod clock;
mod server;
