//! What the operator wrote ([`Args`]) and what the program may rely on ([`Config`]).

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use clap::{ArgAction, Parser};
use coinduit_common::{
    alert::topic_arn,
    aws::AwsSettings,
    config::{self, Env, Faults, Secret, given},
    kafka::settings::{KafkaArgs, KafkaSettings},
    telemetry::LogSettings,
};
use url::Url;

use crate::{publish::NewTopic, source::Wanted};

/// The most codes of a watch-list, and coins of one run.
const MOST_COINS: usize = 10_000;

/// One run: asks LiveCoinWatch for the coins, publishes one record per coin, prints a summary, exits.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "producer", version, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Create the topic where it is missing
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Kafka")]
    create_topic: bool,
    /// With --create-topic: how many partitions [default: the brokers']
    #[arg(long, value_name = "NUMBER", help_heading = "Kafka")]
    partitions: Option<String>,
    /// With --create-topic: how many replicas of each partition [default: the brokers']
    #[arg(long, value_name = "NUMBER", help_heading = "Kafka")]
    replication_factor: Option<String>,

    /// Key of the price API (required); better in the environment, or in the file that API_KEY_FILE names
    #[arg(long, env = "API_KEY", value_name = "KEY", hide_env_values = true, help_heading = "Price API")]
    api_key: Option<String>,
    /// File with the key
    #[arg(long, env = "API_KEY_FILE", value_name = "PATH", help_heading = "Price API")]
    api_key_file: Option<String>,
    /// Address of the price API
    #[arg(
        long,
        env = "API_URL",
        value_name = "URL",
        help_heading = "Price API",
        help = "Address of the price API [default: https://api.livecoinwatch.com]"
    )]
    api_url: Option<String>,
    /// Currency of the prices [default: USD]
    #[arg(long, env = "CURRENCY", value_name = "CODE", help_heading = "Price API")]
    currency: Option<String>,
    /// How many coins, by rank; more than 100 are asked for in pages [default: 50]
    #[arg(long, env = "COINS", value_name = "NUMBER", help_heading = "Price API")]
    coins: Option<String>,
    /// A watch-list instead of the top coins, such as BTC,ETH,_IMX [default: none]
    #[arg(long, env = "CODES", value_name = "CODE,...", help_heading = "Price API")]
    codes: Option<String>,
    /// Below so many credits left today nothing is asked, and the exit code is 99; 0 never asks how many are left
    /// [default: 100]
    #[arg(long, env = "MIN_CREDITS", value_name = "NUMBER", help_heading = "Price API")]
    min_credits: Option<String>,
    /// How long one answer of the API may take [default: 10s]
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "DURATION", help_heading = "Price API")]
    request_timeout: Option<String>,

    /// How long the whole run may take, publishing and alerts too [default: 90s]
    #[arg(long, env = "RUN_DEADLINE", value_name = "DURATION", help_heading = "Running")]
    run_deadline: Option<String>,
    /// Stay, and run again at every multiple of this time on the clock (UTC), the first time at once; one summary a run
    #[arg(long, value_name = "DURATION", help_heading = "Running")]
    interval: Option<String>,
    /// Print what would be published, one JSON object a line, and publish nothing; needs no Kafka
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Running")]
    dry_run: bool,
    /// Publish recorded pages (the API's answers, one a file, all of one run) and ask no API; can be given several times
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Running")]
    from_file: Vec<PathBuf>,
    /// With --from-file: when the pages were fetched, in RFC 3339 [default: when the first file was last written]
    #[arg(long, value_name = "TIME", help_heading = "Running")]
    fetched_at: Option<String>,
    /// SNS topic that is told when something goes wrong [default: none]
    #[arg(long, env = "SNS_TOPIC_ARN", value_name = "ARN", help_heading = "Running")]
    sns_topic_arn: Option<String>,
}

const AFTER_HELP: &str = "What has an [env: ...] can be set there too; a flag wins. AWS settings (for SNS) are the SDKs' own; the price API
is asked through HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Logs go to stderr: RUST_LOG [info], LOG_FORMAT [text on a
terminal, else json]. The last line on stdout is a JSON summary.
Exit codes: 0 published, 1 failed (running again may help), 2 misconfigured, or the API refuses the key, 99 nothing
was asked, as the API grants fewer than MIN_CREDITS more.";

/// What the program may rely on.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where records go.
    pub kafka: KafkaSettings,
    /// How to create the topic where it is missing; `None` leaves it missing.
    pub create_topic: Option<NewTopic>,
    /// Where coins come from.
    pub origin: Origin,
    /// The API.
    pub api_url: Url,
    /// As whom to ask it.
    pub api_key: Secret,
    /// The prices' currency.
    pub currency: String,
    /// Which coins; at least one.
    pub wanted: Wanted,
    /// How many credits there have to be; 0: that is not asked.
    pub min_credits: u64,
    /// For one answer of the API.
    pub request_timeout: Duration,
    /// For the whole run.
    pub run_deadline: Duration,
    /// Run again and again.
    pub interval: Option<Duration>,
    /// Print instead of publishing.
    pub dry_run: bool,
    /// Whom to tell.
    pub sns_topic_arn: Option<String>,
    /// The AWS side.
    pub aws: AwsSettings,
    /// How to log.
    pub log: LogSettings,
}

/// Where coins come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The API is asked.
    Api,
    /// Recorded pages.
    Files {
        /// The pages of one run.
        paths: Vec<PathBuf>,
        /// When they were fetched; `None`: when the first file was last written.
        fetched_at: Option<DateTime<Utc>>,
    },
}

impl Config {
    /// Checks each value and each pair of values.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn new(args: &Args, env: &Env) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let api_key =
            config::secret("API_KEY", args.api_key.as_deref(), args.api_key_file.as_deref(), &mut faults);
        let unset = given(args.api_key.as_deref()).is_none() && given(args.api_key_file.as_deref()).is_none();
        if unset && args.from_file.is_empty() {
            faults.add(
                "API_KEY",
                "is not set",
                "set it, or API_KEY_FILE; a key is free at livecoinwatch.com",
            );
        }
        if let Some(key) = &api_key
            && !key.reveal().bytes().all(|byte| (b'!'..=b'~').contains(&byte))
        {
            faults.add(
                "API_KEY",
                "holds characters that no HTTP header can carry",
                "check that it was copied whole, without spaces or line breaks",
            );
        }
        let default_url = Url::parse("https://api.livecoinwatch.com").expect("the default is an address");
        let api_url = match given(args.api_url.as_deref()).map(api_url) {
            None => default_url,
            Some(Some(url)) => url,
            Some(None) => {
                // It may hold a password, so it is not repeated.
                faults.add("API_URL", "is no address of an API", "write https://host, or http://host:port");
                default_url
            }
        };
        let aws = AwsSettings::from_env(env, &mut faults);
        let config = Self {
            kafka: args.kafka.read("coinduit-producer", &aws, &mut faults),
            create_topic: args.new_topic(&mut faults),
            origin: args.origin(&mut faults),
            api_url,
            api_key: api_key.unwrap_or_else(|| Secret::new("")),
            currency: faults.read("CURRENCY", args.currency.as_deref(), "USD".to_owned(), currency),
            wanted: args.wanted(&mut faults),
            min_credits: faults.read("MIN_CREDITS", args.min_credits.as_deref(), 100, |text| {
                text.parse::<u64>().map_err(|_| "write a whole number; 0 turns the guard off".to_owned())
            }),
            request_timeout: faults.read(
                "REQUEST_TIMEOUT",
                args.request_timeout.as_deref(),
                Duration::from_secs(10),
                config::duration,
            ),
            run_deadline: faults.read(
                "RUN_DEADLINE",
                args.run_deadline.as_deref(),
                Duration::from_secs(90),
                config::duration,
            ),
            interval: faults
                .read("--interval", args.interval.as_deref(), None, |text| interval(text).map(Some)),
            dry_run: args.dry_run,
            sns_topic_arn: faults.read("SNS_TOPIC_ARN", args.sns_topic_arn.as_deref(), None, |text| {
                topic_arn(text).map(Some).map_err(|error| error.to_string())
            }),
            aws,
            log: LogSettings::from_env(env, &mut faults),
        };
        if config.request_timeout > config.run_deadline {
            faults.add(
                "REQUEST_TIMEOUT",
                format!(
                    "is longer than RUN_DEADLINE ({:?} > {:?})",
                    config.request_timeout, config.run_deadline
                ),
                "lower it, or raise RUN_DEADLINE",
            );
        }
        faults.into_result(config)
    }
}

impl Args {
    fn wanted(&self, faults: &mut Faults) -> Wanted {
        let count =
            faults.read("COINS", self.coins.as_deref(), 50, |text| config::number(text, 1..=MOST_COINS));
        let watched = faults.read("CODES", self.codes.as_deref(), None, |text| codes(text).map(Some));
        match watched {
            Some(_) if given(self.coins.as_deref()).is_some() => {
                faults.add("CODES", "is set, and COINS too", "set one of the two");
                Wanted::Top(count)
            }
            Some(codes) => Wanted::Codes(codes),
            None => Wanted::Top(count),
        }
    }

    fn new_topic(&self, faults: &mut Faults) -> Option<NewTopic> {
        let mut number = |name: &str, value: &Option<String>, most: usize| {
            if value.is_some() && !self.create_topic {
                faults.add(name, "is for --create-topic only", "leave it out, or add --create-topic");
            }
            faults.read(name, value.as_deref(), None, |text| config::number(text, 1..=most).map(Some))
        };
        let partitions = number("--partitions", &self.partitions, 100_000);
        let replicas = number("--replication-factor", &self.replication_factor, 1_000);
        self.create_topic.then(|| NewTopic {
            partitions: partitions.and_then(|number| i32::try_from(number).ok()),
            replication_factor: replicas.and_then(|number| i16::try_from(number).ok()),
        })
    }

    fn origin(&self, faults: &mut Faults) -> Origin {
        let fetched_at =
            faults.read("--fetched-at", self.fetched_at.as_deref(), None, |text| instant(text).map(Some));
        if self.from_file.is_empty() {
            if self.fetched_at.is_some() {
                faults.add("--fetched-at", "is for --from-file only", "leave it out");
            }
            return Origin::Api;
        }
        if self.interval.is_some() {
            faults.add("--from-file", "is one run, and --interval is many", "leave out one of the two");
        }
        if given(self.codes.as_deref()).is_some() {
            faults.add("CODES", "is for the API, and --from-file asks none", "leave out one of the two");
        }
        Origin::Files { paths: self.from_file.clone(), fetched_at }
    }
}

/// A watch-list, in its order, each code once.
fn codes(text: &str) -> Result<Vec<String>, String> {
    let mut codes: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for code in text.split(',').map(str::trim) {
        if code.is_empty() || code.chars().any(char::is_control) {
            return Err("write codes parted by commas, such as BTC,ETH,_IMX".to_owned());
        }
        if seen.insert(code) {
            codes.push(code.to_owned());
        }
    }
    if codes.len() > MOST_COINS {
        return Err(format!("write at most {MOST_COINS} codes"));
    }
    Ok(codes)
}

/// An instant that a record can have: from 1970 to 9999, so that it is written in 24 characters.
fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.with_timezone(&Utc))
        .filter(|at| (0..253_402_300_800_000).contains(&at.timestamp_millis()))
        .ok_or_else(|| "write an instant with its time zone, such as 2026-11-23T10:05:00Z".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
    config::duration(text)
        .ok()
        .filter(|interval| allowed.contains(interval) && interval.subsec_nanos() == 0)
        .ok_or_else(|| "write whole seconds, minutes, hours or days, from 1s to 7d, such as 5m".to_owned())
}

fn api_url(text: &str) -> Option<Url> {
    let usable =
        |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    Url::parse(text).ok().filter(usable)
}

fn currency(text: &str) -> Result<String, String> {
    let legal = (2..=10).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if legal {
        Ok(text.to_owned())
    } else {
        Err("write a currency's code in capitals, such as USD or EUR".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn own(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_contracts() {
        let config = Config::new(&Args { api_key: own("k"), ..Args::default() }, &Env::default()).unwrap();
        assert_eq!(
            (&config.wanted, config.currency.as_str(), config.api_url.as_str()),
            (&Wanted::Top(50), "USD", "https://api.livecoinwatch.com/")
        );
        assert_eq!((config.min_credits, config.interval, config.dry_run), (100, None, false));
        assert_eq!((config.create_topic, &config.origin), (None, &Origin::Api));
        assert_eq!(
            (config.run_deadline, config.request_timeout),
            (Duration::from_secs(90), Duration::from_secs(10))
        );
        assert!(!format!("{config:?}").contains("\"k\""));
    }

    #[test]
    fn every_fault_is_reported_at_once_and_no_secret_is_printed() {
        let args = Args {
            api_key: own("geheim\u{e9}"),
            api_url: own("ftp://x"),
            coins: own("0"),
            currency: own("usd"),
            codes: own("BTC,,ETH"),
            min_credits: own("-1"),
            partitions: own("3"),
            fetched_at: own("yesterday"),
            interval: own("500ms"),
            request_timeout: own("5m"),
            run_deadline: own("1m"),
            ..Args::default()
        };
        let text = Config::new(&args, &Env::default()).unwrap_err().to_string();
        for name in [
            "API_KEY",
            "API_URL",
            "COINS",
            "CURRENCY",
            "CODES",
            "MIN_CREDITS",
            "--partitions",
            "--fetched-at",
            "--interval",
            "REQUEST_TIMEOUT",
        ] {
            assert!(text.contains(&format!("\n  {name}: ")), "{name} is missing in {text}");
        }
        assert!(!text.contains("geheim"), "{text}");
        assert!(
            Config::new(&Args::default(), &Env::default())
                .unwrap_err()
                .to_string()
                .contains("API_KEY: is not set")
        );
    }

    #[test]
    fn a_watch_list_keeps_its_order_and_has_every_code_once() {
        let args = Args { api_key: own("k"), codes: own(" ETH, BTC,ETH,_IMX"), ..Args::default() };
        let wanted = Config::new(&args, &Env::default()).unwrap().wanted;
        assert_eq!(wanted, Wanted::Codes(["ETH", "BTC", "_IMX"].map(str::to_owned).to_vec()));
        let both = Args { coins: own("5"), ..args };
        assert!(Config::new(&both, &Env::default()).unwrap_err().to_string().contains("set one of the two"));
    }

    #[test]
    fn recorded_pages_need_no_key() {
        let args = Args {
            from_file: vec!["page.json".into()],
            fetched_at: own("2026-11-23T11:05:00+01:00"),
            ..Args::default()
        };
        let Origin::Files { fetched_at: Some(at), .. } = Config::new(&args, &Env::default()).unwrap().origin
        else {
            panic!("files were named")
        };
        assert_eq!(at.timestamp(), 1_795_428_300);
        let many = Args { interval: own("5m"), ..args };
        assert!(Config::new(&many, &Env::default()).unwrap_err().to_string().contains("--interval is many"));
    }

    #[test]
    fn instants_can_be_written_in_24_characters() {
        for wrong in
            ["1969-12-31T23:59:59Z", "2026-11-23", "2026-11-23T10:05:00", "now", "+10000-01-01T00:00:00Z"]
        {
            assert!(instant(wrong).is_err(), "{wrong}");
        }
    }
}
