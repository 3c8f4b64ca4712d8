//! What is known of alerts and of the address of metrics, and what that means for a run.

use std::{io, net::SocketAddr};

use super::{
    grant,
    step::{Kind, Step},
};

/// What came of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// None was to be sent.
    NotTried,
    /// SNS has taken it.
    Taken,
    /// SNS has not, in its words.
    Refused(String),
}

/// Whether alerts to `arn` get through. `region` is where SNS is asked.
#[must_use]
pub fn alerts(arn: Option<&str>, region: &str, sent: &Sent) -> Step {
    let Some(arn) = arn else {
        return Step::note(
            Kind::Alerts,
            "SNS_TOPIC_ARN",
            "is not set: alerts are lines in the log, and nobody is told",
        );
    };
    match sent {
        Sent::Taken => Step::ok(Kind::Alerts, arn, "SNS has taken a test message"),
        Sent::Refused(said) => {
            let step = Step::failed(Kind::Alerts, arn, said);
            if said.contains("AuthorizationError") || said.contains("AccessDenied") {
                step.advise(grant::publish(arn))
            } else if said.contains("NotFound") {
                step.advise("create the SNS topic, or correct SNS_TOPIC_ARN")
            } else {
                step.advise("see that SNS can be reached from here (AWS_REGION, AWS_ENDPOINT_URL_SNS), and the credentials")
            }
        }
        Sent::NotTried => {
            let theirs = arn.split(':').nth(3).unwrap_or_default();
            if theirs != region {
                return Step::failed(
                    Kind::Alerts,
                    arn,
                    format!("the topic is in {theirs}, and SNS is asked in {region}, which knows no topics of other regions"),
                )
                .advise("set AWS_REGION to the topic's region, or name a topic of this one");
            }
            Step::skipped(Kind::Alerts, arn, "not tried; --notify sends a message")
        }
    }
}

/// Whether metrics can be served. `consumer_answers`: a consumer serves them there already.
#[must_use]
pub fn http(address: Option<SocketAddr>, bound: Result<(), &io::Error>, consumer_answers: bool) -> Step {
    let Some(address) = address else {
        return Step::ok(Kind::Http, "HTTP_ADDR", "is off: no metrics, no probes");
    };
    let about = address.to_string();
    match bound {
        Ok(()) => Step::ok(Kind::Http, about, "is free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let who = if consumer_answers { "a consumer that runs here" } else { "another program" };
            Step::note(Kind::Http, about, format!("is in use by {who}")).advise(
                "no fault while that runs; for a second consumer on this machine set another HTTP_ADDR",
            )
        }
        Err(error) => Step::failed(Kind::Http, about, format!("can't be listened at: {error}"))
            .advise("set HTTP_ADDR to an address of this machine and a port that this user may open, or off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::step::Outcome;

    const ARN: &str = "arn:aws:sns:eu-west-1:123456789012:alerts";

    #[test]
    fn alerts_are_tried_where_that_is_wanted_only() {
        let outcome = |arn, region, sent: &Sent| alerts(arn, region, sent).outcome;
        assert_eq!(outcome(None, "eu-west-1", &Sent::NotTried), Outcome::Note);
        assert_eq!(outcome(Some(ARN), "eu-west-1", &Sent::NotTried), Outcome::Skipped);
        assert_eq!(outcome(Some(ARN), "us-east-1", &Sent::NotTried), Outcome::Failed);
        assert_eq!(outcome(Some(ARN), "us-east-1", &Sent::Taken), Outcome::Ok);
    }

    #[test]
    fn a_refused_message_says_how_to_allow_it() {
        let said =
            |words: &str| alerts(Some(ARN), "eu-west-1", &Sent::Refused(words.to_owned())).advice.concat();
        assert!(said("AuthorizationError: ...").contains("sns:Publish"));
        assert!(said("NotFoundException").contains("create the SNS topic"));
        assert!(said("dispatch failure").contains("AWS_ENDPOINT_URL_SNS"));
    }

    #[test]
    fn an_address_that_a_consumer_holds_is_no_fault() {
        let address = Some("127.0.0.1:1".parse().unwrap());
        let used = io::Error::from(io::ErrorKind::AddrInUse);
        let step = http(address, Err(&used), true);
        assert!(step.outcome == Outcome::Note && step.found.contains("a consumer"), "{}", step.found);
        let other = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert_eq!(http(address, Err(&other), false).outcome, Outcome::Failed);
        assert_eq!(
            (http(address, Ok(()), false).outcome, http(None, Ok(()), false).outcome),
            (Outcome::Ok, Outcome::Ok)
        );
    }
}
