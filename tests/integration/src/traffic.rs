//! Records that flow as long as a test goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use crate::kafka::{Kafka, Record, record};
use crate::wait::LIMIT;

/// A publisher of its own, which appends small batches to random partitions.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Starts to publish to the first `partitions` partitions of `topic`. The seed decides what and where. What a
    /// broker does not acknowledge is published again: the log may have it twice, each with its own offset.
    pub async fn start(kafka: &Kafka, topic: &str, partitions: i32, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let kafka = Kafka::at(kafka.bootstrap()).await;
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let count = random.random_range(1..25);
                let records = (number..number + count).map(|number| numbered(number, &mut random)).collect();
                number += count;
                publish(&kafka, &topic, random.random_range(0..partitions), records).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(5..40))).await;
            }
            // What can't be a line leaves no object behind until something comes after it.
            for partition in 0..partitions {
                number += 1;
                publish(&kafka, &topic, partition, vec![record(&format!(r#"{{"n":{number}}}"#))]).await;
            }
        });
        Self { stop, task }
    }

    /// Stops it. Everything that it has published is acknowledged, and each partition ends with a line.
    ///
    /// # Panics
    /// When that does not come to pass.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = tokio::time::timeout(LIMIT, self.task).await;
        ended.expect("the brokers take records again").expect("the records were published");
    }
}

async fn publish(kafka: &Kafka, topic: &str, partition: i32, records: Vec<Record>) {
    while !kafka.try_publish(topic, partition, records.clone()).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// No two records are alike; some can't be a line.
fn numbered(number: u64, random: &mut StdRng) -> Record {
    if random.random_bool(0.003) {
        record(&format!("no JSON {number}"))
    } else {
        record(&format!(r#"{{"n":{number}}}"#))
    }
}

/// Whether a value of this traffic can be a line.
pub fn is_line(value: &[u8]) -> bool {
    value.starts_with(b"{")
}
