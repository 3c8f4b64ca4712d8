//! What the two tables promise, tried on any DynamoDB: the embedded one (`cargo test`), Amazon's DynamoDB Local and an
//! AWS emulator (`make integration`). Each test has tables of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::Builder,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableStatus,
    },
};
use coinduit_common::{
    alert::Alerts,
    aws::{Aws, AwsSettings},
    clock::Clock,
    config::{Env, Faults},
};
use coinduit_lambda::{Answer, Clients, Summary, handle, metrics::Metrics, object::Stores, table::Tables};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use serde_json::json;
use tokio::time::Instant;

type Item = HashMap<String, AttributeValue>;
/// Rows by code and timestamp.
type Rows = BTreeMap<(String, String), Item>;

const AT: &str = "2026-11-23T10:05:00.000Z";

/// The two tables at a DynamoDB, and the function that writes them.
pub(crate) struct Rig {
    dynamodb: Client,
    prices: String,
    coins: String,
    store: Arc<InMemory>,
    clients: Clients,
}

impl Rig {
    /// New tables at `endpoint`.
    pub(crate) async fn at(endpoint: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let env =
            Env::from_pairs([("ACCESS_KEY", "test"), ("SECRET_KEY", "test"), ("AWS_REGION", "us-east-1")]);
        let aws = Aws::new(AwsSettings::from_env(&env, &mut Faults::default())).await;
        let config = Builder::from(aws.sdk()).endpoint_url(endpoint);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |kind: &str| format!("coinduit-test-{kind}-{}-{number}", std::process::id());
        let (prices, coins) = (name("prices"), name("coins"));
        let store = Arc::new(InMemory::new());
        let bucket = Arc::clone(&store);
        let clients = Clients {
            stores: Stores::new(move |_| Ok(Arc::clone(&bucket) as Arc<dyn ObjectStore>)),
            tables: Tables::new(config.clone(), prices.clone(), coins.clone()),
            row_life: None,
            alerts: Alerts::logged_only(),
            metrics: Metrics::Off,
            clock: Clock::manual(0),
        };
        let rig = Self { dynamodb: Client::from_conf(config.build()), prices, coins, store, clients };
        rig.create(&rig.prices, &[("code", KeyType::Hash), ("timestamp", KeyType::Range)]).await;
        rig.create(&rig.coins, &[("code", KeyType::Hash)]).await;
        rig
    }

    async fn create(&self, table: &str, keys: &[(&str, KeyType)]) {
        let mut request =
            self.dynamodb.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in keys {
            let key = KeySchemaElement::builder().attribute_name(*name).key_type(kind.clone());
            let attribute =
                AttributeDefinition::builder().attribute_name(*name).attribute_type(ScalarAttributeType::S);
            request =
                request.key_schema(key.build().unwrap()).attribute_definitions(attribute.build().unwrap());
        }
        request.send().await.unwrap();
        let status = async || {
            let described = self.dynamodb.describe_table().table_name(table).send().await.unwrap();
            described.table().and_then(|table| table.table_status().cloned())
        };
        while status().await != Some(TableStatus::Active) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn put(&self, key: &str, content: &str) {
        self.store.put(&Path::parse(key).unwrap(), content.to_owned().into()).await.unwrap();
    }

    async fn handle(&self, keys: &[&str]) -> Summary {
        let record = |key: &&str| json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}});
        let event = json!({ "Records": keys.iter().map(record).collect::<Vec<_>>() }).to_string();
        let deadline = Instant::now() + Duration::from_secs(120);
        match handle(event.as_bytes(), deadline, &self.clients).await.unwrap() {
            Answer::Done(done) => done,
            Answer::Queue { .. } => panic!("no answer to SQS was asked for"),
        }
    }

    async fn scan(&self, table: &str) -> Rows {
        let text =
            |item: &Item, name: &str| item.get(name).and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
        let mut rows = Rows::new();
        let mut from = None;
        loop {
            let scan =
                self.dynamodb.scan().table_name(table).consistent_read(true).set_exclusive_start_key(from);
            let page = scan.send().await.unwrap();
            let items = page.items.unwrap_or_default().into_iter();
            rows.extend(items.map(|item| ((text(&item, "code"), text(&item, "timestamp")), item)));
            from = page.last_evaluated_key;
            if from.is_none() {
                return rows;
            }
        }
    }

    async fn rows(&self) -> (Rows, Rows) {
        (self.scan(&self.prices).await, self.scan(&self.coins).await)
    }

    async fn coin(&self, code: &str) -> Item {
        self.scan(&self.coins).await.remove(&(code.to_owned(), String::new())).unwrap()
    }

    /// Whether the table of coins takes this as it is, without our checks before.
    async fn takes(&self, code: &str, name: &str, value: AttributeValue) -> bool {
        let put = self.dynamodb.put_item().table_name(&self.coins);
        put.item("code", AttributeValue::S(code.to_owned())).item(name, value).send().await.is_ok()
    }
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

pub(crate) async fn values_are_read_back_as_the_api_wrote_them(rig: &Rig) {
    let digits = "1234567890".repeat(4)[..38].to_owned();
    let members = format!(
        r#""rate":2.4980008270697834e-9,"volume":{digits},"cap":0,"maxSupply":null,"totalSupply":"12","circulatingSupply":"NaN","name":"","delta":{{"hour":null,"day":-0.0075}},"categories":["a",[]],"links":{{}}"#
    );
    rig.put("a.jsonl", &coin("₿ _x", AT, &members)).await;
    let done = rig.handle(&["a.jsonl"]).await;
    assert_eq!((done.rows, done.coins, done.rejected), (1, 1, 0));
    let (prices, coins) = rig.rows().await;
    for row in [&prices[&("₿ _x".to_owned(), AT.to_owned())], &coins[&("₿ _x".to_owned(), String::new())]]
    {
        assert_eq!(row["rate"], n("0.0000000024980008270697834"));
        assert_eq!((&row["volume"], &row["cap"]), (&n(&digits), &n("0")));
        assert_eq!((&row["maxSupply"], &row["totalSupply"]), (&AttributeValue::Null(true), &s("12")));
        assert_eq!((&row["circulatingSupply"], &row["name"]), (&s("NaN"), &s("")));
    }
    let row = rig.coin("₿ _x").await;
    let delta =
        Item::from([("hour".to_owned(), AttributeValue::Null(true)), ("day".to_owned(), n("-0.0075"))]);
    assert_eq!((&row["delta"], &row["symbol"]), (&AttributeValue::M(delta), &s("N/A")));
    assert_eq!(row["categories"], AttributeValue::L(vec![s("a"), AttributeValue::L(Vec::new())]));
    assert_eq!((&row["links"], &row["updatedAt"]), (&AttributeValue::M(Item::new()), &s(AT)));
}

pub(crate) async fn what_we_store_the_table_takes_and_what_we_refuse_it_refuses(rig: &Rig) {
    let nines = format!("9.{}", "9".repeat(37));
    for (at, (literal, taken)) in [
        ("-0", true),
        ("1E+125", true),
        ("1e-130", true),
        (&format!("{nines}e125"), true),
        (&"1".repeat(38), true),
        ("1E+126", false),
        ("1e-131", false),
        (&"1".repeat(39), false),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("n{at}.jsonl");
        rig.put(&key, &coin(&format!("N{at}"), AT, &format!("\"rate\":{literal}"))).await;
        let done = rig.handle(&[&key]).await;
        assert_eq!(
            (done.rows, done.coins, done.rejected),
            if taken { (1, 1, 0) } else { (0, 0, 1) },
            "{literal}"
        );
        assert_eq!(rig.takes("raw", "rate", n(literal)).await, taken, "{literal}");
    }
    for (at, (code, taken)) in [("k".repeat(2048), true), ("k".repeat(2049), false)].into_iter().enumerate() {
        let key = format!("k{at}.jsonl");
        rig.put(&key, &coin(&code, AT, "").replace(&format!("\"id\":\"{code}-{AT}\""), "\"id\":\"1\"")).await;
        assert_eq!(rig.handle(&[&key]).await.rejected == 0, taken);
        assert_eq!(rig.takes(&code, "rate", n("1")).await, taken);
    }
    for (at, (bytes, taken)) in [(409_000, true), (410_000, false)].into_iter().enumerate() {
        let (key, name) = (format!("s{at}.jsonl"), "x".repeat(bytes));
        rig.put(&key, &coin("S", &format!("2026-11-23T10:05:0{at}.000Z"), &format!("\"name\":\"{name}\"")))
            .await;
        assert_eq!(rig.handle(&[&key]).await.rejected == 0, taken, "{bytes}");
        assert_eq!(rig.takes("S", "name", s(&name)).await, taken, "{bytes}");
    }
}

pub(crate) async fn a_key_that_is_there_twice_in_a_batch_is_stored_once(rig: &Rig) {
    let lines: String =
        (0..60).map(|at| coin(&format!("C{}", at % 7), AT, &format!("\"rate\":{at}"))).collect();
    rig.put("a.jsonl", &lines).await;
    let done = rig.handle(&["a.jsonl"]).await;
    assert_eq!((done.rows, done.coins), (7, 7));
    let (prices, coins) = rig.rows().await;
    for code in 0..7 {
        let last = n(&(0..60).rev().find(|at| at % 7 == code).unwrap().to_string());
        assert_eq!(prices[&(format!("C{code}"), AT.to_owned())]["rate"], last);
        assert_eq!(coins[&(format!("C{code}"), String::new())]["rate"], last);
    }
}

/// Repeated and reordered events: every order of three objects, with the first one again at the end.
pub(crate) async fn any_order_and_any_repetition_has_the_same_rows(rig: &Rig) {
    // The same instants in other forms: as text they are in another order.
    let objects = [
        (
            "a.jsonl",
            coin("BTC", "2026-11-23T10:05:00Z", "\"rate\":1")
                + &coin("ETH", "2026-11-23T10:06:00.000Z", "\"rate\":2"),
        ),
        (
            "b.jsonl",
            coin("BTC", "2026-11-23T11:05:00.500+01:00", "\"rate\":3,\"rank\":1")
                + &coin("ETH", AT, "\"rate\":4"),
        ),
        ("c.jsonl", coin("BTC", "2026-11-23T09:59:59.999Z", "\"rate\":5") + &coin("XRP", AT, "\"rate\":6")),
    ];
    for (key, content) in &objects {
        rig.put(key, content).await;
    }
    let mut expected = None;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for table in [&rig.prices, &rig.coins] {
            for ((code, timestamp), _) in rig.scan(table).await {
                let delete = rig.dynamodb.delete_item().table_name(table).key("code", s(&code));
                let delete =
                    if timestamp.is_empty() { delete } else { delete.key("timestamp", s(&timestamp)) };
                delete.send().await.unwrap();
            }
        }
        let keys: Vec<_> = order.iter().chain(&order[..1]).map(|at| objects[*at].0).collect();
        rig.handle(&keys).await;
        let rows = rig.rows().await;
        assert_eq!(rows.0.len(), 6);
        assert_eq!(rows.1[&("BTC".to_owned(), String::new())]["rate"], n("3"));
        assert_eq!(*expected.get_or_insert_with(|| rows.clone()), rows, "{order:?}");
    }
}

pub(crate) async fn an_equally_new_coin_does_not_replace(rig: &Rig) {
    rig.put("a.jsonl", &coin("BTC", AT, "\"rate\":1")).await;
    rig.put("b.jsonl", &coin("BTC", "2026-11-23T11:05:00+01:00", "\"rate\":2")).await;
    assert_eq!(rig.handle(&["a.jsonl"]).await.coins, 1);
    assert_eq!(rig.handle(&["b.jsonl", "a.jsonl"]).await.stale, 2);
    assert_eq!(rig.coin("BTC").await["rate"], n("1"));
}

pub(crate) async fn of_many_writers_at_once_the_newest_coin_stays(rig: &Rig) {
    for at in 0..16 {
        rig.put(
            &format!("{at}.jsonl"),
            &coin("BTC", &format!("2026-11-23T10:05:{at:02}.000Z"), &format!("\"rate\":{at}")),
        )
        .await;
    }
    let writers = (0..16).map(async |at| {
        let key = format!("{at}.jsonl");
        rig.handle(&[&key]).await
    });
    let done = futures::future::join_all(writers).await;
    assert!(done.iter().all(|done| done.coins + done.stale == 1));
    assert_eq!(rig.coin("BTC").await["rate"], n("15"));
    assert_eq!(rig.rows().await.0.len(), 16);
}

pub(crate) async fn a_currency_never_replaces_another(rig: &Rig) {
    rig.put(
        "a.jsonl",
        &(coin("BTC", AT, "\"rate\":2") + &coin("BTC", AT, "\"rate\":1").replace("USD", "EUR")),
    )
    .await;
    assert_eq!(rig.handle(&["a.jsonl"]).await.rows, 2);
    assert_eq!((&rig.coin("BTC").await["rate"], &rig.coin("BTC:EUR").await["rate"]), (&n("2"), &n("1")));
}

/// A test of each promise, on the DynamoDB at `$endpoint`.
#[macro_export]
macro_rules! table_tests {
    ($endpoint:expr) => {
        $crate::table_tests!(@each $endpoint,
            values_are_read_back_as_the_api_wrote_them
            what_we_store_the_table_takes_and_what_we_refuse_it_refuses
            a_key_that_is_there_twice_in_a_batch_is_stored_once
            any_order_and_any_repetition_has_the_same_rows
            an_equally_new_coin_does_not_replace
            of_many_writers_at_once_the_newest_coin_stays
            a_currency_never_replaces_another
        );
    };
    (@each $endpoint:expr, $($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::suite::$name(&$crate::suite::Rig::at(&$endpoint.await).await).await;
        })*
    };
}
