//! The tables' promises on other DynamoDBs than the embedded one: Amazon's own DynamoDB Local, and an AWS emulator.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../../../lambda/tests/tables/suite.rs"]
mod suite;

mod dynamodb_local {
    crate::table_tests!(coinduit_integration::services::dynamodb_local());
}

mod aws_emulator {
    crate::table_tests!(coinduit_integration::services::aws_emulator());
}
