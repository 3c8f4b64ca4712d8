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
    line::{self, Origin},
};
use coinduit_lambda::{Clients, Summary, error::HandleError, handle, object::Stores, table::Tables};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use crate::http::{Answer, Request, serve};

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
            alerts: Alerts::start("lambda", Clock::manual(0), Recorder(Arc::clone(&said))),
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

    async fn handle(&self, event: &Value) -> Result<Summary, HandleError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        handle(event.to_string().as_bytes(), deadline, &self.clients).await
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
    let mut event = event(&["x.jsonl", "%2Fa.jsonl", "c.jsonl.gz", "a.jsonl"]);
    event["Records"][0]["s3"]["bucket"]["name"] = json!("other");
    let error = rig.handle(&event).await.unwrap_err();
    let text = error.to_string();
    for part in [
        "object x.jsonl in bucket other: make a client for the bucket: ",
        "no such bucket here",
        "object /a.jsonl in bucket b: the key can't be asked for",
        "object c.jsonl.gz in bucket b is compressed",
        "stored: 1 rows and 1 coins of 1 objects",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(rig.rows("prices").await.len(), 1);
    assert_eq!(rig.said().len(), 3);
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
    let answer = move |request: Request| -> Answer {
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
