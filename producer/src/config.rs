//! What the operator wrote ([`Args`]) and what the program may rely on ([`Config`]).

use std::time::Duration;

use clap::{ArgAction, Parser};
use coinduit_common::{
    alert::topic_arn,
    aws::AwsSettings,
    config::{self, Env, Faults, Secret, given},
    kafka::settings::{KafkaArgs, KafkaSettings},
    telemetry::LogSettings,
};
use url::Url;

/// One run: asks LiveCoinWatch for the coins, publishes one record per coin, prints a summary, exits.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "producer", version, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Create the topic where it is missing, with the brokers' defaults
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Kafka")]
    create_topic: bool,

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
    /// A watch-list instead of the top coins; not in this version
    #[arg(long, env = "CODES", value_name = "CODE,...", help_heading = "Price API", hide = true)]
    codes: Option<String>,
    /// How long one answer of the API may take [default: 10s]
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "DURATION", help_heading = "Price API")]
    request_timeout: Option<String>,

    /// How long the whole run may take [default: 90s]
    #[arg(long, env = "RUN_DEADLINE", value_name = "DURATION", help_heading = "Running")]
    run_deadline: Option<String>,
    /// SNS topic that is told when something goes wrong [default: none]
    #[arg(long, env = "SNS_TOPIC_ARN", value_name = "ARN", help_heading = "Running")]
    sns_topic_arn: Option<String>,
}

const AFTER_HELP: &str = "Every option is an environment variable too; a flag wins. AWS settings (for SNS) are the SDKs' own. Logs go to
stderr: RUST_LOG [info], LOG_FORMAT [text on a terminal, else json]. The last line on stdout is a JSON summary.
Exit codes: 0 published, 1 failed (running again may help), 2 misconfigured, or the API refuses the key.";

/// What the program may rely on.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where records go.
    pub kafka: KafkaSettings,
    /// Create the topic where it is missing.
    pub create_topic: bool,
    /// The API.
    pub api_url: Url,
    /// As whom to ask it.
    pub api_key: Secret,
    /// The prices' currency.
    pub currency: String,
    /// How many coins; at least one.
    pub coins: usize,
    /// For one answer of the API.
    pub request_timeout: Duration,
    /// For the whole run.
    pub run_deadline: Duration,
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
        let api_key =
            config::secret("API_KEY", args.api_key.as_deref(), args.api_key_file.as_deref(), &mut faults);
        let unset = given(args.api_key.as_deref()).is_none() && given(args.api_key_file.as_deref()).is_none();
        if unset {
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
        if given(args.codes.as_deref()).is_some() {
            faults.add("CODES", "this version publishes the top COINS only", "leave it out");
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
            create_topic: args.create_topic,
            api_url,
            api_key: api_key.unwrap_or_else(|| Secret::new("")),
            currency: faults.read("CURRENCY", args.currency.as_deref(), "USD".to_owned(), currency),
            coins: faults.read("COINS", args.coins.as_deref(), 50, |text| config::number(text, 1..=10_000)),
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
            (config.coins, config.currency.as_str(), config.api_url.as_str()),
            (50, "USD", "https://api.livecoinwatch.com/")
        );
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
            codes: own("BTC"),
            request_timeout: own("5m"),
            run_deadline: own("1m"),
            ..Args::default()
        };
        let text = Config::new(&args, &Env::default()).unwrap_err().to_string();
        for name in ["API_KEY", "API_URL", "COINS", "CURRENCY", "CODES", "REQUEST_TIMEOUT"] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
        assert!(!text.contains("geheim"), "{text}");
        assert!(
            Config::new(&Args::default(), &Env::default())
                .unwrap_err()
                .to_string()
                .contains("API_KEY: is not set")
        );
    }
}
