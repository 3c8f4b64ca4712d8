//! Clients of the embedded services, for the tests of this crate.

#![allow(dead_code, reason = "each test program uses its part")]

use coinduit_common::crypto::install_ring;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_credential_types::Credentials as AwsCredentials;
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use coinduit_local::credentials::{Credentials, REGION, USER};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ClientOptions, RetryConfig};
use serde_json::Value;

/// A free port on loopback.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// object_store on the bucket `coinduit`, without retries: a test sees each answer.
pub(crate) fn store(url: &str, caller: Credentials) -> AmazonS3 {
    install_ring();
    AmazonS3Builder::new()
        .with_endpoint(url)
        .with_bucket_name("coinduit")
        .with_region(REGION)
        .with_access_key_id(caller.access_key)
        .with_secret_access_key(caller.secret_key)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

pub(crate) fn http() -> reqwest::Client {
    install_ring();
    reqwest::Client::new()
}

pub(crate) async fn get_json(url: String) -> Value {
    let body = http().get(url).send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

pub(crate) fn dynamodb(url: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(url)
        .http_client(HttpClientBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

pub(crate) fn sns(url: &str) -> aws_sdk_sns::Client {
    let config = aws_sdk_sns::Config::builder()
        .behavior_version(aws_sdk_sns::config::BehaviorVersion::latest())
        .region(aws_sdk_sns::config::Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(url)
        .http_client(HttpClientBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
        .build();
    aws_sdk_sns::Client::from_conf(config)
}

fn credentials() -> AwsCredentials {
    AwsCredentials::new(USER.access_key, USER.secret_key, None, None, "tests")
}

/// A program that stands in for `bootstrap`, as a shell script; a test that plays the function itself over HTTP
/// takes one that sleeps.
pub(crate) fn script(folder: &Path, commands: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("bootstrap");
    std::fs::write(&path, format!("#!/bin/sh\n{commands}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until `condition` holds. What never comes fails the test after a minute, which is no measurement.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
