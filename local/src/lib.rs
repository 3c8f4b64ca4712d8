//! The embedded stack: what the pipeline talks to, in one process, for the demo, for tests, and by itself.

pub mod broker;
