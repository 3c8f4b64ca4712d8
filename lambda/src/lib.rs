//! The Lambda function: one event of S3 becomes rows of two tables, and alerts.
//!
//! ```text
//! event --envelope--> objects --lines--> row --batch--> prices (history), coins (latest)
//! ```

pub mod attribute;
pub mod batch;
pub mod envelope;
pub mod row;
