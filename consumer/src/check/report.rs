//! What a check says in the end: a table for people, or one JSON document for programs.

use std::fmt;

use coinduit_common::exit::Exit;
use serde_json::{Value, json};

use super::step::{Outcome, Step};

/// Everything that a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The brokers' addresses, as the operator gave them.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The bucket.
    pub bucket: String,
    /// Before every key.
    pub prefix: String,
    /// In the order in which they depend on each other.
    pub steps: Vec<Step>,
}

impl Report {
    /// How many steps ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.steps.iter().filter(|step| step.outcome == outcome).count()
    }

    /// The exit code: whether a run has all that it needs.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.count(Outcome::Failed) == 0 { Exit::Done } else { Exit::Finding }
    }

    /// The document. Its members' names stay as they are.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            json!({
                "step": step.kind.name(),
                "about": step.about,
                "outcome": step.outcome.name(),
                "found": step.found,
                "advice": step.advice,
            })
        });
        json!({
            "format": 1,
            "brokers": self.brokers,
            "topic": self.topic,
            "group": self.group,
            "bucket": self.bucket,
            "prefix": self.prefix,
            "steps": steps.collect::<Vec<_>>(),
            "totals": {
                "ok": self.count(Outcome::Ok),
                "notes": self.count(Outcome::Note),
                "failed": self.count(Outcome::Failed),
                "skipped": self.count(Outcome::Skipped),
            },
        })
    }

    /// The report as it is printed.
    #[must_use]
    pub fn print(&self, json: bool) -> String {
        if json { format!("{:#}\n", self.to_json()) } else { self.to_string() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, group, bucket, prefix, steps } = self;
        writeln!(f, "topic {topic} at {brokers}, group {group}, s3://{bucket}/{prefix}\n")?;
        let wide = |length: fn(&Step) -> usize| steps.iter().map(length).max().unwrap_or_default();
        let (kind, about) = (wide(|step| step.kind.name().len()), wide(|step| step.about.chars().count()));
        for step in steps {
            let found = one_line(&step.found);
            let (outcome, name) = (step.outcome.name(), step.kind.name());
            writeln!(f, "{outcome:<7}  {name:<kind$}  {:<about$}  {found}", step.about)?;
        }
        for step in steps.iter().filter(|step| !step.advice.is_empty()) {
            writeln!(f, "\n{}: {} {}", step.outcome.name(), step.kind.name(), step.about)?;
            for advice in &step.advice {
                for (at, line) in advice.lines().enumerate() {
                    writeln!(f, "{}{line}", if at == 0 { "  what to do: " } else { "              " })?;
                }
            }
        }
        let count = |outcome| self.count(outcome);
        write!(f, "\n{} ok, {} failed", count(Outcome::Ok), count(Outcome::Failed))?;
        writeln!(f, ", {} skipped, {} to know", count(Outcome::Skipped), count(Outcome::Note))
    }
}

/// What others say may have line breaks and escapes for terminals in it.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::step::Kind;

    fn report() -> Report {
        Report {
            brokers: "a:1".to_owned(),
            topic: "t".to_owned(),
            group: "g".to_owned(),
            bucket: "b".to_owned(),
            prefix: "p/".to_owned(),
            steps: vec![
                Step::ok(Kind::Address, "a:1", "let in"),
                Step::failed(Kind::Topic, "t", "it is\nnot there")
                    .advise("create it:\nthus")
                    .advise("or wait"),
                Step::skipped(Kind::Read, "t", "there is no topic"),
                Step::note(Kind::Http, "0.0.0.0:9090", "in use"),
            ],
        }
    }

    #[test]
    fn people_get_a_table_and_what_to_do() {
        let expected = "topic t at a:1, group g, s3://b/p/\n\n\
            ok       address  a:1           let in\n\
            failed   topic    t             it is not there\n\
            skipped  read     t             there is no topic\n\
            note     http     0.0.0.0:9090  in use\n\n\
            failed: topic t\n  what to do: create it:\n              thus\n  what to do: or wait\n\n\
            1 ok, 1 failed, 1 skipped, 1 to know\n";
        assert_eq!(report().print(false), expected);
    }

    #[test]
    fn programs_get_one_document() {
        let document: Value = serde_json::from_str(&report().print(true)).unwrap();
        assert_eq!(document["totals"], json!({ "ok": 1, "notes": 1, "failed": 1, "skipped": 1 }));
        assert_eq!(
            document["steps"][1],
            json!({
                "step": "topic", "about": "t", "outcome": "failed", "found": "it is\nnot there",
                "advice": ["create it:\nthus", "or wait"],
            })
        );
        assert_eq!((&document["format"], &document["prefix"]), (&json!(1), &json!("p/")));
    }

    #[test]
    fn only_what_failed_makes_the_exit_code() {
        let mut report = report();
        assert_eq!(report.exit(), Exit::Finding);
        report.steps.remove(1);
        assert_eq!(report.exit(), Exit::Done);
    }
}
