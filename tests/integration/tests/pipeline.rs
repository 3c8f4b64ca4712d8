//! The way of a price: API, producer, a real Kafka, consumer, S3, Lambda, DynamoDB.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coinduit_common::clock::rfc3339;
use coinduit_integration::careless_store::CarelessStore;
use coinduit_integration::json::{compact_members, decimal, literal};
use coinduit_integration::kafka::{RecordAndOffset, now, record, record_of};
use coinduit_integration::rig::Rig;
use coinduit_integration::table::{number, text};
use coinduit_integration::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

/// Where Java's producer puts the recorded coins on six partitions.
///
/// Source: `BuiltInPartitioner.partitionForKey` of kafka-clients 4.1.0, run over the codes.
const JAVA_PLACEMENT: [&str; 6] = [
    "BNB ETC BCH FIL LDO APE QNT FTM AXS __BIT NEO MINA __GMX KAVA",
    "ETH XRP DOGE LTC AVAX TRX ARB WBTC NEAR VET AAVE THETA RNDR HT ZEC CHZ KCS MIOTA CSPR RSR",
    "USDT DAI DOT BUSD XMR UNI ATOM MANA FLOW TUSD SNX LUNC DASH FXS BABYDOGE",
    "OKB SOL SHIB LINK XLM SRM APT _IMX EOS XTZ MX RPL _KLAY MKR WBT _SURE XEC RUNE INJ PAXG OP AGIX OSMO CVX",
    "BTC USDC ADA MATIC CRO GRT SAND _STX EGLD USDP CFX XRD GT USDD BSV CAKE BTT KAS",
    "HBAR ICP ALGO FRAX CRV XDC ENS LRC 1INCH",
];

/// Design.md's namespace of ids.
const NAMESPACE: Uuid = Uuid::from_u128(0xb5b1c2a4_0b1e_4b57_9a0e_6f4f2f6d3c11);

fn header<'a>(found: &'a RecordAndOffset, name: &str) -> &'a str {
    let value = found.record.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {found:?}"));
    std::str::from_utf8(value).expect("headers are text")
}

fn key(found: &RecordAndOffset) -> &str {
    std::str::from_utf8(found.record.key.as_deref().unwrap_or_default()).expect("keys are text")
}

fn value(found: &RecordAndOffset) -> &str {
    std::str::from_utf8(found.record.value.as_deref().unwrap_or_default()).expect("values are text")
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_arrive_from_the_api_in_the_tables() {
    let rig = Rig::with_lambda("prices", 6).await;
    let consumer = rig.consumer(&[("MAX_OBJECT_AGE", "300ms")]);
    let first = rig.produce(&[], &[]).await.expect_code(0).summary();
    let second = rig.produce(&[], &[("COINS", "100")]).await.expect_code(0).summary();
    for (summary, coins) in [(&first, 50), (&second, 100)] {
        let members = (&summary["status"], &summary["records"], &summary["rejected"], &summary["topic"]);
        assert_eq!(members, (&json!("published"), &json!(coins), &json!(0), &json!(rig.topic)));
    }
    let runs = [first["fetched_at"].as_str().unwrap(), second["fetched_at"].as_str().unwrap()];
    assert!(runs[0] < runs[1], "{runs:?}");
    until("150 prices and 100 coins are in the tables", async || {
        rig.rows("prices").await.len() == 150 && rig.rows("coins").await.len() == 100
    })
    .await;
    consumer.signal(Signal::TERM);
    consumer.ended().await.expect_code(0);

    // What was published, by run and code, as the API gave it.
    let pages = rig.stack.price_api.as_ref().unwrap().served();
    let mut published = BTreeMap::new();
    for (page, run) in pages.iter().zip(runs) {
        for coin in compact_members(&page.body) {
            let code: Value = serde_json::from_str(&coin).unwrap();
            published.insert((run, code["code"].as_str().unwrap().to_owned()), coin);
        }
    }
    assert_eq!(published.len(), 150);
    let smallest = &published[&(runs[1], "BABYDOGE".to_owned())];
    assert_eq!(literal(smallest, "rate"), "2.4980008270697834e-9");

    // Kafka and S3.
    let mut found_on_topic = BTreeSet::new();
    for (partition, java) in (0..).zip(JAVA_PLACEMENT) {
        let log = rig.kafka.read(&rig.topic, partition).await;
        let codes: BTreeSet<&str> = log.iter().map(key).collect();
        assert_eq!(codes, java.split(' ').collect::<BTreeSet<_>>(), "the codes on partition {partition}");
        let mut lines = Vec::new();
        for found in &log {
            let (code, at) = (key(found), header(found, "fetched_at"));
            let coin = &published[&(runs[usize::from(at != runs[0])], code.to_owned())];
            let id =
                Uuid::new_v5(&NAMESPACE, format!("livecoinwatch/USD/{code}/{at}").as_bytes()).to_string();
            assert_eq!(value(found), coin);
            assert_eq!(rfc3339(found.record.timestamp), at);
            assert_eq!(
                (header(found, "id"), header(found, "source"), header(found, "currency")),
                (id.as_str(), "livecoinwatch", "USD")
            );
            assert_eq!(found.record.headers.len(), 4);
            assert!(found_on_topic.insert(id.clone()), "{code} of {at} is on the topic twice");
            let enrichment =
                format!(r#","id":"{id}","timestamp":"{at}","source":"livecoinwatch","currency":"USD"}}"#);
            lines.push(format!("{}{enrichment}", coin.strip_suffix('}').unwrap()));
        }

        let mut tail = 0;
        let mut stored = Vec::new();
        for object in rig.chain(partition).await {
            assert_eq!(object.key, format!("{}/partition={partition}/{tail:020}.jsonl", rig.topic));
            assert_eq!(object.content_type.as_deref(), Some("application/x-ndjson"));
            let there = object.lines();
            let first = &log[usize::try_from(tail).unwrap()];
            let last = &log[usize::try_from(tail).unwrap() + there.len() - 1];
            let expected = [
                ("fromoffset", tail.to_string()),
                ("tooffset", (last.offset + 1).to_string()),
                ("firstoffset", first.offset.to_string()),
                ("lastoffset", last.offset.to_string()),
                ("records", there.len().to_string()),
                ("quarantined", "0".to_owned()),
                ("firsttimestamp", header(first, "fetched_at").to_owned()),
                ("lasttimestamp", header(last, "fetched_at").to_owned()),
                ("format", "1".to_owned()),
            ];
            let mut metadata = object.metadata.clone();
            assert!(metadata.remove("writer").is_some_and(|writer| !writer.is_empty()));
            assert!(matches!(metadata.remove("closed").as_deref(), Some("age" | "shutdown")));
            assert_eq!(metadata, expected.map(|(name, value)| (name.to_owned(), value)).into());
            stored.extend(there.into_iter().map(str::to_owned));
            tail = last.offset + 1;
        }
        assert_eq!(stored, lines, "the lines of partition {partition}");
    }
    assert_eq!(found_on_topic.len(), 150);

    // Whose objects they are.
    let owner = rig.bucket.object(&format!("{}/_coinduit.json", rig.topic)).await;
    let topic = rig.kafka.describe(&rig.topic).await;
    assert_eq!(
        serde_json::from_str::<Value>(&owner.body).unwrap(),
        json!({ "format": 1, "cluster_id": topic.cluster_id, "topic_id": topic.printed_id(), "layout": "log", "compression": "none" })
    );

    // DynamoDB.
    for row in rig.rows("prices").await {
        let (code, at) = (text(&row, "code"), text(&row, "timestamp"));
        let coin = &published[&(at, code.to_owned())];
        for member in ["rate", "volume", "cap"] {
            assert_eq!(decimal(number(&row, member)), decimal(literal(coin, member)), "{member} of {code}");
        }
        assert!(found_on_topic.remove(text(&row, "id")), "{code} of {at} has the id of no record");
    }
    assert!(found_on_topic.is_empty(), "records without a row: {found_on_topic:?}");
    for row in rig.rows("coins").await {
        let code = text(&row, "code");
        let coin = &published[&(runs[1], code.to_owned())];
        assert_eq!(text(&row, "updatedAt"), runs[1], "{code}");
        assert_eq!(decimal(number(&row, "rate")), decimal(literal(coin, "rate")), "{code}");
    }
    assert_eq!(rig.stack.lambda.as_ref().unwrap().counters().dead, 0);
    assert!(rig.stack.sns.published().is_empty(), "{:?}", rig.stack.sns.published());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_object_says_where_the_log_began() {
    let rig = Rig::start("reset", 1).await;
    let records = (0..30).map(|n| record(&format!(r#"{{"n":{n}}}"#))).collect();
    rig.kafka.publish(&rig.topic, 0, records).await;
    rig.kafka.delete_records(&rig.topic, 0, 20).await;
    rig.consume_all(&[("ENRICH", "off")]).await;

    let chain = rig.chain(0).await;
    let [object] = &chain[..] else { panic!("{chain:?}") };
    assert_eq!(object.key, format!("{}/partition=0/{:020}.jsonl", rig.topic, 0));
    let metadata = ["skipped", "firstoffset", "tooffset", "records", "closed"].map(|name| object.meta(name));
    assert_eq!(metadata, ["0-20:reset", "20", "30", "10", "end"]);
    assert_eq!(object.lines().first(), Some(&r#"{"n":20}"#));
    assert!(rig.stack.sns.published().is_empty(), "the first skip is no loss");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_line_is_quarantined_and_stops_nothing() {
    const BAD: [(&str, Option<&[u8]>); 8] = [
        ("not-json", Some(b"no JSON at all")),
        ("not-json", Some(br#"{"cut":"#)),
        ("not-json", Some(b"")),
        ("not-an-object", Some(br#"[{"code":"BTC"}]"#)),
        ("byte-order-mark", Some(b"\xef\xbb\xbf{}")),
        ("not-utf8", Some(b"{\"a\":\"\xff\"}")),
        ("tombstone", None),
        ("api-error", Some(br#"{"error":{"code":401,"status":"Unauthorized"}}"#)),
    ];
    let rig = Rig::start("quarantine", 1).await;
    let good = [
        r#"{"code":"A","rate":1.50e-7}"#,
        r#"{"code":"B","id":"my own","timestamp":"2020-01-01T00:00:00.000Z","currency":"EUR"}"#,
        r#"{"error":{"code":401},"code":"C"}"#,
        "{\"code\":\r\n\"D\"}",
        r#"{"error":"a text"}"#,
    ];
    let at = now();
    let mut records = Vec::new();
    for (reason, bad) in BAD {
        records.extend(good.get(records.len() / 2).map(|good| record(good)));
        let mut bad = record_of(bad);
        bad.key = Some(reason.as_bytes().to_vec());
        bad.headers = [("id".to_owned(), b"h".to_vec())].into();
        records.push(bad);
    }
    for record in &mut records {
        record.timestamp = at;
    }
    assert_eq!(records.len(), good.len() + BAD.len());
    rig.kafka.publish(&rig.topic, 0, records).await;
    rig.consume_all(&[]).await;

    let log = rig.kafka.read(&rig.topic, 0).await;
    let (bad, lines): (Vec<_>, Vec<_>) = log.iter().partition(|found| found.record.key.is_some());
    let folder = format!("quarantine/{}/partition=0", rig.topic);
    let keys: Vec<String> = bad.iter().map(|found| format!("{folder}/{:020}.json", found.offset)).collect();
    assert_eq!(rig.bucket.keys(&folder).await, keys);
    for ((found, key), (reason, _)) in bad.iter().zip(&keys).zip(BAD) {
        let object = rig.bucket.object(key).await;
        let mut content: Value = serde_json::from_str(&object.body).unwrap();
        assert!(content["problem"].take().is_string());
        assert_eq!(
            content,
            json!({
                "reason": reason, "problem": null, "topic": rig.topic, "partition": 0, "offset": found.offset,
                "timestamp": rfc3339(at), "headers": [{ "key": "id", "value": STANDARD.encode("h") }],
                "key": STANDARD.encode(reason), "value": found.record.value.as_ref().map(|value| STANDARD.encode(value)),
            })
        );
    }

    let chain = rig.chain(0).await;
    let [object] = &chain[..] else { panic!("{chain:?}") };
    let id = |index: usize| {
        Uuid::new_v5(&NAMESPACE, format!("{}/0/{}", rig.topic, lines[index].offset).as_bytes()).to_string()
    };
    let at = rfc3339(at);
    assert_eq!(
        object.lines(),
        [
            format!(r#"{{"code":"A","rate":1.50e-7,"id":"{}","timestamp":"{at}"}}"#, id(0)),
            good[1].to_owned(),
            format!(r#"{{"error":{{"code":401}},"code":"C","id":"{}","timestamp":"{at}"}}"#, id(2)),
            format!(r#"{{"code":  "D","id":"{}","timestamp":"{at}"}}"#, id(3)),
            format!(r#"{{"error":"a text","id":"{}","timestamp":"{at}"}}"#, id(4)),
        ]
    );
    let metadata = ["records", "quarantined", "tooffset"].map(|name| object.number(name));
    assert_eq!(metadata, [5, 8, 13]);
    let alerts = rig.alerts("record-quarantined");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!(alerts[0].contains("How many: 7\n"), "a tombstone is no alarm: {}", alerts[0]);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_not_created_by_asking() {
    let rig = Rig::without_topic("missing").await;
    assert!(
        rig.kafka.creates_topics_when_asked().await,
        "this test needs a broker with auto.create.topics.enable=true: on others it would prove nothing"
    );
    let run = rig.produce(&[], &[]).await.expect_code(2).summary();
    assert_eq!((&run["status"], &run["retryable"]), (&json!("failed"), &json!(false)));
    assert!(run["error"].as_str().is_some_and(|error| error.contains(&rig.topic)), "{run}");
    assert!(!rig.kafka.has(&rig.topic).await, "the producer has created the topic");

    let run = rig.produce(&["--create-topic"], &[]).await.expect_code(0).summary();
    assert_eq!((&run["status"], &run["records"]), (&json!("published"), &json!(50)));
    assert!(rig.kafka.has(&rig.topic).await);
    rig.produce(&[], &[]).await.expect_code(0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let rig = Rig::start("careless", 1).await;
    rig.kafka.publish(&rig.topic, 0, vec![record("{}")]).await;
    let store = CarelessStore::start().await;
    let consumer = rig.consumer(&[("AWS_ENDPOINT_URL_S3", store.url())]).ended().await.expect_code(2);
    assert!(consumer.log.contains("ignores conditions"), "{}", consumer.log);
    assert_eq!(store.keys(), [format!("coinduit/{}/_coinduit.json", rig.topic)]);
    rig.finish().await;
}
