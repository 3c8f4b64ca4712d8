//! Where the services are: at the address that the environment names, or else in a container that is started here and
//! removed again.
//!
//! A container is started by the first test of a process that asks, is used by all that run meanwhile, and is removed
//! by the last one, when it lets go of the [`Address`] that it was given: nothing outlives the process.

use std::net::TcpListener;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, Weak};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use testcontainers::ImageExt;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::broker::{self, Settings};
use crate::containers::{Container, Service};

/// Which kind of Kafka the tests use: `kraft`, or `zookeeper`.
const MODE: &str = "KAFKA_MODE";
/// Where a Kafka without ZooKeeper is.
const KRAFT: &str = "KAFKA_BOOTSTRAP_SERVERS";
/// Where a Kafka with ZooKeeper is.
const ZOOKEEPER: &str = "KAFKA_ZOOKEEPER_BOOTSTRAP_SERVERS";
/// Where an AWS emulator is.
const EMULATOR: &str = "AWS_EMULATOR_URL";
/// Ports from here on are given to services.
const PORTS: u16 = 10_000;
/// Where Amazon's DynamoDB Local is.
const DYNAMODB: &str = "DYNAMODB_LOCAL_URL";

const KRAFT_KAFKA: Service = Service {
    what: "a real Kafka",
    image: broker::IMAGE,
    instead: "set KAFKA_BOOTSTRAP_SERVERS=host:port to one where topics named coinduit-test-... may be created and deleted",
};
/// The last release that can do with ZooKeeper, as Confluent packs it: Kafka 3.9.
const ZOOKEEPER_KAFKA: Service = Service {
    what: "a real Kafka that uses ZooKeeper",
    image: ("confluentinc/cp-kafka", "7.9.2"),
    instead: "set KAFKA_ZOOKEEPER_BOOTSTRAP_SERVERS=host:port to one where topics named coinduit-test-... may be created and deleted",
};
const ITS_ZOOKEEPER: Service = Service {
    what: "a ZooKeeper for a real Kafka",
    image: ("confluentinc/cp-zookeeper", "7.9.2"),
    ..ZOOKEEPER_KAFKA
};
/// The full image: as published, the other one knows no serverless templates.
const AWS_EMULATOR: Service = Service {
    what: "the AWS emulator ministack 1.5.33, with aws-sam-translator",
    image: ("ministackorg/ministack", "1.5.33-full"),
    instead: "set AWS_EMULATOR_URL=http://host:port to one that runs",
};
/// Taken where the engine has it already: somebody has made it so that it knows them.
const AWS_EMULATOR_HERE: Service = Service { image: ("ministackorg/ministack", "1.5.33"), ..AWS_EMULATOR };
const DYNAMODB_LOCAL: Service = Service {
    what: "Amazon's DynamoDB Local",
    image: ("amazon/dynamodb-local", "2.6.1"),
    instead: "set DYNAMODB_LOCAL_URL=http://host:port to one that runs (java ... ServerRunner -inMemory -disableTelemetry -port 8000)",
};

/// Where a service is. As long as this is kept, a service that was started for it runs.
#[derive(Debug, Clone)]
pub struct Address {
    text: String,
    #[expect(dead_code, reason = "it is kept")]
    started: Option<Arc<Started>>,
}

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Address {
    /// The address of something that is there, and stays.
    pub(crate) fn given(text: &str) -> Self {
        Self { text: text.to_owned(), started: None }
    }
}

/// What was started, in the order in which it is to be removed.
#[derive(Debug)]
struct Started {
    address: String,
    #[expect(dead_code, reason = "they are kept")]
    containers: Vec<Container>,
}

/// A service that the tests of this process share.
struct Shared(Mutex<Weak<Started>>);

impl Shared {
    const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// The one that `variable` names, or the one that runs, or one that `start` starts.
    async fn get(&self, variable: &str, start: impl AsyncFnOnce() -> Started) -> Address {
        if let Some(address) = named(variable) {
            return Address::given(address.trim_end_matches('/'));
        }
        let mut shared = self.0.lock().await;
        let started = match shared.upgrade() {
            Some(started) => started,
            None => Arc::new(start().await),
        };
        *shared = Arc::downgrade(&started);
        Address { text: started.address.clone(), started: Some(started) }
    }
}

/// The Kafka of the kind that `KAFKA_MODE` says.
///
/// # Panics
/// When the environment names none, and none can be started.
pub async fn kafka() -> Address {
    static IN_KRAFT_MODE: Shared = Shared::new();
    static WITH_ZOOKEEPER: Shared = Shared::new();
    match named(MODE).as_deref() {
        None | Some("kraft") => IN_KRAFT_MODE.get(KRAFT, kraft).await,
        Some("zookeeper") => WITH_ZOOKEEPER.get(ZOOKEEPER, zookeeper).await,
        Some(other) => panic!("{MODE} is {other:?}: set it to kraft (as it is when unset) or zookeeper"),
    }
}

async fn kraft() -> Started {
    let port = free_ports(2);
    let settings = Settings { id: 1, port, controller: port + 1, copies: 1 };
    let container = broker::start_container(&KRAFT_KAFKA, &cluster_id(), &settings, "", &[]).await;
    Started { address: settings.address(), containers: vec![container] }
}

async fn zookeeper() -> Started {
    const PORT: u16 = 2181;
    let request = ITS_ZOOKEEPER.on_bridge().with_env_var("ZOOKEEPER_CLIENT_PORT", PORT.to_string());
    let keeper = Container::start(&ITS_ZOOKEEPER, request).await;
    let keeper_address = keeper.bridge_address(PORT).await;
    keeper.listens(&keeper_address).await;

    let address = format!("127.0.0.1:{}", free_ports(1));
    let listener = format!("PLAINTEXT://{address}");
    let mut request = ZOOKEEPER_KAFKA.on_loopback();
    for (name, value) in [
        ("BROKER_ID", "1"),
        ("ZOOKEEPER_CONNECT", keeper_address.as_str()),
        ("LISTENERS", &listener),
        ("ADVERTISED_LISTENERS", &listener),
        ("NUM_PARTITIONS", "3"),
        ("OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("HEAP_OPTS", broker::HEAP),
    ] {
        request = request.with_env_var(format!("KAFKA_{name}"), value);
    }
    let kafka = Container::start(&ZOOKEEPER_KAFKA, request).await;
    kafka.listens(&address).await;
    Started { address, containers: vec![kafka, keeper] }
}

/// The AWS emulator.
///
/// # Panics
/// When the environment names none, and none can be started.
pub async fn aws_emulator() -> Address {
    static EMULATORS: Shared = Shared::new();
    let start = async || {
        let port = free_ports(1);
        let address = format!("http://127.0.0.1:{port}");
        let service = if AWS_EMULATOR_HERE.is_here().await { AWS_EMULATOR_HERE } else { AWS_EMULATOR };
        let request = service
            .on_loopback()
            .with_env_var("BIND_HOST", "127.0.0.1")
            .with_env_var("GATEWAY_PORT", port.to_string())
            // Its functions inherit these; without them they would go to the real AWS.
            .with_env_var("AWS_ENDPOINT_URL", &address)
            .with_env_var("AWS_ACCESS_KEY_ID", "test")
            .with_env_var("AWS_SECRET_ACCESS_KEY", "test");
        let container = Container::start(&service, request).await;
        container.listens(&format!("127.0.0.1:{port}")).await;
        Started { address, containers: vec![container] }
    };
    EMULATORS.get(EMULATOR, start).await
}

/// Amazon's DynamoDB Local.
///
/// # Panics
/// When the environment names none, and none can be started.
pub async fn dynamodb_local() -> Address {
    const PORT: u16 = 8000;
    static DYNAMODBS: Shared = Shared::new();
    let start = async || {
        let command = ["-jar", "DynamoDBLocal.jar", "-inMemory", "-disableTelemetry"];
        let container = Container::start(&DYNAMODB_LOCAL, DYNAMODB_LOCAL.on_bridge().with_cmd(command)).await;
        let address = container.bridge_address(PORT).await;
        container.listens(&address).await;
        Started { address: format!("http://{address}"), containers: vec![container] }
    };
    DYNAMODBS.get(DYNAMODB, start).await
}

/// The value of `variable`, if it has one.
fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// A name that a new cluster can have.
pub(crate) fn cluster_id() -> String {
    URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes())
}

/// The first of so many ports in a row that are free on the loopback address, and that nobody else is given while this
/// process runs.
///
/// They are below those that the system gives to connections: the port of a broker that is stopped would be taken by
/// one, or by one to that very port.
///
/// # Panics
/// When there are none.
pub(crate) fn free_ports(number: u16) -> u16 {
    static NEXT: std::sync::Mutex<Option<u16>> = std::sync::Mutex::new(None);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    assert!(
        end > PORTS + 100,
        "connections get ports from {end} on here: let net.ipv4.ip_local_port_range begin later"
    );

    // Other processes look for ports too: each begins elsewhere.
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut first = next.unwrap_or_else(|| rand::rng().random_range(PORTS..end));
    for _ in PORTS..end {
        if first > end - number {
            first = PORTS;
        }
        let mut row = first..first + number;
        if row.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            *next = Some(row.end);
            return first;
        }
        first += 1;
    }
    panic!("no {number} ports in a row are free between {PORTS} and {end}")
}
