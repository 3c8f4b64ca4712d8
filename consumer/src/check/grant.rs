//! How to grant what is missing: commands for Kafka, statements for IAM.

use coinduit_common::{
    kafka::{
        bootstrap::Bootstrap,
        sasl::{Sasl, token::Tokens},
        security::Security,
    },
    object_key::Prefix,
};
use serde_json::json;

/// Who this client is to the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A name that ACLs use.
    User(String),
    /// An AWS principal, whose rights are in IAM.
    Aws,
}

impl Principal {
    /// Whom the brokers see. What only they know is told in angle brackets.
    #[must_use]
    pub fn of(security: &Security) -> Self {
        let certificate =
            || security.tls().is_some_and(|tls| tls.config().client_auth_cert_resolver.has_certs());
        Self::User(match security.sasl() {
            Some(Sasl::Plain(login) | Sasl::Scram(_, login)) => login.username.clone(),
            Some(Sasl::Bearer(Tokens::Endpoint(_))) => "<the token's subject>".to_owned(),
            Some(Sasl::Bearer(Tokens::Msk(_))) => return Self::Aws,
            None if certificate() => "<the client certificate's subject>".to_owned(),
            None => "ANONYMOUS".to_owned(),
        })
    }
}

/// What a client may be let do in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right<'a> {
    /// See and read a topic.
    Topic(&'a str),
    /// See and join a group.
    Group(&'a str),
}

/// How to grant `right`, by somebody who may, at `brokers`.
#[must_use]
pub fn kafka(principal: &Principal, brokers: &Bootstrap, right: Right<'_>) -> String {
    let user = match principal {
        Principal::User(user) => user,
        Principal::Aws => {
            let (kind, name, actions) = match right {
                Right::Topic(name) => {
                    ("topic", name, ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"])
                }
                Right::Group(name) => {
                    ("group", name, ["kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"])
                }
            };
            let resource = format!("arn:aws:kafka:*:*:{kind}/*/*/{name}");
            return allow(&actions, &json!(resource));
        }
    };
    let (kind, name) = match right {
        Right::Topic(name) => ("topic", name),
        Right::Group(name) => ("group", name),
    };
    // Read brings Describe with it.
    format!(
        "let it read the {kind}, as somebody who may:\nkafka-acls.sh --bootstrap-server {brokers} --command-config admin.properties --add --allow-principal {} --operation Read --{kind} {}",
        quoted(&format!("User:{user}")),
        quoted(name)
    )
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What is to be allowed to the consumer's role.
fn allow(actions: &[&str], resource: &serde_json::Value) -> String {
    let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": resource });
    format!("add this statement to the policy of the consumer's role (or user):\n{statement}")
}

/// `aws`, or that of the region's own part of the world.
fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// A bucket, as IAM names it.
#[derive(Debug, Clone, Copy)]
pub struct BucketName<'a> {
    /// Its name.
    pub name: &'a str,
    /// Below which everything is.
    pub prefix: &'a Prefix,
    /// Its region, where it is told.
    pub region: Option<&'a str>,
}

impl BucketName<'_> {
    /// How to grant listings.
    #[must_use]
    pub fn list(&self) -> String {
        let arn = format!("arn:{}:s3:::{}", partition(self.region), self.name);
        allow(&["s3:ListBucket"], &json!(arn))
    }

    /// How to grant reading and writing of objects.
    #[must_use]
    pub fn objects(&self) -> String {
        let arn = format!("arn:{}:s3:::{}/{}*", partition(self.region), self.name, self.prefix);
        allow(&["s3:GetObject", "s3:PutObject"], &json!(arn))
    }
}

/// How to grant alerts to the topic `arn`.
#[must_use]
pub fn publish(arn: &str) -> String {
    allow(&["sns:Publish"], &json!(arn))
}

#[cfg(test)]
mod tests {
    use coinduit_common::{config::Secret, kafka::sasl::Login};

    use super::*;

    #[test]
    fn the_user_is_who_the_brokers_see() {
        assert_eq!(Principal::of(&Security::default()), Principal::User("ANONYMOUS".to_owned()));
        let login = Login { username: "o'neil".to_owned(), password: Secret::new("x") };
        let principal = Principal::of(&Security::new(None, Some(Sasl::Plain(login))));
        let command = kafka(&principal, &Bootstrap::parse("a:1").unwrap(), Right::Topic("t"));
        assert!(
            command.ends_with(
                r"--bootstrap-server a:1 --command-config admin.properties --add --allow-principal 'User:o'\''neil' --operation Read --topic 't'"
            ),
            "{command}"
        );
    }

    #[test]
    fn an_aws_principal_gets_a_statement() {
        let statement = kafka(&Principal::Aws, &Bootstrap::parse("a:1").unwrap(), Right::Group("g"));
        assert!(
            statement.contains("kafka-cluster:AlterGroup") && statement.contains("group/*/*/g"),
            "{statement}"
        );
    }

    #[test]
    fn statements_name_bucket_prefix_and_part_of_the_world() {
        let prefix = Prefix::new("raw").unwrap();
        let bucket = BucketName { name: "b", prefix: &prefix, region: Some("cn-north-1") };
        assert!(bucket.list().contains(r#""Resource":"arn:aws-cn:s3:::b""#), "{}", bucket.list());
        let bucket = BucketName { region: None, ..bucket };
        assert!(bucket.objects().contains(r#""Resource":"arn:aws:s3:::b/raw/*""#), "{}", bucket.objects());
        assert!(publish("arn:aws:sns:r:1:t").contains("sns:Publish"));
    }
}
