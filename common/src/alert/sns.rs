//! Alerts through Amazon SNS.

use std::{future::Future, pin::Pin};

use aws_sdk_sns::{Client, error::DisplayErrorContext, operation::publish::PublishError};

use super::{AlertSender, SendError};
use crate::aws::Aws;

/// Publishes to one topic.
#[derive(Debug)]
pub struct SnsSender {
    client: Client,
    topic_arn: String,
}

impl SnsSender {
    /// A sender for `topic_arn`. Opens no connection.
    #[must_use]
    pub fn new(aws: &Aws, topic_arn: String) -> Self {
        Self { client: Client::new(aws.sdk()), topic_arn }
    }
}

impl AlertSender for SnsSender {
    fn send<'a>(
        &'a self,
        subject: &'a str,
        body: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
        Box::pin(async move {
            let request = self.client.publish().topic_arn(&self.topic_arn).subject(subject).message(body);
            let sent = request.send().await;
            sent.map(drop).map_err(|error| {
                use PublishError as E;
                let may_pass = match error.as_service_error() {
                    None => true,
                    Some(E::InternalErrorException(_) | E::KmsThrottlingException(_)) => true,
                    Some(other) => matches!(
                        other.meta().code(),
                        Some("Throttling" | "Throttled" | "ThrottlingException" | "ServiceUnavailable")
                    ),
                };
                let said = DisplayErrorContext(error).to_string();
                if may_pass { SendError::Unavailable(said) } else { SendError::Refused(said) }
            })
        })
    }
}

/// The text is no topic's ARN.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the topic's ARN, such as arn:aws:sns:eu-west-1:123456789012:alerts")]
pub struct InvalidTopicArn;

/// Checks that `text` has the shape of an SNS topic's ARN.
///
/// # Errors
/// [`InvalidTopicArn`].
pub fn topic_arn(text: &str) -> Result<String, InvalidTopicArn> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["arn", partition, "sns", region, account, name]
            if !partition.is_empty()
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && !name.is_empty() =>
        {
            Ok(text.to_owned())
        }
        _ => Err(InvalidTopicArn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_topics_arn_is_taken() {
        let arn = "arn:aws:sns:eu-west-1:123456789012:alerts";
        assert_eq!(topic_arn(arn).as_deref(), Ok(arn));
        for wrong in [
            "",
            "alerts",
            "arn:aws:sqs:eu-west-1:123456789012:alerts",
            "arn:aws:sns:eu-west-1:12:alerts",
            "arn:aws:sns:eu-west-1:123456789012:a:b",
        ] {
            assert_eq!(topic_arn(wrong), Err(InvalidTopicArn), "{wrong}");
        }
    }
}
