//! The proof bites: each way of going wrong is found by the check that is about it, and named with its place.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use super::*;
use crate::demo::evidence::{Object, Row};

const EXPECTED: Expected = Expected { runs: 2, coins: 3 };
const RUNS: [(&str, i64); 2] =
    [("2026-11-23T10:05:00.000Z", 1_795_428_300_000), ("2026-11-23T10:05:30.000Z", 1_795_428_330_000)];
/// Each coin, its partition, and its rate in both runs.
const COINS: [(&str, i32, [&str; 2]); 3] = [
    ("_IMX", 0, ["1.133450038021436", "1.1334500380214362"]),
    ("__GMX", 0, ["81.0735079886733", "81.1"]),
    ("BABYDOGE", 1, ["2.4980008270697834e-9", "2.5e-9"]),
];

/// What a pipeline leaves behind in which nothing went wrong: an object per partition and run.
fn sound() -> Evidence {
    let mut evidence = Evidence { topic: "t".to_owned(), ..Evidence::default() };
    evidence.objects.insert("t/_coinduit.json".to_owned(), Object::default());
    for (run, (at, ms)) in RUNS.into_iter().enumerate() {
        let mut page = Vec::new();
        for (code, partition, rates) in COINS {
            let rate = rates[run];
            page.push(format!("{{\"code\": \"{code}\",\n \"rate\": {rate}, \"volume\": 7,\"cap\":null}}"));
            let id = Uuid::new_v5(
                &Uuid::from_u128(0xb5b1c2a4_0b1e_4b57_9a0e_6f4f2f6d3c11),
                format!("livecoinwatch/USD/{code}/{at}").as_bytes(),
            );
            let log = evidence.log.entry(partition).or_default();
            log.push(Record {
                offset: i64::try_from(log.len()).unwrap(),
                timestamp_ms: ms,
                key: code.to_owned(),
                value: format!(r#"{{"code":"{code}","rate":{rate},"volume":7,"cap":null}}"#),
                headers: BTreeMap::from([
                    ("id".to_owned(), id.to_string()),
                    ("source".to_owned(), "livecoinwatch".to_owned()),
                    ("currency".to_owned(), "USD".to_owned()),
                    ("fetched_at".to_owned(), at.to_owned()),
                ]),
            });
            // DynamoDB writes numbers in its own way.
            let number = if rate.contains("e-9") {
                format!("0.00000000{}", rate.replace(['.'], "").replace("e-9", ""))
            } else {
                rate.to_owned()
            };
            let row: Row = HashMap::from([
                ("code".to_owned(), AttributeValue::S(code.to_owned())),
                ("rate".to_owned(), AttributeValue::N(number)),
                ("volume".to_owned(), AttributeValue::N("7".to_owned())),
                ("cap".to_owned(), AttributeValue::Null(true)),
                ("id".to_owned(), AttributeValue::S(id.to_string())),
                ("timestamp".to_owned(), AttributeValue::S(at.to_owned())),
                ("updatedAt".to_owned(), AttributeValue::S(at.to_owned())),
            ]);
            evidence.coins.retain(|coin| coin["code"] != row["code"]);
            evidence.coins.push(row.clone());
            evidence.prices.push(row);
        }
        evidence.pages.push(page);
        for (partition, log) in &evidence.log {
            let records: Vec<&Record> = log.iter().filter(|record| record.timestamp_ms == ms).collect();
            let line = |record: &&Record| {
                let header = |name| &record.headers[name];
                let value = record.value.strip_suffix('}').unwrap();
                format!(
                    "{value},\"id\":\"{}\",\"timestamp\":\"{}\",\"source\":\"{}\",\"currency\":\"{}\"}}\n",
                    header("id"),
                    header("fetched_at"),
                    header("source"),
                    header("currency")
                )
            };
            let (first, last) = (records[0].offset, records[records.len() - 1].offset);
            let metadata = [
                ("format", "1".to_owned()),
                ("fromoffset", first.to_string()),
                ("tooffset", (last + 1).to_string()),
                ("firstoffset", first.to_string()),
                ("lastoffset", last.to_string()),
                ("records", records.len().to_string()),
                ("quarantined", "0".to_owned()),
                ("firsttimestamp", at.to_owned()),
                ("lasttimestamp", at.to_owned()),
            ];
            evidence.objects.insert(
                format!("t/partition={partition}/{first:020}.jsonl"),
                Object {
                    content_type: "application/x-ndjson".to_owned(),
                    metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into(),
                    text: records.iter().map(line).collect(),
                },
            );
        }
    }
    evidence
}

/// The lines of the checks that fail once `spoil` has been at the evidence.
fn failures(spoil: impl FnOnce(&mut Evidence)) -> Vec<String> {
    let mut evidence = sound();
    spoil(&mut evidence);
    let failed = checks(&evidence, EXPECTED).into_iter().filter(|check| !check.holds());
    failed.map(|check| check.to_string()).collect()
}

/// That a spoiled run is found out by a line that holds all of `words`.
#[track_caller]
fn found(failures: &[String], words: &[&str]) {
    let hit = |line: &String| line.starts_with("FAILED  ") && words.iter().all(|word| line.contains(word));
    assert!(failures.iter().any(hit), "{words:?} in none of {failures:#?}");
}

fn first_object(evidence: &mut Evidence) -> &mut Object {
    evidence.objects.get_mut("t/partition=0/00000000000000000000.jsonl").unwrap()
}

fn edit_lines(object: &mut Object, edit: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = object.text.lines().map(|line| format!("{line}\n")).collect();
    edit(&mut lines);
    object.text = lines.concat();
}

#[test]
fn a_sound_run_passes_every_check() {
    assert_eq!(failures(|_| ()), [""; 0]);
    let lines: Vec<String> = checks(&sound(), EXPECTED).iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 15);
    for line in [
        "ok      6 records on the topic",
        "ok      6 lines in 4 objects",
        "ok      6 rows in prices, one of each record",
        "ok      3 rows in coins, all of the newest run, rates too",
        "ok      _IMX and __GMX are among the coins",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line} in none of {lines:#?}");
    }
}

#[test]
fn a_missing_record_is_missed() {
    let failures = failures(|evidence| drop(evidence.log.get_mut(&0).unwrap().pop()));
    found(&failures, &["6 records on the topic", "expected 6, found 5"]);
    found(
        &failures,
        &["digit for digit", "__GMX with rate 81.1 of the run of 2026-11-23T10:05:30.000Z is not"],
    );
    found(&failures, &["without gap or overlap", "partition 0: the log ends at 3, its objects at 4"]);
    found(&failures, &["rows in prices", "the row __GMX 2026-11-23T10:05:30.000Z has no record"]);
}

#[test]
fn a_record_that_is_there_twice_is_found() {
    let failures = failures(|evidence| {
        let log = evidence.log.get_mut(&1).unwrap();
        let again = Record { offset: 2, ..log[0].clone() };
        log.push(again);
    });
    found(&failures, &["records on the topic", "expected 6, found 7"]);
    found(&failures, &["more than once", "partition 1, offset 0, BABYDOGE at partition 1, offset 2"]);
    found(&failures, &["each once", "BABYDOGE at partition 1, offset 2 is in no line"]);
}

#[test]
fn a_record_without_its_names_is_found() {
    found(
        &failures(|evidence| evidence.log.get_mut(&0).unwrap()[0].key.push('X')),
        &["key, id", "its value is of _IMX"],
    );
    for header in ["id", "source", "currency"] {
        let failures = failures(|evidence| drop(evidence.log.get_mut(&0).unwrap()[1].headers.remove(header)));
        found(
            &failures,
            &["with key, id", "__GMX at partition 0, offset 1", &format!("its {header} is None")],
        );
    }
    found(
        &failures(|evidence| evidence.log.get_mut(&0).unwrap()[1].timestamp_ms += 1),
        &["its timestamp is"],
    );
}

#[test]
fn a_changed_digit_is_found_wherever_it_changed() {
    let on_the_topic = failures(|evidence| {
        let value = &mut evidence.log.get_mut(&1).unwrap()[0].value;
        *value = value.replace("2.4980008270697834e-9", "2.4980008270697835e-9");
    });
    found(&on_the_topic, &["digit for digit", "BABYDOGE with rate 2.4980008270697834e-9"]);
    found(&on_the_topic, &["byte for byte", "does not begin with the record's bytes"]);
    found(&on_the_topic, &["to the last decimal", "the API's 2.4980008270697835e-9"]);

    let as_a_number_only = failures(|evidence| {
        let value = &mut evidence.log.get_mut(&1).unwrap()[0].value;
        *value = value.replace("2.4980008270697834e-9", "0.0000000024980008270697834");
    });
    found(&as_a_number_only, &["digit for digit"]);

    let in_a_line = failures(|evidence| {
        let text = &mut first_object(evidence).text;
        *text = text.replace("81.0735079886733", "81.0735079886734");
    });
    found(&in_a_line, &["byte for byte", "00000.jsonl line 2, expected __GMX at partition 0, offset 1"]);
    assert_eq!(in_a_line.len(), 1);

    let in_a_row = failures(|evidence| {
        evidence.prices[0].insert("rate".to_owned(), AttributeValue::N("1.133450038021437".to_owned()));
    });
    found(&in_a_row, &["to the last decimal", "_IMX", "the API's 1.133450038021436"]);
    assert_eq!(in_a_row.len(), 1);
}

#[test]
fn a_number_that_became_text_is_found() {
    let failures = failures(|evidence| {
        evidence.prices[0].insert("volume".to_owned(), AttributeValue::S("7".to_owned()));
    });
    found(&failures, &["to the last decimal", "its volume"]);
}

#[test]
fn a_missing_line_is_missed() {
    let failures = failures(|evidence| edit_lines(first_object(evidence), |lines| drop(lines.pop())));
    found(&failures, &["6 lines in 4 objects", "expected 6, found 5"]);
    found(&failures, &["metadata", "records: expected Some(\"1\"), found Some(\"2\")"]);
    found(&failures, &["each once", "1 lines for 2 records", "__GMX at partition 0, offset 1 is in no line"]);
}

#[test]
fn a_repeated_line_is_found() {
    let failures =
        failures(|evidence| edit_lines(first_object(evidence), |lines| lines.insert(0, lines[0].clone())));
    found(&failures, &["6 lines in 4 objects", "expected 6, found 7"]);
    found(&failures, &["each once", "3 lines for 2 records"]);
}

#[test]
fn lines_in_another_order_are_found() {
    let failures = failures(|evidence| edit_lines(first_object(evidence), |lines| lines.swap(0, 1)));
    found(&failures, &["in order", "line 1, expected _IMX"]);
    assert_eq!(failures.len(), 1);
}

#[test]
fn a_line_with_another_id_is_found() {
    let failures = failures(|evidence| {
        let text = &mut first_object(evidence).text;
        *text = text.replacen("\"id\":\"", "\"id\":\"0", 1);
    });
    found(&failures, &["byte for byte", "line 1", "appended are"]);
}

#[test]
fn a_gap_in_the_chain_is_found() {
    let failures =
        failures(|evidence| drop(evidence.objects.remove("t/partition=0/00000000000000000000.jsonl")));
    found(&failures, &["without gap or overlap", "00002.jsonl: expected to continue from 0, which is a gap"]);
    found(&failures, &["each once", "_IMX at partition 0, offset 0 is in no line"]);
}

#[test]
fn a_missing_end_of_the_chain_is_found() {
    let failures =
        failures(|evidence| drop(evidence.objects.remove("t/partition=1/00000000000000000001.jsonl")));
    found(&failures, &["without gap or overlap", "partition 1: the log ends at 2, its objects at 1"]);
}

#[test]
fn an_overlap_in_the_chain_is_found() {
    let failures = failures(|evidence| {
        let again = evidence.objects["t/partition=0/00000000000000000002.jsonl"].clone();
        evidence.objects.insert("t/partition=0/00000000000000000003.jsonl".to_owned(), again);
    });
    found(
        &failures,
        &["without gap or overlap", "00003.jsonl: expected to continue from 4, which is an overlap"],
    );
    found(&failures, &["is in 2 lines"]);
}

#[test]
fn metadata_that_lies_is_found() {
    for (name, value) in
        [("firstoffset", "1"), ("lastoffset", "0"), ("quarantined", "1"), ("skipped", "0-1:reset")]
    {
        let failures = failures(|evidence| {
            first_object(evidence).metadata.insert(name.to_owned(), value.to_owned());
        });
        found(&failures, &["metadata of every object", name]);
    }
    let failures = failures(|evidence| first_object(evidence).content_type.clear());
    found(&failures, &["metadata of every object", "Content-Type"]);
}

#[test]
fn a_missing_row_is_missed() {
    let failures = failures(|evidence| drop(evidence.prices.remove(0)));
    found(&failures, &["rows in prices", "expected 6, found 5", "_IMX at partition 0, offset 0 has no row"]);
    assert_eq!(failures.len(), 1);
}

#[test]
fn a_row_of_an_older_run_is_found_among_the_coins() {
    let failures = failures(|evidence| evidence.coins[1] = evidence.prices[1].clone());
    found(&failures, &["rows in coins", "__GMX has no row of 2026-11-23T10:05:30.000Z"]);
    assert_eq!(failures.len(), 1);
}

#[test]
fn a_coin_too_few_is_found() {
    let failures = failures(|evidence| drop(evidence.coins.pop()));
    found(&failures, &["rows in coins", "expected 3, found 2"]);
}

#[test]
fn what_should_not_be_there_is_found() {
    let quarantined = "quarantine/t/partition=0/00000000000000000000.json";
    let failures = failures(|evidence| {
        evidence.objects.insert(quarantined.to_owned(), Object::default());
        evidence.alerts.push("Coinduit: store failed".to_owned());
        evidence.dead_letters.push("the function timed out".to_owned());
    });
    found(&failures, &["quarantine", quarantined]);
    found(&failures, &["no alert", "store failed"]);
    found(&failures, &["Lambda", "timed out"]);
    assert_eq!(failures.len(), 3);
}

#[test]
fn a_page_too_many_is_found() {
    let failures = failures(|evidence| evidence.pages.push(Vec::new()));
    found(&failures, &["2 pages of 3 coins", "expected 2, found 3", "page 3 has 0 coins"]);
}

#[test]
fn coins_without_underscores_are_not_enough() {
    let failures =
        failures(|evidence| evidence.log.get_mut(&0).unwrap().retain(|record| record.key != "__GMX"));
    found(&failures, &["_IMX and __GMX", "__GMX is missing"]);
}

#[test]
fn many_problems_are_counted() {
    let check = Check::new("all is well", (1..=5).map(|number| number.to_string()).collect());
    assert_eq!(check.to_string(), "FAILED  all is well: 1; 2; 3; and 2 more");
}
