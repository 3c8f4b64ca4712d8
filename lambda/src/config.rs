//! What the operator wrote, and what the function may rely on.

use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use coinduit_common::{
    alert,
    aws::AwsSettings,
    config::{self, Env, Faults},
    telemetry::LogSettings,
};

use crate::replay::Settings;

const PRICES_TABLE: &str = "prices";
const COINS_TABLE: &str = "coins";

/// Puts the prices of new S3 objects into DynamoDB: the `bootstrap` of an AWS Lambda function on
/// provided.al2023, invoked by the bucket's ObjectCreated notifications, directly or through SQS, SNS or
/// EventBridge. `bootstrap replay` does the same from a terminal, for what a bucket holds.
///
/// In Lambda everything is set by environment variables. Credentials, region and endpoints are the AWS
/// SDKs' own (AWS_REGION, AWS_ENDPOINT_URL, ...); logs are set by RUST_LOG (info) and LOG_FORMAT (text,
/// json).
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "bootstrap", version)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Table of prices: name or ARN [default: prices]
    #[arg(long, env = "PRICES_TABLE", global = true, value_name = "TABLE")]
    prices_table: Option<String>,

    /// Table of coins: name or ARN [default: coins]
    #[arg(long, env = "COINS_TABLE", global = true, value_name = "TABLE")]
    coins_table: Option<String>,

    /// How long a row of prices is kept: its expiresAt, for DynamoDB's time to live [default: for ever]
    #[arg(long, env = "PRICES_TTL", global = true, value_name = "DURATION")]
    prices_ttl: Option<String>,

    /// SNS topic that is told what went wrong [default: none, alerts are logged]
    #[arg(long, env = "SNS_TOPIC_ARN", global = true, value_name = "ARN")]
    sns_topic_arn: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Puts the rows of all objects of a bucket into the tables, again or for the first time.
    ///
    /// Skips what an event would skip; handling an object twice is harmless. Progress goes to stderr, with the key to
    /// go on from; the last line on stdout is a JSON summary. Exit codes: 0 done, 1 something was not stored or it was
    /// interrupted, 2 misconfigured.
    Replay(ReplayArgs),
}

#[derive(Debug, Clone, ClapArgs)]
struct ReplayArgs {
    /// Where the objects are; the prefix may end within a name
    #[arg(value_name = "s3://BUCKET/PREFIX")]
    source: String,

    /// First key to handle, as an earlier run has named it [default: the prefix's first]
    #[arg(long, value_name = "KEY")]
    from: Option<String>,

    /// Objects to handle at once, 1 to 64 [default: 4]
    #[arg(long, value_name = "NUMBER")]
    at_once: Option<String>,
}

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// To be the Lambda function of this name.
    Serve(String),
    /// To load a bucket.
    Replay(Settings),
}

/// What the function may rely on.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to do.
    pub task: Task,
    /// How long a row of prices is kept; for ever without.
    pub prices_ttl: Option<Duration>,
    /// The table of prices.
    pub prices_table: String,
    /// The table of coins.
    pub coins_table: String,
    /// The topic for alerts.
    pub sns_topic_arn: Option<String>,
    /// The AWS side.
    pub aws: AwsSettings,
    /// How to log.
    pub log: LogSettings,
}

impl Config {
    /// Checks everything that was written.
    ///
    /// # Errors
    /// All settings that can't be used.
    pub fn new(args: &Args, env: &Env) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let table = |text: &str| table_name(text).map(ToOwned::to_owned);
        let prices_table =
            faults.read("PRICES_TABLE", args.prices_table.as_deref(), PRICES_TABLE.to_owned(), table);
        let coins_table =
            faults.read("COINS_TABLE", args.coins_table.as_deref(), COINS_TABLE.to_owned(), table);
        if prices_table == coins_table {
            let problem = format!("{coins_table:?} is the table of prices too");
            faults.add("COINS_TABLE", problem, "name two tables: their rows have different keys");
        }
        let topic = |text: &str| alert::topic_arn(text).map(Some).map_err(|error| error.to_string());
        let sns_topic_arn = faults.read("SNS_TOPIC_ARN", args.sns_topic_arn.as_deref(), None, topic);
        let ttl = |text: &str| match config::duration(text)? {
            ttl if ttl < Duration::from_secs(3600) => {
                Err("write an hour (1h) or more: rows are removed then".to_owned())
            }
            ttl => Ok(Some(ttl)),
        };
        let prices_ttl = faults.read("PRICES_TTL", args.prices_ttl.as_deref(), None, ttl);
        let task = match &args.command {
            Some(Command::Replay(args)) => Task::Replay(replay(args, &mut faults)),
            None => Task::Serve(function(env, &mut faults)),
        };
        let aws = AwsSettings::from_env(env, &mut faults);
        let log = LogSettings::from_env(env, &mut faults);
        faults.into_result(Self { task, prices_ttl, prices_table, coins_table, sns_topic_arn, aws, log })
    }
}

/// The name of the function that this process is.
fn function(env: &Env, faults: &mut Faults) -> String {
    // What lambda_runtime takes for granted, and panics without.
    for name in [
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    ] {
        if env.get(name).is_none() {
            faults.add(
                name,
                "is not set",
                "this program is started by AWS Lambda, which sets it; to try it, run coinduit-local; to load a \
                 bucket, run bootstrap replay s3://bucket/prefix",
            );
        }
    }
    env.get("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default().to_owned()
}

fn replay(args: &ReplayArgs, faults: &mut Faults) -> Settings {
    let (bucket, prefix) = faults.read(
        "s3://BUCKET/PREFIX",
        Some(&args.source),
        (String::new(), String::new()),
        Settings::source,
    );
    let from = config::given(args.from.as_deref()).map(ToOwned::to_owned);
    if let Some(from) = from.as_deref().filter(|from| !from.starts_with(&prefix)) {
        faults.add(
            "--from",
            format!("{from:?} does not begin with {prefix:?}"),
            "name a key below the prefix",
        );
    }
    let at_once = faults.read("--at-once", args.at_once.as_deref(), 4, |text| config::number(text, 1..=64));
    Settings { bucket, prefix, from, at_once }
}

/// Source: Amazon DynamoDB Developer Guide, "Naming rules".
fn table_name(text: &str) -> Result<&str, String> {
    let is_arn = text.starts_with("arn:") && text.contains(":table/");
    let is_name = (3..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if is_arn || is_name {
        Ok(text)
    } else {
        Err("write a table's name (3 to 255 of a-z, A-Z, 0-9, _, - and .) or its ARN".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const LAMBDA: [(&str, &str); 4] = [
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_LAMBDA_FUNCTION_NAME", "coinduit"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
    ];

    fn args(prices: &str, coins: &str, topic: &str) -> Args {
        Args {
            prices_table: Some(prices.to_owned()),
            coins_table: Some(coins.to_owned()),
            sns_topic_arn: Some(topic.to_owned()),
            ..Args::default()
        }
    }

    #[test]
    fn the_command_line_is_consistent_and_names_every_variable() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for variable in ["PRICES_TABLE", "COINS_TABLE", "PRICES_TTL", "SNS_TOPIC_ARN"] {
            assert!(help.contains(variable), "{help}");
        }
    }

    #[test]
    fn what_is_not_set_or_empty_has_its_default() {
        for args in [Args::default(), args("", "", "")] {
            let config = Config::new(&args, &Env::from_pairs(LAMBDA)).unwrap();
            assert_eq!((config.prices_table.as_str(), config.coins_table.as_str()), ("prices", "coins"));
            assert_eq!(config.sns_topic_arn, None);
        }
    }

    #[test]
    fn what_is_set_is_taken() {
        let arn = "arn:aws:sns:eu-west-1:123456789012:alerts";
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/coins";
        let config = Config::new(&args("my.prices-1", table, arn), &Env::from_pairs(LAMBDA)).unwrap();
        assert_eq!((config.prices_table.as_str(), config.coins_table.as_str()), ("my.prices-1", table));
        assert_eq!(config.sns_topic_arn.as_deref(), Some(arn));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = Config::new(&args("p", "my coins", "alerts"), &Env::default()).unwrap_err().to_string();
        for name in ["PRICES_TABLE", "COINS_TABLE", "SNS_TOPIC_ARN", "AWS_LAMBDA_RUNTIME_API"] {
            assert!(faults.contains(name), "{faults}");
        }
    }

    #[test]
    fn one_table_for_both_is_a_fault() {
        let faults = Config::new(&args("rows", "rows", ""), &Env::from_pairs(LAMBDA)).unwrap_err();
        assert!(faults.to_string().contains("COINS_TABLE"), "{faults}");
    }
}
