//! A Kafka cluster of a test's own, whose brokers it may stop.
//!
//! ```text
//! Cluster: broker 1, the controller too · broker 2     processes of the script KAFKA_UP; containers without it
//!          broker 3, by `Cluster::join`                so that two can be away while the controller stays
//! ```

use std::path::Path;

use tempfile::TempDir;

use crate::broker::{self, Broker, Launched, OWN, Process, Script, Settings};
use crate::services::{cluster_id, free_ports};

/// The brokers' names in the script's folder. The first is the controller too.
const BROKERS: [&str; 2] = ["kafka", "kafka2"];
/// So far behind the first broker's port the controller's is, and the second broker's.
const CONTROLLER: u16 = 1;
const SECOND: u16 = 3;

/// Two brokers. They are gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    brokers: [Broker; 2],
    home: Home,
}

/// Where brokers are added.
#[derive(Debug)]
enum Home {
    /// The script's folder.
    Folder(TempDir),
    /// The name of the cluster, and the controller's port.
    Containers(String, u16),
}

impl Cluster {
    /// Starts one: by the script that the environment names, or else in containers.
    ///
    /// # Panics
    /// When that fails.
    pub async fn start() -> Self {
        let port = free_ports(SECOND + 1);
        match Script::find() {
            Some(script) => Self::by_script(&script, port).await,
            None => Self::in_containers(port).await,
        }
    }

    async fn by_script(script: &Script, port: u16) -> Self {
        let folder =
            tempfile::Builder::new().prefix("coinduit-kafka-").tempdir().expect("a temporary folder");
        let launched = |name| Launched::Process(Process::of_script(folder.path(), name));
        let [first, second] = BROKERS.map(launched);
        // The cluster is known from here on: it is stopped though the script fails half-way.
        let brokers = [Broker::new(port, first), Broker::new(port + SECOND, second)];
        let mut cluster = Self { brokers, home: Home::Folder(folder) };
        if let Home::Folder(folder) = &cluster.home {
            script.start(folder.path(), port, ("BROKERS", "2".as_ref())).await;
        }
        cluster.brokers.iter_mut().filter_map(Broker::process).for_each(Process::find);
        cluster
    }

    async fn in_containers(port: u16) -> Self {
        let (cluster_id, controller) = (cluster_id(), port + CONTROLLER);
        let first = in_container(&cluster_id, 1, port, controller).await;
        let second = in_container(&cluster_id, 2, port + SECOND, controller).await;
        Self { brokers: [first, second], home: Home::Containers(cluster_id, controller) }
    }

    /// The addresses of both.
    pub fn bootstrap(&self) -> String {
        self.brokers.each_ref().map(Broker::address).join(",")
    }

    /// Starts a third broker, whose id is 3. It is the caller's to stop.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn join(&mut self) -> Broker {
        let port = free_ports(1);
        let [_, second] = &mut self.brokers;
        match (&self.home, second.process()) {
            (Home::Folder(folder), Some(second)) => join_process(folder.path(), second, port).await,
            (Home::Containers(cluster_id, controller), _) => {
                in_container(cluster_id, 3, port, *controller).await
            }
            (Home::Folder(_), None) => unreachable!("the script starts processes"),
        }
    }

    /// The brokers: the one that is the controller too, and the other one. Their ids are 1 and 2.
    pub fn brokers(&mut self) -> &mut [Broker; 2] {
        &mut self.brokers
    }
}

async fn in_container(cluster_id: &str, id: i32, port: u16, controller: u16) -> Broker {
    let settings = Settings { id, port, controller, copies: 2 };
    let container = broker::start_container(&OWN, cluster_id, &settings, "", &[]).await;
    Broker::new(port, Launched::Container(Box::new(container)))
}

/// The script starts two brokers: a third one is made from what the second one has.
async fn join_process(folder: &Path, second: &Process, port: u16) -> Broker {
    let changed = |path: &Path, changes: &[(&str, String)]| {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let line = |line: &str| {
            let change = changes.iter().find(|(name, _)| line.starts_with(&format!("{name}=")));
            change.map_or_else(|| line.to_owned(), |(name, value)| format!("{name}={value}"))
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    let data = folder.join("data3");
    std::fs::create_dir(&data).expect("a folder for the broker's logs");
    let listener = format!("PLAINTEXT://127.0.0.1:{port}");
    let own = [
        ("node.id", "3".to_owned()),
        ("log.dirs", data.display().to_string()),
        ("listeners", listener.clone()),
        ("advertised.listeners", listener),
    ];
    let settings = folder.join("server3.properties");
    std::fs::write(&settings, changed(&folder.join("server2.properties"), &own)).expect("write its settings");
    let directory = ("directory.id", cluster_id());
    let meta = changed(&folder.join("data2/meta.properties"), &[("node.id", "3".to_owned()), directory]);
    std::fs::write(data.join("meta.properties"), meta).expect("write whose folder it is");

    let third = second.sibling(folder, "kafka3", settings);
    let mut broker = Broker::new(port, Launched::Process(third));
    broker.start_again().await;
    broker
}
