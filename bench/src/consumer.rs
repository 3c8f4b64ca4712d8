//! The consumer from a full topic to a bucket, and a consumer that has nothing to do.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use coinduit_local::credentials::{REGION, USER};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use uuid::Uuid;

use crate::{
    bucket::{BUCKET, Bucket},
    error::BenchError,
    figures::{Row, Sample},
    kafka::{Kafka, Shape},
    measured::{Cost, binary, cost, memory},
    progress,
};

const PARTITIONS: i32 = 16;
/// Which of its clients the consumer reads with.
const READERS: [&str; 2] = ["auto", "native"];
/// How many records a real Kafka gets of each shape, and what the rivals' best takes for them (README, "How it
/// compares"): CPU seconds. Where the script is measured beside, its figure counts.
const SMALL: (usize, f64) = (3_000_000, 7.7);
const COINS: (usize, f64) = (500_000, 3.0);
/// What the consumer is to replace: reads with librdkafka, stores with boto3.
const SCRIPT: &str = include_str!("../rivals/confluent_boto3.py");
/// The part of that which the consumer may take.
const SHARE: f64 = 0.4;
/// The embedded broker keeps them in memory, and gets fewer.
const EMBEDDED: usize = 10;
/// What the consumer may need, busy and idle, in MiB.
const PEAK_BUDGET: f64 = 100.0;
const IDLE_BUDGET: f64 = 40.0;
/// How long a consumer is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(5);
/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// How many records there are to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    small: usize,
    coins: usize,
}

impl Load {
    /// What was asked for, else as many as the budgets are about, where Kafka is real.
    pub(crate) fn new(small: Option<usize>, coins: Option<usize>, is_real: bool) -> Self {
        let part = if is_real { 1 } else { EMBEDDED };
        Self { small: small.unwrap_or(SMALL.0 / part), coins: coins.unwrap_or(COINS.0 / part) }
    }
}

/// What is read by whom.
struct Bench {
    kafka: Kafka,
    consumer: PathBuf,
    kcat: Option<PathBuf>,
    python: Option<PathBuf>,
    rounds: usize,
}

/// CPU time, memory and time of both readers, of kcat where it is installed, of the script where there is a `python` for
/// it, and the memory of an idle consumer.
pub(crate) async fn measure(
    bin_dir: &Path,
    bootstrap: Option<&str>,
    load: Load,
    rounds: usize,
    python: Option<&Path>,
) -> Result<Vec<Row>, BenchError> {
    let kafka = Kafka::find(bootstrap).await?;
    let consumer = binary(bin_dir, "consumer")?;
    let python = python.map(Path::to_owned);
    let bench = Bench { kafka, consumer, kcat: on_path("kcat"), python, rounds };
    let mut rows = Vec::new();
    rows.extend(bench.shape(Shape::Small, load.small, SMALL).await?);
    rows.extend(bench.shape(Shape::Coin, load.coins, COINS).await?);
    rows.push(bench.idle().await?);
    if bench.kcat.is_none() {
        rows.push(Row::left_out("kcat", "left out: it is not installed"));
    }
    if bench.python.is_none() {
        rows.push(Row::left_out("confluent-kafka and boto3", "left out: no --python that has them"));
    }
    rows.push(Row::left_out("other rivals", "left out: README, How it compares"));
    bench.kafka.stop().await;
    Ok(rows)
}

impl Bench {
    async fn shape(
        &self,
        shape: Shape,
        count: usize,
        (full, rival): (usize, f64),
    ) -> Result<Vec<Row>, BenchError> {
        let name = match shape {
            Shape::Small => "small",
            Shape::Coin => "coins",
        };
        progress(&format!("topic of {count} records of {} bytes", shape.bytes()));
        let topic = self.kafka.create(name, PARTITIONS).await?;
        let costs = match self.kafka.fill(&topic, PARTITIONS, shape, count).await {
            Ok(()) => self.rounds(&topic, count).await,
            Err(error) => Err(error),
        };
        self.kafka.delete(&topic).await?;
        let costs = costs?;
        let place = if self.kafka.is_real { "real Kafka" } else { "embedded broker" };
        let rival = match costs.script.is_empty() {
            true => (self.kafka.is_real && count == full).then_some(rival),
            false => Some(costs.script.iter().map(|cost| cost.cpu_s).collect::<Sample>().median()),
        };
        let budget = rival.map(|rival| SHARE * rival);
        let mut rows = Vec::new();
        for (reader, costs) in READERS.into_iter().zip(&costs.readers) {
            let what = format!("consumer, {count} x {} B, {place}, reader {reader}", shape.bytes());
            rows.extend(three(&what, costs, budget, Some(PEAK_BUDGET)));
        }
        let kcat = (format!("kcat, the same {name}, thrown away"), &costs.kcat);
        let script = (format!("confluent-kafka and boto3, the same {name}"), &costs.script);
        for (what, costs) in [kcat, script] {
            if !costs.is_empty() {
                rows.extend(three(&what, costs, None, None));
            }
        }
        Ok(rows)
    }

    /// All that read `topic`, in turns, so that a machine that becomes slower does so for all of them.
    async fn rounds(&self, topic: &str, count: usize) -> Result<Costs, BenchError> {
        let mut costs = Costs::default();
        for round in 1..=self.rounds {
            progress(&format!("round {round} of {}", self.rounds));
            for (reader, costs) in READERS.into_iter().zip(&mut costs.readers) {
                let env = [("KAFKA_READER", reader), ("HTTP_ADDR", "off")];
                costs.push(self.stores(topic, count, &self.consumer, &["--exit-at-end"], &env).await?);
            }
            if let Some(python) = self.python.as_deref() {
                costs.script.push(self.stores(topic, count, python, &["-c", SCRIPT], &[]).await?);
            }
            if let Some(kcat) = self.kcat.as_deref() {
                let arguments =
                    ["-C", "-e", "-q", "-o", "beginning", "-b", &self.kafka.bootstrap, "-t", topic];
                costs.kcat.push(cost(kcat, &arguments, &[]).await?);
            }
        }
        Ok(costs)
    }

    /// One run of a program that stores `topic`, of which every record has to arrive.
    async fn stores(
        &self,
        topic: &str,
        count: usize,
        program: &Path,
        arguments: &[&str],
        own: &[(&str, &str)],
    ) -> Result<Cost, BenchError> {
        let bucket = Bucket::start()?;
        let mut told = env(&bucket, &self.kafka, topic);
        told.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let cost = cost(program, arguments, &told).await;
        let lines = bucket.lines();
        bucket.stop().await;
        let (cost, lines) = (cost?, lines?);
        if lines != count {
            let name = program.display().to_string();
            return Err(BenchError::program(name, format!("{lines} of {count} records were stored")));
        }
        Ok(cost)
    }

    /// A consumer of an empty topic.
    async fn idle(&self) -> Result<Row, BenchError> {
        progress("idle consumer");
        let topic = self.kafka.create("idle", PARTITIONS).await?;
        let bucket = Bucket::start()?;
        let memory = self.idle_memory(&bucket, &topic).await;
        bucket.stop().await;
        self.kafka.delete(&topic).await?;
        Ok(Row::new("consumer, idle, memory", &[memory?].into_iter().collect(), "MiB", Some(IDLE_BUDGET)))
    }

    async fn idle_memory(&self, bucket: &Bucket, topic: &str) -> Result<f64, BenchError> {
        let mut child = Command::new(&self.consumer)
            .env_clear()
            .envs(env(bucket, &self.kafka, topic))
            .env("HTTP_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io("start the consumer"))?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let owned = async {
            let mut said = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("partitions assigned") {
                    return Ok(());
                }
                said = line;
            }
            Err(BenchError::program("consumer", format!("ended: {said}")))
        };
        tokio::time::timeout(READY, owned)
            .await
            .map_err(|_| BenchError::program("consumer", format!("owns nothing within {READY:?}")))??;
        tokio::time::sleep(IDLE).await;
        let pid = child.id().ok_or_else(|| BenchError::program("consumer", "ended while it was idle"))?;
        let memory = memory(pid, "VmRSS");
        // An error says that it has ended.
        drop(child.kill().await);
        memory
    }
}

/// What each round cost.
#[derive(Debug, Default)]
struct Costs {
    readers: [Vec<Cost>; READERS.len()],
    kcat: Vec<Cost>,
    script: Vec<Cost>,
}

fn three(what: &str, costs: &[Cost], cpu: Option<f64>, peak: Option<f64>) -> [Row; 3] {
    [
        Row::new(format!("{what}: CPU"), &costs.iter().map(|cost| cost.cpu_s).collect(), "s", cpu),
        Row::new(
            format!("{what}: peak memory"),
            &costs.iter().map(|cost| cost.peak_mib).collect(),
            "MiB",
            peak,
        ),
        Row::new(format!("{what}: wall"), &costs.iter().map(|cost| cost.wall_ms / 1e3).collect(), "s", None),
    ]
}

/// What a program has to be told to store `topic` in `bucket`.
fn env(bucket: &Bucket, kafka: &Kafka, topic: &str) -> Vec<(String, String)> {
    let group = format!("coinduit-bench-{}", Uuid::new_v4().simple());
    [
        ("KAFKA_BOOTSTRAP_SERVERS", &*kafka.bootstrap),
        ("KAFKA_TOPIC", topic),
        ("KAFKA_GROUP_ID", &group),
        ("S3_BUCKET", BUCKET),
        ("ENRICH", "off"),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", USER.access_key),
        ("AWS_SECRET_ACCESS_KEY", USER.secret_key),
        ("AWS_ENDPOINT_URL_S3", &bucket.url()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The program `name`, where people have put it.
fn on_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}
