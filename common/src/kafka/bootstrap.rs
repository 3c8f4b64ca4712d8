//! Where the cluster is: the addresses that the operator gave.

use std::fmt;

/// One broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The address that a broker tells of itself or of another one: `host` is without brackets. `None` for
    /// what can't be one.
    #[must_use]
    pub fn new(host: &str, port: i32) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
        plain.then(|| Self { host: host.to_owned(), port })
    }

    /// The name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The addresses to begin with; any one that answers will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap(Vec<Address>);

impl Bootstrap {
    /// Reads `host:port,host:port`; the port is 9092 where it is missing.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let addresses = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(address)
            .collect::<Option<Vec<_>>>();
        match addresses {
            Some(addresses) if !addresses.is_empty() => Ok(Self(addresses)),
            _ => Err("write host:port, several parted by commas, without a scheme".to_owned()),
        }
    }

    /// The addresses, in the operator's order; at least one.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.0
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn address(text: &str) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(9092), |port| port.parse::<u16>().ok())?;
    Address::new(host, i32::from(port))
}

/// A topic's name as Kafka allows it: 1 to 249 of letters, digits, `.`, `_` and `-`.
///
/// # Errors
/// What to write instead.
///
/// Source: Apache Kafka, `org.apache.kafka.common.internals.Topic`.
pub fn topic_name(text: &str) -> Result<String, String> {
    let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if text.is_empty() || text.len() > 249 || matches!(text, "." | "..") || !legal {
        return Err(
            "write a topic's name: 1 to 249 letters, digits, dots, underscores and hyphens".to_owned()
        );
    }
    if text == "quarantine" {
        return Err(
            "choose another topic: what lies below a folder of that name is never made into rows".to_owned()
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_as_kafka_writes_them() {
        let read = |text: &str| Bootstrap::parse(text).map(|bootstrap| bootstrap.to_string());
        assert_eq!(read("a:1, b:2").as_deref(), Ok("a:1,b:2"));
        assert_eq!(read("broker").as_deref(), Ok("broker:9092"));
        assert_eq!(read("[::1]:9093").as_deref(), Ok("[::1]:9093"));
        for wrong in ["", ",", "a:0", "a:b", "http://a:1", "a:1:2", "[::1", "a:99999", ":9092"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topic_names_are_kafkas() {
        assert!(topic_name("crypto_prices").is_ok());
        for wrong in ["", ".", "..", "quarantine", "a b", "a/b", "ä"] {
            assert!(topic_name(wrong).is_err(), "{wrong}");
        }
        assert!(topic_name(&"a".repeat(250)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_can_be_parsed(text in "\\PC*") {
            drop(Bootstrap::parse(&text));
        }
    }
}
