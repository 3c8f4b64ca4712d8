//! Dials brokers the way the settings say.

use tokio::{net::TcpStream, time::timeout};

use super::{
    bootstrap::{Address, Bootstrap},
    connection::{Connection, Limits},
    error::KafkaError,
    security::Security,
    stream::Stream,
};

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
    /// [`KafkaError::Unreachable`] with the failure of the last address.
    pub async fn to_any(&self, bootstrap: &Bootstrap) -> Result<Connection, KafkaError> {
        let mut last = None;
        for address in bootstrap.addresses() {
            match self.to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        let source = Box::new(last.expect("a bootstrap has an address"));
        Err(KafkaError::Unreachable { bootstrap: bootstrap.to_string(), source })
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// [`KafkaError::Connect`], [`KafkaError::TimedOut`], and all of [`Connection::over`].
    pub async fn to(&self, address: &Address) -> Result<Connection, KafkaError> {
        let stream = self.tcp(address).await?;
        Connection::over(Stream::Plain(stream), address.to_string(), &self.client_id, self.limits).await
    }

    async fn tcp(&self, address: &Address) -> Result<TcpStream, KafkaError> {
        let name = address.to_string();
        let dial = async {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let limit = self.limits.connect;
        match timeout(limit, dial).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(KafkaError::Connect { address: name, source }),
            Err(_) => Err(KafkaError::TimedOut { address: name, request: "a TCP connect", limit }),
        }
    }
}
