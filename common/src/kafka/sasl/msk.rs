//! The token by which Amazon MSK knows an AWS principal: a signed URL of `kafka-cluster:Connect`, base64url.
//!
//! MSK's brokers take it by two names. Its own, AWS_MSK_IAM, is the Java library's, with the URL's parts as JSON;
//! OAUTHBEARER, with the URL as the token, is what Amazon publishes for all other clients. The second is spoken here,
//! because rskafka speaks it too.
//!
//! Source: Amazon MSK Developer Guide, "IAM access control"; `aws-msk-iam-sasl-signer-js`, `src/index.ts`.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// How long a token can be used to log in. A session that has begun lasts longer.
const VALID: Duration = Duration::from_secs(900);

/// The token of `credentials` for the clusters of `region`, from `now` on.
///
/// # Errors
/// Why it can't be signed.
pub fn token(region: &str, credentials: Credentials, now: SystemTime) -> Result<String, String> {
    let host = format!("kafka.{region}.amazonaws.com");
    let url = format!("https://{host}/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(VALID);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kafka-cluster")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?;
    let headers = std::iter::once(("host", host.as_str()));
    let request = SignableRequest::new("GET", url.as_str(), headers, SignableBody::Bytes(&[]))
        .map_err(|error| error.to_string())?;
    let (signed, _) = sign(request, &params.into()).map_err(|error| error.to_string())?.into_parts();
    let mut signed_url = url;
    for (name, value) in signed.params() {
        signed_url.push_str(&format!("&{name}={}", super::percent_encoded(value)));
    }
    signed_url.push_str(concat!("&User-Agent=coinduit%2F", env!("CARGO_PKG_VERSION")));
    Ok(URL_SAFE_NO_PAD.encode(signed_url))
}

/// The region in the name of one of MSK's brokers: `b-1.c.abc123.c2.kafka.eu-west-1.amazonaws.com`.
#[must_use]
pub fn region_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let mut labels = name.rsplit('.');
    let region = labels.next().filter(|region| region.contains('-'))?;
    labels.next().filter(|service| service.starts_with("kafka")).map(|_| region)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ring::{digest, hmac};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn signed(key: &[u8], text: &str) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    }

    #[test]
    fn the_token_is_the_published_one() {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "geheim", Some("session/+=".to_owned()), None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let token = token("eu-west-1", credentials, now).unwrap();
        assert!(!token.contains('='));
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        let query = url.strip_prefix("https://kafka.eu-west-1.amazonaws.com/?").unwrap();
        let raw: BTreeMap<&str, &str> = query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
        let expected = [
            ("Action", "kafka-cluster%3AConnect"),
            ("User-Agent", "coinduit%2F0.1.0"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "AKIDEXAMPLE%2F20231114%2Feu-west-1%2Fkafka-cluster%2Faws4_request"),
            ("X-Amz-Date", "20231114T221320Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-Security-Token", "session%2F%2B%3D"),
            ("X-Amz-SignedHeaders", "host"),
        ];
        let signature = raw["X-Amz-Signature"];
        assert_eq!(raw.len(), expected.len() + 1, "{url}");
        for (name, value) in expected {
            assert_eq!(raw[name], value, "{name}");
        }

        // Signed again by the letter of the AWS General Reference, "Signature Version 4".
        let canonical: Vec<String> = raw
            .iter()
            .filter(|(name, _)| !matches!(**name, "X-Amz-Signature" | "User-Agent"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let empty = hex(digest::digest(&digest::SHA256, b"").as_ref());
        let request =
            format!("GET\n/\n{}\nhost:kafka.eu-west-1.amazonaws.com\n\nhost\n{empty}", canonical.join("&"));
        let scope = "20231114/eu-west-1/kafka-cluster/aws4_request";
        let hashed = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n20231114T221320Z\n{scope}\n{hashed}");
        let key = scope.split('/').fold(b"AWS4geheim".to_vec(), |key, part| signed(&key, part));
        assert_eq!(signature, hex(&signed(&key, &to_sign)));
    }

    #[test]
    fn a_brokers_name_tells_the_region() {
        for (host, region) in [
            ("b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("boot-x.c1.kafka-serverless.us-east-2.amazonaws.com", Some("us-east-2")),
            ("b-1.demo.abc123.c2.kafka.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("s3.eu-west-1.amazonaws.com", None),
            ("broker.example.com", None),
            ("amazonaws.com", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
