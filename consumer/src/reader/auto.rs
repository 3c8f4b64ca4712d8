//! `KAFKA_READER=auto`: one reader until it meets what it can't read, and from that very offset on another.

use async_trait::async_trait;
use tracing::info;

use super::{Bounds, Fetched, OpenReader, PartitionReader, ReadError};

/// So many fetches in a row may bring nothing although the log goes on.
const EMPTY_HANDED: u32 = 3;

/// Makes such readers out of two kinds.
#[derive(Debug)]
pub struct AutoReaders<A, B> {
    first: A,
    then: B,
}

impl<A, B> AutoReaders<A, B> {
    /// `first`, and where it can't read `then`.
    #[must_use]
    pub const fn new(first: A, then: B) -> Self {
        Self { first, then }
    }
}

impl<A: OpenReader, B: OpenReader> OpenReader for AutoReaders<A, B> {
    fn open(&self, partition: i32) -> Box<dyn PartitionReader> {
        Box::new(AutoReader {
            partition,
            first: Some(self.first.open(partition)),
            then: self.then.open(partition),
            empty_handed: 0,
        })
    }
}

struct AutoReader {
    partition: i32,
    /// Until it can't go on.
    first: Option<Box<dyn PartitionReader>>,
    then: Box<dyn PartitionReader>,
    empty_handed: u32,
}

impl AutoReader {
    fn change(&mut self, offset: i64, why: &str) {
        self.first = None;
        info!(partition = self.partition, offset, why, reader = "native", "another reader goes on from here");
    }
}

#[async_trait]
impl PartitionReader for AutoReader {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, ReadError> {
        if let Some(first) = &mut self.first {
            match first.fetch(offset).await {
                Err(ReadError::Undecodable { source, .. }) => self.change(offset, &source.to_string()),
                Ok(fetched) if fetched.records.is_empty() && fetched.high_watermark > fetched.next => {
                    self.empty_handed += 1;
                    if self.empty_handed < EMPTY_HANDED {
                        return Ok(fetched);
                    }
                    self.change(offset, "no record comes although the log goes on");
                }
                other => {
                    self.empty_handed = 0;
                    return other;
                }
            }
        }
        self.then.fetch(offset).await
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
        async fn fetch(&mut self, offset: i64) -> Result<Fetched, ReadError> {
            let mut told = self.0.lock().unwrap();
            told.0 += 1;
            (told.1)(offset)
        }

        async fn bounds(&mut self) -> Result<Bounds, ReadError> {
            Ok(Bounds { start: 0, end: 9 })
        }
    }

    fn nothing(offset: i64) -> Result<Fetched, ReadError> {
        Ok(Fetched { records: Vec::new(), next: offset, high_watermark: 9 })
    }

    fn at_the_end(offset: i64) -> Result<Fetched, ReadError> {
        Ok(Fetched { records: Vec::new(), next: offset, high_watermark: offset })
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
        let mut reader = AutoReaders::new(first.clone(), then.clone()).open(0);
        assert_eq!(reader.fetch(5).await.unwrap().next, 5);
        reader.fetch(6).await.unwrap();
        assert_eq!((first.asked(), then.asked()), (1, 2), "the first is not asked again");
    }

    #[tokio::test]
    async fn a_log_that_goes_on_without_records_is_read_by_the_other() {
        let (first, then) = (Told::new(nothing), Told::new(at_the_end));
        let mut reader = AutoReaders::new(first.clone(), then.clone()).open(0);
        for _ in 0..4 {
            reader.fetch(5).await.unwrap();
        }
        assert_eq!((first.asked(), then.asked()), (EMPTY_HANDED, 2));
    }

    #[tokio::test]
    async fn the_end_of_a_log_and_bad_weather_are_no_reasons() {
        for answer in [at_the_end as Answer, down] {
            let (first, then) = (Told::new(answer), Told::new(nothing));
            let mut reader = AutoReaders::new(first.clone(), then.clone()).open(0);
            for _ in 0..9 {
                drop(reader.fetch(5).await);
            }
            assert_eq!((first.asked(), then.asked()), (9, 0));
        }
    }
}
