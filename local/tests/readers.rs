//! What Java's clients have written to a real Kafka, read by the real consumer: every codec, transactions, tombstones,
//! headers without a value, and what compaction leaves.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod support;

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use coinduit_local::credentials::USER;
use coinduit_local::stack::{Stack, StackConfig};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

/// One partition each; what the files hold stands in `recorded.rs` beside them.
macro_rules! recorded {
    ($($name:literal),*) => {
        [$(include_bytes!(concat!("../../common/src/kafka/record_batch/recorded/", $name, ".bin")) as &[u8]),*]
    };
}
const PARTITIONS: [&[u8]; 8] =
    recorded!("none", "gzip", "snappy", "lz4", "zstd", "log-append-time", "compacted", "transactions");

/// Each partition's lines below `prefix`, and how many of its records are in quarantine.
async fn stored(stack: &Stack, prefix: &str) -> Vec<(Vec<String>, usize)> {
    let env: std::collections::HashMap<_, _> = stack.env().into_iter().collect();
    let store = support::store(&env["AWS_ENDPOINT_URL_S3"], USER);
    let mut of = Vec::new();
    for partition in 0..PARTITIONS.len() {
        let list = async |folder: String| -> Vec<_> {
            let mut found: Vec<_> = store.list(Some(&folder.into())).try_collect().await.unwrap();
            found.sort_by_key(|object| object.location.to_string());
            found
        };
        let mut lines = Vec::new();
        for object in list(format!("{prefix}/recorded/partition={partition}")).await {
            let body = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            lines.extend(String::from_utf8(body.to_vec()).unwrap().lines().map(ToOwned::to_owned));
        }
        of.push((lines, list(format!("{prefix}/quarantine/recorded/partition={partition}")).await.len()));
    }
    of
}

#[tokio::test(flavor = "multi_thread")]
async fn what_javas_clients_have_written_is_stored_whichever_way_it_is_read() {
    let stack = Stack::start(StackConfig::default()).await.unwrap();
    stack.kafka.create_topic("recorded", i32::try_from(PARTITIONS.len()).unwrap()).unwrap();
    for (partition, batches) in PARTITIONS.iter().enumerate() {
        let partition = i32::try_from(partition).unwrap();
        stack.kafka.append_raw("recorded", partition, Bytes::from_static(batches)).unwrap();
    }
    for (reader, isolation) in
        [("auto", "read_uncommitted"), ("native", "read_uncommitted"), ("auto", "read_committed")]
    {
        let run = format!("{reader}-{isolation}");
        let consumer = Path::new(env!("CARGO_BIN_EXE_coinduit-local")).with_file_name("consumer");
        let output = Command::new(consumer)
            .arg("--exit-at-end")
            .env_clear()
            .envs(stack.env())
            .envs([("KAFKA_TOPIC", "recorded"), ("S3_PREFIX", &run), ("KAFKA_GROUP_ID", &run)])
            .envs([("KAFKA_READER", reader), ("KAFKA_ISOLATION_LEVEL", isolation), ("ENRICH", "off")])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let stored = stored(&stack, &run).await;
        // Ten records each, one of them a tombstone.
        assert!(stored[..6].iter().all(|of| *of == stored[0]), "{run}: {stored:#?}");
        assert_eq!((stored[0].0.len(), stored[0].1), (9, 1), "{run}");
        // Seven keys, whose values are no JSON; twelve records, of which three were given up.
        assert_eq!((stored[6].0.len(), stored[6].1), (0, 7), "{run}");
        let transactions = if isolation == "read_committed" { 9 } else { 12 };
        assert_eq!(stored[7].0.len() + stored[7].1, transactions, "{run}: {:#?}", stored[7]);
    }
    stack.stop().await;
}
