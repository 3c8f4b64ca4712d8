//! Records that flow as long as a test goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use crate::kafka::{Kafka, Record, record};

/// A publisher of its own, which appends small batches to random partitions.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Starts to publish to the first `partitions` partitions of `topic`. The seed decides what and where.
    pub async fn start(topic: &str, partitions: i32, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let kafka = Kafka::find().await;
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let count = random.random_range(1..25);
                let records = (number..number + count).map(|number| numbered(number, &mut random)).collect();
                number += count;
                kafka.publish(&topic, random.random_range(0..partitions), records).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(5..40))).await;
            }
        });
        Self { stop, task }
    }

    /// Stops it. Everything that it has published is acknowledged.
    ///
    /// # Panics
    /// When something was not.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the records were published");
    }
}

/// No two records are alike; some can't be a line.
fn numbered(number: u64, random: &mut StdRng) -> Record {
    if random.random_bool(0.02) {
        record(&format!("no JSON {number}"))
    } else {
        record(&format!(r#"{{"n":{number}}}"#))
    }
}

/// Whether a value of this traffic can be a line.
pub fn is_line(value: &[u8]) -> bool {
    value.starts_with(b"{")
}
