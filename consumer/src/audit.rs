//! `consumer audit`: what a topic's objects say of each other, and what its log says of them.

pub mod compare;
pub mod examine;
pub mod finding;
pub mod handled;
pub mod listing;
pub mod report;
