//! Dials brokers the way the settings say, and finds out what is wrong where that does not work.
//!
//! ```text
//! TCP -> TLS (tls) -> ApiVersions (Connection::over) -> login (sasl)
//! ```
//!
//! A broker that is spoken to in the wrong way mostly hangs up, which tells nobody what to change. So it is spoken to in
//! the other way then, once, for the sake of the error.

use std::{future::Future, io};

use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    bootstrap::{Address, Bootstrap},
    connection::{Connection, Limits},
    error::KafkaError,
    sasl,
    security::Security,
    stream::Stream,
    tls::{self, Tls},
};

const TLS_HANDSHAKE: &str = "the TLS handshake";

/// Opens connections that are ready for requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer {
    client_id: String,
    security: Security,
    limits: Limits,
}

impl Dialer {
    /// For a client of this name, within the usual limits.
    #[must_use]
    pub fn new(client_id: &str, security: Security) -> Self {
        Self { client_id: client_id.to_owned(), security, limits: Limits::default() }
    }

    /// The same, within these limits: each step of a dial (TCP, TLS, every question and answer until the client is let
    /// in) has its own.
    #[must_use]
    pub fn within(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Connects to the first of the addresses that answers.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] with the failure of the last address, or of one that a person has to look at;
    /// [`KafkaError::Tls`] by itself. One that refuses this client is the end: the others would too, and wrong
    /// passwords lock accounts.
    pub async fn to_any(&self, bootstrap: &Bootstrap) -> Result<Connection, KafkaError> {
        let mut told: Option<KafkaError> = None;
        for address in bootstrap.addresses() {
            match self.to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error @ (KafkaError::LogIn { .. } | KafkaError::Token { .. })) => return Err(error),
                Err(error) => told = Some(told.filter(|told| !told.is_retryable()).unwrap_or(error)),
            }
        }
        let source = match told.expect("a bootstrap has an address") {
            // Somebody does answer.
            error @ KafkaError::Tls { .. } => return Err(error),
            error => Box::new(error),
        };
        Err(KafkaError::Unreachable { bootstrap: bootstrap.to_string(), source })
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// [`KafkaError::Connect`], [`KafkaError::TimedOut`], [`KafkaError::Tls`], [`KafkaError::LogIn`],
    /// [`KafkaError::Token`], and all of [`Connection::over`].
    pub async fn to(&self, address: &Address) -> Result<Connection, KafkaError> {
        // TLS, logins and tokens make a large future, which every caller's would hold; dialling is rare.
        Box::pin(self.dial(address)).await
    }

    async fn dial(&self, address: &Address) -> Result<Connection, KafkaError> {
        let mut connection = match self.security.tls() {
            None => self.without_tls(address).await?,
            Some(tls) => self.with_tls(address, tls).await?,
        };
        match self.security.sasl() {
            Some(sasl) => sasl::log_in(&mut connection, sasl).await?,
            None => {
                if self.security.take_silence() {
                    sasl::is_wanted(&mut connection).await?;
                    // An answer to that question may have been the last one.
                    if !connection.is_usable() {
                        connection = match self.security.tls() {
                            None => self.without_tls(address).await?,
                            Some(tls) => self.with_tls(address, tls).await?,
                        };
                    }
                }
                connection.watch(self.security.silence());
            }
        }
        Ok(connection)
    }

    async fn without_tls(&self, address: &Address) -> Result<Connection, KafkaError> {
        let stream = Stream::Plain(self.tcp(address).await?);
        let connected = self.over(stream, address).await;
        let suspicious = matches!(connected, Err(KafkaError::Broken { .. } | KafkaError::NotKafka { .. }));
        if suspicious && self.speaks_tls(address).await {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it answers a TLS handshake");
            return Err(KafkaError::Tls {
                address: address.to_string(),
                problem: "the broker wants TLS on this port; set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or use another port".to_owned(),
                retryable: false,
                source,
            });
        }
        connected
    }

    async fn with_tls(&self, address: &Address, tls: &Tls) -> Result<Connection, KafkaError> {
        let name = tls::server_name(&address.to_string(), address.host())?;
        match self.shake_hands(address, name, tls).await {
            Ok(stream) => self.over(stream, address).await,
            Err(error @ KafkaError::Broken { .. }) => {
                if !self.speaks_plainly(address).await {
                    return Err(error);
                }
                let source = io::Error::new(io::ErrorKind::InvalidData, "it answers without");
                Err(KafkaError::Tls {
                    address: address.to_string(),
                    problem: "the broker speaks no TLS on this port; set KAFKA_SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT, or use another port".to_owned(),
                    retryable: false,
                    source,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn over(&self, stream: Stream, address: &Address) -> Result<Connection, KafkaError> {
        Connection::over(stream, address.to_string(), &self.client_id, self.limits).await
    }

    async fn tcp(&self, address: &Address) -> Result<TcpStream, KafkaError> {
        let dial = async {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        self.in_time(address, "a TCP connect", dial)
            .await?
            .map_err(|source| KafkaError::Connect { address: address.to_string(), source })
    }

    async fn shake_hands(
        &self,
        address: &Address,
        name: ServerName<'static>,
        tls: &Tls,
    ) -> Result<Stream, KafkaError> {
        let stream = self.tcp(address).await?;
        let shaken = TlsConnector::from(tls.config()).connect(name, stream);
        match self.in_time(address, TLS_HANDSHAKE, shaken).await? {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(source) => Err(KafkaError::broken(address.to_string(), TLS_HANDSHAKE, source)),
        }
    }

    async fn in_time<T>(
        &self,
        address: &Address,
        request: &'static str,
        step: impl Future<Output = T>,
    ) -> Result<T, KafkaError> {
        let limit = self.limits.connect;
        let late = |_| KafkaError::TimedOut { address: address.to_string(), request, limit };
        timeout(limit, step).await.map_err(late)
    }

    /// Whether there is a Kafka that is not TLS.
    async fn speaks_plainly(&self, address: &Address) -> bool {
        match self.tcp(address).await {
            Ok(stream) => self.over(Stream::Plain(stream), address).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Whether whoever is there answers a TLS handshake in TLS, however it ends.
    async fn speaks_tls(&self, address: &Address) -> bool {
        let Ok(name) = tls::server_name("", address.host()) else { return false };
        match self.shake_hands(address, name, &Tls::public()).await {
            Ok(_) => true,
            Err(KafkaError::Tls { source, .. }) => {
                tls::cause(&source).is_some_and(|error| !matches!(error, rustls::Error::InvalidMessage(_)))
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;
    use kafka_protocol::{messages::ApiVersionsResponse, protocol::Encodable};
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
    use rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    };
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::kafka::tls::tests::authority;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn key_and_certificate(
        name: &str,
        until: i32,
        issuer: &Authority,
    ) -> (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        (PrivateKeyDer::Pkcs8(key.serialize_der().into()), vec![certificate.der().clone()])
    }

    fn trusting(issuer: &Authority) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        roots
    }

    fn client(issuer: &Authority) -> Security {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusting(issuer))
            .with_no_client_auth();
        Security::new(Some(Tls::of(config)), None)
    }

    /// A broker's side of TLS; with an authority it wants client certificates.
    fn server(name: &str, until: i32, issuer: &Authority, clients: Option<&Authority>) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(trusting(clients));
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (key, chain) = key_and_certificate(name, until, issuer);
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }

    /// Answers ApiVersions as Kafka does, and hangs up at anything else.
    async fn kafka(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Ok(length) = stream.read_i32().await {
            let Some(length) = usize::try_from(length).ok().filter(|length| (8..1000).contains(length))
            else {
                return;
            };
            let mut request = vec![0; length];
            if stream.read_exact(&mut request).await.is_err() || request[..2] != [0, 18] {
                return;
            }
            let mut body = BytesMut::new();
            ApiVersionsResponse::default().encode(&mut body, 3).unwrap();
            let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &request[4..8], &body].concat()).await.unwrap();
            stream.flush().await.unwrap();
        }
    }

    /// A broker on loopback, with TLS or without.
    async fn broker(tls: Option<TlsAcceptor>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => kafka(stream).await,
                        // A refusal has been sent before the error comes.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => kafka(stream).await,
                            Err(error) => drop(error),
                        },
                    }
                });
            }
        });
        Address::new("localhost", i32::from(port)).unwrap()
    }

    async fn error(security: Security, address: &Address) -> String {
        let dialer = Dialer::new("test", security);
        let error = dialer.to(address).await.unwrap_err();
        assert!(matches!(error, KafkaError::Tls { .. }) && !error.is_retryable(), "{error}");
        error.to_string()
    }

    #[tokio::test]
    async fn a_broker_that_shows_a_good_certificate_is_connected_to() {
        let ours = authority();
        let address = broker(Some(server("localhost", 2099, &ours, None))).await;
        let connection = Dialer::new("test", client(&ours)).to(&address).await.unwrap();
        assert!(connection.is_usable());
    }

    #[tokio::test]
    async fn each_bad_certificate_has_words_of_its_own() {
        let (ours, other) = (authority(), authority());
        for (server, words) in [
            (server("localhost", 2021, &ours, None), "has expired"),
            (server("elsewhere", 2099, &ours, None), "not for this host name"),
            (server("localhost", 2099, &other, None), "KAFKA_SSL_CA_FILE"),
            (server("localhost", 2099, &ours, Some(&other)), "KAFKA_SSL_CERT_FILE"),
        ] {
            let address = broker(Some(server)).await;
            let error = error(client(&ours), &address).await;
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn the_wrong_protocol_for_a_port_is_found_out() {
        let ours = authority();
        let tls = broker(Some(server("localhost", 2099, &ours, None))).await;
        let error_of = error(Security::default(), &tls).await;
        assert!(error_of.contains("wants TLS on this port"), "{error_of}");
        let plain = broker(None).await;
        let error_of = error(client(&ours), &plain).await;
        assert!(error_of.contains("speaks no TLS on this port"), "{error_of}");
    }

    #[tokio::test]
    async fn a_broker_that_is_down_is_no_matter_of_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let address = Address::new("127.0.0.1", i32::from(port)).unwrap();
        let error = Dialer::new("test", client(&authority())).to(&address).await.unwrap_err();
        assert!(matches!(error, KafkaError::Connect { .. }) && error.is_retryable(), "{error}");
    }

    #[tokio::test]
    async fn of_several_failures_the_one_for_a_person_is_told() {
        let ours = authority();
        let bad = broker(Some(server("elsewhere", 2099, &ours, None))).await;
        let bootstrap = Bootstrap::parse(&format!("{bad},127.0.0.1:1")).unwrap();
        let error = Dialer::new("test", client(&ours)).to_any(&bootstrap).await.unwrap_err();
        assert!(matches!(error, KafkaError::Tls { .. }) && !error.is_retryable(), "{error}");
    }
}
