//! How a message reads: plain words first, the same for machines after it.

use serde_json::json;

use super::{Alert, throttle::Letter};

/// SNS takes 256 KiB; the rest of an overlong body is cut off, and said to be.
const MOST_BODY_BYTES: usize = 200 * 1024;

impl Letter {
    /// The subject: 1 to 99 printable ASCII characters, as SNS wants fewer than 100.
    ///
    /// Source: Amazon SNS API Reference, Publish, Subject.
    pub(super) fn subject(&self, program: &str) -> String {
        let Alert { kind, place, over, .. } = &self.first;
        let over = if over.is_some() { "over: " } else { "" };
        let others = self.others();
        let text = match (self.alerts, others) {
            (2.., _) if self.more => {
                format!("[coinduit {program}] {over}{kind}: {} more in the last minute", self.alerts)
            }
            (_, 1..) => format!("[coinduit {program}] {over}{kind}: {place} and {others} more"),
            _ => format!("[coinduit {program}] {over}{kind}: {place}"),
        };
        text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(99).collect()
    }

    /// In how many places beside the first one: at least; those that are not listed may be the same.
    fn others(&self) -> usize {
        self.places.len().saturating_sub(1) + usize::from(self.elsewhere > 0)
    }

    /// The body.
    pub(super) fn body(&self, program: &str) -> String {
        let Alert { kind, place, what, advice, details, over, .. } = &self.first;
        let Self { alerts, count, at: [at, until], .. } = self;
        let places: Vec<_> = self
            .places
            .iter()
            .map(
                |one| json!({ "place": one.place, "alerts": one.alerts, "what": one.what, "over": one.over }),
            )
            .collect();
        let machine = json!({
            "kind": kind.name(),
            "over": over.is_some(),
            "program": program,
            "place": place,
            "at": at,
            "until": until,
            "alerts": alerts,
            "count": count,
            "what": what,
            "details": details,
            "places": places,
            "elsewhere": self.elsewhere,
        });
        let machine =
            serde_json::to_string_pretty(&machine).expect("strings and numbers are written to memory");
        let what = match (alerts, self.more) {
            (1, _) => what.clone(),
            (_, true) => format!("{alerts} more in the last minute; the first: {what}"),
            (_, false) => format!("{alerts} at once; the first: {what}"),
        };
        let place = match self.others() {
            0 => place.clone(),
            others => format!("{place} and {others} more, see below"),
        };
        let at = if at == until { at.clone() } else { format!("{at} to {until}") };
        let mut text =
            format!("What: {what}\nWhere: {place}\nWhen: {at}\nHow many: {count}\nWhat to do: {advice}\n");
        for one in self.places.iter().filter(|one| *alerts > 1 || one.over.is_some()) {
            let over = one.over.as_deref().map(|over| format!("; {over}")).unwrap_or_default();
            text.push_str(&format!("- {} ({}): {}{over}\n", one.place, one.alerts, one.what));
        }
        if self.elsewhere > 0 {
            text.push_str(&format!(
                "- and {} about places that are not listed; the log has them\n",
                self.elsewhere
            ));
        }
        text.push('\n');
        if text.len() + machine.len() <= MOST_BODY_BYTES {
            return text + &machine;
        }
        let cut = text.floor_char_boundary(MOST_BODY_BYTES);
        format!("{}\n(cut off)", &text[..cut])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{super::AlertKind, *};
    use crate::alert::throttle::Throttle;

    fn letter(alerts: impl IntoIterator<Item = Alert>) -> Letter {
        let mut throttle = Throttle::default();
        for alert in alerts {
            throttle.say(alert, "now".to_owned(), Duration::ZERO);
        }
        throttle.due(Duration::ZERO, true).unwrap()
    }

    #[test]
    fn a_message_about_many_names_each_place() {
        let failed =
            |place: &str| Alert::new(AlertKind::KafkaFailed, place, format!("fetch of {place}"), "look");
        let letter = letter(["t/1", "t/2", "t/1", "t/3"].map(failed));
        assert_eq!(letter.subject("consumer"), "[coinduit consumer] kafka-failed: t/1 and 2 more");
        let body = letter.body("consumer");
        assert!(
            body.starts_with("What: 4 at once; the first: fetch of t/1\nWhere: t/1 and 2 more, see below\n"),
            "{body}"
        );
        assert!(body.contains("\n- t/1 (2): fetch of t/1\n- t/2 (1): fetch of t/2\n"), "{body}");
        let (_, machine) = body.split_once("\n\n").unwrap();
        let machine: serde_json::Value = serde_json::from_str(machine).unwrap();
        assert_eq!(
            (machine["alerts"].as_u64(), machine["places"][2]["place"].as_str()),
            (Some(4), Some("t/3"))
        );
    }

    #[test]
    fn an_end_that_goes_with_its_beginning_is_said() {
        let failed = Alert::new(AlertKind::StoreFailed, "t/1", "put", "wait");
        let over = Alert::over(AlertKind::StoreFailed, "t/1", "storing", Duration::from_millis(1_400));
        let body = letter([failed, over]).body("consumer");
        assert!(body.contains("- t/1 (1): put; over: storing, lasted 1s\n"), "{body}");
    }

    #[test]
    fn an_overlong_body_is_cut_and_says_so() {
        let alert = Alert::new(AlertKind::StoreFailed, "b", "ä".repeat(MOST_BODY_BYTES), "a");
        let body = letter([alert]).body("consumer");
        assert!(body.len() < 256 * 1024 && body.ends_with("(cut off)"));
    }

    proptest! {
        #[test]
        fn a_subject_is_always_what_sns_takes(place in "(?s).{0,200}", alerts in 1usize..4) {
            let alert = |n: usize| Alert::new(AlertKind::StoreFailed, format!("{place}{}", n / 2), "w", "a");
            let subject = letter((0..alerts).map(alert)).subject("consumer");
            prop_assert!((1..=99).contains(&subject.len()) && subject.bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
    }
}
