//! `KAFKA_READER=auto`: one reader until it meets what it can't read, and from that very offset on another.
//!
//! The first reader does not see whether the broker or the producer has given records their time (LogAppendTime), and
//! gives them the producer's in either case. So the first records, and some again every half a minute, are fetched through
//! the other too, which sees it, and goes on for good where it is the broker's.

use std::time::Duration;

use async_trait::async_trait;
use coinduit_common::clock::Clock;
use tracing::info;

use super::{Ask, Bounds, Fetched, OpenReader, PartitionReader, ReadError};
use crate::budget::Reservation;

/// So many fetches in a row may bring nothing although the log goes on.
const EMPTY_HANDED: u32 = 3;
/// How often whose time it is is looked at: a topic's setting may change.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Makes such readers out of two kinds.
#[derive(Debug)]
pub struct AutoReaders<A, B> {
    first: A,
    then: B,
    clock: Clock,
}

impl<A, B> AutoReaders<A, B> {
    /// `first`, and where it can't read `then`.
    #[must_use]
    pub const fn new(first: A, then: B, clock: Clock) -> Self {
        Self { first, then, clock }
    }
}

impl<A: OpenReader, B: OpenReader> OpenReader for AutoReaders<A, B> {
    fn open(&self, partition: i32) -> Box<dyn PartitionReader> {
        Box::new(AutoReader {
            partition,
            first: Some(self.first.open(partition)),
            then: self.then.open(partition),
            empty_handed: 0,
            clock: self.clock.clone(),
            looked_at: None,
        })
    }
}

struct AutoReader {
    partition: i32,
    /// Until it can't go on.
    first: Option<Box<dyn PartitionReader>>,
    then: Box<dyn PartitionReader>,
    empty_handed: u32,
    clock: Clock,
    /// When whose time it is was last looked at.
    looked_at: Option<Duration>,
}

impl AutoReader {
    fn is_time_to_look(&self) -> bool {
        self.looked_at.is_none_or(|at| self.clock.since_boot().saturating_sub(at) >= LOOK_EVERY)
    }

    fn change(&mut self, offset: i64, why: &str) {
        self.first = None;
        info!(partition = self.partition, offset, why, reader = "native", "another reader goes on from here");
    }
}

#[async_trait]
impl PartitionReader for AutoReader {
    async fn fetch(&mut self, ask: Ask, room: &Reservation) -> Result<Fetched, ReadError> {
        let offset = ask.offset;
        // What it has begun to hand out it ends.
        if let Some(first) = self.first.as_mut().filter(|_| self.then.held_bytes() == 0) {
            match first.fetch(ask, room).await {
                Err(ReadError::Undecodable { source, .. }) => self.change(offset, &source.to_string()),
                Ok(fetched) if fetched.records.is_empty() && fetched.high_watermark > fetched.next => {
                    self.empty_handed += 1;
                    if self.empty_handed < EMPTY_HANDED {
                        return Ok(fetched);
                    }
                    self.change(offset, "no record comes although the log goes on");
                }
                Ok(fetched) if !fetched.records.is_empty() && self.is_time_to_look() => {
                    let looked = self.then.fetch(ask, room).await?;
                    self.looked_at = Some(self.clock.since_boot());
                    if looked.log_append_time {
                        self.change(offset, "the topic's timestamps are the broker's (LogAppendTime)");
                    }
                    self.empty_handed = 0;
                    return Ok(looked);
                }
                other => {
                    self.empty_handed = 0;
                    return other;
                }
            }
        }
        self.then.fetch(ask, room).await
    }

    fn goes_on(&mut self, offset: i64, leader_epoch: i32) {
        self.then.goes_on(offset, leader_epoch);
    }

    fn memory_for(&self, bytes: usize) -> usize {
        self.first.as_ref().unwrap_or(&self.then).memory_for(bytes)
    }

    fn held_bytes(&self) -> usize {
        self.then.held_bytes() + self.first.as_ref().map_or(0, |first| first.held_bytes())
    }

    async fn bounds(&mut self) -> Result<Bounds, ReadError> {
        match &mut self.first {
            Some(first) => first.bounds().await,
            None => self.then.bounds().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{budget::Budget, reader::Record};

    type Answer = fn(i64) -> Result<Fetched, ReadError>;

    /// Reads as it is told, and counts how often it was asked.
    #[derive(Clone)]
    struct Told(Arc<Mutex<(u32, Answer)>>);

    impl Told {
        fn new(answer: Answer) -> Self {
            Self(Arc::new(Mutex::new((0, answer))))
        }

        fn asked(&self) -> u32 {
            self.0.lock().unwrap().0
        }
    }

    impl OpenReader for Told {
        fn open(&self, _: i32) -> Box<dyn PartitionReader> {
            Box::new(self.clone())
        }
    }

    #[async_trait]
    impl PartitionReader for Told {
        async fn fetch(&mut self, ask: Ask, _: &Reservation) -> Result<Fetched, ReadError> {
            let mut told = self.0.lock().unwrap();
            told.0 += 1;
            (told.1)(ask.offset)
        }

        async fn bounds(&mut self) -> Result<Bounds, ReadError> {
            Ok(Bounds { start: 0, end: 9 })
        }
    }

    fn nothing(offset: i64) -> Result<Fetched, ReadError> {
        Ok(Fetched { next: offset, high_watermark: 9, ..Fetched::default() })
    }

    fn at_the_end(offset: i64) -> Result<Fetched, ReadError> {
        Ok(Fetched { next: offset, high_watermark: offset, ..Fetched::default() })
    }

    fn one(offset: i64) -> Result<Fetched, ReadError> {
        let value = Some(bytes::Bytes::from_static(b"{}"));
        let record = Record { offset, timestamp_ms: 0, key: None, value, headers: Vec::new() };
        Ok(Fetched { records: vec![record], next: offset + 1, high_watermark: 9, ..Fetched::default() })
    }

    fn one_of_the_brokers_time(offset: i64) -> Result<Fetched, ReadError> {
        one(offset).map(|fetched| Fetched { log_append_time: true, ..fetched })
    }

    fn reader(first: &Told, then: &Told) -> Box<dyn PartitionReader> {
        AutoReaders::new(first.clone(), then.clone(), Clock::Tokio(tokio::time::Instant::now())).open(0)
    }

    async fn fetch(reader: &mut dyn PartitionReader, offset: i64) -> Result<Fetched, ReadError> {
        let room = Budget::new(1 << 20).share().reserve(1).await;
        reader.fetch(Ask { offset, max_bytes: 1, is_behind: true }, &room).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_records_and_some_every_half_minute_are_looked_at() {
        let (first, then) = (Told::new(one), Told::new(one));
        let mut reader = reader(&first, &then);
        for offset in 0..3 {
            assert_eq!(fetch(&mut *reader, offset).await.unwrap(), one(offset).unwrap());
        }
        assert_eq!((first.asked(), then.asked()), (3, 1));
        tokio::time::advance(LOOK_EVERY).await;
        fetch(&mut *reader, 3).await.unwrap();
        assert_eq!((first.asked(), then.asked()), (4, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_time_is_the_brokers_the_other_reads_from_the_first_record() {
        let (first, then) = (Told::new(one), Told::new(one_of_the_brokers_time));
        let mut reader = reader(&first, &then);
        for offset in 0..3 {
            assert!(fetch(&mut *reader, offset).await.unwrap().log_append_time);
        }
        assert_eq!((first.asked(), then.asked()), (1, 3));
    }

    fn undecodable(offset: i64) -> Result<Fetched, ReadError> {
        Err(ReadError::Undecodable { offset, source: "a control batch".into() })
    }

    fn down(_: i64) -> Result<Fetched, ReadError> {
        Err(ReadError::Unavailable { attempted: "fetch".to_owned(), source: "no route".into() })
    }

    #[tokio::test]
    async fn what_one_reader_can_not_decode_the_other_reads_from_there() {
        let (first, then) = (Told::new(undecodable), Told::new(at_the_end));
        let mut reader = reader(&first, &then);
        assert_eq!(fetch(&mut *reader, 5).await.unwrap().next, 5);
        fetch(&mut *reader, 6).await.unwrap();
        assert_eq!((first.asked(), then.asked()), (1, 2), "the first is not asked again");
    }

    #[tokio::test]
    async fn a_log_that_goes_on_without_records_is_read_by_the_other() {
        let (first, then) = (Told::new(nothing), Told::new(at_the_end));
        let mut reader = reader(&first, &then);
        for _ in 0..4 {
            fetch(&mut *reader, 5).await.unwrap();
        }
        assert_eq!((first.asked(), then.asked()), (EMPTY_HANDED, 2));
    }

    #[tokio::test]
    async fn the_end_of_a_log_and_bad_weather_are_no_reasons() {
        for answer in [at_the_end as Answer, down] {
            let (first, then) = (Told::new(answer), Told::new(nothing));
            let mut reader = reader(&first, &then);
            for _ in 0..9 {
                drop(fetch(&mut *reader, 5).await);
            }
            assert_eq!((first.asked(), then.asked()), (9, 0));
        }
    }
}
