//! Batches that are small on the wire and large in memory.

use coinduit_integration::program::Program;
use coinduit_integration::raw::{self, Compression, append, batch};
use coinduit_integration::rig::Rig;
use rustix::process::Signal;

async fn stop(consumer: Program) {
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);
}

/// A coin of so many bytes.
fn coin(bytes: usize) -> String {
    let (head, tail) = (r#"{"code":"BTC","note":""#, r#""}"#);
    let note: String = ('a'..='z').cycle().take(bytes - head.len() - tail.len()).collect();
    format!("{head}{note}{tail}")
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_become_a_hundred_times_their_size_are_stored_whole() {
    const PARTITIONS: usize = 8;
    const COINS: usize = 20_000;
    for (codec, name) in [(Compression::Gzip, "gzip"), (Compression::Lz4, "lz4"), (Compression::Zstd, "zstd")]
    {
        let coin = coin(1_000);
        let coins = vec![raw::record(coin.clone()); COINS];
        let batch = batch(coins, codec);
        assert!(batch.len() < 1_000_000, "{name}: {} bytes", batch.len());
        let rig = Rig::start(&format!("dense-{name}"), 8).await;
        for partition in 0..8 {
            append(&rig.kafka, &rig.topic, partition, batch.clone()).await;
        }
        let settings = [("KAFKA_READER", "native"), ("MEMORY_BUDGET", "64MiB"), ("MAX_OBJECT_AGE", "1s")];
        let consumer = rig.consumer(&[&settings[..], &[("ENRICH", "off")]].concat());
        for partition in 0..8 {
            rig.stored_to_the_end(partition).await;
        }
        println!(
            "{name}: {PARTITIONS} batches of {} bytes, of {} each unpacked: peak {} KiB",
            batch.len(),
            COINS * 1_000,
            consumer.peak_kib()
        );
        stop(consumer).await;
        for partition in 0..8 {
            let chain = rig.chain(partition).await;
            let whole = chain.iter().flat_map(|object| object.lines()).filter(|line| *line == coin).count();
            assert_eq!(whole, COINS, "{name}, partition {partition}");
        }
        rig.audit().await;
        rig.finish().await;
    }
}
