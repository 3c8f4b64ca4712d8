//! Codecs that one reader has not: written by librdkafka, as `kcat`, and stored by either.

use coinduit_integration::chain::name;
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;

const RECORDS: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_of_librdkafka_is_stored_by_either_reader() {
    let folder = std::env::temp_dir().join(format!("coinduit-readers-{}", std::process::id()));
    let lines: Vec<String> =
        (0..RECORDS).map(|n| format!(r#"{{"code":"C{}","rate":{n}.5e-9}}"#, n % 50)).collect();
    std::fs::write(&folder, lines.join("\n")).expect("write what kcat publishes");
    let file = folder.to_str().expect("a path of ours is text");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for reader in ["auto", "native"] {
            let rig = Rig::start(&format!("reader-{codec}-{reader}"), 1).await;
            let target = ["-P", "-b", rig.kafka.bootstrap(), "-t", &rig.topic, "-p", "0"];
            let publish = [&target[..], &["-z", codec, "-l", file]].concat();
            Program::tool("kcat", "kcat", &publish).ended().await.expect_code(0);
            rig.consume_all(&[("ENRICH", "off"), ("KAFKA_READER", reader), ("MAX_OBJECT_RECORDS", "300")])
                .await;
            let chain = rig.chain(0).await;
            let stored: Vec<&str> = chain.iter().flat_map(|object| object.lines()).collect();
            assert!(stored == lines, "{codec} by {reader}: {} lines", stored.len());
            let names: Vec<i64> = chain.iter().map(|object| name(&object.key)).collect();
            assert_eq!(names, [0, 300, 600, 900, 1200, 1500, 1800], "{codec} by {reader}");
            rig.audit().await;
            rig.finish().await;
        }
    }
    std::fs::remove_file(&folder).expect("remove what kcat has published");
}
