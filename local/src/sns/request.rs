//! What SNS takes and what it refuses: the Query API's form, and AWS's rules for a notification.

use std::collections::BTreeMap;

use url::form_urlencoded;

/// The largest message, and the largest batch of messages, bytes.
const MAX_BYTES: usize = 262_144;
/// The longest subject, characters.
const MAX_SUBJECT: usize = 100;
/// The largest batch, entries.
const MAX_ENTRIES: usize = 10;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    CreateTopic { name: String },
    Publish { topic: String, notification: Notification },
    PublishBatch { topic: String, entries: Vec<Entry> },
}

/// One message to the subscribers of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) subject: Option<String>,
    pub(super) message: String,
}

/// One message of a batch, with the name that the answer calls it by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) notification: Notification,
}

/// Why a request is refused; codes, status and meaning are AWS's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameter", message)
    }
}

impl Request {
    /// Reads a form-encoded body. The notifications in it are not checked yet ([`Notification::check`]), as one
    /// bad entry of a batch does not spoil the others.
    ///
    /// # Errors
    /// An action that is not played here, a parameter that is missing, a batch that is refused as a whole.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let form: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        let get = |name: &str| form.get(name).cloned();
        let need = |name: &str| {
            get(name).ok_or_else(|| Refusal::invalid(format!("Invalid parameter: {name} is missing")))
        };
        match form.get("Action").map_or("", String::as_str) {
            "CreateTopic" => {
                let name = need("Name")?;
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
                    return Err(Refusal::invalid("Invalid parameter: Topic Name"));
                }
                Ok(Self::CreateTopic { name })
            }
            "Publish" => Ok(Self::Publish {
                // boto3's callers may name a topic by either.
                topic: get("TargetArn").map_or_else(|| need("TopicArn"), Ok)?,
                notification: Notification { subject: get("Subject"), message: need("Message")? },
            }),
            "PublishBatch" => {
                let entries: Vec<Entry> = (1..)
                    .map(|number| format!("PublishBatchRequestEntries.member.{number}"))
                    .map_while(|entry| {
                        let id = get(&format!("{entry}.Id"))?;
                        let message = get(&format!("{entry}.Message")).unwrap_or_default();
                        let subject = get(&format!("{entry}.Subject"));
                        Some(Entry { id, notification: Notification { subject, message } })
                    })
                    .collect();
                check_batch(&entries)?;
                Ok(Self::PublishBatch { topic: need("TopicArn")?, entries })
            }
            action => {
                let message = format!("The action {action} is not one that the embedded SNS plays");
                Err(Refusal::new(400, "InvalidAction", message))
            }
        }
    }
}

fn check_batch(entries: &[Entry]) -> Result<(), Refusal> {
    if entries.is_empty() {
        return Err(Refusal::new(400, "EmptyBatchRequest", "The batch request doesn't contain any entries."));
    }
    if entries.len() > MAX_ENTRIES {
        let message = format!("The batch request contains more entries than permissible: {}", entries.len());
        return Err(Refusal::new(400, "TooManyEntriesInBatchRequest", message));
    }
    let mut ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        let message = "Two or more batch entries in the request have the same Id.";
        return Err(Refusal::new(400, "BatchEntryIdsNotDistinct", message));
    }
    if entries.iter().map(|entry| entry.notification.message.len()).sum::<usize>() > MAX_BYTES {
        let message = "The length of all the batch messages put together is more than the limit.";
        return Err(Refusal::new(400, "BatchRequestTooLong", message));
    }
    Ok(())
}

impl Notification {
    /// Checks what AWS checks. No emulator does, and a pipeline whose alerts work everywhere but on AWS has none.
    ///
    /// # Errors
    /// `InvalidParameter`: a subject must be 1 to 100 printable ASCII characters, the first no space; a message
    /// 1 to 262,144 bytes.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if let Some(subject) = &self.subject {
            let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            let length = 1..=MAX_SUBJECT;
            if !length.contains(&subject.len()) || !subject.bytes().all(printable) || subject.starts_with(' ')
            {
                return Err(Refusal::invalid("Invalid parameter: Subject"));
            }
        }
        if self.message.is_empty() {
            return Err(Refusal::invalid("Invalid parameter: Empty message"));
        }
        if self.message.len() > MAX_BYTES {
            return Err(Refusal::invalid("Invalid parameter: Message too long"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(subject: &str, message: &str) -> Notification {
        Notification { subject: Some(subject.to_owned()), message: message.to_owned() }
    }

    #[test]
    fn subjects_are_1_to_100_printable_ascii_characters() {
        for good in ["a", &"x".repeat(100), "coinduit: partition 3 waits", "[warn] ok?"] {
            assert_eq!(notification(good, "m").check(), Ok(()), "{good}");
        }
        for bad in
            ["", &"x".repeat(101), "two\nlines", "tab\there", "caf\u{e9}", " leading space", "bell\u{7}"]
        {
            assert_eq!(notification(bad, "m").check().unwrap_err().code, "InvalidParameter", "{bad:?}");
        }
        assert_eq!(Notification { subject: None, message: "m".into() }.check(), Ok(()));
    }

    #[test]
    fn messages_are_1_to_262144_bytes() {
        assert!(notification("s", "").check().is_err());
        assert!(notification("s", &"x".repeat(262_144)).check().is_ok());
        assert!(notification("s", &"x".repeat(262_145)).check().is_err());
        assert!(notification("s", &"\u{20bf}".repeat(87_382)).check().is_err(), "bytes, not characters");
    }

    #[test]
    fn a_publish_is_read_from_its_form() {
        for name in ["TopicArn", "TargetArn"] {
            let body =
                format!("Action=Publish&Version=2010-03-31&{name}=arn%3Aa&Message=a+b%0Ac&Subject=s%21");
            let topic = "arn:a".to_owned();
            assert_eq!(
                Request::parse(body.as_bytes()),
                Ok(Request::Publish { topic, notification: notification("s!", "a b\nc") })
            );
        }
    }

    #[test]
    fn a_batch_is_refused_as_a_whole_or_read_in_order() {
        let batch = |ids: &[&str]| {
            let mut body = "Action=PublishBatch&TopicArn=a".to_owned();
            for (number, id) in ids.iter().enumerate() {
                let entry = format!("PublishBatchRequestEntries.member.{}", number + 1);
                body.push_str(&format!("&{entry}.Id={id}&{entry}.Message=m"));
            }
            Request::parse(body.as_bytes())
        };
        let Ok(Request::PublishBatch { entries, .. }) = batch(&["x", "y"]) else { panic!("not a batch") };
        assert_eq!(entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(batch(&[]).unwrap_err().code, "EmptyBatchRequest");
        assert_eq!(batch(&["x", "x"]).unwrap_err().code, "BatchEntryIdsNotDistinct");
        let eleven: Vec<String> = (0..11).map(|id| id.to_string()).collect();
        let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
        assert_eq!(batch(&eleven).unwrap_err().code, "TooManyEntriesInBatchRequest");
    }

    #[test]
    fn other_actions_are_refused_by_name() {
        let refusal = Request::parse(b"Action=DeleteTopic").unwrap_err();
        assert_eq!(refusal.code, "InvalidAction");
        assert!(refusal.message.contains("DeleteTopic"));
    }
}
