//! Settings and clients of the AWS side: one place that knows credentials, region and endpoints.
//!
//! The AWS SDK's own chain finds the credentials (environment, profile, web identity, container and
//! instance roles), for S3 too: [`object_store`] is handed the SDK's provider, so that both sides of a
//! process are always the same principal.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig as SdkRetry, timeout::TimeoutConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError},
};
use aws_smithy_http_client::{
    Builder as HttpClient,
    tls::{self, rustls_provider::CryptoMode},
};
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential, S3ConditionalPut},
};
use tokio::sync::Mutex;

use crate::config::{Env, Faults, Secret};

/// How long one HTTP exchange with AWS may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one HTTP exchange with S3 may take in all; 8 MiB in 30 s is 280 kB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long before their end credentials are asked for again.
const REFRESH_BEFORE_EXPIRY: Duration = Duration::from_secs(300);

/// Where the AWS side is, and as whom to go there.
#[derive(Debug, Clone, Default)]
pub struct AwsSettings {
    region: Option<String>,
    seed_keys: Option<(String, Secret)>,
    s3_endpoint: Option<String>,
    warnings: Vec<String>,
}

impl AwsSettings {
    /// Reads the SDKs' own variables and the seed project's `ACCESS_KEY` and `SECRET_KEY`.
    ///
    /// The region may be missing only where an endpoint says where to go.
    #[must_use]
    pub fn from_env(env: &Env, faults: &mut Faults) -> Self {
        let mut warnings = Vec::new();
        let seed = (env.secret("ACCESS_KEY", faults), env.secret("SECRET_KEY", faults));
        let aws_names = env.get("AWS_ACCESS_KEY_ID").is_some() || env.get("AWS_SECRET_ACCESS_KEY").is_some();
        let seed_keys = match seed {
            (Some(_), _) | (_, Some(_)) if aws_names => {
                warnings
                    .push("AWS_ACCESS_KEY_ID and ACCESS_KEY are both set; the AWS name is used".to_owned());
                None
            }
            (Some(id), Some(secret)) => Some((id.reveal().to_owned(), secret)),
            (Some(_), None) => {
                faults.add(
                    "SECRET_KEY",
                    "is not set, but ACCESS_KEY is",
                    "set both, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                );
                None
            }
            (None, Some(_)) => {
                faults.add(
                    "ACCESS_KEY",
                    "is not set, but SECRET_KEY is",
                    "set both, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                );
                None
            }
            (None, None) => None,
        };
        let s3_endpoint = env.get("AWS_ENDPOINT_URL_S3").or_else(|| env.get("AWS_ENDPOINT_URL"));
        for name in
            ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SNS"]
        {
            if let Some(url) = env.get(name)
                && !url::Url::parse(url)
                    .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            {
                faults.add(name, format!("{url:?} is no address"), "write http://host:port or https://host");
            }
        }
        Self {
            region: env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")).map(ToOwned::to_owned),
            seed_keys,
            s3_endpoint: s3_endpoint.map(|url| url.trim_end_matches('/').to_owned()),
            warnings,
        }
    }

    /// The region, where the environment names one.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// What the operator should know, though it is no fault.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The AWS side, ready for clients. Making it opens no connection.
#[derive(Debug, Clone)]
pub struct Aws {
    sdk: SdkConfig,
    s3_endpoint: Option<String>,
    credentials: Arc<SdkCredentials>,
}

impl Aws {
    /// Builds the SDK's configuration. The region comes from the settings, else from the SDK's chain, else
    /// it is `us-east-1`.
    pub async fn new(settings: AwsSettings) -> Self {
        let http = HttpClient::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(Duration::from_secs(10))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(SdkRetry::standard().with_max_attempts(3));
        if let Some(region) = settings.region {
            loader = loader.region(Region::new(region));
        }
        if let Some((id, secret)) = settings.seed_keys {
            loader = loader.credentials_provider(Credentials::new(
                id,
                secret.reveal(),
                None,
                None,
                "ACCESS_KEY and SECRET_KEY",
            ));
        }
        let mut sdk = loader.load().await;
        if sdk.region().is_none() {
            sdk = sdk.into_builder().region(Region::new("us-east-1")).build();
        }
        let provider = sdk.credentials_provider();
        Self {
            sdk,
            s3_endpoint: settings.s3_endpoint,
            credentials: Arc::new(SdkCredentials { provider, cached: Mutex::new(None) }),
        }
    }

    /// The SDK's configuration, for the clients of the single services.
    #[must_use]
    pub const fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The credentials of now.
    ///
    /// # Errors
    /// [`NoCredentials`].
    pub async fn credentials(&self) -> Result<Arc<AwsCredential>, NoCredentials> {
        self.credentials.current().await
    }

    /// A client for `bucket`.
    ///
    /// Its retries are limited (three, within 20 s), because whoever stores something decides by itself
    /// what an error means and tries again.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn s3(&self, bucket: &str) -> Result<AmazonS3, object_store::Error> {
        let http = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
            .with_allow_http(self.s3_endpoint.as_deref().is_some_and(|url| url.starts_with("http://")));
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(self.sdk.region().map_or("us-east-1", Region::as_ref))
            .with_credentials(Arc::clone(&self.credentials) as _)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(http)
            .with_retry(RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(20) });
        if let Some(endpoint) = &self.s3_endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build()
    }
}

/// The SDK's credentials for [`object_store`], kept until shortly before they expire.
#[derive(Debug)]
struct SdkCredentials {
    provider: Option<SharedCredentialsProvider>,
    cached: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

/// The chain has no credentials.
#[derive(Debug, thiserror::Error)]
#[error("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a role")]
pub struct NoCredentials(#[source] Option<CredentialsError>);

impl NoCredentials {
    /// Whether asking again may help: somebody who has credentials to give did not answer.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.0, Some(CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_)))
    }
}

impl SdkCredentials {
    async fn current(&self) -> Result<Arc<AwsCredential>, NoCredentials> {
        let mut cached = self.cached.lock().await;
        if let Some((credential, expiry)) = &*cached
            && !expiry.is_some_and(expires_soon)
        {
            return Ok(Arc::clone(credential));
        }
        let provider = self.provider.as_ref().ok_or(NoCredentials(None))?;
        let found = provider.provide_credentials().await.map_err(|error| NoCredentials(Some(error)))?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(ToOwned::to_owned),
        });
        *cached = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}

#[async_trait::async_trait]
impl CredentialProvider for SdkCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let failed = |error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
        self.current().await.map_err(failed)
    }
}

#[expect(clippy::disallowed_methods, reason = "credentials expire by the system's clock")]
fn expires_soon(expiry: SystemTime) -> bool {
    SystemTime::now() + REFRESH_BEFORE_EXPIRY >= expiry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_names_work_and_the_aws_names_win() {
        let mut faults = Faults::default();
        let seed =
            AwsSettings::from_env(&Env::from_pairs([("ACCESS_KEY", "a"), ("SECRET_KEY", "s")]), &mut faults);
        assert_eq!(seed.seed_keys, Some(("a".to_owned(), Secret::new("s"))));
        let both = AwsSettings::from_env(
            &Env::from_pairs([("ACCESS_KEY", "a"), ("SECRET_KEY", "s"), ("AWS_ACCESS_KEY_ID", "b")]),
            &mut faults,
        );
        assert!(both.seed_keys.is_none() && both.warnings().len() == 1);
        assert!(faults.is_empty());
    }

    #[test]
    fn half_a_pair_and_a_wrong_address_are_faults() {
        let mut faults = Faults::default();
        drop(AwsSettings::from_env(
            &Env::from_pairs([("ACCESS_KEY", "a"), ("AWS_ENDPOINT_URL_S3", "localhost:9000")]),
            &mut faults,
        ));
        let text = faults.to_string();
        assert!(text.contains("SECRET_KEY") && text.contains("AWS_ENDPOINT_URL_S3"), "{text}");
    }

    #[tokio::test]
    async fn s3_is_the_same_principal_as_the_sdk() {
        let mut faults = Faults::default();
        let settings = AwsSettings::from_env(
            &Env::from_pairs([("ACCESS_KEY", "id"), ("SECRET_KEY", "secret"), ("AWS_REGION", "eu-west-1")]),
            &mut faults,
        );
        let aws = Aws::new(settings).await;
        let credential = aws.credentials.get_credential().await.unwrap();
        assert_eq!((credential.key_id.as_str(), credential.secret_key.as_str()), ("id", "secret"));
        assert_eq!(aws.sdk().region().map(Region::as_ref), Some("eu-west-1"));
    }
}
