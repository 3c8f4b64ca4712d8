//! What a run of the producer meets and leaves behind: a broker, an SNS, an exit code, a last line.

use std::{collections::BTreeMap, net::SocketAddr, process::Output, time::Duration};

use coinduit_local::{
    broker::{Broker, BrokerConfig, core::Settings},
    credentials::{REGION, USER},
    price_api::{PriceApi, Prices},
    sns::{self, Sns},
};
use rskafka::{
    client::{ClientBuilder, partition::UnknownTopicHandling},
    record::Record,
};
use serde_json::Value;
use tokio::process::{Child, Command};

/// The topic of all these tests.
pub(crate) const TOPIC: &str = "crypto_prices";
/// The key of the price API. No run may show it.
pub(crate) const KEY: &str = "5up3r-s3cr3t-k3y";
/// Far more than any of these runs takes; one that needs it hangs.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A port of the loopback interface that is free.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The embedded price API, with the recorded prices.
pub(crate) fn price_api() -> PriceApi {
    PriceApi::start(any_port(), Prices::Fixed).unwrap()
}

/// The same, which does wrong what `faults` say, one after the other.
pub(crate) fn faulty_api(faults: &[&str]) -> PriceApi {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    PriceApi::start_faulty(any_port(), Prices::Fixed, faults).unwrap()
}

/// A broker and an SNS of one test.
#[derive(Debug)]
pub(crate) struct World {
    /// The broker.
    pub(crate) broker: Broker,
    sns: Sns,
}

impl World {
    /// With the topic, of `partitions` partitions.
    pub(crate) async fn new(partitions: i32) -> Self {
        let world = Self::without_topic(Settings::default()).await;
        world.broker.create_topic(TOPIC, partitions).unwrap();
        world
    }

    /// With a broker that behaves as `settings` say, and has no topics.
    pub(crate) async fn without_topic(settings: Settings) -> Self {
        let broker = Broker::start(BrokerConfig { settings, ..BrokerConfig::default() }).await.unwrap();
        Self { broker, sns: Sns::start(any_port(), &["alerts"]).unwrap() }
    }

    /// A run against the API at `url`, which may take its time.
    pub(crate) fn run(&self, url: &str) -> Run {
        Run::bare()
            .with("KAFKA_BOOTSTRAP_SERVERS", &self.broker.bootstrap())
            .with("KAFKA_TOPIC", TOPIC)
            .with("API_URL", url)
            .with("API_KEY", KEY)
            .with("RUN_DEADLINE", "40s")
            .with("SNS_TOPIC_ARN", &sns::topic_arn("alerts"))
            .with("AWS_ENDPOINT_URL_SNS", &self.sns.url())
            .with("AWS_REGION", REGION)
            .with("AWS_ACCESS_KEY_ID", USER.access_key)
            .with("AWS_SECRET_ACCESS_KEY", USER.secret_key)
    }

    /// Everything on the topic: partition by partition, in the order of the log.
    pub(crate) async fn records(&self) -> Vec<(i32, Record)> {
        let client = ClientBuilder::new(vec![self.broker.bootstrap()]).build().await.unwrap();
        let mut records = Vec::new();
        for partition in 0.. {
            let Some(offsets) = self.broker.offsets(TOPIC, partition) else { break };
            let reader =
                client.partition_client(TOPIC, partition, UnknownTopicHandling::Error).await.unwrap();
            let mut next = offsets.start;
            while next < offsets.end {
                let (found, _) = reader.fetch_records(next, 1..50_000_000, 1_000).await.unwrap();
                next = found.last().unwrap().offset + 1;
                records.extend(found.into_iter().map(|found| (partition, found.record)));
            }
        }
        records
    }

    /// The keys on the topic, sorted.
    pub(crate) async fn codes(&self) -> Vec<String> {
        let key = |(_, record): (i32, Record)| String::from_utf8(record.key.unwrap()).unwrap();
        let mut codes: Vec<String> = self.records().await.into_iter().map(key).collect();
        codes.sort();
        codes
    }

    /// What people were told: subject and body.
    pub(crate) fn alerts(&self) -> Vec<(String, String)> {
        let published = self.sns.published().into_iter();
        let alerts: Vec<_> =
            published.map(|published| (published.subject.unwrap(), published.message)).collect();
        assert!(!format!("{alerts:?}").contains(KEY), "the key is in {alerts:?}");
        alerts
    }

    /// The one alert there was: its subject, and what it says.
    pub(crate) fn alert(&self) -> (String, String) {
        let mut alerts = self.alerts();
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        alerts.remove(0)
    }
}

/// The producer with its settings, not started yet.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl Run {
    /// With nothing set.
    pub(crate) fn bare() -> Self {
        Self { variables: BTreeMap::new(), arguments: Vec::new() }
    }

    /// With the variable `name`; the last value counts.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without the variable `name`.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// With one more argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_producer"))
            .args(self.arguments)
            .env_clear()
            .envs(self.variables)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Running(child.unwrap())
    }

    /// Starts it and waits for its end.
    pub(crate) async fn finish(self) -> Outcome {
        self.start().finish().await
    }
}

/// A producer under way; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Sends it a signal: `TERM`, `INT`.
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.0.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().await.unwrap().success());
    }

    /// Waits for its end, and checks what is true of every run.
    pub(crate) async fn finish(self) -> Outcome {
        Outcome::of(&self.output().await)
    }

    /// Waits for its end.
    pub(crate) async fn output(self) -> Output {
        tokio::time::timeout(GIVE_UP, self.0.wait_with_output())
            .await
            .expect("the run should have ended")
            .unwrap()
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: i32,
    /// What came before it on stdout: records of a dry run, summaries of earlier runs.
    pub(crate) lines: Vec<String>,
    /// The last line on stdout.
    pub(crate) summary: Value,
    /// The logs.
    pub(crate) log: String,
}

impl Outcome {
    /// Reads what a run left, and checks what is true of every run: the summary is the last line on stdout and has
    /// the contract's members, it agrees with the exit code, and the key is nowhere.
    fn of(output: &Output) -> Self {
        let log = String::from_utf8(output.stderr.clone()).unwrap();
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("killed by a signal: {log}"));
        assert!(!stdout.contains(KEY) && !log.contains(KEY), "the key is in {stdout}{log}");

        let all = stdout.strip_suffix('\n').unwrap_or_else(|| panic!("no last line in {stdout:?}: {log}"));
        let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
        let summary: Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
        let text = |member: &str| assert!(summary[member].is_string(), "{member} in {summary}");
        let number = |member: &str| assert!(summary[member].is_u64(), "{member} in {summary}");
        match summary["status"].as_str() {
            Some(done @ ("published" | "dry-run")) => {
                assert!(
                    done == "dry-run" || lines.iter().all(|line| line.starts_with(r#"{"status""#)),
                    "{stdout}"
                );
                assert!(summary.get("credits_remaining").is_some(), "{summary}");
                ["topic", "fetched_at"].iter().for_each(|member| text(member));
                ["records", "rejected", "elapsed_ms"].iter().for_each(|member| number(member));
                assert_eq!(code, 0, "{summary}");
            }
            Some("failed") => {
                ["stage", "error"].iter().for_each(|member| text(member));
                assert!(summary["retryable"].is_boolean(), "{summary}");
                // Running again helps with 1 and doesn't with 2; an API that says no is 1, too (section 8).
                assert!(code == 1 || (code == 2 && summary["retryable"] == false), "{code} with {summary}");
            }
            Some("skipped") => {
                text("reason");
                number("credits_remaining");
                assert_eq!(code, 99, "{summary}");
            }
            _ => panic!("{summary}"),
        }
        Self { code, lines, summary, log }
    }

    /// Checks that all `records` were published.
    pub(crate) fn published(&self, records: usize) -> &Self {
        assert_eq!((self.code, &self.summary["records"]), (0, &records.into()), "{self:?}");
        self
    }

    /// Checks that the run failed at `stage` with exit `code`, and that the summary's error holds `words`.
    pub(crate) fn failed(&self, code: i32, stage: &str, words: &[&str]) -> &Self {
        assert_eq!((self.code, self.summary["stage"].as_str()), (code, Some(stage)), "{self:?}");
        let error = self.summary["error"].as_str().unwrap();
        for words in words {
            assert!(error.contains(words), "{words:?} in {error:?}");
        }
        self
    }

    /// Checks whether running again may help.
    pub(crate) fn retryable(&self, expected: bool) -> &Self {
        assert_eq!(self.summary["retryable"], expected, "{self:?}");
        self
    }
}
