//! A topic as librdkafka reads it: somebody else's word on what is in a log.

use crate::kafka::Kafka;
use crate::program::Program;

/// A record as `kcat` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its value, which has no line break.
    pub value: String,
}

/// The records of a partition, up to its end: the last stable offset, where aborted transactions are left out.
///
/// # Panics
/// When they can't be read.
pub async fn read(kafka: &Kafka, topic: &str, partition: i32, isolation: &str) -> Vec<Seen> {
    let isolation = format!("isolation.level={isolation}");
    let partition = partition.to_string();
    let place = ["-C", "-q", "-e", "-o", "beginning", "-b", kafka.bootstrap(), "-t", topic, "-p", &partition];
    let how = ["-X", &isolation, "-X", "check.crcs=true", "-f", "%o %T %s\n"];
    let ended = Program::tool("kcat", "kcat", &[&place[..], &how].concat()).ended().await.expect_code(0);
    let lines = ended.out.lines().map(|line| {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_else(|| panic!("kcat printed {line:?}"));
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("kcat printed {line:?}"));
        Seen { offset: number(part()), timestamp_ms: number(part()), value: part().to_owned() }
    });
    lines.collect()
}
