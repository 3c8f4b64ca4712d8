//! Events through `handle` into real tables: dynoxide's DynamoDB over HTTP, S3 in memory.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::Builder,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        Projection, ProjectionType, ScalarAttributeType,
    },
};
use coinduit_common::{
    alert::{AlertSender, Alerts, SendError},
    aws::{Aws, AwsSettings},
    clock::Clock,
    config::{Env, Faults},
    exit::Exit,
    line::{self, Origin},
};
use coinduit_lambda::{
    Answer, Clients, Summary,
    error::HandleError,
    handle,
    metrics::Metrics,
    object::Stores,
    replay::{Outcome, Settings, Status, replay},
    table::Tables,
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use crate::http::{Answer as HttpAnswer, Request, serve};

const HUNDRED: &str = include_str!("../../../local/data/coins-list-100.json");
const AT: &str = "2026-11-23T10:05:00.000Z";

type Item = HashMap<String, AttributeValue>;

/// What alerts said: subject and body.
type Said = Arc<Mutex<Vec<(String, String)>>>;

struct Recorder(Said);

impl AlertSender for Recorder {
    fn send<'a>(
        &'a self,
        subject: &'a str,
        body: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
        self.0.lock().unwrap().push((subject.to_owned(), body.to_owned()));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An S3 bucket named `b`, DynamoDB, and a record of what people were told.
struct Rig {
    store: Arc<InMemory>,
    dynamodb: Client,
    clients: Clients,
    said: Said,
}

impl Rig {
    /// With both tables of the contract.
    async fn new() -> Self {
        let rig = Self::without_tables().await;
        rig.create("prices", &[("code", KeyType::Hash), ("timestamp", KeyType::Range)], None).await;
        rig.create("coins", &[("code", KeyType::Hash)], None).await;
        rig
    }

    async fn without_tables() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
        Self::at(address).await
    }

    /// With whatever listens at `address` as DynamoDB.
    async fn at(address: SocketAddr) -> Self {
        let env =
            Env::from_pairs([("ACCESS_KEY", "test"), ("SECRET_KEY", "test"), ("AWS_REGION", "us-east-1")]);
        let aws = Aws::new(AwsSettings::from_env(&env, &mut Faults::default())).await;
        let config = Builder::from(aws.sdk()).endpoint_url(format!("http://{address}"));
        let said = Said::default();
        let store = Arc::new(InMemory::new());
        let bucket = Arc::clone(&store);
        let stores = Stores::new(move |name| match name {
            "b" => Ok(Arc::clone(&bucket) as Arc<dyn ObjectStore>),
            _ => Err(object_store::Error::Generic { store: "S3", source: "no such bucket here".into() }),
        });
        let clients = Clients {
            stores,
            tables: Tables::new(config.clone(), "prices".to_owned(), "coins".to_owned()),
            row_life: None,
            alerts: Alerts::start("lambda", Clock::manual(0), Recorder(Arc::clone(&said))),
            metrics: Metrics::Off,
            clock: Clock::manual(0),
        };
        Self { store, dynamodb: Client::from_conf(config.build()), clients, said }
    }

    async fn create(&self, table: &str, keys: &[(&str, KeyType)], index: Option<&str>) {
        let element = |name: &str, kind: &KeyType| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind.clone()).build().unwrap()
        };
        let attribute = |name: &str, kind| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
        };
        let mut request =
            self.dynamodb.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in keys {
            request = request
                .key_schema(element(name, kind))
                .attribute_definitions(attribute(name, ScalarAttributeType::S));
        }
        if let Some(name) = index {
            let all = Projection::builder().projection_type(ProjectionType::All).build();
            let index = GlobalSecondaryIndex::builder()
                .index_name("by_member")
                .key_schema(element(name, &KeyType::Hash))
                .projection(all)
                .build()
                .unwrap();
            request = request
                .global_secondary_indexes(index)
                .attribute_definitions(attribute(name, ScalarAttributeType::N));
        }
        request.send().await.unwrap();
        // dynoxide answers CREATING, as AWS does.
        while self
            .dynamodb
            .describe_table()
            .table_name(table)
            .send()
            .await
            .unwrap()
            .table()
            .unwrap()
            .table_status()
            != Some(&aws_sdk_dynamodb::types::TableStatus::Active)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.store.put(&Path::parse(key).unwrap(), content.into().into()).await.unwrap();
    }

    /// Handles an event that needs no answer but that all is done.
    async fn handle(&self, event: &Value) -> Result<Summary, HandleError> {
        match self.answer(event).await? {
            Answer::Done(done) => Ok(done),
            Answer::Queue { failures } => panic!("an answer to SQS: {failures:?}"),
        }
    }

    async fn answer(&self, event: &Value) -> Result<Answer, HandleError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        handle(event.to_string().as_bytes(), deadline, &self.clients).await
    }

    /// Handles messages of SQS and returns the answer as SQS reads it.
    async fn queue(&self, messages: Vec<Value>) -> Value {
        let answer = self.answer(&json!({ "Records": messages })).await.unwrap();
        serde_json::to_value(answer).unwrap()
    }

    /// All rows of a table by their code and timestamp.
    async fn rows(&self, table: &str) -> BTreeMap<(String, String), Item> {
        let text =
            |item: &Item, name: &str| item.get(name).and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
        let found = self.dynamodb.scan().table_name(table).consistent_read(true).send().await.unwrap();
        let keyed = |item: Item| ((text(&item, "code"), text(&item, "timestamp")), item);
        found.items.unwrap_or_default().into_iter().map(keyed).collect()
    }

    async fn coin(&self, code: &str) -> Item {
        self.rows("coins").await.remove(&(code.to_owned(), String::new())).unwrap()
    }

    fn said(&self) -> Vec<(String, String)> {
        self.said.lock().unwrap().clone()
    }
}

fn event(keys: &[&str]) -> Value {
    let record = |key: &&str| json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}});
    json!({ "Records": keys.iter().map(record).collect::<Vec<_>>() })
}

fn coin(code: &str, at: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        "{{\"code\":\"{code}\",\"id\":\"{code}-{at}\",\"timestamp\":\"{at}\",\"currency\":\"USD\"{comma}{members}}}\n"
    )
}

fn n(literal: &str) -> AttributeValue {
    AttributeValue::N(literal.to_owned())
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

#[tokio::test]
async fn every_record_of_an_event_is_stored() {
    let rig = Rig::new().await;
    rig.put("p/partition=0/0.jsonl", coin("BTC", AT, r#""rate":1"#) + &coin("ETH", AT, r#""rate":2"#)).await;
    rig.put("p/a b+c.jsonl", coin("XRP", AT, r#""rate":3"#)).await;
    rig.put(
        "_IMX_1.json",
        "{\n \"code\": \"_IMX\", \"id\": \"1\",\n \"timestamp\": \"2026-11-23T10:05:00.000Z\"\n}\n",
    )
    .await;
    let event = event(&[
        "p/partition%3D0/0.jsonl",
        "p/_coinduit.json",
        "p/a+b%2Bc.jsonl",
        "gone.jsonl",
        "_IMX_1.json",
    ]);
    let summary = rig.handle(&event).await.unwrap();
    assert_eq!(summary, Summary { objects: 3, rows: 4, coins: 4, stale: 0, rejected: 0, ignored: 2 });
    let codes =
        |rows: BTreeMap<(String, String), Item>| rows.into_keys().map(|(code, _)| code).collect::<Vec<_>>();
    assert_eq!(codes(rig.rows("prices").await), ["BTC", "ETH", "XRP", "_IMX"]);
    assert_eq!(codes(rig.rows("coins").await), ["BTC", "ETH", "XRP", "_IMX"]);
    assert_eq!(rig.said(), []);
}

#[tokio::test]
async fn the_same_event_again_changes_nothing() {
    let rig = Rig::new().await;
    rig.put("a.jsonl", coin("BTC", AT, r#""rate":1,"maxSupply":null"#) + &coin("ETH", AT, "")).await;
    let first = rig.handle(&event(&["a.jsonl"])).await.unwrap();
    let before = (rig.rows("prices").await, rig.rows("coins").await);
    let second = rig.handle(&event(&["a.jsonl", "a.jsonl"])).await.unwrap();
    assert_eq!((first.rows, first.coins, first.stale), (2, 2, 0));
    assert_eq!((second.rows, second.coins, second.stale), (4, 0, 4));
    assert_eq!((rig.rows("prices").await, rig.rows("coins").await), before);
}

#[tokio::test]
async fn an_older_object_leaves_the_newer_coin_and_adds_its_price() {
    let rig = Rig::new().await;
    rig.put("new.jsonl", coin("BTC", "2026-11-23T10:10:00.000Z", r#""rate":2"#)).await;
    // The same day in another notation, as another producer may write it: 10:05 UTC.
    rig.put("old.jsonl", coin("BTC", "2026-11-23T12:05:00+02:00", r#""rate":1,"rank":9"#)).await;
    rig.handle(&event(&["new.jsonl"])).await.unwrap();
    let summary = rig.handle(&event(&["old.jsonl"])).await.unwrap();
    assert_eq!((summary.rows, summary.coins, summary.stale), (1, 0, 1));
    let kept = rig.coin("BTC").await;
    assert_eq!(
        (&kept["rate"], &kept["updatedAt"], kept.get("rank")),
        (&n("2"), &s("2026-11-23T10:10:00.000Z"), None)
    );
    assert_eq!(rig.rows("prices").await.len(), 2);
}

#[tokio::test]
async fn a_newer_coin_replaces_the_whole_row() {
    let rig = Rig::new().await;
    rig.put("old.jsonl", coin("BTC", AT, r#""rate":1,"rank":9"#)).await;
    rig.put("new.jsonl", coin("BTC", "2026-11-23T10:05:00.001Z", r#""rate":2"#)).await;
    let summary = rig.handle(&event(&["old.jsonl", "new.jsonl"])).await.unwrap();
    assert_eq!((summary.coins, summary.stale), (2, 0));
    let kept = rig.coin("BTC").await;
    assert_eq!((&kept["rate"], kept.get("rank")), (&n("2"), None));
}

#[tokio::test]
async fn a_currency_never_replaces_another() {
    let rig = Rig::new().await;
    let euro = coin("BTC", AT, r#""rate":1"#).replace("USD", "EUR");
    rig.put("a.jsonl", coin("BTC", AT, r#""rate":2"#) + &euro).await;
    let summary = rig.handle(&event(&["a.jsonl"])).await.unwrap();
    assert_eq!((summary.rows, summary.coins), (2, 2));
    assert_eq!(
        (rig.coin("BTC").await["rate"].clone(), rig.coin("BTC:EUR").await["rate"].clone()),
        (n("2"), n("1"))
    );
}

#[tokio::test]
async fn a_bad_line_is_put_aside_and_the_others_are_stored() {
    let rig = Rig::new().await;
    let digits = "1".repeat(39);
    let content = [
        coin("BTC", AT, r#""rate":1"#),
        "{\"no\":\"keys\"}\n".to_owned(),
        coin("ETH", AT, &format!("\"rate\":{digits}")),
        coin("XRP", AT, r#""rate":3"#),
    ];
    rig.put("p/0.jsonl", content.concat()).await;
    let summary = rig.handle(&event(&["p/0.jsonl"])).await.unwrap();
    assert_eq!(summary, Summary { objects: 1, rows: 2, coins: 2, stale: 0, rejected: 2, ignored: 0 });

    let kept = rig.store.get(&Path::parse("quarantine/lambda/p/0.jsonl/3.json").unwrap()).await.unwrap();
    let kept: Value = serde_json::from_slice(&kept.bytes().await.unwrap()).unwrap();
    assert_eq!(kept["reason"], "rate: the number has 39 significant digits, DynamoDB holds 38");
    assert_eq!((&kept["key"], &kept["line"]), (&json!("p/0.jsonl"), &json!(3)));
    assert_eq!(kept["text"].as_str().unwrap(), content[2].trim_end());

    let said = rig.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, "[coinduit lambda] line-quarantined: b/p/0.jsonl");
    assert!(
        said[0].1.contains("How many: 2") && said[0].1.contains("line 2: code is missing"),
        "{}",
        said[0].1
    );

    // Its own event goes nowhere.
    let summary = rig.handle(&event(&["quarantine/lambda/p/0.jsonl/3.json"])).await.unwrap();
    assert_eq!(summary, Summary { ignored: 1, ..Summary::default() });
}

#[tokio::test]
async fn null_missing_and_odd_members_are_read_back() {
    let rig = Rig::new().await;
    let members =
        r#""maxSupply":null,"rate":"12","delta":{"hour":null,"day":0.99},"categories":["a"],"links":{}"#;
    rig.put("a.jsonl", coin("BTC", AT, members)).await;
    rig.handle(&event(&["a.jsonl"])).await.unwrap();
    let stored = rig.coin("BTC").await;
    assert_eq!(stored["maxSupply"], AttributeValue::Null(true));
    assert_eq!(stored["rate"], s("12"));
    assert_eq!(stored["symbol"], s("N/A"));
    assert_eq!(stored["categories"], AttributeValue::L(vec![s("a")]));
    assert_eq!(stored["links"], AttributeValue::M(Item::new()));
    let delta = Item::from([("hour".to_owned(), AttributeValue::Null(true)), ("day".to_owned(), n("0.99"))]);
    assert_eq!(stored["delta"], AttributeValue::M(delta));
    assert_eq!(stored.get("totalSupply"), None);
}

/// A decimal literal as its value: sign, digits without zeros at the ends, power of ten of the first digit.
/// DynamoDB stores values, not literals: `1e3` is read back as `1000`.
fn decimal(literal: &str) -> (bool, String, i64) {
    let (negative, unsigned) = literal.strip_prefix('-').map_or((false, literal), |rest| (true, rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    let leading = i64::try_from(digits.len() - significant.len()).unwrap();
    let power = exponent.parse::<i64>().unwrap() + i64::try_from(whole.len()).unwrap() - 1 - leading;
    (negative, significant.trim_end_matches('0').to_owned(), power)
}

#[tokio::test]
async fn every_recorded_number_is_read_back_exactly() {
    let rig = Rig::new().await;
    let coins: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(HUNDRED).unwrap();
    let raw: Vec<Box<RawValue>> = serde_json::from_str(HUNDRED).unwrap();
    let mut content = Vec::new();
    for coin in &raw {
        let origin = Origin {
            topic: "t",
            fetched_at: Some(AT.as_bytes()),
            currency: Some(b"USD"),
            ..Origin::default()
        };
        line::append(&mut content, Some(coin.get().as_bytes()), Some(origin)).unwrap();
    }
    rig.put("a.jsonl", content).await;
    let summary = rig.handle(&event(&["a.jsonl"])).await.unwrap();
    assert_eq!((summary.rows, summary.coins, summary.rejected), (100, 100, 0));

    let (prices, latest) = (rig.rows("prices").await, rig.rows("coins").await);
    for coin in coins {
        let code: String = serde_json::from_str(coin["code"].get()).unwrap();
        let price = &prices[&(code.clone(), AT.to_owned())];
        let latest = &latest[&(code.clone(), String::new())];
        for (name, stored) in
            [("rate", price), ("volume", price), ("cap", price), ("rate", latest), ("allTimeHighUSD", latest)]
        {
            let read = stored[name].as_n().unwrap();
            assert_eq!(decimal(read), decimal(coin[name].get()), "{code} {name}: {read} for {}", coin[name]);
        }
        let deltas: BTreeMap<String, Box<RawValue>> = serde_json::from_str(coin["delta"].get()).unwrap();
        for (name, delta) in deltas {
            match &latest["delta"].as_m().unwrap()[&name] {
                AttributeValue::N(read) => {
                    assert_eq!(decimal(read), decimal(delta.get()), "{code} delta.{name}")
                }
                other => assert_eq!(
                    (other, delta.get()),
                    (&AttributeValue::Null(true), "null"),
                    "{code} delta.{name}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn the_seeds_key_works_too() {
    let rig = Rig::without_tables().await;
    rig.create("prices", &[("id", KeyType::Hash)], None).await;
    rig.create("coins", &[("code", KeyType::Hash)], None).await;
    rig.put("a.jsonl", coin("BTC", AT, "") + &coin("BTC", "2026-11-23T10:10:00.000Z", "")).await;
    assert_eq!(rig.handle(&event(&["a.jsonl"])).await.unwrap().rows, 2);
    assert_eq!(rig.rows("prices").await.len(), 2);
}

#[tokio::test]
async fn a_missing_table_is_named_and_the_other_one_is_written() {
    let rig = Rig::without_tables().await;
    rig.create("coins", &[("code", KeyType::Hash)], None).await;
    rig.put("a.jsonl", coin("BTC", AT, r#""rate":1"#)).await;
    let error = rig.handle(&event(&["a.jsonl"])).await.unwrap_err().to_string();
    assert!(error.contains("object a.jsonl in bucket b: put BTC into table prices: "), "{error}");
    assert!(error.contains("ResourceNotFoundException"), "{error}");
    assert_eq!(rig.coin("BTC").await["rate"], n("1"));
    assert_eq!(rig.said()[0].0, "[coinduit lambda] table-failed: b/a.jsonl");

    let rig = Rig::without_tables().await;
    rig.create("prices", &[("code", KeyType::Hash), ("timestamp", KeyType::Range)], None).await;
    rig.put("a.jsonl", coin("BTC", AT, r#""rate":1"#)).await;
    let error = rig.handle(&event(&["a.jsonl"])).await.unwrap_err().to_string();
    assert!(error.contains("put BTC into table coins: "), "{error}");
    assert_eq!(rig.rows("prices").await.len(), 1);
}

#[tokio::test]
async fn an_object_that_fails_does_not_hide_the_others() {
    let rig = Rig::new().await;
    rig.put("a.jsonl", coin("BTC", AT, "")).await;
    rig.put("c.jsonl.gz", "no gzip").await;
    let mut event = event(&["x.jsonl", "%2Fa.jsonl", "c.jsonl.gz", "a.jsonl"]);
    event["Records"][0]["s3"]["bucket"]["name"] = json!("other");
    let error = rig.handle(&event).await.unwrap_err();
    let text = error.to_string();
    for part in [
        "object x.jsonl in bucket other: make a client for the bucket: ",
        "no such bucket here",
        "object /a.jsonl in bucket b: the key can't be asked for",
        "object c.jsonl.gz in bucket b: decompress the object",
        "stored: 1 rows and 1 coins of 1 objects",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(rig.rows("prices").await.len(), 1);
    let said = rig.said();
    assert_eq!(said.len(), 1, "what comes together is one message: {said:?}");
    for key in ["x.jsonl", "/a.jsonl", "c.jsonl.gz"] {
        assert!(said[0].1.contains(key), "{key} is not in {}", said[0].1);
    }
}

fn sqs(id: &str, body: &Value) -> Value {
    json!({"messageId": id, "body": body.to_string(), "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q", "attributes": {}})
}

fn fifo(id: &str, group: &str, body: &Value) -> Value {
    let mut message = sqs(id, body);
    message["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:000000000000:q.fifo");
    message["attributes"] = json!({"MessageGroupId": group, "SequenceNumber": "1"});
    message
}

#[tokio::test]
async fn sqs_is_told_exactly_which_messages_failed() {
    let rig = Rig::new().await;
    for (key, code) in [("a.jsonl", "A"), ("b.jsonl", "B"), ("c.jsonl", "C")] {
        rig.put(key, coin(code, AT, "")).await;
    }
    let poison = json!({"messageId": "poison", "body": "not an event", "eventSource": "aws:sqs"});
    let answer = rig.queue(vec![
        sqs("one", &event(&["a.jsonl"])),
        poison.clone(),
        // One of its records can't be handled: all of it comes again.
        sqs("half", &event(&["b.jsonl", "%2Fx.jsonl"])),
        sqs("test", &json!({"Service": "Amazon S3", "Event": "s3:TestEvent"})),
        sqs("last", &event(&["c.jsonl", "_coinduit.json"])),
    ]);
    let failed = json!({"batchItemFailures": [{"itemIdentifier": "poison"}, {"itemIdentifier": "half"}]});
    assert_eq!(answer.await, failed);
    assert_eq!(rig.rows("prices").await.len(), 3);
    assert_eq!(rig.said().len(), 2, "{:?}", rig.said());
    assert_eq!(rig.queue(vec![sqs("one", &event(&["a.jsonl"]))]).await, json!({"batchItemFailures": []}));
    assert_eq!(rig.queue(vec![poison]).await, json!({"batchItemFailures": [{"itemIdentifier": "poison"}]}));
}

#[tokio::test]
async fn what_follows_a_failure_in_its_group_is_left_for_later() {
    let rig = Rig::new().await;
    for (key, code) in [("a.jsonl", "A"), ("b.jsonl", "B"), ("c.jsonl", "C"), ("d.jsonl", "D")] {
        rig.put(key, coin(code, AT, "")).await;
    }
    let answer = rig.queue(vec![
        fifo("1", "g", &event(&["a.jsonl"])),
        fifo("2", "g", &event(&["%2Fx.jsonl"])),
        fifo("3", "h", &event(&["b.jsonl"])),
        fifo("4", "g", &event(&["c.jsonl"])),
        fifo("5", "h", &event(&["d.jsonl"])),
    ]);
    assert_eq!(
        answer.await,
        json!({"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "4"}]})
    );
    let codes: Vec<_> = rig.rows("prices").await.into_keys().map(|(code, _)| code).collect();
    assert_eq!(codes, ["A", "B", "D"]);
}

#[tokio::test]
async fn what_no_message_can_be_blamed_for_fails_the_invocation() {
    let rig = Rig::new().await;
    let nameless = json!({"body": "poison", "eventSource": "aws:sqs"});
    let error = rig.answer(&json!({"Records": [nameless]})).await.unwrap_err();
    assert!(error.to_string().contains("record 0 of the event can't be read"), "{error}");
}

async fn replay_of(rig: &Rig, prefix: &str, from: Option<&str>) -> Outcome {
    let from = from.map(ToOwned::to_owned);
    let settings = Settings { bucket: "b".to_owned(), prefix: prefix.to_owned(), from, at_once: 3 };
    replay(&settings, &rig.clients, std::future::pending::<()>()).await
}

#[tokio::test]
async fn a_replay_loads_what_events_would_have_loaded() {
    let rig = Rig::new().await;
    for at in 0..20 {
        rig.put(
            &format!("p/t/{at:02}.jsonl"),
            coin("BTC", &format!("2026-11-23T10:{at:02}:00.000Z"), &format!("\"rate\":{at}")),
        )
        .await;
    }
    rig.put("p/t/20.jsonl.gz", gzip(coin("ETH", AT, "").as_bytes())).await;
    rig.put("p/XRP_1.json", coin("XRP", AT, "") + "\n").await;
    for ignored in ["p/t/_coinduit.json", "p/quarantine/t/0.json", "p/photo.jpg", "q/0.jsonl"] {
        rig.put(ignored, "not for tables").await;
    }
    let outcome = replay_of(&rig, "p/", None).await;
    assert_eq!((outcome.status, outcome.exit, outcome.failed), (Status::Done, Exit::Done, 0));
    assert_eq!((outcome.done.objects, outcome.done.rows, outcome.done.ignored), (22, 22, 3));
    assert_eq!(outcome.resume_from, None);
    assert_eq!(rig.coin("BTC").await["rate"], n("19"));
    let before = (rig.rows("prices").await, rig.rows("coins").await);
    let again = replay_of(&rig, "p/t/1", Some("p/t/15.jsonl")).await;
    assert_eq!((again.done.objects, again.done.coins), (5, 0));
    assert_eq!((rig.rows("prices").await, rig.rows("coins").await), before);
    assert_eq!(replay_of(&rig, "r/", None).await.done, Summary::default());
}

#[tokio::test]
async fn a_replay_says_where_to_go_on_after_a_failure() {
    let rig = Rig::new().await;
    for key in ["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"] {
        rig.put(key, coin(key, AT, "")).await;
    }
    rig.put("b.jsonl.gz", "no gzip").await;
    let outcome = replay_of(&rig, "", None).await;
    assert_eq!((outcome.status, outcome.exit, outcome.failed), (Status::Failed, Exit::Failed, 1));
    assert_eq!((outcome.done.objects, outcome.resume_from.as_deref()), (4, Some("b.jsonl.gz")));
    assert_eq!(rig.rows("prices").await.len(), 4);
    assert_eq!(rig.said(), []);
}

#[tokio::test]
async fn a_replay_into_a_table_that_is_not_there_stops_at_once() {
    let rig = Rig::without_tables().await;
    for at in 0..50 {
        rig.put(&format!("{at:02}.jsonl"), coin("BTC", AT, "")).await;
    }
    let outcome = replay_of(&rig, "", None).await;
    assert_eq!((outcome.status, outcome.exit, outcome.failed), (Status::Failed, Exit::Misconfigured, 1));
    assert!(outcome.error.unwrap().contains("into table prices"));
    assert_eq!(outcome.resume_from.as_deref(), Some("00.jsonl"));
}

#[tokio::test]
async fn a_replay_that_is_interrupted_says_where_to_go_on() {
    let rig = Rig::at(serve(|_| None).await).await;
    rig.put("a.jsonl", coin("BTC", AT, "")).await;
    let settings = Settings { bucket: "b".to_owned(), prefix: String::new(), from: None, at_once: 3 };
    let outcome = replay(&settings, &rig.clients, tokio::time::sleep(Duration::from_millis(300))).await;
    assert_eq!((outcome.status, outcome.exit), (Status::Interrupted, Exit::Failed));
    assert_eq!(outcome.resume_from.as_deref(), Some("a.jsonl"));
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_objects_have_the_rows_of_plain_ones() {
    let plain: String = (0..60).map(|at| coin(&format!("C{at}"), AT, &format!("\"rate\":{at}"))).collect();
    let (first, second) = plain.as_bytes().split_at(1000);
    let zstd =
        |plain: &[u8]| ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest);
    let mut found = Vec::new();
    for (key, content) in [
        ("a.jsonl", plain.clone().into_bytes()),
        ("a.jsonl.gz", gzip(plain.as_bytes())),
        ("b.jsonl.gz", [gzip(first), gzip(second)].concat()),
        ("a.jsonl.zst", zstd(plain.as_bytes())),
        ("b.jsonl.zst", [zstd(first), zstd(second)].concat()),
    ] {
        let rig = Rig::new().await;
        rig.put(key, content).await;
        let summary = rig.handle(&event(&[key])).await.unwrap();
        assert_eq!((summary.rows, summary.coins, summary.rejected), (60, 60, 0), "{key}");
        found.push((rig.rows("prices").await, rig.rows("coins").await));
    }
    assert!(found.iter().all(|rows| *rows == found[0]));
}

#[tokio::test]
async fn an_object_that_breaks_off_is_stored_up_to_there_and_fails() {
    let rig = Rig::new().await;
    let lines: String = (0..2_600).map(|at| coin(&format!("C{at}"), AT, "")).collect();
    let object = [gzip(lines.as_bytes()), gzip(b"more")[..7].to_vec()].concat();
    rig.put("a.jsonl.gz", object).await;
    let error = rig.handle(&event(&["a.jsonl.gz"])).await.unwrap_err().to_string();
    assert!(error.contains("object a.jsonl.gz in bucket b: decompress the object"), "{error}");
    assert!(error.contains("2600 rows and 2600 coins of 0 objects"), "{error}");
}

#[tokio::test]
async fn an_object_of_several_windows_has_each_row_once_and_each_coin_newest() {
    let rig = Rig::new().await;
    let at = |minute: usize| {
        format!("2026-11-{:02}T{:02}:{:02}:00.000Z", 1 + minute / 1440, minute / 60 % 24, minute % 60)
    };
    // 7 coins, 3,000 lines, of which the newest of a coin is in the first window for some and in the last for others.
    let lines: String = (0..3_000)
        .map(|line| coin(&format!("C{}", line % 7), &at((line * 4_999) % 3_000), &format!("\"rate\":{line}")))
        .collect();
    rig.put("a.jsonl", lines + "bad\n").await;
    let summary = rig.handle(&event(&["a.jsonl"])).await.unwrap();
    assert_eq!(summary, Summary { objects: 1, rows: 3_000, coins: 7, stale: 0, rejected: 1, ignored: 0 });
    assert!(rig.store.head(&Path::parse("quarantine/lambda/a.jsonl/3001.json").unwrap()).await.is_ok());
    for code in 0..7 {
        let newest =
            (0..3_000).filter(|line| line % 7 == code).max_by_key(|line| (line * 4_999) % 3_000).unwrap();
        assert_eq!(rig.coin(&format!("C{code}")).await["rate"], n(&newest.to_string()));
    }
}

#[tokio::test]
async fn an_invocation_that_ends_in_the_middle_of_an_object_is_completed_by_the_next() {
    let rig = Rig::new().await;
    let at = |line: usize| format!("2026-11-23T10:{:02}:{:02}.000Z", line / 60 % 60, line % 60);
    let lines: String = (0..2_600)
        .map(|line| coin(&format!("C{}", line % 9), &at(line), &format!("\"rate\":{line}")))
        .collect();
    rig.put("a.jsonl", lines).await;
    let event = event(&["a.jsonl"]);
    // A second of them is kept for alerts and answer: there is hardly any time, or none.
    for milliseconds in [900, 1_020, 1_100, 1_300] {
        let deadline = Instant::now() + Duration::from_millis(milliseconds);
        drop(handle(event.to_string().as_bytes(), deadline, &rig.clients).await);
    }
    rig.handle(&event).await.unwrap();
    assert_eq!(rig.rows("prices").await.len(), 2_600);
    for code in 0..9 {
        let newest = (0..2_600).rev().find(|line| line % 9 == code).unwrap();
        assert_eq!(rig.coin(&format!("C{code}")).await["rate"], n(&newest.to_string()));
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_put_aside_by_its_beginning() {
    let rig = Rig::new().await;
    let endless = gzip(&vec![b'x'; 16 << 20]);
    rig.put(
        "a.jsonl.gz",
        [gzip(coin("A", AT, "").as_bytes()), endless, gzip(b"\n"), gzip(coin("B", AT, "").as_bytes())]
            .concat(),
    )
    .await;
    let summary = rig.handle(&event(&["a.jsonl.gz"])).await.unwrap();
    assert_eq!((summary.rows, summary.rejected), (2, 1));
    let kept = rig.store.get(&Path::parse("quarantine/lambda/a.jsonl.gz/2.json").unwrap()).await.unwrap();
    let kept: Value = serde_json::from_slice(&kept.bytes().await.unwrap()).unwrap();
    assert_eq!(
        kept["reason"],
        "the line has 16777216 bytes, 4194304 are read at most; only its beginning is kept here"
    );
    assert_eq!(kept["value"].as_str().unwrap().len(), (64usize << 10).div_ceil(3) * 4);
}

#[tokio::test]
async fn rows_expire_where_that_is_asked_for() {
    let mut rig = Rig::new().await;
    rig.put("a.jsonl", coin("BTC", AT, "")).await;
    rig.clients.row_life = Some(Duration::from_secs(60));
    rig.handle(&event(&["a.jsonl"])).await.unwrap();
    let row = rig.rows("prices").await.remove(&("BTC".to_owned(), AT.to_owned())).unwrap();
    assert_eq!(row["expiresAt"], n("1795428360"));
    assert_eq!(rig.coin("BTC").await.get("expiresAt"), None);
}

/// A DynamoDB of which one table takes everything and the other is throttled for ever.
async fn with_throttled(throttled: &'static str) -> (Rig, Arc<Mutex<usize>>) {
    let taken = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&taken);
    let answer = move |request: Request| -> HttpAnswer {
        let json = "content-type: application/x-amz-json-1.0\r\n".to_owned();
        let is_coin = request.headers.contains("dynamodb_20120810.putitem");
        if is_coin == (throttled == "coins") {
            return Some((400, json, r#"{"__type":"ThrottlingException"}"#.to_owned()));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        *counted.lock().unwrap() += body["RequestItems"]["prices"].as_array().map_or(1, Vec::len);
        Some((200, json, "{}".to_owned()))
    };
    (Rig::at(serve(answer).await).await, taken)
}

/// Three objects, of which the first is longer than what is written at once. The throttled table takes all the time
/// there is.
#[tokio::test]
async fn a_throttled_table_keeps_no_object_out_of_the_other_one() {
    let lines = |lines: usize| -> String {
        let at = |at: usize| format!("2026-11-23T10:{:02}:{:02}.000Z", at / 60 % 60, at % 60);
        (0..lines).map(|line| coin(&format!("C{}", line % 40), &at(line), "")).collect()
    };
    let run = async |throttled, expected| {
        let (rig, taken) = with_throttled(throttled).await;
        for (key, length) in [("a.jsonl", 3_000), ("b.jsonl", 10), ("c.jsonl", 10)] {
            rig.put(key, lines(length)).await;
        }
        let deadline = Instant::now() + Duration::from_secs(15);
        let event = event(&["a.jsonl", "b.jsonl", "c.jsonl"]).to_string();
        let error = handle(event.as_bytes(), deadline, &rig.clients).await.unwrap_err().to_string();
        assert!(error.contains(&format!("into table {throttled}")), "{error}");
        assert_eq!(*taken.lock().unwrap(), expected, "{throttled} throttled: {error}");
    };
    tokio::join!(run("coins", 3_020), run("prices", 60));
}

#[tokio::test]
async fn an_event_that_nobody_understands_fails_and_is_told() {
    let rig = Rig::new().await;
    assert!(matches!(rig.handle(&json!({"detail": {}})).await, Err(HandleError::Event(_))));
    assert_eq!(rig.said()[0].0, "[coinduit lambda] event-failed: event");
}

#[tokio::test]
async fn a_row_that_the_table_refuses_keeps_no_other_from_being_stored() {
    let rig = Rig::without_tables().await;
    // An index of the operator's, over a member that this line has as a string.
    rig.create("prices", &[("code", KeyType::Hash), ("timestamp", KeyType::Range)], Some("rate")).await;
    rig.create("coins", &[("code", KeyType::Hash)], None).await;
    let lines: String = (0..60).map(|at| coin(&format!("C{at:02}"), AT, &format!("\"rate\":{at}"))).collect();
    rig.put("a.jsonl", lines.replace("\"rate\":33}", "\"rate\":\"33\"}")).await;
    let error = rig.handle(&event(&["a.jsonl"])).await.unwrap_err().to_string();
    assert!(error.contains("put C33 into table prices") && error.contains("59 rows and 60 coins"), "{error}");
    assert_eq!(rig.rows("prices").await.len(), 59);
}

#[tokio::test]
async fn a_table_with_other_keys_is_given_up_after_a_batch() {
    let rig = Rig::without_tables().await;
    rig.create("prices", &[("ticker", KeyType::Hash)], None).await;
    rig.create("coins", &[("code", KeyType::Hash)], None).await;
    let lines: String = (0..200).map(|at| coin(&format!("C{at}"), AT, "")).collect();
    rig.put("a.jsonl", lines).await;
    let error = rig.handle(&event(&["a.jsonl"])).await.unwrap_err();
    let HandleError::Failures { failures, done } = error else { panic!("{error}") };
    assert_eq!((failures.len(), done.rows, done.coins), (25, 0, 200));
}

/// A DynamoDB that first throttles, then leaves rows unprocessed, then takes the rest.
#[tokio::test]
async fn what_is_throttled_or_left_unprocessed_is_sent_until_it_is_taken() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let answer = move |request: Request| -> HttpAnswer {
        let json = "content-type: application/x-amz-json-1.0\r\n".to_owned();
        let throttled = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;
        let mut asked = seen.lock().unwrap();
        if request.headers.contains("dynamodb_20120810.putitem") {
            let attempts = asked.iter().filter(|what| *what == "coin").count();
            asked.push("coin".to_owned());
            return Some(if attempts == 0 {
                (400, json, throttled.to_owned())
            } else {
                (200, json, "{}".to_owned())
            });
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let rows = body["RequestItems"]["prices"].as_array().unwrap().clone();
        let attempts = asked.iter().filter(|what| what.starts_with("rows")).count();
        asked.push(format!("rows {}", rows.len()));
        Some(match attempts {
            0 => (400, json, throttled.to_owned()),
            1 => (500, json, r#"{"__type":"InternalServerError"}"#.to_owned()),
            2 => (200, json, json!({"UnprocessedItems": {"prices": rows[1..]}}).to_string()),
            _ => (200, json, r#"{"UnprocessedItems":{}}"#.to_owned()),
        })
    };
    let rig = Rig::at(serve(answer).await).await;
    rig.put(
        "a.jsonl",
        coin("A", AT, "")
            + &coin("A", "2026-11-23T10:00:00.000Z", "")
            + &coin("A", "2026-11-23T10:01:00.000Z", ""),
    )
    .await;
    let summary = rig.handle(&event(&["a.jsonl"])).await.unwrap();
    assert_eq!((summary.rows, summary.coins), (3, 1));
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ["coin", "coin", "rows 2", "rows 3", "rows 3", "rows 3"]);
}

#[tokio::test]
async fn a_table_that_never_answers_is_given_up_before_the_invocation_ends() {
    let rig = Rig::at(serve(|_| None).await).await;
    rig.put("a.jsonl", coin("BTC", AT, "") + "bad\n").await;
    let deadline = Instant::now() + Duration::from_millis(1_300);
    let error = handle(event(&["a.jsonl"]).to_string().as_bytes(), deadline, &rig.clients)
        .await
        .unwrap_err()
        .to_string();
    for table in ["prices", "coins"] {
        assert!(error.contains(&format!("put BTC into table {table}: no answer before")), "{error}");
    }
    // What does not need the tables is done.
    assert!(rig.store.head(&Path::parse("quarantine/lambda/a.jsonl/2.json").unwrap()).await.is_ok());
}
