//! rskafka's client with the same settings as our own connections.

use rskafka::client::ClientBuilder;

use super::settings::KafkaSettings;

/// A builder that knows the brokers, the client's name, and how connections are protected.
///
/// rskafka tries again what is refused as if it were a network's failure, and waits for ever where TLS is expected: a
/// connection of our own ([`KafkaSettings::dialer`]) has to be let in first.
#[must_use]
pub fn client_builder(settings: &KafkaSettings) -> ClientBuilder {
    let addresses = settings.bootstrap.addresses().iter().map(ToString::to_string).collect();
    ClientBuilder::new(addresses).client_id(settings.client_id.as_str())
}
