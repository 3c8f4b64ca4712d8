//! Brokers as containers of Apache's image, on this machine's loopback address.

use testcontainers::ImageExt;

use crate::containers::{Container, Service};

/// Apache's own image.
pub(crate) const IMAGE: (&str, &str) = ("apache/kafka", "4.1.0");
/// What a broker may take: several run side by side.
pub(crate) const HEAP: &str = "-Xmx512m";
/// The controller answers within this on a busy machine: a broker that gives up before never gets to know the cluster.
const PATIENCE_MS: u32 = 20_000;
/// A broker that no other test uses.
pub(crate) const OWN: Service = Service {
    what: "brokers of its own",
    image: IMAGE,
    instead: "set KAFKA_UP to a script that starts them as processes: `$KAFKA_UP start FOLDER PORT`, with BROKERS=2 or PROPERTIES=FILE",
};
/// Where that image looks for settings.
const SETTINGS: &str = "/mnt/shared/config/server.properties";

/// A broker of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Its id. The first broker is the controller too.
    pub(crate) id: i32,
    /// Where it listens.
    pub(crate) port: u16,
    /// Where the controller does.
    pub(crate) controller: u16,
    /// On so many brokers is what the cluster keeps for itself.
    pub(crate) copies: usize,
}

impl Settings {
    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same as the broker reads it.
    fn properties(&self) -> String {
        let Self { id, controller, copies, .. } = self;
        let listener = format!("PLAINTEXT://{}", self.address());
        let (roles, listeners) = if *id == 1 {
            ("broker,controller", format!("{listener},CONTROLLER://127.0.0.1:{controller}"))
        } else {
            ("broker", listener.clone())
        };
        format!(
            "process.roles={roles}\n\
             node.id={id}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.quorum.request.timeout.ms={PATIENCE_MS}\n\
             controller.listener.names=CONTROLLER\n\
             listeners={listeners}\n\
             advertised.listeners={listener}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs=/tmp/kraft-combined-logs\n\
             num.partitions=3\n\
             offsets.topic.replication.factor={copies}\n\
             transaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n"
        )
    }
}

/// Starts a broker of the cluster `cluster_id` with these settings, then `more`, which wins, and with these files, path
/// and content; waits until it listens.
///
/// # Panics
/// When that fails.
pub(crate) async fn start(
    service: &Service,
    cluster_id: &str,
    settings: &Settings,
    more: &str,
    files: &[(String, Vec<u8>)],
) -> Container {
    let properties = settings.properties() + more;
    let mut request = service
        .on_loopback()
        .with_env_var("CLUSTER_ID", cluster_id)
        .with_env_var("KAFKA_HEAP_OPTS", HEAP)
        .with_copy_to(SETTINGS, properties.into_bytes());
    for (path, content) in files {
        request = request.with_copy_to(path, content.clone());
    }
    let container = Container::start(service, request).await;
    container.listens(&settings.address()).await;
    container
}
