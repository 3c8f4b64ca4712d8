//! What the operator of `coinduit-local` writes ([`Args`]) and what the program relies on ([`Config`]).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::Parser;
use coinduit_common::config::{Faults, secret};
use coinduit_common::kafka::bootstrap::topic_name;
use url::Url;

use crate::credentials::API_KEY;
use crate::price_api::{
    Prices,
    fault::{self, ApiFault},
};
use crate::stack::{Ports, PriceSource, StackConfig};

/// Which history the prices of the embedded API have: always the same.
const SEED: u64 = 1;

/// The pipeline's world in one program: Kafka, price API, S3, DynamoDB, SNS and a Lambda host, on loopback.
///
/// Prints `export NAME='value'` lines on standard output that make producer, consumer and AWS tools use it
/// (everything else goes to standard error), and runs until SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "coinduit-local", version, after_long_help = fault::help())]
pub struct Args {
    /// Folder to keep everything in [default: a temporary one, removed at exit]
    #[arg(long, env = "COINDUIT_LOCAL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Kafka topic
    #[arg(long, env = "KAFKA_TOPIC", default_value = "crypto_prices")]
    pub topic: String,

    /// Partitions of the topic
    #[arg(long, env = "COINDUIT_LOCAL_PARTITIONS", default_value_t = 4,
          value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub partitions: i32,

    /// S3 bucket
    #[arg(long, env = "S3_BUCKET", default_value = "coinduit")]
    pub bucket: String,

    /// Port of the Kafka broker; 0 is a free one, as for all ports
    #[arg(long, env = "COINDUIT_LOCAL_KAFKA_PORT", default_value_t = 0)]
    pub kafka_port: u16,

    /// Port of the price API
    #[arg(long, env = "COINDUIT_LOCAL_API_PORT", default_value_t = 0)]
    pub api_port: u16,

    /// Port of S3
    #[arg(long, env = "COINDUIT_LOCAL_S3_PORT", default_value_t = 0)]
    pub s3_port: u16,

    /// Port of DynamoDB
    #[arg(long, env = "COINDUIT_LOCAL_DYNAMODB_PORT", default_value_t = 0)]
    pub dynamodb_port: u16,

    /// Port of SNS
    #[arg(long, env = "COINDUIT_LOCAL_SNS_PORT", default_value_t = 0)]
    pub sns_port: u16,

    /// Port of the Lambda host
    #[arg(long, env = "COINDUIT_LOCAL_LAMBDA_PORT", default_value_t = 0)]
    pub lambda_port: u16,

    /// The Lambda's binary [default: `bootstrap` beside this program]
    #[arg(long, env = "COINDUIT_LOCAL_BOOTSTRAP", value_name = "PATH")]
    pub bootstrap: Option<PathBuf>,

    /// Run no Lambda: objects stay in S3 and nobody is told of them
    #[arg(long, env = "COINDUIT_LOCAL_NO_LAMBDA")]
    pub no_lambda: bool,

    /// File that gets the export lines as soon as everything is up; it is gone when the stack is
    #[arg(long, env = "COINDUIT_LOCAL_ENV_FILE", value_name = "PATH")]
    pub env_file: Option<PathBuf>,

    /// Answer recorded prices as they are, also when an API key is set
    #[arg(long, env = "COINDUIT_LOCAL_FIXED_PRICES")]
    pub fixed_prices: bool,

    /// Answer as if there were no coins of these ranks, such as 41-79: a short list then holds coins that are far
    /// apart in the long one
    #[arg(long, env = "COINDUIT_LOCAL_WITHOUT_RANKS", value_name = "FROM-TO", value_parser = ranks)]
    pub without_ranks: Option<RangeInclusive<u64>>,

    /// What the price API does wrong: NAME or NAME:VALUE, with xTIMES behind it where it ends, such as status:503x2 or drip; can be given several times, and
    /// is played in that order. `--help` lists all of them
    #[arg(long = "api-fault", value_name = "FAULT")]
    pub api_faults: Vec<ApiFault>,

    /// Your key of the real price API; with one, no price API is started
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,

    /// File with your key of the real price API
    #[arg(long, env = "API_KEY_FILE", value_name = "PATH")]
    pub api_key_file: Option<String>,

    /// URL of the real price API
    #[arg(long, env = "API_URL", default_value = "https://api.livecoinwatch.com", value_name = "URL")]
    pub api_url: String,
}

/// What was asked for, checked.
#[derive(Debug)]
pub struct Config {
    /// The stack.
    pub stack: StackConfig,
    /// Where to write the export lines, besides standard output.
    pub env_file: Option<PathBuf>,
}

impl Config {
    /// Checks each value and each pair of values, and adds what is wrong with them to `faults`.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn new(args: Args, mut faults: Faults) -> Result<Self, Faults> {
        let topic = faults.read("--topic", Some(&args.topic), String::new(), topic_name);
        if !s3s::path::check_bucket_name(&args.bucket) {
            let problem = format!("{:?} is no bucket name", args.bucket);
            faults.add("--bucket", problem, "write 3 to 63 lower-case letters, digits, hyphens and dots");
        }
        if let Some(path) = args.data_dir.as_deref().filter(|path| path.exists() && !path.is_dir()) {
            faults.add("--data-dir", format!("{} is not a folder", path.display()), "name a folder");
        }
        if let Some(path) = &args.env_file {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
                let problem = format!("{} can't be written", path.display());
                faults.add("--env-file", problem, "name a file in a folder that exists");
            }
        }
        let ports = Ports {
            kafka: args.kafka_port,
            api: args.api_port,
            s3: args.s3_port,
            dynamodb: args.dynamodb_port,
            sns: args.sns_port,
            lambda: args.lambda_port,
        };
        check_ports(ports, &mut faults);
        let bootstrap = if args.no_lambda { None } else { find_bootstrap(args.bootstrap, &mut faults) };
        let prices = price_source(
            args.fixed_prices,
            args.api_key,
            args.api_key_file.as_deref(),
            &args.api_url,
            &mut faults,
        );
        if args.without_ranks.is_some() && matches!(prices, PriceSource::Live { .. }) {
            let problem = "is for recorded prices, and an API key asks for the real ones";
            faults.add("--without-ranks", problem, "leave out one of the two");
        }
        if !args.api_faults.is_empty() && matches!(prices, PriceSource::Live { .. }) {
            let problem = "is for recorded prices, and an API key asks for the real ones";
            faults.add("--api-fault", problem, "leave out one of the two");
        }
        let stack = StackConfig {
            data_dir: args.data_dir,
            topic,
            partitions: args.partitions,
            bucket: args.bucket,
            ports,
            prices,
            without_ranks: args.without_ranks,
            api_faults: args.api_faults,
            bootstrap,
            ..StackConfig::default()
        };
        faults.into_result(Self { stack, env_file: args.env_file })
    }
}

/// Ranks from the first to the last of them: `41-79`.
fn ranks(text: &str) -> Result<RangeInclusive<u64>, String> {
    text.split_once('-')
        .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?))
        .filter(|ranks| *ranks.start() > 0 && !ranks.is_empty())
        .ok_or_else(|| "write the first and the last rank, such as 41-79".to_owned())
}

fn check_ports(ports: Ports, faults: &mut Faults) {
    let Ports { kafka, api, s3, dynamodb, sns, lambda } = ports;
    let mut asked = [kafka, api, s3, dynamodb, sns, lambda];
    asked.sort_unstable();
    for pair in asked.windows(2).filter(|pair| pair[0] != 0 && pair[0] == pair[1]) {
        faults.add(
            "ports",
            format!("{} is asked for more than once", pair[0]),
            "give each service its own, or 0",
        );
    }
}

fn find_bootstrap(asked: Option<PathBuf>, faults: &mut Faults) -> Option<PathBuf> {
    let path = match asked {
        Some(path) => path,
        None => match std::env::current_exe() {
            Ok(program) => program.with_file_name("bootstrap"),
            Err(error) => {
                let problem = format!("is needed, as this program can't find its own folder ({error})");
                faults.add("--bootstrap", problem, "name the Lambda's binary");
                return None;
            }
        },
    };
    if !is_executable(&path) {
        let problem = format!("there is no program at {}", path.display());
        faults.add("--bootstrap", problem, "build it (cargo build), name another, or run with --no-lambda");
    }
    // A name without a slash would be looked for in PATH.
    std::path::absolute(&path).ok()
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn price_source(
    fixed: bool,
    key: Option<String>,
    key_file: Option<&str>,
    url: &str,
    faults: &mut Faults,
) -> PriceSource {
    let recorded = PriceSource::Recorded(if fixed { Prices::Fixed } else { Prices::Moving { seed: SEED } });
    // The stack's own key is set where somebody has evaluated what an earlier stack printed; the URL that is set
    // beside it is that stack's as well.
    let key = key.filter(|key| !key.is_empty() && key != API_KEY);
    let key = secret("API_KEY", key.as_deref(), key_file, faults);
    let Some(key) = key.filter(|_| !fixed) else { return recorded };
    match Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            PriceSource::Live { url: url.trim_end_matches('/').to_owned(), key: key.reveal().to_owned() }
        }
        _ => {
            faults.add("--api-url", "is no address of an API", "write https://host, or http://host:port");
            recorded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(arguments: &[&str]) -> Args {
        let mut args = Args::parse_from(["coinduit-local", "--no-lambda"].iter().chain(arguments));
        // What the machine that runs the tests has in its environment is not the matter here.
        if !arguments.contains(&"--api-key") {
            args.api_key = None;
            args.api_key_file = None;
        }
        args
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = Config::new(
            args(&[
                "--topic",
                "a topic",
                "--bucket",
                "X",
                "--s3-port",
                "7",
                "--sns-port",
                "7",
                "--env-file",
                "/nowhere/at/all",
            ]),
            Faults::default(),
        )
        .unwrap_err();
        assert!(faults.to_string().starts_with("4 settings"), "{faults}");
    }

    #[test]
    fn prices_are_recorded_unless_there_is_a_key() {
        let prices =
            |arguments: &[&str]| Config::new(args(arguments), Faults::default()).unwrap().stack.prices;
        let moving = PriceSource::Recorded(Prices::Moving { seed: SEED });
        assert_eq!(prices(&[]), moving);
        assert_eq!(prices(&["--api-key", API_KEY, "--api-url", "http://127.0.0.1:1"]), moving);
        assert_eq!(prices(&["--fixed-prices", "--api-key", "k"]), PriceSource::Recorded(Prices::Fixed));
        let live = PriceSource::Live { url: "https://prices.example".into(), key: "k".into() };
        assert_eq!(prices(&["--api-key", "k", "--api-url", "https://prices.example/"]), live);
    }

    #[test]
    fn ranks_are_left_out_of_recorded_prices_only() {
        let config = |arguments: &[&str]| Config::new(args(arguments), Faults::default());
        assert_eq!(config(&["--without-ranks", "41-79"]).unwrap().stack.without_ranks, Some(41..=79));
        for wrong in ["41", "0-3", "9-8", "a-b", "-", "-5", "1-"] {
            assert!(ranks(wrong).is_err(), "{wrong}");
        }
        let faults = config(&["--without-ranks", "41-79", "--api-key", "k"]).unwrap_err().to_string();
        assert!(faults.contains("--without-ranks"), "{faults}");
    }

    #[test]
    fn faults_of_the_api_are_checked_and_kept_in_order() {
        let parsed = args(&["--api-fault", "status:503x2", "--api-fault", "drip"]);
        assert_eq!(parsed.api_faults.len(), 2);
        assert!(Args::try_parse_from(["coinduit-local", "--api-fault", "no-such-thing"]).is_err());
        let live = Config::new(args(&["--api-fault", "drip", "--api-key", "k"]), Faults::default());
        assert!(live.unwrap_err().to_string().contains("--api-fault"));
    }

    #[test]
    fn a_key_can_come_from_a_file_and_from_nowhere_else_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "from a file\n").unwrap();
        let with_file = |key: Option<&str>| {
            let mut args = args(&[]);
            args.api_key = key.map(str::to_owned);
            args.api_key_file = path.to_str().map(str::to_owned);
            Config::new(args, Faults::default()).map(|config| config.stack.prices)
        };
        for ours_or_none in [None, Some(API_KEY)] {
            let prices = with_file(ours_or_none).unwrap();
            assert!(matches!(&prices, PriceSource::Live { key, .. } if key == "from a file"), "{prices:?}");
        }
        assert!(with_file(Some("another")).unwrap_err().to_string().contains("set one of the two"));
    }

    #[test]
    fn a_key_is_not_printed() {
        let live = PriceSource::Live { url: "https://prices.example".into(), key: "secret".into() };
        assert!(!format!("{live:?}").contains("secret"));
    }

    #[test]
    fn a_missing_bootstrap_is_named_with_ways_out() {
        let mut args = args(&[]);
        args.no_lambda = false;
        args.bootstrap = Some("/nowhere/bootstrap".into());
        let faults = Config::new(args, Faults::default()).unwrap_err().to_string();
        assert!(faults.contains("/nowhere/bootstrap") && faults.contains("--no-lambda"), "{faults}");
    }
}
