//! The text form, and what else names metrics: rules, dashboard, documents.

use std::collections::BTreeSet;

use super::*;
use crate::{ledger::metadata::Skip, vitals::Vitals};

/// A page with every series on it.
fn page() -> String {
    let vitals = Vitals::new("t", Duration::from_secs(60), Clock::manual(0), Alerts::logged_only());
    let partition = vitals.partition(0, 1);
    partition.stands(crate::health::Offsets { tail: 1, handled: 2, end: 3, oldest_ms: None });
    vitals.metrics().quarantined("not_json");
    vitals.metrics().begin(Stage::Put).done();
    String::from_utf8(vitals.page().to_vec()).unwrap()
}

/// The names that may be asked for, as Prometheus stores them.
fn exported(page: &str) -> BTreeSet<String> {
    let series = page.lines().filter(|line| !line.starts_with('#'));
    series.filter_map(|line| line.split(['{', ' ']).next()).map(ToOwned::to_owned).collect()
}

/// The families, without what the text form appends to a name.
fn families(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
}

/// Every word in `text` that looks like one of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("coinduit_consumer_") || word.starts_with("process_"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn every_family_has_a_type_a_meaning_and_its_unit() {
    let page = page();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let has =
        |what: &str, name: &str| page.lines().any(|line| line.starts_with(&format!("# {what} {name} ")));
    for name in families(&page) {
        assert!(has("HELP", &name), "{name} has no meaning");
        for unit in ["seconds", "bytes"] {
            assert_eq!(name.ends_with(unit), page.contains(&format!("# UNIT {name} {unit}\n")), "{name}");
        }
    }
    let mut seen = BTreeSet::new();
    for series in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = series.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{series} {value}");
        assert!(seen.insert(series), "{series} stands there twice");
    }
}

#[test]
fn what_is_counted_is_shown() {
    let vitals = Vitals::new("t", Duration::from_secs(60), Clock::manual(0), Alerts::logged_only());
    vitals.budget(100, || 40);
    let metrics = vitals.metrics();
    let batch = ObjectMetadata {
        from_offset: 3,
        to_offset: 17,
        stored: None,
        records: 7,
        quarantined: 0,
        skipped: vec![Skip { from: 3, to: 10, reason: SkipReason::Retention }],
        writer: String::new(),
        closed: Closed::Age,
    };
    metrics.stored(&batch, 1, 900);
    metrics.lost_race();
    metrics.retried(Stage::Put);
    let under_way = metrics.begin(Stage::Fetch);
    let page = String::from_utf8(vitals.page().to_vec()).unwrap();
    for line in [
        "coinduit_consumer_objects_total{closed=\"age\"} 1",
        "coinduit_consumer_objects_total{closed=\"records\"} 0",
        "coinduit_consumer_object_bytes_total 900",
        "coinduit_consumer_records_total 7",
        "coinduit_consumer_skipped_offsets_total{reason=\"retention\"} 7",
        "coinduit_consumer_conflicts_total 1",
        "coinduit_consumer_retries_total{stage=\"put\"} 1",
        "coinduit_consumer_in_flight{stage=\"fetch\"} 1",
        "coinduit_consumer_memory_budget_used_bytes 40",
        "coinduit_consumer_memory_budget_bytes 100",
        "coinduit_consumer_alerts_total{outcome=\"throttled\"} 0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is missing in\n{page}");
    }
    drop(under_way);
}

#[test]
fn rules_and_dashboard_name_only_what_there_is() {
    let exported = exported(&page());
    for (file, text) in [
        ("rules", include_str!("../../../deploy/monitoring/coinduit-consumer.rules.yml")),
        ("dashboard", include_str!("../../../deploy/monitoring/coinduit-consumer.dashboard.json")),
    ] {
        let named = named(text);
        assert!(named.len() > 8, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn why_a_record_is_no_line_is_shown_before_it_happens() {
    use coinduit_common::line::NotALine as Not;
    let reasons = [
        Not::Tombstone,
        Not::ByteOrderMark,
        Not::NotUtf8(0),
        Not::NotJson(String::new()),
        Not::NotAnObject,
        Not::ApiError,
        Not::NoName(String::new()),
    ];
    assert_eq!(reasons.map(|reason| reason.reason()), NOT_A_LINE);
}

#[test]
fn every_metric_is_explained() {
    let document = include_str!("../../../docs/operating.md");
    let page = page();
    let (explained, known) = (named(document), &exported(&page) | &families(&page));
    let unknown: Vec<_> = explained.difference(&known).collect();
    assert!(unknown.is_empty(), "the document names {unknown:?}");
    for family in families(&page) {
        assert!(
            explained.iter().any(|name| name.starts_with(&family)),
            "the document does not name {family}"
        );
    }
}
