//! What the operator wrote, and what the function may rely on.

use clap::Parser;
use coinduit_common::{
    alert,
    aws::AwsSettings,
    config::{Env, Faults},
    telemetry::LogSettings,
};

const PRICES_TABLE: &str = "prices";
const COINS_TABLE: &str = "coins";

/// Puts the prices of new S3 objects into DynamoDB: the `bootstrap` of an AWS Lambda function on
/// provided.al2023, invoked by the bucket's ObjectCreated notifications.
///
/// In Lambda everything is set by environment variables. Credentials, region and endpoints are the AWS
/// SDKs' own (AWS_REGION, AWS_ENDPOINT_URL, ...); logs are set by RUST_LOG (info) and LOG_FORMAT (text,
/// json).
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "bootstrap", version)]
pub struct Args {
    /// Table of prices: name or ARN [default: prices]
    #[arg(long, env = "PRICES_TABLE", value_name = "TABLE")]
    prices_table: Option<String>,

    /// Table of coins: name or ARN [default: coins]
    #[arg(long, env = "COINS_TABLE", value_name = "TABLE")]
    coins_table: Option<String>,

    /// SNS topic that is told what went wrong [default: none, alerts are logged]
    #[arg(long, env = "SNS_TOPIC_ARN", value_name = "ARN")]
    sns_topic_arn: Option<String>,
}

/// What the function may rely on.
#[derive(Debug, Clone)]
pub struct Config {
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
                    "this program is started by AWS Lambda, which sets it; to try it, run coinduit-local",
                );
            }
        }
        let aws = AwsSettings::from_env(env, &mut faults);
        let log = LogSettings::from_env(env, &mut faults);
        faults.into_result(Self { prices_table, coins_table, sns_topic_arn, aws, log })
    }
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
        }
    }

    #[test]
    fn the_command_line_is_consistent_and_names_every_variable() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for variable in ["PRICES_TABLE", "COINS_TABLE", "SNS_TOPIC_ARN"] {
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
