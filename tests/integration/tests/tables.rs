//! The tables' promises on other DynamoDBs than the embedded one: Amazon's own DynamoDB Local, and an AWS emulator.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../../../lambda/tests/tables/suite.rs"]
mod suite;

mod dynamodb_local {
    use coinduit_integration::emulator::address;

    crate::table_tests!(address(
        "DYNAMODB_LOCAL_URL",
        "Amazon's DynamoDB Local (java ... ServerRunner -inMemory -disableTelemetry -port 8000)"
    ));
}

mod aws_emulator {
    use coinduit_integration::emulator::address;

    crate::table_tests!(address(
        "AWS_EMULATOR_URL",
        "ministack 1.5.33 (BIND_HOST=127.0.0.1 GATEWAY_PORT=4566 ministack)"
    ));
}
