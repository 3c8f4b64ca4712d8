//! The broker without sockets, files, clocks and tasks: requests in, responses out.
//!
//! ```text
//! bytes -> wire::decode -> Core::handle(call, moment) -> Step::Answer -> wire::encode -> bytes
//!                              |                         Step::Wait   -> try again on a change, or at until_ms
//!                              |                         Step::Park   -> resume(ticket) then
//!                              v                         Step::Silence, Step::Close
//!                          take_changes() -> what to persist before the answer is sent
//! ```
//!
//! One broker, node 1, leads every partition and is the controller. Nothing here waits and nothing is
//! random: two cores that get the same calls at the same moments give the same answers.
//!
//! [`Groups`] is a second state beside [`Topics`]: the coordinator of classic consumer groups. Its time passes
//! when somebody calls; [`Core::pass_time`] lets it pass without a call.

mod api;
mod batch;
mod groups;
mod log;
mod operator;
mod shape;
mod topics;
mod transactions;
pub mod wire;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use uuid::Uuid;

pub use self::batch::{Batch, BatchError};
use self::groups::Answer;
pub use self::groups::{Commits, Committed, GroupState, GroupView, Groups, MemberView, Ticket};
pub use self::log::{AppendError, Isolation, PartitionLog};
pub use self::topics::{CreateTopicError, Topic, Topics};
use self::wire::{Call, Request, Response};

/// The one broker of the cluster.
const NODE_ID: BrokerId = BrokerId(1);

/// How the broker behaves; Kafka's names are in the field docs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `auto.create.topics.enable`: does asking for a topic's metadata create it? Off here, on in Kafka.
    pub auto_create_topics: bool,
    /// `num.partitions`: for topics that are created without a number.
    pub default_partitions: i32,
    /// `message.max.bytes`: the largest record batch, in bytes as stored.
    pub max_batch_bytes: usize,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members after the first.
    /// None here, 3 s in Kafka.
    pub group_initial_delay_ms: u64,
    /// `group.min.session.timeout.ms`: the shortest session time-out that a member may have.
    pub group_min_session_ms: u64,
    /// `group.max.session.timeout.ms`: the longest.
    pub group_max_session_ms: u64,
    /// `offset.metadata.max.bytes`: the most that may stand beside a committed offset.
    pub max_commit_metadata_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auto_create_topics: false,
            default_partitions: 1,
            max_batch_bytes: 1_048_588,
            group_initial_delay_ms: 0,
            group_min_session_ms: 6_000,
            group_max_session_ms: 1_800_000,
            max_commit_metadata_bytes: 4_096,
        }
    }
}

/// Where clients find the broker: what Metadata tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// When a call is looked at, and from where it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Where the client reached the broker.
    pub endpoint: Endpoint,
    /// When the request arrived: ms on any clock that only goes forward.
    pub received_ms: u64,
    /// Now, on the same clock.
    pub now_ms: u64,
}

/// What to do about a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Send this.
    Answer(Response),
    /// Send nothing: the client asked for no answer (Produce with acks=0).
    Silence,
    /// Close the connection, which is the only way to tell a client that wants no answer of an error.
    Close {
        /// For the log.
        reason: String,
    },
    /// Nothing to say yet: call again when something changed, or at this time.
    Wait {
        /// On the clock of [`Moment`].
        until_ms: u64,
    },
    /// Nothing to say yet, but the call was carried out and must not be handled again: ask with
    /// [`Core::resume`] when [`Core::group_revision`] changed, or at this time. Who does not want the answer
    /// any more says so with [`Core::give_up`].
    Park {
        /// Stands for the call.
        ticket: Ticket,
        /// On the clock of [`Moment`].
        until_ms: u64,
    },
}

/// What changed, and must be on disk before the answer is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Topics were created or deleted, or the start of a log moved: [`Core::topics`] has the new state.
    Catalog,
    /// A batch was appended to a partition's log.
    Appended {
        /// The topic's id.
        topic: Uuid,
        /// The partition's number.
        partition: i32,
        /// The batch as stored.
        batch: Bytes,
    },
    /// These logs are no longer needed; always after the [`Change::Catalog`] that says so.
    Dropped {
        /// The deleted topic's id.
        topic: Uuid,
        /// How many partitions it had.
        partitions: usize,
    },
    /// Groups committed offsets, or lost some: [`Core::groups`] has the new state.
    Commits,
}

/// Why a batch was not appended by [`Core::append_raw`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawAppendError {
    /// No such topic or partition.
    #[error("there is no partition {partition} of topic {topic}: create the topic first")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The bytes are not whole batches that can follow what is there.
    #[error("append to {topic}/{partition}")]
    Append {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is wrong.
        source: AppendError,
    },
}

/// The broker's whole state.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    topics: Topics,
    groups: Groups,
    changes: Vec<Change>,
}

impl Core {
    /// A broker with these topics, and no groups. Member ids are a function of the cluster's id.
    pub fn new(settings: Settings, topics: Topics) -> Self {
        let groups = Groups::new(topics.cluster());
        Self::with_groups(settings, topics, groups)
    }

    /// A broker with these topics and groups.
    pub fn with_groups(settings: Settings, topics: Topics, groups: Groups) -> Self {
        Self { settings, topics, groups, changes: Vec::new() }
    }

    /// The topics as they are.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The groups as they are.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Does what `call` asks, or says when to ask again.
    ///
    /// A call that waits ([`Step::Wait`]) has changed nothing, and may be given any number of times. One that
    /// is parked ([`Step::Park`]) was carried out: it goes on with [`resume`](Self::resume).
    pub fn handle(&mut self, call: &Call, moment: &Moment) -> Step {
        self.pass_time(moment.now_ms);
        Step::Answer(match &call.request {
            Request::Produce(request) => return api::produce::handle(self, request),
            Request::Fetch(request) => return api::fetch::handle(self, request, moment),
            Request::ListOffsets(request) => {
                Response::ListOffsets(api::list_offsets::handle(self, request, call.version))
            }
            Request::Metadata(request) => {
                Response::Metadata(api::metadata::handle(self, request, &moment.endpoint))
            }
            Request::ApiVersions(_) => {
                let error = call.version_unsupported.then_some(ResponseError::UnsupportedVersion);
                Response::ApiVersions(api::api_versions::table(error))
            }
            Request::CreateTopics(request) => {
                Response::CreateTopics(api::create_topics::handle(self, request))
            }
            Request::DeleteTopics(request) => {
                Response::DeleteTopics(api::delete_topics::handle(self, request))
            }
            Request::DeleteRecords(request) => {
                Response::DeleteRecords(api::delete_records::handle(self, request))
            }
            Request::FindCoordinator(request) => Response::FindCoordinator(api::find_coordinator::handle(
                self,
                request,
                call.version,
                &moment.endpoint,
            )),
            Request::JoinGroup(request) => {
                let ticket = api::join_group::handle(self, request, call);
                return self.look(call, ticket);
            }
            Request::SyncGroup(request) => {
                let ticket = api::sync_group::handle(self, request);
                return self.look(call, ticket);
            }
            Request::Heartbeat(request) => Response::Heartbeat(api::heartbeat::handle(self, request)),
            Request::LeaveGroup(request) => {
                Response::LeaveGroup(api::leave_group::handle(self, request, call.version))
            }
            Request::OffsetCommit(request) => {
                Response::OffsetCommit(api::offset_commit::handle(self, request))
            }
            Request::OffsetFetch(request) => {
                Response::OffsetFetch(api::offset_fetch::handle(self, request, call.version))
            }
            Request::DescribeGroups(request) => {
                Response::DescribeGroups(api::describe_groups::handle(self, request, call.version))
            }
            Request::ListGroups(request) => Response::ListGroups(api::list_groups::handle(self, request)),
        })
    }

    /// What has become of a parked call; `call` is the one that got the ticket.
    pub fn resume(&mut self, call: &Call, ticket: Ticket, moment: &Moment) -> Step {
        self.pass_time(moment.now_ms);
        self.look(call, ticket)
    }

    /// Nobody waits for this call any more. Its member stays in the group until its session ends.
    pub fn give_up(&mut self, ticket: Ticket) {
        self.groups.give_up(ticket);
    }

    fn look(&mut self, call: &Call, ticket: Ticket) -> Step {
        match self.groups.look(ticket) {
            Some(Ok(Answer::Join(joined))) => {
                Step::Answer(Response::JoinGroup(api::join_group::answer(joined, call.version)))
            }
            Some(Ok(Answer::Sync(synced))) => {
                Step::Answer(Response::SyncGroup(api::sync_group::answer(synced)))
            }
            Some(Err(until_ms)) => Step::Park { ticket, until_ms },
            None => Step::Close { reason: "a parked call was given up".to_owned() },
        }
    }

    /// Refuses everything that `call` asks for with `error`, and changes nothing.
    pub fn refuse(&self, call: &Call, error: ResponseError, endpoint: &Endpoint) -> Step {
        Step::Answer(match &call.request {
            Request::Produce(request) => return api::produce::refuse(request, error),
            Request::Fetch(request) => Response::Fetch(api::fetch::refuse(request, error)),
            Request::ListOffsets(request) => Response::ListOffsets(api::list_offsets::refuse(request, error)),
            Request::Metadata(request) => {
                Response::Metadata(api::metadata::refuse(self, request, endpoint, error))
            }
            Request::ApiVersions(_) => Response::ApiVersions(api::api_versions::table(Some(error))),
            Request::CreateTopics(request) => {
                Response::CreateTopics(api::create_topics::refuse(request, error))
            }
            Request::DeleteTopics(request) => {
                Response::DeleteTopics(api::delete_topics::refuse(request, error))
            }
            Request::DeleteRecords(request) => {
                Response::DeleteRecords(api::delete_records::refuse(request, error))
            }
            Request::FindCoordinator(request) => {
                Response::FindCoordinator(api::find_coordinator::refuse(request, call.version, error))
            }
            Request::JoinGroup(request) => {
                Response::JoinGroup(api::join_group::refuse(request, call.version, error))
            }
            Request::SyncGroup(_) => Response::SyncGroup(api::sync_group::answer(Err(error))),
            Request::Heartbeat(_) => Response::Heartbeat(api::heartbeat::refuse(error)),
            Request::LeaveGroup(_) => Response::LeaveGroup(api::leave_group::refuse(error)),
            Request::OffsetCommit(request) => {
                Response::OffsetCommit(api::offset_commit::refuse(request, error))
            }
            Request::OffsetFetch(request) => {
                Response::OffsetFetch(api::offset_fetch::refuse(request, call.version, error))
            }
            Request::DescribeGroups(request) => {
                Response::DescribeGroups(api::describe_groups::refuse(request, error))
            }
            Request::ListGroups(_) => Response::ListGroups(api::list_groups::refuse(error)),
        })
    }

    /// What changed since the last time, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Creates a topic as an operator would; returns its id.
    ///
    /// # Errors
    /// [`CreateTopicError`]; nothing was created.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<Uuid, CreateTopicError> {
        let id = self.topics.create(name, partitions)?;
        self.changes.push(Change::Catalog);
        Ok(id)
    }

    /// Deletes a topic with all its records, and what groups committed for it.
    ///
    /// # Errors
    /// [`ResponseError::UnknownTopicOrPartition`].
    pub fn delete_topic(&mut self, name: &str) -> Result<Uuid, ResponseError> {
        let topic = self.topics.delete(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        self.changes.push(Change::Catalog);
        self.changes.push(Change::Dropped { topic: topic.id(), partitions: topic.partitions().len() });
        if self.groups.forget_topic(name) {
            self.changes.push(Change::Commits);
        }
        Ok(topic.id())
    }

    /// Moves the start of a log up to `offset`, as retention does; returns the start, which never moves
    /// back.
    ///
    /// # Errors
    /// [`ResponseError::UnknownTopicOrPartition`]; [`ResponseError::OffsetOutOfRange`] for a negative
    /// offset and one beyond the end.
    pub fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> Result<i64, ResponseError> {
        let (_, log) =
            self.topics.partition_mut(topic, partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        if !(0..=log.next()).contains(&offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let before = log.start();
        let start = log.delete_before(offset);
        if start != before {
            self.changes.push(Change::Catalog);
        }
        Ok(start)
    }

    /// Appends batches as they are, at their own offsets: control batches, the gaps of a compacted topic,
    /// and other things that a producer may not send. Returns the offset of the next record.
    ///
    /// # Errors
    /// [`RawAppendError`]; the batches before the bad one were appended.
    pub fn append_raw(
        &mut self,
        topic: &str,
        partition: i32,
        mut batches: Bytes,
    ) -> Result<i64, RawAppendError> {
        let Some((id, log)) = self.topics.partition_mut(topic, partition) else {
            return Err(RawAppendError::UnknownPartition { topic: topic.to_owned(), partition });
        };
        let failed = |source| RawAppendError::Append { topic: topic.to_owned(), partition, source };
        while !batches.is_empty() {
            let batch = Batch::split_first(&mut batches).map_err(|error| failed(error.into()))?;
            let batch = log.append(batch).map_err(failed)?.bytes().clone();
            self.changes.push(Change::Appended { topic: id, partition, batch });
        }
        Ok(log.next())
    }

    /// Lets happen what time alone does to groups: sessions end, rebalances go on without who is late. Each
    /// thing happens at its own moment, however late somebody looks.
    pub fn pass_time(&mut self, now_ms: u64) {
        self.groups.pass_time(&self.settings, now_ms);
    }

    /// Changes whenever a parked call may have an answer, or another time at which to ask.
    pub fn group_revision(&self) -> u64 {
        self.groups.revision()
    }
}

#[cfg(test)]
pub(crate) use self::batch::tests::at as test_batch;

#[cfg(test)]
mod tests;
