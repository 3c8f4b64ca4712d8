//! A Kafka broker for development and tests: one node, in this process, on a port of its own.
//!
//! It speaks Kafka's protocol, so any client can use it: topics, partitions, record batches of every codec,
//! fetches that wait, offsets by time, transactional batches as they are, classic consumer groups. What it does not do it says:
//! a request it has not, or a version it does not speak, is logged and ends the connection, as in Kafka;
//! topic settings, replicas and fetch sessions are refused with the documented error.
//!
//! ```text
//! clients <-- TCP --> server (tasks, time) <--> core (all decisions) --> storage (a folder, if wanted)
//!                        ^
//!                      faults (what tests ask for)
//! ```
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use coinduit_local::broker::{Broker, BrokerConfig};
//!
//! let broker = Broker::start(BrokerConfig::default()).await?;
//! broker.create_topic("crypto_prices", 4).expect("a new broker has no topics");
//! println!("bootstrap servers: {}", broker.bootstrap());
//! broker.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod core;
mod faults;
mod server;
mod storage;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
pub use kafka_protocol::error::ResponseError;
pub use kafka_protocol::messages::ApiKey;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::core::{Committed, Core, CreateTopicError, GroupView, Groups, RawAppendError, Settings, Topics};
pub use self::faults::{Fault, Faults};
use self::server::Node;
use self::storage::Storage;
pub use self::storage::StorageError;

/// Where the broker listens, what it keeps, how it behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder for topics and records, made if it is not there; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// How the broker behaves.
    pub settings: Settings,
}

impl Default for BrokerConfig {
    /// A free port of the loopback interface, in memory, topics only when they are created.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data_dir: None,
            settings: Settings::default(),
        }
    }
}

/// Why something that the owner of a broker asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The topic was not created.
    #[error(transparent)]
    CreateTopic(#[from] CreateTopicError),
    /// The batches were not appended, or not all.
    #[error(transparent)]
    Append(#[from] RawAppendError),
    /// The topic, partition or offset is not there.
    #[error("{operation} {target}")]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// Of what.
        target: String,
        /// As a client would be told.
        source: ResponseError,
    },
    /// It was done in memory, but not in the folder; the broker has stopped.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A running broker. Dropping it ends it like [`stop`](Self::stop), without waiting.
#[derive(Debug)]
pub struct Broker {
    addr: SocketAddr,
    node: Arc<Node>,
    server: JoinHandle<()>,
}

impl Broker {
    /// Reads the folder, if there is one, and starts to listen.
    ///
    /// # Errors
    /// From the operating system (address in use), or around a [`StorageError`].
    pub async fn start(config: BrokerConfig) -> io::Result<Self> {
        let (storage, topics, commits) = match &config.data_dir {
            Some(dir) => {
                let (storage, topics, commits) = Storage::open(dir).map_err(io::Error::other)?;
                (Some(storage), topics, commits)
            }
            None => (None, Topics::new(Uuid::new_v4()), BTreeMap::new()),
        };
        let groups = Groups::restore(Uuid::new_v4(), commits);
        let listener = TcpListener::bind(config.listen).await?;
        let addr = listener.local_addr()?;
        let node = Arc::new(Node::new(Core::with_groups(config.settings, topics, groups), storage));
        let server = tokio::spawn(server::run(Arc::clone(&node), listener));
        Ok(Self { addr, node, server })
    }

    /// The address it listens on, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as clients want it: `host:port`.
    pub fn bootstrap(&self) -> String {
        self.addr.to_string()
    }

    /// The bad weather of this broker.
    pub fn faults(&self) -> Faults {
        self.node.faults().clone()
    }

    /// Creates a topic; returns its id.
    ///
    /// # Errors
    /// [`BrokerError::CreateTopic`], [`BrokerError::Storage`].
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<Uuid, BrokerError> {
        Ok(self.node.with_core(|core| core.create_topic(name, partitions))??)
    }

    /// Appends record batches as they are, at their own offsets: control batches, gaps as compaction
    /// leaves them, other things that producers may not send. Returns the offset of the next record.
    ///
    /// # Errors
    /// [`BrokerError::Append`], also after some of the batches; [`BrokerError::Storage`].
    pub fn append_raw(&self, topic: &str, partition: i32, batches: Bytes) -> Result<i64, BrokerError> {
        Ok(self.node.with_core(|core| core.append_raw(topic, partition, batches))??)
    }

    /// Deletes a topic with all its records; created again it has another id.
    ///
    /// # Errors
    /// [`BrokerError::Refused`], [`BrokerError::Storage`].
    pub fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        let deleted = self.node.with_core(|core| core.delete_topic(name))?;
        let refused =
            |source| BrokerError::Refused { operation: "delete topic", target: name.to_owned(), source };
        deleted.map(drop).map_err(refused)
    }

    /// Deletes the records before `offset`, as retention does; returns the log start.
    ///
    /// # Errors
    /// [`BrokerError::Refused`], [`BrokerError::Storage`].
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, BrokerError> {
        let start = self.node.with_core(|core| core.delete_records(topic, partition, offset))?;
        start.map_err(|source| {
            let target = format!("{topic}/{partition} before offset {offset}");
            BrokerError::Refused { operation: "delete records of", target, source }
        })
    }

    /// The offsets that a partition has: from the log start to the high watermark, exclusive.
    pub fn offsets(&self, topic: &str, partition: i32) -> Option<Range<i64>> {
        let log =
            |core: &mut Core| core.topics().partition(topic, partition).map(|log| log.start()..log.next());
        self.node.with_core(log).expect("looking writes nothing")
    }

    /// The id of a topic.
    pub fn topic_id(&self, name: &str) -> Option<Uuid> {
        let id = |core: &mut Core| core.topics().get(name).map(core::Topic::id);
        self.node.with_core(id).expect("looking writes nothing")
    }

    /// A group with its members, now; `None` if it was never heard of.
    pub fn group(&self, id: &str) -> Option<GroupView> {
        let now_ms = self.node.now_ms();
        let view = |core: &mut Core| {
            core.pass_time(now_ms);
            core.group(id)
        };
        self.node.with_core(view).expect("time passing writes nothing")
    }

    /// What a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        let committed = |core: &mut Core| core.committed(group, topic, partition).cloned();
        self.node.with_core(committed).expect("looking writes nothing")
    }

    /// Sets a committed offset as an operator does (`kafka-consumer-groups --reset-offsets`); with `force`
    /// also while the group has members, which Kafka refuses.
    ///
    /// # Errors
    /// [`BrokerError::Refused`], [`BrokerError::Storage`].
    pub fn reset_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        force: bool,
    ) -> Result<(), BrokerError> {
        let now_ms = self.node.now_ms();
        let reset = self.node.with_core(|core| {
            core.pass_time(now_ms);
            core.reset_offset(group, topic, partition, offset, force)
        })?;
        reset.map_err(|source| {
            let target = format!("group {group} in {topic}/{partition} to {offset}");
            BrokerError::Refused { operation: "reset offset of", target, source }
        })
    }

    /// Removes all commits of a group, as their retention does; says whether there were any.
    ///
    /// # Errors
    /// [`BrokerError::Storage`].
    pub fn expire_commits(&self, group: &str) -> Result<bool, BrokerError> {
        Ok(self.node.with_core(|core| core.expire_commits(group))?)
    }

    /// The coordinator of all groups moves to a broker that nobody can reach: until
    /// [`regain_coordinator`](Self::regain_coordinator) every call about a group is answered NOT_COORDINATOR,
    /// also those that wait, and FindCoordinator COORDINATOR_NOT_AVAILABLE.
    pub fn lose_coordinator(&self) {
        let now_ms = self.node.now_ms();
        self.node.with_core(|core| core.lose_coordinator(now_ms)).expect("losing writes nothing");
    }

    /// Ends [`lose_coordinator`](Self::lose_coordinator): all groups are as they were, and all time-outs begin
    /// anew.
    pub fn regain_coordinator(&self) {
        let now_ms = self.node.now_ms();
        self.node.with_core(|core| core.regain_coordinator(now_ms)).expect("regaining writes nothing");
    }

    /// Ends every connection, frees the port and the folder. Everything acknowledged is in the folder.
    pub async fn stop(mut self) {
        self.node.halt();
        // The server ends when it sees that; a panic in a connection comes through here.
        if let Err(failed) = (&mut self.server).await
            && failed.is_panic()
        {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.server.abort();
    }
}
