//! The Lambda function under a Runtime API: its start, one object, a large object.

use std::{
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use coinduit_common::clock::{Clock, rfc3339_ms};
use coinduit_local::{
    credentials::{FUNCTION, REGION, USER},
    dynamodb::{COINS_TABLE, DynamoDb, PRICES_TABLE},
};
use flate2::{Compression, write::GzEncoder};
use object_store::{
    ClientOptions, ObjectStoreExt, WriteMultipart,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::{
    bucket::{BUCKET, Bucket},
    error::BenchError,
    figures::{Row, Sample},
    measured::{binary, memory},
    progress,
};

mod runtime_api;

use runtime_api::RuntimeApi;

const RECORDED: &str = include_str!("../../local/data/coins-list-100.json");
/// Coins of an object.
const COINS: usize = 50;
/// How many starts are measured.
const STARTS: usize = 20;
/// How many objects a warm function is given, and how many before that.
const OBJECTS: usize = 200;
const WARM_UP: usize = 5;
/// How long a function may take to start, and for an object.
const START_LIMIT: Duration = Duration::from_secs(30);
const OBJECT_LIMIT: Duration = Duration::from_secs(900);
/// Half a part of a multipart upload, at least.
const CHUNK: usize = 4 << 20;

/// What the function needs around it.
struct Rig {
    bootstrap: PathBuf,
    coins: Vec<String>,
    bucket: Bucket,
    tables: DynamoDb,
    store: AmazonS3,
}

/// Time to start, time for an object, and memory for objects of about `bytes` bytes.
pub(crate) async fn measure(bin_dir: &Path, bytes: usize) -> Result<Vec<Row>, BenchError> {
    let rig = Rig::start(binary(bin_dir, "bootstrap")?)?;
    let mut rows = Vec::new();
    progress("Lambda: start");
    rows.push(Row::new("Lambda, start to first event asked for", &rig.starts().await?, "ms", Some(20.0)));
    progress("Lambda: one object after the other");
    let warm = rig.warm().await?;
    rows.push(Row::percentile("Lambda, 50 coins, warm, embedded tables", &warm, 50, "ms", Some(50.0)));
    rows.push(Row::percentile("Lambda, 50 coins, warm, embedded tables", &warm, 99, "ms", None));
    for (name, is_gzip) in [("large.jsonl", false), ("large.jsonl.gz", true)] {
        progress(&format!("Lambda: {name} of {} MiB", bytes >> 20));
        let (lines, peak) = rig.large(name, bytes, is_gzip).await?;
        let kind = if is_gzip { ", gzip" } else { "" };
        let what = format!("Lambda, object of {} MiB{kind}, {lines} lines, peak memory", bytes >> 20);
        rows.push(Row::new(what, &[peak].into_iter().collect(), "MiB", Some(128.0)));
    }
    rig.stop().await;
    Ok(rows)
}

impl Rig {
    fn start(bootstrap: PathBuf) -> Result<Self, BenchError> {
        let coins =
            recorded().map_err(|error| BenchError::program("the recorded coins", error.to_string()))?;
        let bucket = Bucket::start()?;
        let tables = DynamoDb::start((Ipv4Addr::LOCALHOST, 0).into(), None)
            .map_err(BenchError::io("start the tables"))?;
        let store = AmazonS3Builder::new()
            .with_endpoint(bucket.url())
            .with_bucket_name(BUCKET)
            .with_region(REGION)
            .with_access_key_id(USER.access_key)
            .with_secret_access_key(USER.secret_key)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()
            .map_err(|source| BenchError::Store { key: BUCKET.to_owned(), source })?;
        Ok(Self { bootstrap, coins, bucket, tables, store })
    }

    async fn stop(self) {
        self.bucket.stop().await;
        self.tables.stop().await;
    }

    /// A process of the function, as Lambda starts it.
    fn spawn(&self, api: &RuntimeApi) -> Result<Child, BenchError> {
        Command::new(&self.bootstrap)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .env("AWS_LAMBDA_FUNCTION_NAME", "coinduit")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/coinduit")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench")
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", FUNCTION.access_key)
            .env("AWS_SECRET_ACCESS_KEY", FUNCTION.secret_key)
            .env("AWS_ENDPOINT_URL_S3", self.bucket.url())
            .env("AWS_ENDPOINT_URL_DYNAMODB", self.tables.url())
            .env("PRICES_TABLE", PRICES_TABLE)
            .env("COINS_TABLE", COINS_TABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io("start bootstrap"))
    }

    /// From the start of a process until it asks for an event, ms.
    async fn starts(&self) -> Result<Sample, BenchError> {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let mut api = RuntimeApi::start().await?;
            let begin = Instant::now();
            let mut child = self.spawn(&api)?;
            asked(&mut api).await?;
            times.push(ms(begin));
            // An error says that it has ended.
            drop(child.kill().await);
        }
        Ok(times.into_iter().collect())
    }

    /// From an event to its answer, ms; each object has newer prices of the same coins.
    async fn warm(&self) -> Result<Sample, BenchError> {
        for number in 0..WARM_UP + OBJECTS {
            let mut lines =
                Lines { coins: &self.coins[..COINS.min(self.coins.len())], number: number * COINS };
            let mut object = Vec::new();
            for _ in 0..COINS {
                lines.write(&mut object, at(number));
            }
            self.put(&format!("{number}.jsonl"), &mut [object].into_iter()).await?;
        }
        let mut api = RuntimeApi::start().await?;
        let mut child = self.spawn(&api)?;
        asked(&mut api).await?;
        let mut times = Vec::new();
        for number in 0..WARM_UP + OBJECTS {
            let begin = Instant::now();
            let answer = handled(&mut api, &format!("{number}.jsonl")).await?;
            times.push(ms(begin));
            if (&answer["rows"], &answer["coins"]) != (&json!(COINS), &json!(COINS)) {
                return Err(BenchError::program("bootstrap", format!("answered {answer}")));
            }
        }
        drop(child.kill().await);
        Ok(times.into_iter().skip(WARM_UP).collect())
    }

    /// How many lines an object of about `bytes` bytes has, and the most memory that it took, MiB.
    async fn large(&self, name: &str, bytes: usize, is_gzip: bool) -> Result<(usize, f64), BenchError> {
        let mut chunks = Chunks {
            lines: Lines { coins: &self.coins, number: 0 },
            left: bytes,
            // Other instants than the objects before, and than each other.
            first_ms: if is_gzip { 1_500_000_000_000 } else { 1_600_000_000_000 },
            gzip: is_gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
        };
        self.put(name, &mut chunks).await?;
        let lines = chunks.lines.number;
        let mut api = RuntimeApi::start().await?;
        let mut child = self.spawn(&api)?;
        asked(&mut api).await?;
        let answer = handled(&mut api, name).await?;
        let pid = child.id().ok_or_else(|| BenchError::program("bootstrap", "has ended"))?;
        let peak = memory(pid, "VmHWM")?;
        drop(child.kill().await);
        if answer["rows"] != json!(lines) {
            return Err(BenchError::program("bootstrap", format!("answered {answer} for {lines} lines")));
        }
        Ok((lines, peak))
    }

    async fn put(&self, key: &str, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), BenchError> {
        let failed = |source| BenchError::Store { key: key.to_owned(), source };
        let upload = self.store.put_multipart(&Key::from(key)).await.map_err(failed)?;
        let mut upload = WriteMultipart::new(upload);
        for chunk in chunks {
            upload.wait_for_capacity(2).await.map_err(failed)?;
            upload.put(Bytes::from(chunk));
        }
        upload.finish().await.map_err(failed)?;
        Ok(())
    }
}

/// The recorded coins, a line each.
fn recorded() -> serde_json::Result<Vec<String>> {
    serde_json::from_str::<Vec<Value>>(RECORDED)?.iter().map(serde_json::to_string).collect()
}

/// Lines as the consumer stores them, without an end.
struct Lines<'a> {
    coins: &'a [String],
    number: usize,
}

impl Lines<'_> {
    fn write(&mut self, to: &mut Vec<u8>, at_ms: i64) {
        let number = self.number;
        self.number += 1;
        let coin = &self.coins[number % self.coins.len()];
        let at = rfc3339_ms(at_ms);
        to.extend_from_slice(coin.strip_suffix('}').unwrap_or(coin).as_bytes());
        let added = format!(
            r#","id":"bench-{number}","timestamp":"{at}","source":"livecoinwatch","currency":"USD"}}"#
        );
        to.extend_from_slice(added.as_bytes());
        to.push(b'\n');
    }
}

/// A large object, a chunk after the other.
struct Chunks<'a> {
    lines: Lines<'a>,
    /// How many bytes of lines are still to come.
    left: usize,
    first_ms: i64,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for Chunks<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.left == 0 {
            // The end of the compressed stream.
            return self.gzip.take().and_then(|gzip| gzip.finish().ok());
        }
        let mut chunk = Vec::with_capacity(CHUNK + 4096);
        while chunk.len() < CHUNK.min(self.left) {
            let number = i64::try_from(self.lines.number).unwrap_or(i64::MAX);
            self.lines.write(&mut chunk, self.first_ms + number);
        }
        self.left = self.left.saturating_sub(chunk.len());
        match &mut self.gzip {
            Some(gzip) => {
                gzip.write_all(&chunk).expect("memory takes what is written");
                Some(std::mem::take(gzip.get_mut()))
            }
            None => Some(chunk),
        }
    }
}

/// An instant for each object of a warm function.
fn at(number: usize) -> i64 {
    1_700_000_000_000 + i64::try_from(number).unwrap_or(0) * 60_000
}

async fn asked(api: &mut RuntimeApi) -> Result<(), BenchError> {
    let asked = timeout(START_LIMIT, api.asked()).await;
    asked.map_err(|_| BenchError::program("bootstrap", format!("asks for no event within {START_LIMIT:?}")))
}

/// The answer to the event of one new object.
async fn handled(api: &mut RuntimeApi, key: &str) -> Result<Value, BenchError> {
    let event = json!({ "Records": [{
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": { "bucket": { "name": BUCKET }, "object": { "key": key } },
    }] });
    let deadline_ms = Clock::System.now_ms() + i64::try_from(OBJECT_LIMIT.as_millis()).unwrap_or(0);
    let answer = timeout(OBJECT_LIMIT, api.invoke(Bytes::from(event.to_string()), deadline_ms)).await;
    answer
        .map_err(|_| BenchError::program("bootstrap", format!("no answer within {OBJECT_LIMIT:?}")))?
        .map_err(|error| BenchError::program("bootstrap", format!("failed: {error}")))
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_object_is_lines_that_become_rows() {
        let coins = recorded().unwrap();
        let lines = Lines { coins: &coins, number: 0 };
        let mut chunks = Chunks { lines, left: 100_000, first_ms: 1_600_000_000_000, gzip: None };
        let object: Vec<u8> = chunks.by_ref().flatten().collect();
        let parsed: Vec<Value> = object
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(parsed.len(), chunks.lines.number);
        assert!(object.len() >= 100_000, "{}", object.len());
        assert_eq!(parsed[1]["timestamp"], "2020-09-13T12:26:40.001Z");
        assert_eq!(parsed[1]["code"], serde_json::from_str::<Value>(&coins[1]).unwrap()["code"]);
    }
}
