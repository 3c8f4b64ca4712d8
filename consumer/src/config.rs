//! What the operator wrote ([`Args`]) and what the program may rely on ([`Config`]).

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand};
use coinduit_common::{
    alert::topic_arn,
    aws::AwsSettings,
    config::{self, Env, Faults, given},
    kafka::aborted::Isolation,
    kafka::settings::{KafkaArgs, KafkaSettings},
    object_key::Prefix,
    telemetry::LogSettings,
};

use crate::{
    audit::settings::AuditArgs, batch::Limits, check::settings::CheckArgs, compression::Compression,
    layout::Layout, ledger::resume::Reset,
};

/// Reads a Kafka topic and writes it to S3 as newline JSON objects, each record exactly once.
#[derive(Debug, Parser)]
#[command(name = "consumer", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Args,
}

/// More threads than any machine has a use for.
const MOST_THREADS: usize = 256;

const AFTER_HELP: &str = "Every option is an environment variable too; a flag wins. AWS settings are the SDKs' own (AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL_S3, ...). Logs: RUST_LOG [info], LOG_FORMAT [text on a terminal, else json].
Exit codes: 0 done, 1 failed (running again may help), 2 misconfigured, 3 audit or check found something.";

/// What it is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read and write until told to stop (the default)
    Run(Box<Args>),
    /// Ask the consumer that runs on this machine whether it is ready, for container health checks; exit code 0 or 1
    Health(HealthArgs),
    /// Prove that the objects have no gap and no overlap, and hold what the topic still has
    Audit(Box<AuditArgs>),
    /// Try every address and permission that a run needs, and say what is missing and how to grant it
    Check(Box<CheckArgs>),
}

impl Cli {
    /// The command; `run` where the operator named none.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Run(Box::new(self.run)))
    }
}

/// What the operator wrote.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArgs,

    /// Consumer group: its members share the partitions [default: coinduit]
    #[arg(long, env = "KAFKA_GROUP_ID", value_name = "NAME", help_heading = "Kafka")]
    kafka_group_id: Option<String>,
    /// A name of this member's own, which lets it come back without a rebalance; never two at once [default: none]
    #[arg(long, env = "KAFKA_GROUP_INSTANCE_ID", value_name = "NAME", help_heading = "Kafka")]
    kafka_group_instance_id: Option<String>,
    /// The group takes a member for dead after so long; brokers allow 6s to 30m [default: 45s]
    #[arg(long, env = "KAFKA_SESSION_TIMEOUT", value_name = "DURATION", help_heading = "Kafka")]
    kafka_session_timeout: Option<String>,
    /// Which client reads: rskafka, native, or auto, which goes over to native where rskafka can't read [default: auto]
    #[arg(long, env = "KAFKA_READER", value_name = "READER", help_heading = "Kafka")]
    kafka_reader: Option<String>,
    /// read_uncommitted, or read_committed: no records of open and aborted transactions [default: read_uncommitted]
    #[arg(long, env = "KAFKA_ISOLATION_LEVEL", value_name = "LEVEL", help_heading = "Kafka")]
    kafka_isolation_level: Option<String>,
    /// Where to begin where neither objects nor commits are: earliest, latest or error [default: earliest]
    #[arg(long, env = "AUTO_OFFSET_RESET", value_name = "WHERE", help_heading = "Kafka")]
    auto_offset_reset: Option<String>,

    /// Bucket to write to (required)
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", help_heading = "Objects")]
    s3_bucket: Option<String>,
    /// Before every key; a missing last / is added [default: none]
    #[arg(long, env = "S3_PREFIX", value_name = "PREFIX", help_heading = "Objects")]
    s3_prefix: Option<String>,
    /// log: one object per batch; record: one object per record, without a chain [default: log]
    #[arg(long, env = "OBJECT_LAYOUT", value_name = "LAYOUT", help_heading = "Objects")]
    object_layout: Option<String>,
    /// How objects are compressed: none, gzip or zstd; never changes below one prefix [default: none]
    #[arg(long, env = "COMPRESSION", value_name = "CODEC", help_heading = "Objects")]
    compression: Option<String>,
    /// Append id, timestamp, source and currency to lines that lack them: on or off [default: on]
    #[arg(long, env = "ENRICH", value_name = "ON|OFF", help_heading = "Objects")]
    enrich: Option<String>,
    /// Close an object at so many records [default: 50000]
    #[arg(long, env = "MAX_OBJECT_RECORDS", value_name = "NUMBER", help_heading = "Objects")]
    max_object_records: Option<String>,
    /// Close an object before its lines, uncompressed, are more than this [default: 8MiB]
    #[arg(long, env = "MAX_OBJECT_BYTES", value_name = "SIZE", help_heading = "Objects")]
    max_object_bytes: Option<String>,
    /// Close an object so long after its first record was fetched [default: 60s]
    #[arg(long, env = "MAX_OBJECT_AGE", value_name = "DURATION", help_heading = "Objects")]
    max_object_age: Option<String>,

    /// Memory for records and objects of all partitions together [default: 64MiB]
    #[arg(long, env = "MEMORY_BUDGET", value_name = "SIZE", help_heading = "Running")]
    memory_budget: Option<String>,
    /// Threads that read, check, compress and sign; one does about a million small records a second [default: 1]
    #[arg(long, env = "WORKER_THREADS", value_name = "NUMBER", help_heading = "Running")]
    worker_threads: Option<String>,
    /// How long SIGTERM waits for what is held to be stored [default: 25s]
    #[arg(long, env = "DRAIN_TIMEOUT", value_name = "DURATION", help_heading = "Running")]
    drain_timeout: Option<String>,
    /// Where /metrics, /livez and /readyz are served, as ADDRESS:PORT, or off [default: 0.0.0.0:9090]
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS", help_heading = "Running")]
    http_addr: Option<String>,
    /// SNS topic that is told when something goes wrong [default: none]
    #[arg(long, env = "SNS_TOPIC_ARN", value_name = "ARN", help_heading = "Running")]
    sns_topic_arn: Option<String>,
    /// Store everything up to the log's end as it is now, then exit 0
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Running")]
    exit_at_end: bool,
}

/// What the operator wrote for `health`.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct HealthArgs {
    /// Where the consumer serves /readyz, as ADDRESS:PORT [default: 0.0.0.0:9090, asked at 127.0.0.1]
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS")]
    http_addr: Option<String>,
    /// Ask whether it lives (/livez) instead of whether it is ready (/readyz)
    #[arg(long, action = ArgAction::SetTrue)]
    live: bool,
}

impl HealthArgs {
    /// Whom to ask, and for what.
    ///
    /// # Errors
    /// Every fault.
    pub fn read(&self) -> Result<(SocketAddr, &'static str), Faults> {
        let mut faults = Faults::default();
        let address = faults.read("HTTP_ADDR", self.http_addr.as_deref(), Some(HTTP_ADDR), http_addr);
        if address.is_none() {
            faults.add(
                "HTTP_ADDR",
                "is off, so nobody can be asked",
                "write the address that the consumer listens at",
            );
        }
        let path = if self.live { "/livez" } else { "/readyz" };
        faults.into_result((address.unwrap_or(HTTP_ADDR), path))
    }
}

/// `KAFKA_READER`: which client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// rskafka where it can, else our own.
    Auto,
    /// rskafka alone.
    Rskafka,
    /// Our own alone.
    Native,
}

/// What the program may rely on.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where records come from.
    pub kafka: KafkaSettings,
    /// The group's name.
    pub group_id: String,
    /// The static member's name, if it is one.
    pub instance_id: Option<String>,
    /// The group takes a member for dead after so long.
    pub session_timeout: Duration,
    /// Where to begin where neither objects nor commits are.
    pub reset: Reset,
    /// Which client reads.
    pub reader: Reader,
    /// Which transactions' records are read.
    pub isolation: Isolation,
    /// Where objects go.
    pub bucket: String,
    /// Before every key.
    pub prefix: Prefix,
    /// How objects are laid out and compressed.
    pub layout: Layout,
    /// When an object is closed.
    pub limits: Limits,
    /// Whether lines get members from headers and coordinates.
    pub enrich: bool,
    /// Bytes for all partitions together.
    pub memory_budget: usize,
    /// How many threads do the work, apart from looking names up.
    pub worker_threads: usize,
    /// How long stopping may take.
    pub drain_timeout: Duration,
    /// End at the log's end.
    pub exit_at_end: bool,
    /// Where `/metrics`, `/livez` and `/readyz` are served, if they are.
    pub http_addr: Option<SocketAddr>,
    /// Whom to tell.
    pub sns_topic_arn: Option<String>,
    /// The AWS side.
    pub aws: AwsSettings,
    /// How to log.
    pub log: LogSettings,
}

impl Config {
    /// Checks each value and each pair of values.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn new(args: &Args, env: &Env) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let compression =
            faults.read("COMPRESSION", args.compression.as_deref(), Compression::None, |text| {
                Compression::read(text).ok_or_else(|| "write none, gzip or zstd".to_owned())
            });
        let layout =
            faults.read("OBJECT_LAYOUT", args.object_layout.as_deref(), Layout::Log(compression), |text| {
                match text {
                    "log" => Ok(Layout::Log(compression)),
                    "record" => Ok(Layout::Record),
                    _ => Err("write log or record".to_owned()),
                }
            });
        if layout == Layout::Record && compression != Compression::None {
            faults.add(
                "COMPRESSION",
                format!("is {}, and OBJECT_LAYOUT=record stores each record as it is", compression.name()),
                "leave it out, or set OBJECT_LAYOUT=log",
            );
        }
        let isolation = faults.read(
            "KAFKA_ISOLATION_LEVEL",
            args.kafka_isolation_level.as_deref(),
            Isolation::ReadUncommitted,
            isolation,
        );
        let reader = faults.read("KAFKA_READER", args.kafka_reader.as_deref(), Reader::Auto, reader);
        if reader == Reader::Rskafka && isolation == Isolation::ReadCommitted {
            faults.add(
                "KAFKA_READER",
                "is rskafka, which does not filter aborted transactions (KAFKA_ISOLATION_LEVEL=read_committed)",
                "write auto or native",
            );
        }
        let limits = Limits {
            records: faults.read("MAX_OBJECT_RECORDS", args.max_object_records.as_deref(), 50_000, |text| {
                config::number(text, 1..=100_000_000).map(|number| u64::try_from(number).unwrap_or(u64::MAX))
            }),
            bytes: faults.read("MAX_OBJECT_BYTES", args.max_object_bytes.as_deref(), 8 << 20, |text| {
                config::bytes(text).and_then(|size| {
                    if size <= 1 << 30 { Ok(size) } else { Err("write at most 1GiB".to_owned()) }
                })
            }),
            age: faults.read(
                "MAX_OBJECT_AGE",
                args.max_object_age.as_deref(),
                Duration::from_secs(60),
                config::duration,
            ),
        };
        let memory_budget =
            faults.read("MEMORY_BUDGET", args.memory_budget.as_deref(), 64 << 20, config::bytes);
        if memory_budget < limits.bytes {
            faults.add(
                "MEMORY_BUDGET",
                format!("is smaller than MAX_OBJECT_BYTES ({memory_budget} < {} bytes)", limits.bytes),
                "raise it, or lower MAX_OBJECT_BYTES",
            );
        }
        let bucket = given(args.s3_bucket.as_deref()).map(ToOwned::to_owned);
        if bucket.is_none() {
            faults.add("S3_BUCKET", "is not set", "name the bucket to write to");
        }
        let aws = AwsSettings::from_env(env, &mut faults);
        let config = Self {
            kafka: args.kafka.read("coinduit-consumer", &aws, &mut faults),
            group_id: faults.read(
                "KAFKA_GROUP_ID",
                args.kafka_group_id.as_deref(),
                "coinduit".to_owned(),
                name,
            ),
            instance_id: faults.read(
                "KAFKA_GROUP_INSTANCE_ID",
                args.kafka_group_instance_id.as_deref(),
                None,
                |text| name(text).map(Some),
            ),
            session_timeout: faults.read(
                "KAFKA_SESSION_TIMEOUT",
                args.kafka_session_timeout.as_deref(),
                Duration::from_secs(45),
                session_timeout,
            ),
            reader,
            isolation,
            reset: faults.read(
                "AUTO_OFFSET_RESET",
                args.auto_offset_reset.as_deref(),
                Reset::Earliest,
                reset,
            ),
            bucket: bucket.unwrap_or_default(),
            prefix: faults.read("S3_PREFIX", args.s3_prefix.as_deref(), Prefix::default(), Prefix::new),
            layout,
            limits,
            enrich: faults.read("ENRICH", args.enrich.as_deref(), true, |text| match text {
                "on" => Ok(true),
                "off" => Ok(false),
                _ => Err("write on or off".to_owned()),
            }),
            memory_budget,
            worker_threads: faults.read("WORKER_THREADS", args.worker_threads.as_deref(), 1, |text| {
                config::number(text, 1..=MOST_THREADS)
            }),
            drain_timeout: faults.read(
                "DRAIN_TIMEOUT",
                args.drain_timeout.as_deref(),
                Duration::from_secs(25),
                config::duration,
            ),
            exit_at_end: args.exit_at_end,
            http_addr: faults.read("HTTP_ADDR", args.http_addr.as_deref(), Some(HTTP_ADDR), http_addr),
            sns_topic_arn: faults.read("SNS_TOPIC_ARN", args.sns_topic_arn.as_deref(), None, |text| {
                topic_arn(text).map(Some).map_err(|error| error.to_string())
            }),
            aws,
            log: LogSettings::from_env(env, &mut faults),
        };
        faults.into_result(config)
    }
}

/// A group's or a member's name: what Kafka takes for both.
fn name(text: &str) -> Result<String, String> {
    if text.len() <= 249 && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("write at most 249 characters, none of them a control character".to_owned())
    }
}

/// Where `/metrics` and the others are served unless the operator says otherwise.
const HTTP_ADDR: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9090));

fn http_addr(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "write an address and a port, such as 0.0.0.0:9090, or off".to_owned())
}

fn session_timeout(text: &str) -> Result<Duration, String> {
    let timeout = config::duration(text)?;
    let most = Duration::from_millis(i32::MAX.unsigned_abs().into());
    if timeout >= Duration::from_secs(1) && timeout <= most {
        Ok(timeout)
    } else {
        Err("write 1s or more; brokers allow 6s to 30m unless they are configured otherwise".to_owned())
    }
}

/// `KAFKA_ISOLATION_LEVEL`.
pub(crate) fn isolation(text: &str) -> Result<Isolation, String> {
    match text {
        "read_uncommitted" => Ok(Isolation::ReadUncommitted),
        "read_committed" => Ok(Isolation::ReadCommitted),
        _ => Err("write read_uncommitted or read_committed".to_owned()),
    }
}

fn reader(text: &str) -> Result<Reader, String> {
    match text {
        "auto" => Ok(Reader::Auto),
        "rskafka" => Ok(Reader::Rskafka),
        "native" => Ok(Reader::Native),
        _ => Err("write auto, rskafka or native".to_owned()),
    }
}

fn reset(text: &str) -> Result<Reset, String> {
    match text {
        "earliest" => Ok(Reset::Earliest),
        "latest" => Ok(Reset::Latest),
        "error" => Ok(Reset::Error),
        _ => Err("write earliest, latest or error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn config(args: Args) -> Result<Config, Faults> {
        Config::new(&args, &Env::default())
    }

    fn own(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_contracts() {
        let config = config(Args { s3_bucket: own("b"), ..Args::default() }).unwrap();
        assert_eq!(config.limits, Limits { records: 50_000, bytes: 8 << 20, age: Duration::from_secs(60) });
        assert_eq!(
            (config.memory_budget, config.worker_threads, config.drain_timeout, config.enrich),
            (64 << 20, 1, Duration::from_secs(25), true)
        );
        assert_eq!(
            (config.kafka.topic.as_str(), config.kafka.client_id.as_str(), config.prefix.as_str()),
            ("crypto_prices", "coinduit-consumer", "")
        );
        assert_eq!(
            (config.group_id.as_str(), config.instance_id, config.session_timeout, config.reset),
            ("coinduit", None, Duration::from_secs(45), Reset::Earliest)
        );
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let args = Args {
            max_object_age: own("60"),
            max_object_bytes: own("128MiB"),
            auto_offset_reset: own("newest"),
            kafka_session_timeout: own("100ms"),
            kafka_isolation_level: own("read_committed"),
            kafka_reader: own("rskafka"),
            compression: own("brotli"),
            s3_prefix: own("/a"),
            sns_topic_arn: own("alerts"),
            http_addr: own("9090"),
            worker_threads: own("0"),
            ..Args::default()
        };
        let text = config(args).unwrap_err().to_string();
        for name in [
            "MAX_OBJECT_AGE",
            "MEMORY_BUDGET",
            "AUTO_OFFSET_RESET",
            "KAFKA_READER",
            "COMPRESSION",
            "S3_PREFIX",
            "SNS_TOPIC_ARN",
            "HTTP_ADDR",
            "WORKER_THREADS",
            "S3_BUCKET",
        ] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
        assert!(text.contains("does not filter aborted transactions"), "{text}");
    }

    #[test]
    fn objects_are_laid_out_and_compressed_as_it_is_said() {
        let with = |layout: Option<&str>, compression: Option<&str>| {
            let (object_layout, compression) = (layout.map(str::to_owned), compression.map(str::to_owned));
            config(Args { s3_bucket: own("b"), object_layout, compression, ..Args::default() })
                .map(|config| config.layout)
                .map_err(|faults| faults.to_string())
        };
        assert_eq!(with(None, None), Ok(Layout::Log(Compression::None)));
        assert_eq!(with(Some("log"), Some("gzip")), Ok(Layout::Log(Compression::Gzip)));
        assert_eq!(with(None, Some("zstd")), Ok(Layout::Log(Compression::Zstd)));
        assert_eq!(with(Some("record"), Some("none")), Ok(Layout::Record));
        let both = with(Some("record"), Some("zstd")).unwrap_err();
        assert!(both.contains("COMPRESSION") && both.contains("OBJECT_LAYOUT=log"), "{both}");
        assert!(with(Some("Log"), None).unwrap_err().contains("write log or record"));
    }

    #[test]
    fn the_http_side_can_be_moved_and_turned_off() {
        let at = |text: &str| {
            config(Args { s3_bucket: own("b"), http_addr: own(text), ..Args::default() }).unwrap().http_addr
        };
        assert_eq!(at("[::1]:80"), Some("[::1]:80".parse().unwrap()));
        assert_eq!((at("off"), at("")), (None, Some(HTTP_ADDR)));
        let asks = |text: &str, live| HealthArgs { http_addr: own(text), live }.read();
        assert_eq!(asks("", true).unwrap(), (HTTP_ADDR, "/livez"));
        assert!(asks("off", false).unwrap_err().to_string().contains("HTTP_ADDR"));
    }

    #[test]
    fn run_is_the_default() {
        for line in [
            &["consumer", "--s3-bucket", "b", "--exit-at-end"][..],
            &["consumer", "run", "--s3-bucket", "b", "--exit-at-end"],
        ] {
            let Command::Run(args) = Cli::try_parse_from(line).unwrap().into_command() else {
                panic!("{line:?} is run")
            };
            assert!(args.exit_at_end && args.s3_bucket.as_deref() == Some("b"));
        }
        let audit = Cli::try_parse_from(["consumer", "audit", "--s3-bucket", "b"]).unwrap().into_command();
        assert!(matches!(audit, Command::Audit(_)), "{audit:?}");
    }
}
