//! The images as they ship: what is in them, and that they do their work where nothing is trusted.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::collections::BTreeSet;
use std::sync::Arc;

use coinduit_integration::image::{Network, PATIENCE, begin, docker, hardened, run, stop};
use coinduit_integration::wait::within;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use testcontainers::ImageExt;
use testcontainers::core::{AccessMode, Mount, WaitFor};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const BUDGETS: [(&str, u64); 2] = [("producer", 8_000_000), ("consumer", 10_000_000)];

async fn inspect(image: &str) -> Value {
    let output = docker(&["image", "inspect", &format!("coinduit-{image}")]).await;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said[0].is_object(), "there is no image coinduit-{image}: make images");
    said[0].clone()
}

#[tokio::test]
async fn an_image_is_small_is_nobodys_and_says_what_it_is() {
    for (image, budget) in BUDGETS {
        let found = inspect(image).await;
        let size = found["Size"].as_u64().unwrap();
        assert!(size <= budget, "coinduit-{image} has {size} bytes, and may have {budget}");
        let config = &found["Config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Entrypoint"], serde_json::json!([format!("/{image}")]));
        for label in ["title", "description", "version", "revision", "created", "source", "licenses"] {
            let value = config["Labels"][format!("org.opencontainers.image.{label}")].as_str();
            assert!(value.is_some_and(|value| !value.is_empty()), "{image}: {label} is {value:?}");
        }
    }
    let health = inspect("consumer").await["Config"]["Healthcheck"]["Test"].clone();
    assert_eq!(health, serde_json::json!(["CMD", "/consumer", "health", "--live"]));
}

#[tokio::test]
async fn an_image_holds_one_program_and_the_authorities_it_trusts() {
    for (image, _) in BUDGETS {
        let created = docker(&["create", &format!("coinduit-{image}")]).await;
        let id = String::from_utf8(created.stdout).unwrap().trim().to_owned();
        let archive = tempfile::NamedTempFile::new().unwrap();
        let path = archive.path().to_str().unwrap();
        let exported = docker(&["export", "--output", path, &id]).await;
        docker(&["rm", &id]).await;
        assert!(exported.status.success(), "{exported:?}");
        let listed =
            tokio::process::Command::new("tar").args(["--list", "--verbose", "--file", path]).output();
        let listed = String::from_utf8(listed.await.unwrap().stdout).unwrap();
        // The engine itself adds empty files that it mounts over.
        let files = listed
            .lines()
            .filter(|line| line.starts_with('-') && line.split_whitespace().nth(2) != Some("0"));
        let files: BTreeSet<_> = files.map(|line| line.split_whitespace().nth(5).unwrap()).collect();
        assert_eq!(files, BTreeSet::from([image, "etc/ssl/certs/ca-certificates.crt"]), "{listed}");
    }
}

#[tokio::test]
async fn prices_are_stored_once_by_images_that_may_do_nothing_else() {
    let network = Network::start(&[]).await;
    create_bucket(&network, "prices").await;
    let producer = || network.ours("producer").with_cmd(["--create-topic", "--partitions", "3"]);
    let summary = run(producer()).await.expect_code(0).summary();
    assert_eq!((summary["status"].as_str(), summary["records"].as_u64()), (Some("published"), Some(50)));

    let consumer = network.ours("consumer").with_env_var("MAX_OBJECT_AGE", "200ms");
    let consumer = begin(consumer.with_ready_conditions(vec![WaitFor::healthcheck()])).await;
    run(producer()).await.expect_code(0);
    let audit = async || {
        let report = run(network.ours("consumer").with_cmd(["audit", "--json"])).await;
        let found: Value = serde_json::from_str(&report.out).unwrap_or_else(|_| panic!("{report:?}"));
        (report.code, found["totals"]["records"].as_u64())
    };
    within(PATIENCE, "both runs are stored, and no record twice", async || {
        audit().await == (Some(0), Some(100))
    })
    .await;

    let ended = stop(&consumer, 30).await.expect_code(0);
    assert!(ended.log.contains("stopping"), "{}", ended.log);
    assert_eq!(audit().await, (Some(0), Some(100)));
}

#[tokio::test]
async fn a_producer_that_waits_as_process_one_is_gone_in_three_seconds() {
    let network = Network::start(&["hang"]).await;
    // It looks for its topic while it waits for the prices.
    let waits = WaitFor::message_on_stderr("topic created");
    let producer = network.ours("producer").with_cmd(["--create-topic"]).with_ready_conditions(vec![waits]);
    let producer = begin(producer).await;
    // What has not ended by itself is killed by then, which would be exit code 137.
    let ended = stop(&producer, 3).await.expect_code(1);
    assert_eq!(ended.summary()["status"], "failed");
}

#[tokio::test]
async fn there_is_no_shell() {
    for (image, _) in BUDGETS {
        let name = format!("coinduit-{image}");
        let output = docker(&["run", "--rm", "--entrypoint", "/bin/sh", &name, "-c", "true"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("no such file"), "{said}");
        let helped = run(hardened(image).with_cmd(["--help"])).await.expect_code(0);
        assert!(helped.out.contains("Usage"), "{helped:?}");
    }
}

/// An API that says over TLS that it is not well. Its port, and whom to trust so that it is heard.
async fn unwell_api() -> (u16, String) {
    coinduit_common::crypto::install_ring();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a company's own");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();

    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(acceptor.accept(socket).await?);
                // The head of a request; who waits for an answer has sent it all.
                let mut line = String::from("some");
                while !line.trim().is_empty() {
                    line.clear();
                    stream.read_line(&mut line).await?;
                }
                stream.write_all(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n").await?;
                stream.shutdown().await
            });
        }
    });
    (port, authority.pem())
}

#[tokio::test]
async fn an_image_trusts_the_file_of_authorities_and_no_more() {
    let (port, pem) = unwell_api().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authorities.pem");
    std::fs::write(&file, pem).unwrap();
    let producer = || {
        let request = hardened("producer").with_network("host").with_env_var("API_KEY", "any");
        request.with_env_var("API_URL", format!("https://localhost:{port}")).with_cmd(["--dry-run"])
    };
    let mounted = |at: &str| {
        let mount = Mount::bind_mount(file.to_str().unwrap(), at).with_access_mode(AccessMode::ReadOnly);
        producer().with_mount(mount)
    };
    let own_file = "/authorities.pem";
    for trusting in [
        mounted("/etc/ssl/certs/ca-certificates.crt"),
        mounted(own_file).with_env_var("SSL_CERT_FILE", own_file),
    ] {
        let summary = run(trusting).await.expect_code(1).summary();
        assert!(summary["error"].as_str().is_some_and(|error| error.contains("418")), "{summary}");
    }
    let world = producer().with_env_var("RUN_DEADLINE", "5s").with_env_var("REQUEST_TIMEOUT", "2s");
    let summary = run(world).await.expect_code(1).summary();
    assert!(summary["error"].as_str().is_some_and(|error| error.contains("UnknownIssuer")), "{summary}");
}

async fn create_bucket(network: &Network, name: &str) {
    coinduit_common::crypto::install_ring();
    let url = format!("{}/{name}", network.aws_url);
    let client = reqwest::Client::new();
    within(PATIENCE, "the emulator makes a bucket", async || {
        client.put(&url).send().await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
}
