//! The template that deploys the AWS side: what it says, that each part may do what its program does and no more, and
//! that the real bootstrap works behind it.
//!
//! The emulator ignores some of what it is told (time to live, point-in-time recovery, permissions, alarms); that is
//! read from the template's text. It also takes a parameter in a number's place for text, so one number is written out.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use aws_sdk_dynamodb::config::Builder;
use coinduit_common::{
    aws::{Aws, AwsSettings},
    config::{Env, Faults},
};
use coinduit_integration::{
    emulator::{Emulator, elements},
    json::{decimal, literal},
    kafka::Kafka,
    program::{Program, binary},
    table::{number, rows, text},
    wait::until,
};
use coinduit_local::price_api::{PriceApi, Prices};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder};
use serde_json::{Value, json};
use tokio::process::Command;

/// Of the topic that goes the whole way.
const PARTITIONS: i32 = 3;
const TEMPLATE: &str = include_str!("../../../deploy/template.yaml");

/// The block of the resource, parameter or output `name`.
fn block(name: &str) -> &'static str {
    let head = format!("\n  {name}:\n");
    let begin = TEMPLATE.find(&head).unwrap_or_else(|| panic!("the template has no {name}")) + 1;
    let behind = &TEMPLATE[begin + head.len() - 1..];
    let mut length = 0;
    for line in behind.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if indent <= 2 && !line.trim().is_empty() {
            break;
        }
        length += line.len();
    }
    &TEMPLATE[begin..begin + head.len() - 1 + length]
}

/// The names of all blocks of a type.
fn of_type(kind: &str) -> Vec<&'static str> {
    let lines: Vec<_> = TEMPLATE.lines().collect();
    let wanted = format!("    Type: {kind}");
    let named = lines.windows(2).filter(|pair| pair[1] == wanted);
    named.map(|pair| pair[0].trim().trim_end_matches(':')).collect()
}

/// The actions that the block `name` allows.
fn allowed(name: &str) -> BTreeSet<&'static str> {
    let actions = block(name).lines().filter_map(|line| line.trim().strip_prefix("Action: "));
    let each = actions.flat_map(|actions| actions.trim_matches(['[', ']']).split(", "));
    each.filter(|action| *action != "sts:AssumeRole").collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The calls that the sources below these paths make, tests left out, as the permissions they need.
fn called(paths: &[&str]) -> BTreeSet<&'static str> {
    const CALLS: [(&str, &str); 19] = [
        (".get_opts(", "s3:GetObject"),
        ("version: object.version", "s3:GetObjectVersion"),
        (".put_opts(", "s3:PutObject"),
        (".list(", "s3:ListBucket"),
        (".list_with_offset(", "s3:ListBucket"),
        (".list_with_delimiter(", "s3:ListBucket"),
        ("PaginatedListStore", "s3:ListBucket"),
        (".delete(", "s3:DeleteObject"),
        (".copy(", "s3:PutObject"),
        (".batch_write_item()", "dynamodb:BatchWriteItem"),
        (".put_item()", "dynamodb:PutItem"),
        (".get_item()", "dynamodb:GetItem"),
        (".update_item()", "dynamodb:UpdateItem"),
        (".delete_item()", "dynamodb:DeleteItem"),
        (".transact_write_items()", "dynamodb:PutItem"),
        (".query()", "dynamodb:Query"),
        (".scan()", "dynamodb:Scan"),
        (".describe_table()", "dynamodb:DescribeTable"),
        (".publish()", "sns:Publish"),
    ];
    let mut found = BTreeSet::new();
    for path in paths {
        for file in rust_files(&repository().join(path)) {
            let source = std::fs::read_to_string(&file).unwrap();
            let program = source.split("#[cfg(test)]").next().unwrap();
            let is_there = |(call, action): &&(&str, &str)| {
                program.contains(call)
                    && (!action.starts_with("dynamodb:") || program.contains("aws_sdk_dynamodb"))
            };
            found.extend(CALLS.iter().filter(is_there).map(|(_, action)| *action));
        }
    }
    found
}

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|path| rust_files(&path))
        .collect()
}

#[test]
fn the_function_may_do_what_it_does_and_no_more() {
    let mut needed = called(&["lambda/src", "common/src/alert"]);
    // Without it S3 says of an object that is gone that it is forbidden. (replay.rs lists.)
    assert!(needed.contains("s3:ListBucket"));
    // Lambda's own, with the function's role.
    needed.extend(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]);
    needed.extend(["logs:CreateLogStream", "logs:PutLogEvents"]);
    assert_eq!(allowed("FunctionRole"), needed);
    let role = block("FunctionRole");
    for exactly in [
        "Action: s3:PutObject\n                Resource: !Sub '${Bucket.Arn}/quarantine/lambda/*'",
        "Action: dynamodb:BatchWriteItem\n                Resource: !GetAtt Prices.Arn",
        "Action: dynamodb:PutItem\n                Resource: !GetAtt Coins.Arn",
        "Action: sns:Publish\n                Resource: !Ref Alerts",
    ] {
        assert!(role.contains(exactly), "{exactly}\nis not in\n{role}");
    }
}

#[test]
fn hosts_may_do_what_their_programs_do_and_no_more() {
    assert_eq!(
        allowed("ConsumerPolicy"),
        BTreeSet::from(["s3:ListBucket", "s3:GetObject", "s3:PutObject", "sns:Publish"])
    );
    assert_eq!(allowed("ProducerPolicy"), called(&["producer/src", "common/src/alert"]));
    let consumer = called(&["consumer/src/ledger", "common/src/alert"]);
    assert!(consumer.is_subset(&allowed("ConsumerPolicy")), "{consumer:?}");
}

#[test]
fn no_permission_is_for_everything() {
    for name in of_type("AWS::IAM::Role").into_iter().chain(of_type("AWS::IAM::ManagedPolicy")) {
        let policy = block(name);
        assert!(!policy.contains("Resource: '*'") && !policy.contains(":*'\n"), "{policy}");
        assert!(allowed(name).iter().all(|action| !action.contains('*')), "{:?}", allowed(name));
    }
}

#[test]
fn what_the_emulator_ignores_is_in_the_template() {
    let has = |name: &str, parts: &[&str]| {
        for part in parts {
            assert!(block(name).contains(part), "{part:?} is not in\n{}", block(name));
        }
    };
    has(
        "Prices",
        &[
            "PointInTimeRecoveryEnabled: true",
            "{AttributeName: expiresAt, Enabled: true}",
            "PAY_PER_REQUEST",
            "DeletionPolicy: Retain",
        ],
    );
    has("Coins", &["PointInTimeRecoveryEnabled: true", "PAY_PER_REQUEST", "DeletionPolicy: Retain"]);
    has(
        "Bucket",
        &[
            "SSEAlgorithm: AES256",
            "BlockPublicPolicy: true",
            "RestrictPublicBuckets: true",
            "DeletionPolicy: Retain",
            "'${S3Prefix}${TopicName}/partition='",
        ],
    );
    has("BucketPolicy", &["Effect: Deny", "aws:SecureTransport"]);
    has("Objects", &["deadLetterTargetArn: !GetAtt DeadLetters.Arn", "VisibilityTimeout: !Ref RetryAfter"]);
    has("ObjectsPolicy", &["Service: s3.amazonaws.com", "aws:SourceArn", "aws:SourceAccount"]);
    has("Function", &["ReportBatchItemFailures", "Runtime: provided.al2023", "PRICES_TTL", "LogGroup:"]);
    has("FunctionLog", &["RetentionInDays: !Ref LogRetentionDays"]);
    has("Architecture", &["AllowedValues: [arm64, x86_64]"]);
}

#[test]
fn every_trouble_has_an_alarm_that_tells_people() {
    let alarms = of_type("AWS::CloudWatch::Alarm");
    for metric in [
        "Errors",
        "Throttles",
        "WriteThrottleEvents",
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "Rows",
    ] {
        let metric = format!("MetricName: {metric}\n");
        assert!(alarms.iter().any(|alarm| block(alarm).contains(&metric)), "no alarm for {metric}");
    }
    for alarm in alarms {
        assert!(block(alarm).contains("AlarmActions: [!Ref Alerts]"), "{alarm}");
    }
    assert!(block("NoNewRows").contains("TreatMissingData: breaching"));
    // The metric that this alarm waits for is one that the function writes.
    assert!(
        std::fs::read_to_string(repository().join("lambda/src/metrics.rs")).unwrap().contains("\"Coinduit\"")
    );
}

#[test]
fn every_parameter_is_described() {
    let parameters =
        TEMPLATE.split("\nParameters:\n").nth(1).unwrap().split("\nConditions:\n").next().unwrap();
    let names = parameters.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let docs = std::fs::read_to_string(repository().join("docs/deploy.md")).unwrap();
    for name in names.map(|line| line.trim().trim_end_matches(':')) {
        assert!(block(name).contains("Description: "), "{name}");
        let is_made = ["CodeBucket", "CodeKey"].contains(&name);
        assert!(is_made || docs.contains(&format!("`{name}`")), "docs/deploy.md does not name {name}");
    }
}

#[tokio::test]
async fn cfn_lint_finds_nothing() {
    let cfn_lint = std::env::var_os("CFN_LINT").filter(|path| !path.is_empty());
    let cfn_lint = cfn_lint.unwrap_or_else(|| "cfn-lint".into());
    let output = Command::new(&cfn_lint).arg(repository().join("deploy/template.yaml")).output().await;
    let output = output.unwrap_or_else(|error| {
        panic!(
            "this test needs cfn-lint (pip install cfn-lint), in the PATH or named by CFN_LINT: {}: {error}",
            cfn_lint.display()
        )
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The stack at work: its outputs.
struct Stack {
    emulator: Emulator,
    name: String,
    outputs: Vec<(String, String)>,
}

impl Stack {
    async fn deploy(name: &str, parameters: &[(&str, &str)]) -> Self {
        let emulator = Emulator::find().await;
        let name = format!("{name}-{}", std::process::id());
        let code = format!("{name}-code");
        emulator.create_bucket(&code).await;
        let zip = zip().await;
        bucket(&emulator, &code).put(&"bootstrap.zip".into(), zip.into()).await.unwrap();
        let template =
            TEMPLATE.replace("{MaximumConcurrency: !Ref MaximumConcurrency}", "{MaximumConcurrency: 10}");
        let mut form = vec![
            ("Action".to_owned(), "CreateStack".to_owned()),
            ("StackName".to_owned(), name.clone()),
            ("TemplateBody".to_owned(), template),
            ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM".to_owned()),
            ("Capabilities.member.2".to_owned(), "CAPABILITY_AUTO_EXPAND".to_owned()),
        ];
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        let own =
            [("CodeBucket", code.as_str()), ("CodeKey", "bootstrap.zip"), ("Architecture", architecture)];
        for (at, (key, value)) in own.iter().chain(parameters).enumerate() {
            form.push((format!("Parameters.member.{}.ParameterKey", at + 1), (*key).to_owned()));
            form.push((format!("Parameters.member.{}.ParameterValue", at + 1), (*value).to_owned()));
        }
        let form: Vec<_> = form.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        emulator.query("cloudformation", &form).await;
        let mut described = String::new();
        until("the stack is there", async || {
            described =
                emulator.query("cloudformation", &[("Action", "DescribeStacks"), ("StackName", &name)]).await;
            let status = elements(&described, "StackStatus").remove(0);
            assert!(!status.contains("FAILED") && !status.contains("ROLLBACK"), "{described}");
            status == "CREATE_COMPLETE"
        })
        .await;
        let outputs =
            elements(&described, "OutputKey").into_iter().zip(elements(&described, "OutputValue")).collect();
        Self { emulator, name, outputs }
    }

    fn output(&self, key: &str) -> &str {
        let found = self.outputs.iter().find(|(name, _)| name == key);
        &found.unwrap_or_else(|| panic!("no output {key} in {:?}", self.outputs)).1
    }

    fn bucket(&self) -> Arc<dyn ObjectStore> {
        bucket(&self.emulator, self.output("S3Bucket"))
    }

    async fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let aws = Aws::new(AwsSettings::from_env(
            &Env::from_pairs([("ACCESS_KEY", "test"), ("SECRET_KEY", "test"), ("AWS_REGION", "us-east-1")]),
            &mut Faults::default(),
        ))
        .await;
        let config = Builder::from(aws.sdk()).endpoint_url(&*self.emulator.url);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// Where a queue is, as the emulator can be reached from here.
    fn reachable(&self, queue: &str) -> String {
        format!("{}/{}", &*self.emulator.url, queue.splitn(4, '/').nth(3).unwrap())
    }

    async fn remove(self) {
        let delete = [("Action", "DeleteStack"), ("StackName", self.name.as_str())];
        self.emulator.query("cloudformation", &delete).await;
    }
}

fn bucket(emulator: &Emulator, name: &str) -> Arc<dyn ObjectStore> {
    let s3 = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_endpoint(&*emulator.url)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_allow_http(true);
    Arc::new(s3.build().unwrap())
}

/// The real bootstrap in a zip, as `make package` makes it, but for the debug build.
async fn zip() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let run = async |program: &str, package: &str, arguments: &[&std::ffi::OsStr]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).status().await;
        let status =
            status.unwrap_or_else(|error| panic!("this test needs {program} (Debian: {package}): {error}"));
        assert!(status.success(), "{program} {arguments:?}");
    };
    let stripped = folder.path().join("bootstrap");
    run("strip", "binutils", &["-o".as_ref(), stripped.as_os_str(), binary("bootstrap").as_os_str()]).await;
    let archive = folder.path().join("bootstrap.zip");
    run("zip", "zip", &["-q1j".as_ref(), archive.as_os_str(), stripped.as_os_str()]).await;
    tokio::fs::read(archive).await.unwrap()
}

#[tokio::test]
async fn an_object_becomes_rows_and_a_broken_one_an_alert_and_a_dead_letter() {
    let parameters =
        [("Timeout", "10"), ("RetryAfter", "10"), ("Attempts", "2"), ("AlertEmail", "someone@example.com")];
    let stack = Stack::deploy("coinduit-test-stack", &parameters).await;
    let environment = stack.output("ConsumerEnvironment");
    for line in [
        format!("S3_BUCKET={}", stack.output("S3Bucket")),
        "S3_PREFIX=".to_owned(),
        "AWS_REGION=us-east-1".to_owned(),
        format!("SNS_TOPIC_ARN={}", stack.output("SnsTopicArn")),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} is not in {environment}");
    }

    // Somebody listens to the topic.
    let people =
        stack.emulator.sqs("CreateQueue", &json!({"QueueName": format!("{}-people", stack.name)})).await;
    let people = stack.reachable(people["QueueUrl"].as_str().unwrap());
    let asked = json!({"QueueUrl": people, "AttributeNames": ["QueueArn"]});
    let attributes = stack.emulator.sqs("GetQueueAttributes", &asked).await;
    let arn = attributes["Attributes"]["QueueArn"].as_str().unwrap().to_owned();
    let subscribe = [
        ("Action", "Subscribe"),
        ("TopicArn", stack.output("SnsTopicArn")),
        ("Protocol", "sqs"),
        ("Endpoint", &arn),
    ];
    stack.emulator.query("sns", &subscribe).await;

    let bucket = stack.bucket();
    let line = "{\"code\":\"BTC\",\"id\":\"1\",\"timestamp\":\"2026-11-23T10:05:00.000Z\",\"currency\":\"USD\",\"rate\":70835.60280789908}\n";
    let folder = "crypto_prices/partition=3";
    let put = async |name: &str, content: &str| {
        let key = object_store::path::Path::parse(format!("{folder}/{name}")).unwrap();
        bucket.put(&key, content.to_owned().into()).await.unwrap();
    };
    put("00000000000000000000.jsonl", &(line.to_owned() + &line.replace("BTC", "ETH") + "no line\n")).await;
    put("00000000000000000003.jsonl.gz", "no gzip").await;

    let dynamodb = stack.dynamodb().await;
    until("both lines are rows of both tables", async || {
        rows(&dynamodb, stack.output("PricesTableName")).await.len() == 2
            && rows(&dynamodb, stack.output("CoinsTableName")).await.len() == 2
    })
    .await;
    for table in ["PricesTableName", "CoinsTableName"] {
        for row in rows(&dynamodb, stack.output(table)).await {
            assert!(["BTC", "ETH"].contains(&text(&row, "code")));
            assert_eq!(number(&row, "rate"), "70835.60280789908");
        }
    }
    let aside = format!("quarantine/lambda/{folder}/00000000000000000000.jsonl/3.json");
    until("the bad line is in the quarantine", async || {
        bucket.head(&object_store::path::Path::parse(&aside).unwrap()).await.is_ok()
    })
    .await;

    let dead =
        json!({"QueueUrl": stack.reachable(stack.output("DeadLetterQueueUrl")), "MaxNumberOfMessages": 10});
    let mut letters = Vec::new();
    until("the broken object's event is a dead letter", async || {
        let received = stack.emulator.sqs("ReceiveMessage", &dead).await;
        letters.extend(received["Messages"].as_array().cloned().unwrap_or_default());
        !letters.is_empty()
    })
    .await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter: Value = serde_json::from_str(letters[0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(
        letter["Records"][0]["s3"]["object"]["key"],
        "crypto_prices/partition%3D3/00000000000000000003.jsonl.gz"
    );

    let heard = json!({"QueueUrl": people, "MaxNumberOfMessages": 10});
    let mut said = String::new();
    until("people have heard of both", async || {
        said += &stack.emulator.sqs("ReceiveMessage", &heard).await.to_string();
        said.contains("line-quarantined") && said.contains("store-failed")
    })
    .await;
    stack.remove().await;
}

/// As people use a stack: with the variables that it puts out, and their own for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_producer_publishes_becomes_rows_of_the_stack() {
    let kafka = Kafka::find().await;
    let topic = Kafka::unused_name("stack");
    kafka.create(&topic, PARTITIONS).await;
    let stack = Stack::deploy("coinduit-test-way", &[("TopicName", &topic)]).await;
    let api = PriceApi::start(SocketAddr::from(([127, 0, 0, 1], 0)), Prices::Fixed).unwrap();
    let own = [
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap()),
        ("KAFKA_GROUP_ID", &topic),
        ("API_URL", &api.url()),
        ("API_KEY", "a-key"),
        ("HTTP_ADDR", "off"),
        ("AWS_ENDPOINT_URL", &stack.emulator.url),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let env = |output: &str| {
        let lines = stack.output(output).lines().filter_map(|line| line.split_once('='));
        lines.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let published = Program::start("producer", &[], &env("ProducerEnvironment")).ended().await;
    assert_eq!(published.expect_code(0).summary()["records"], 50);
    Program::start("consumer", &["--exit-at-end"], &env("ConsumerEnvironment")).ended().await.expect_code(0);

    let mut expected = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for found in kafka.read(&topic, partition).await {
            let record = String::from_utf8(found.record.value.unwrap()).unwrap();
            let price: Value = serde_json::from_str(&record).unwrap();
            expected.insert(price["code"].as_str().unwrap().to_owned(), decimal(literal(&record, "rate")));
        }
    }
    assert_eq!(expected.len(), 50);
    let dynamodb = stack.dynamodb().await;
    for table in ["PricesTableName", "CoinsTableName"] {
        let mut found = BTreeMap::new();
        until(&format!("all prices are rows of {table}"), async || {
            let rows = rows(&dynamodb, stack.output(table)).await;
            found =
                rows.iter().map(|row| (text(row, "code").to_owned(), decimal(number(row, "rate")))).collect();
            found.len() == expected.len()
        })
        .await;
        assert_eq!(found, expected, "{table}");
    }
    api.stop().await;
    kafka.delete(&topic).await;
    stack.remove().await;
}
