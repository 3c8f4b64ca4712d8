//! The images that ship, in a network of a test's own, beside a Kafka, an AWS emulator and the price API.
//!
//! Ours run with everything taken away that can be: no writable file system, no capability, and a user whom the image
//! does not know.

use std::process::Output;

use testcontainers::core::wait::ExitWaitStrategy;
use testcontainers::core::{ContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::process::Command;
use uuid::Uuid;

use crate::containers::LABEL;
pub use crate::containers::PATIENCE;
use crate::program::Ended;

/// Where the emulator listens.
const AWS_PORT: u16 = 4566;

/// The services that ours speak to. All of it is removed when this is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// Where the emulator is found from outside.
    pub aws_url: String,
    #[expect(dead_code, reason = "they are kept")]
    services: [ContainerAsync<GenericImage>; 3],
}

impl Network {
    /// Starts the services; `api_faults` is what the price API does wrong.
    ///
    /// # Panics
    /// When one can't be started.
    pub async fn start(api_faults: &[&str]) -> Self {
        let name = format!("coinduit-test-{}", Uuid::new_v4().simple());
        let kafka = GenericImage::new("apache/kafka".to_owned(), "4.1.0".to_owned())
            .with_wait_for(WaitFor::message_on_stdout("Kafka Server started"))
            .with_env_var("KAFKA_NODE_ID", "1")
            .with_env_var("KAFKA_PROCESS_ROLES", "broker,controller")
            .with_env_var("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
            .with_env_var("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
            .with_env_var("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://localhost:9093")
            .with_env_var("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://{name}-kafka:9092"))
            .with_env_var("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT")
            .with_env_var("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
            .with_env_var("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
            .with_env_var("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
            .with_env_var("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0");
        let aws = GenericImage::new("ministackorg/ministack".to_owned(), "1.5.33".to_owned())
            .with_exposed_port(ContainerPort::Tcp(AWS_PORT))
            .with_wait_for(WaitFor::seconds(0));
        let faults = api_faults.iter().map(|fault| format!("--api-fault={fault}"));
        let api = hardened("price-api").with_ready_conditions(vec![WaitFor::healthcheck()]).with_cmd(faults);
        let (kafka, aws, api) = tokio::join!(
            begin(kafka.with_network(&name).with_container_name(format!("{name}-kafka"))),
            begin(aws.with_network(&name).with_container_name(format!("{name}-aws"))),
            begin(api.with_network(&name).with_container_name(format!("{name}-api"))),
        );
        let port = aws.get_host_port_ipv4(AWS_PORT).await.expect("the emulator's port is published");
        Self { name, aws_url: format!("http://127.0.0.1:{port}"), services: [kafka, aws, api] }
    }

    /// One of our images, in this network, told where everything is.
    pub fn ours(&self, image: &str) -> ContainerRequest<GenericImage> {
        let name = &self.name;
        hardened(image)
            .with_network(name)
            .with_env_var("KAFKA_BOOTSTRAP_SERVERS", format!("{name}-kafka:9092"))
            .with_env_var("API_URL", format!("http://{name}-api:8080"))
            .with_env_var("API_KEY", "any")
            .with_env_var("S3_BUCKET", "prices")
            .with_env_var("AWS_ENDPOINT_URL", format!("http://{name}-aws:{AWS_PORT}"))
            .with_env_var("AWS_REGION", "us-east-1")
            .with_env_var("AWS_ACCESS_KEY_ID", "test")
            .with_env_var("AWS_SECRET_ACCESS_KEY", "test")
    }
}

/// One of our images with everything taken away.
pub fn hardened(image: &str) -> ContainerRequest<GenericImage> {
    let tag = std::env::var("TAG").ok().filter(|tag| !tag.is_empty()).unwrap_or_else(|| "latest".to_owned());
    GenericImage::new(format!("coinduit-{image}"), tag)
        .with_readonly_rootfs(true)
        .with_cap_drop("ALL")
        .with_security_opt("no-new-privileges:true")
        .with_user("12345:12345")
}

/// Starts a container, and waits until it is what the request waits for.
///
/// # Panics
/// When it can't be started, or does not come so far.
pub async fn begin(request: ContainerRequest<GenericImage>) -> ContainerAsync<GenericImage> {
    let what = format!("{:?}", request.image());
    let (label, value) = LABEL;
    request.with_label(label, value).with_startup_timeout(PATIENCE).start().await.unwrap_or_else(|error| {
        panic!("{what}: {error} (this test needs a Docker engine, and the images that `make images` makes)")
    })
}

/// Runs a container to its end.
///
/// # Panics
/// When it can't be started.
pub async fn run(request: ContainerRequest<GenericImage>) -> Ended {
    let container = begin(request.with_ready_conditions(vec![WaitFor::exit(ExitWaitStrategy::new())])).await;
    ended(&container).await
}

/// Tells a container to stop, and kills it after `seconds`.
///
/// # Panics
/// When the engine can't be asked.
pub async fn stop(container: &ContainerAsync<GenericImage>, seconds: i32) -> Ended {
    container.stop_with_timeout(Some(seconds)).await.expect("stop a container");
    ended(container).await
}

async fn ended(container: &ContainerAsync<GenericImage>) -> Ended {
    let code = container.exit_code().await.expect("ask how a container ended").expect("it has ended");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ours print text");
    let out = text(container.stdout_to_vec().await.expect("read a container's output"));
    let log = text(container.stderr_to_vec().await.expect("read a container's log"));
    Ended { code: i32::try_from(code).ok(), out, log }
}

/// What the `docker` command says.
///
/// # Panics
/// When it is not installed.
pub async fn docker(arguments: &[&str]) -> Output {
    let output = Command::new("docker").args(arguments).output().await;
    output.unwrap_or_else(|error| panic!("this test needs the docker command: {error}"))
}
