//! The Kafka settings that producer and consumer share.

use super::{
    bootstrap::{Bootstrap, topic_name},
    dialer::Dialer,
    security::{Security, SecurityArgs},
};
use crate::{
    aws::AwsSettings,
    config::{Faults, given},
};

/// What the operator wrote.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Brokers to begin with: host:port, several parted by commas [default: localhost:9092]
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,...")]
    kafka_bootstrap_servers: Option<String>,
    /// Older name of the same
    #[arg(long, env = "KAFKA_HOST", value_name = "HOST:PORT", hide_short_help = true)]
    kafka_host: Option<String>,
    /// Topic [default: crypto_prices]
    #[arg(long, env = "KAFKA_TOPIC", value_name = "NAME")]
    kafka_topic: Option<String>,
    /// Name of this client in the brokers' logs and quotas [default: coinduit-producer or coinduit-consumer]
    #[arg(long, env = "KAFKA_CLIENT_ID", value_name = "NAME")]
    kafka_client_id: Option<String>,
    #[command(flatten)]
    security: SecurityArgs,
}

/// What the programs may rely on.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Where to begin.
    pub bootstrap: Bootstrap,
    /// The topic.
    pub topic: String,
    /// The client's name.
    pub client_id: String,
    /// How connections are protected.
    pub security: Security,
    /// What the operator should know, though it is no fault.
    pub warnings: Vec<String>,
}

impl KafkaSettings {
    /// Opens connections to the cluster's brokers.
    #[must_use]
    pub fn dialer(&self) -> Dialer {
        Dialer::new(&self.client_id, self.security.clone())
    }
}

impl KafkaArgs {
    /// Checks each value and each pair of values; `client_id` is the default name. `aws` is for clusters that know AWS
    /// principals.
    #[must_use]
    pub fn read(&self, client_id: &str, aws: &AwsSettings, faults: &mut Faults) -> KafkaSettings {
        let (servers, host) =
            (given(self.kafka_bootstrap_servers.as_deref()), given(self.kafka_host.as_deref()));
        let name = if servers.is_some() { "KAFKA_BOOTSTRAP_SERVERS" } else { "KAFKA_HOST" };
        let default = Bootstrap::parse("localhost:9092").expect("the default is an address");
        let bootstrap = faults.read(name, servers.or(host), default, Bootstrap::parse);
        if let (Some(_), Some(host)) = (servers, host)
            && Bootstrap::parse(host).as_ref() != Ok(&bootstrap)
        {
            faults.add(
                "KAFKA_HOST",
                format!("{host:?} differs from KAFKA_BOOTSTRAP_SERVERS"),
                "set one of the two",
            );
        }
        let topic =
            faults.read("KAFKA_TOPIC", self.kafka_topic.as_deref(), "crypto_prices".to_owned(), topic_name);
        let mut warnings = Vec::new();
        let security = self.security.read(&bootstrap, aws, &mut warnings, faults);
        KafkaSettings {
            bootstrap,
            topic,
            client_id: given(self.kafka_client_id.as_deref()).unwrap_or(client_id).to_owned(),
            security,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(servers: Option<&str>, host: Option<&str>) -> Result<String, Faults> {
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        let args = KafkaArgs {
            kafka_bootstrap_servers: own(servers),
            kafka_host: own(host),
            ..KafkaArgs::default()
        };
        let mut faults = Faults::default();
        let settings = args.read("c", &AwsSettings::default(), &mut faults);
        faults.into_result(settings.bootstrap.to_string())
    }

    #[test]
    fn either_name_of_the_brokers_works() {
        assert_eq!(read(None, None).as_deref(), Ok("localhost:9092"));
        assert_eq!(read(Some("a:1"), None).as_deref(), Ok("a:1"));
        assert_eq!(read(Some(""), Some("kafka")).as_deref(), Ok("kafka:9092"));
        assert_eq!(read(Some("a:9092"), Some("a")).as_deref(), Ok("a:9092"));
        assert!(read(Some("a:1"), Some("b:1")).unwrap_err().to_string().contains("KAFKA_HOST"));
    }

    #[test]
    fn a_bad_topic_is_a_fault_and_the_rest_is_read_all_the_same() {
        let args = KafkaArgs { kafka_topic: Some("a b".to_owned()), ..KafkaArgs::default() };
        let mut faults = Faults::default();
        assert_eq!(args.read("c", &AwsSettings::default(), &mut faults).client_id, "c");
        assert!(faults.to_string().contains("KAFKA_TOPIC"), "{faults}");
    }
}
