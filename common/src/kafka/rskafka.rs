//! rskafka's client with the same settings as our own connections.

use rskafka::client::{ClientBuilder, Credentials, OauthBearerCredentials, SaslConfig};

use std::sync::Arc;

use super::{
    sasl::{Login, Sasl, scram::Hash},
    settings::KafkaSettings,
};

/// A builder that knows the brokers, the client's name, and how connections are protected.
///
/// rskafka tries again what is refused as if it were a network's failure, and waits for ever where TLS is expected: a
/// connection of our own ([`KafkaSettings::dialer`]) has to be let in first.
#[must_use]
pub fn client_builder(settings: &KafkaSettings) -> ClientBuilder {
    let addresses = settings.bootstrap.addresses().iter().map(ToString::to_string).collect();
    let mut builder = ClientBuilder::new(addresses).client_id(settings.client_id.as_str());
    if let Some(tls) = settings.security.tls() {
        builder = builder.tls_config(tls.config());
    }
    if let Some(sasl) = settings.security.sasl() {
        builder = builder.sasl_config(sasl_config(sasl));
    }
    builder
}

fn sasl_config(sasl: &Sasl) -> SaslConfig {
    match sasl {
        Sasl::Plain(login) => SaslConfig::Plain(credentials(login)),
        Sasl::Scram(Hash::Sha256, login) => SaslConfig::ScramSha256(credentials(login)),
        Sasl::Scram(Hash::Sha512, login) => SaslConfig::ScramSha512(credentials(login)),
        Sasl::Bearer(tokens) => {
            let tokens = tokens.clone();
            SaslConfig::Oauthbearer(OauthBearerCredentials {
                callback: Arc::new(move || {
                    let tokens = tokens.clone();
                    Box::pin(async move { Ok(tokens.token().await?.reveal().to_owned()) })
                }),
                authz_id: None,
                bearer_kvs: Vec::new(),
            })
        }
    }
}

fn credentials(login: &Login) -> Credentials {
    Credentials::new(login.username.clone(), login.password.reveal().to_owned())
}
