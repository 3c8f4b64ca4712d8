//! DynamoDB, played by dynoxide in this process, with the pipeline's two tables.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use dynoxide::Database;
use dynoxide::actions::create_table::CreateTableRequest;
use dynoxide::errors::DynoxideError;
use dynoxide::types::{AttributeDefinition, KeySchemaElement, KeyType, ScalarAttributeType};
use tracing::warn;

use crate::server::Server;

/// The table with one row per coin and fetch: partition key `code`, sort key `timestamp`.
pub const PRICES_TABLE: &str = "prices";
/// The table with one row per coin: partition key `code`.
pub const COINS_TABLE: &str = "coins";

/// The running service.
#[derive(Debug)]
pub struct DynamoDb {
    server: Server,
}

impl DynamoDb {
    /// Starts on `address` (port 0: a free one), with `file` as the database or, without it, in memory, and makes
    /// the tables that are missing.
    ///
    /// # Errors
    /// When the file is no database, or the address can't be listened on.
    pub fn start(address: SocketAddr, file: Option<&Path>) -> io::Result<Self> {
        let database = match file {
            Some(file) => {
                let path = file.to_str().ok_or_else(|| {
                    io::Error::other(format!("the path {} of the database is not UTF-8", file.display()))
                })?;
                Database::new(path)
            }
            None => Database::memory(),
        }
        .map_err(io::Error::other)?;
        make_table(&database, PRICES_TABLE, &[("code", KeyType::HASH), ("timestamp", KeyType::RANGE)])?;
        make_table(&database, COINS_TABLE, &[("code", KeyType::HASH)])?;
        let server = Server::start("dynamodb", address, |listener, stop| async move {
            if let Err(error) = dynoxide::server::serve_with_shutdown(listener, database, stop.wait()).await {
                warn!(%error, "dynamodb failed");
            }
        })?;
        Ok(Self { server })
    }

    /// The endpoint's URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Stops the service, after the requests that are running.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// Makes an on-demand table whose keys are strings, unless it is there.
fn make_table(database: &Database, name: &str, keys: &[(&str, KeyType)]) -> io::Result<()> {
    let request = CreateTableRequest {
        table_name: name.to_owned(),
        key_schema: keys
            .iter()
            .map(|(key, kind)| KeySchemaElement { attribute_name: (*key).to_owned(), key_type: kind.clone() })
            .collect(),
        attribute_definitions: keys
            .iter()
            .map(|(key, _)| AttributeDefinition {
                attribute_name: (*key).to_owned(),
                attribute_type: ScalarAttributeType::S,
            })
            .collect(),
        billing_mode: Some("PAY_PER_REQUEST".to_owned()),
        ..CreateTableRequest::default()
    };
    match database.create_table(request) {
        Ok(_) | Err(DynoxideError::ResourceInUseException(_)) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}
