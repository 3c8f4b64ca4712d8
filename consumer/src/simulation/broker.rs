//! The embedded broker's pure core in virtual time, and the topic's records in it.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use coinduit_local::broker::core::{
    Core, Endpoint, Moment, Settings, Step, Ticket, Topics,
    wire::{Call, Request, Response},
};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

/// The topic of every history.
pub(super) const TOPIC: &str = "t";

/// The cluster.
#[derive(Debug)]
pub(super) struct Broker {
    core: Mutex<Core>,
    began: Instant,
    /// Records came, or went.
    log_changed: Notify,
    /// Who waits for a group may have an answer.
    groups_changed: Notify,
}

impl Broker {
    pub(super) fn new(began: Instant) -> Self {
        let core = Core::new(Settings::default(), Topics::new(Uuid::from_u128(7)));
        Self { core: Mutex::new(core), began, log_changed: Notify::new(), groups_changed: Notify::new() }
    }

    /// The core, for what an operator does; who waits is woken afterwards by [`Broker::changed`].
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap()
    }

    pub(super) fn changed(&self) {
        self.core().take_changes();
        self.log_changed.notify_waiters();
        self.groups_changed.notify_waiters();
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The first and the next offset of a partition of the topic as it is now.
    pub(super) fn bounds(&self, partition: i32) -> Option<(i64, i64)> {
        let core = self.core();
        let log = core.topics().partition(TOPIC, partition)?;
        Some((log.start(), log.next()))
    }

    /// Appends `records`, each at its offset.
    pub(super) fn append(&self, partition: i32, records: &[(i64, Option<Bytes>)]) {
        let now_ms = i64::try_from(self.now_ms()).unwrap_or(0);
        let records: Vec<Record> = records
            .iter()
            .map(|(offset, value)| Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id: -1,
                producer_epoch: -1,
                timestamp_type: TimestampType::Creation,
                offset: *offset,
                sequence: -1,
                timestamp: now_ms,
                key: None,
                value: value.clone(),
                headers: Default::default(),
            })
            .collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        self.core().append_raw(TOPIC, partition, bytes.freeze()).unwrap();
        self.changed();
    }

    /// Does what an operator's tool asks, whatever the answer.
    pub(super) fn command(&self, version: i16, request: Request) {
        let call = call(version, request);
        let moment = self.moment(self.now_ms());
        self.core().handle(&call, &moment);
        self.changed();
    }

    fn moment(&self, received_ms: u64) -> Moment {
        let endpoint = Endpoint { host: "broker".to_owned(), port: 9092 };
        Moment { endpoint, received_ms, now_ms: self.now_ms() }
    }

    /// Asks, and waits for the answer as long as the broker does; `None` where it closes the connection.
    /// `done` looks at the answer in the very moment in which the broker gives it.
    pub(super) async fn call(
        &self,
        version: i16,
        request: Request,
        done: impl Fn(&Response),
    ) -> Option<Response> {
        let call = call(version, request);
        let received_ms = self.now_ms();
        let mut parked = Parked { broker: self, ticket: None };
        loop {
            let (step, news) = {
                let mut core = self.core();
                let moment = self.moment(received_ms);
                let before = core.group_revision();
                let step = match parked.ticket {
                    Some(ticket) => core.resume(&call, ticket, &moment),
                    None => core.handle(&call, &moment),
                };
                core.take_changes();
                (step, core.group_revision() != before)
            };
            if news {
                self.groups_changed.notify_waiters();
            }
            let (until_ms, changed) = match step {
                Step::Answer(answer) => {
                    parked.ticket = None;
                    done(&answer);
                    return Some(answer);
                }
                Step::Wait { until_ms } => (until_ms, &self.log_changed),
                Step::Park { ticket, until_ms } => {
                    parked.ticket = Some(ticket);
                    (until_ms, &self.groups_changed)
                }
                Step::Silence | Step::Close { .. } => return None,
            };
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = sleep_until(self.began + Duration::from_millis(until_ms)) => {}
            }
        }
    }
}

fn call(version: i16, request: Request) -> Call {
    let client_id = "c".to_owned();
    Call { correlation_id: 0, version, version_unsupported: false, client_id, request }
}

/// A call that waits; when its caller is gone, nobody waits for it any more.
struct Parked<'a> {
    broker: &'a Broker,
    ticket: Option<Ticket>,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.broker.core().give_up(ticket);
        }
    }
}
