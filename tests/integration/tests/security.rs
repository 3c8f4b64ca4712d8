//! TLS and logins on a real broker: whoever may gets in, by each way and with each reader; whoever may not is told why.

use coinduit_integration::kafka::Kafka;
use coinduit_integration::program::Program;
use coinduit_integration::rig::Rig;
use coinduit_integration::secure::{Answer, PASSWORD, SecureBroker, TokenEndpoint, USER};
use coinduit_integration::wait::until;

const PARTITIONS: i32 = 2;
/// What one run of the producer publishes.
const COINS: usize = 50;

type Settings<'a> = Vec<(&'a str, &'a str)>;

async fn rig(broker: &SecureBroker) -> Rig {
    let kafka = Kafka::at(&broker.plaintext()).await;
    kafka.set_password(USER, PASSWORD).await;
    Rig::on(kafka, "security", PARTITIONS, 1).await
}

fn login<'a>(mechanism: &'a str, password: &'a str) -> Settings<'a> {
    vec![
        ("KAFKA_SASL_MECHANISM", mechanism),
        ("KAFKA_SASL_USERNAME", USER),
        ("KAFKA_SASL_PASSWORD", password),
    ]
}

fn tokens(endpoint: &str) -> Settings<'_> {
    vec![
        ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", endpoint),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "coinduit"),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "geheim"),
    ]
}

fn at<'a>(brokers: &'a str, protocol: &'a str, more: &[(&'a str, &'a str)]) -> Settings<'a> {
    let first = [("KAFKA_BOOTSTRAP_SERVERS", brokers), ("KAFKA_SECURITY_PROTOCOL", protocol)];
    [&first[..], more].concat()
}

/// How many lines are stored below `prefix`.
async fn stored(rig: &Rig, prefix: &str) -> usize {
    let mut lines = 0;
    for partition in 0..PARTITIONS {
        let chain = rig.bucket.chain(&format!("{prefix}/{}", rig.topic), partition).await;
        lines += chain.iter().map(|object| object.lines().len()).sum::<usize>();
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_get_in_by_every_protocol_and_mechanism() {
    let broker = SecureBroker::start().await;
    let rig = rig(&broker).await;
    let endpoint = TokenEndpoint::start().await;
    let (ca, cert, key) = (broker.file("ca.pem"), broker.file("client.pem"), broker.file("client.key"));
    let (login_tls, mutual, open) = (broker.sasl_ssl(), broker.mutual(), broker.sasl_plaintext());
    let trust = ("KAFKA_SSL_CA_FILE", ca.as_str());
    let mut ways = Vec::new();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let settings = [login(mechanism, PASSWORD), vec![trust]].concat();
        ways.push((format!("tls-{mechanism}"), at(&login_tls, "SASL_SSL", &settings)));
    }
    let settings = [tokens(endpoint.url()), vec![trust]].concat();
    ways.push(("token".to_owned(), at(&login_tls, "SASL_SSL", &settings)));
    let identity = [trust, ("KAFKA_SSL_CERT_FILE", cert.as_str()), ("KAFKA_SSL_KEY_FILE", key.as_str())];
    ways.push(("mutual".to_owned(), at(&mutual, "SSL", &identity)));
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let settings = login(mechanism, PASSWORD);
        ways.push((format!("open-{mechanism}"), at(&open, "SASL_PLAINTEXT", &settings)));
    }
    for (run, (way, settings)) in ways.iter().enumerate() {
        let published = rig.produce(&[], settings).await.expect_code(0);
        assert_eq!(published.summary()["records"], COINS, "{way}");
        for reader in ["rskafka", "native"] {
            let name = format!("{way}-{reader}");
            let own = [("KAFKA_READER", reader), ("S3_PREFIX", &name), ("KAFKA_GROUP_ID", &name)];
            let ended = rig.consume_all(&[settings, &own[..]].concat()).await;
            assert_eq!(stored(&rig, &name).await, COINS * (run + 1), "{name}");
            assert!(!ended.log.contains("geheim"), "a secret is in the log of {name}");
        }
        assert_eq!(published.log.contains("shows the password"), way == "open-PLAIN", "{}", published.log);
    }
    a_login_that_ends_is_renewed(&rig, &ways[2].1, COINS * ways.len()).await;
    rig.finish().await;
}

/// A login by SCRAM-SHA-512 lasts four seconds there: the group, the commits and the reader outlive several.
async fn a_login_that_ends_is_renewed(rig: &Rig, settings: &[(&str, &str)], before: usize) {
    let own = [
        ("KAFKA_READER", "native"),
        ("S3_PREFIX", "renewed"),
        ("KAFKA_GROUP_ID", "renewed"),
        ("MAX_OBJECT_AGE", "200ms"),
    ];
    let consumer = rig.consumer(&[settings, &own[..]].concat());
    for run in 1..=4 {
        rig.produce(&[], settings).await.expect_code(0);
        let expected = before + COINS * run;
        until(&format!("run {run} is stored"), async || stored(rig, "renewed").await == expected).await;
        // No measurement: so long nothing is asked of most connections, and their logins end meanwhile.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    }
    consumer.signal(rustix::process::Signal::TERM);
    let log = consumer.ended().await.expect_code(0).log;
    assert!(!log.contains("failed, trying again"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_is_told_why() {
    let broker = SecureBroker::start().await;
    let rig = rig(&broker).await;
    let endpoint = TokenEndpoint::start().await;
    let file = |name| broker.file(name);
    let (ca, cert, key) = (file("ca.pem"), file("stranger.pem"), file("stranger.key"));
    let (login_tls, mutual, open) = (broker.sasl_ssl(), broker.mutual(), broker.sasl_plaintext());
    let (plain, expired, other) = (broker.plaintext(), broker.expired(), broker.by_another_name());
    let trust = ("KAFKA_SSL_CA_FILE", ca.as_str());
    let wrong = |mechanism| [login(mechanism, "wrong"), vec![trust]].concat();
    let stranger = [trust, ("KAFKA_SSL_CERT_FILE", cert.as_str()), ("KAFKA_SSL_KEY_FILE", key.as_str())];
    let check_password = "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";
    let cases = [
        ("wrong password, PLAIN", at(&login_tls, "SASL_SSL", &wrong("PLAIN")), 2, check_password),
        ("wrong password, SCRAM", at(&login_tls, "SASL_SSL", &wrong("SCRAM-SHA-256")), 2, check_password),
        (
            "a mechanism that the broker has not",
            at(&open, "SASL_PLAINTEXT", &login("SCRAM-SHA-512", PASSWORD)),
            2,
            "SCRAM-SHA-256; set KAFKA_SASL_MECHANISM to one that it has",
        ),
        ("an expired certificate", at(&expired, "SSL", &[trust]), 2, "certificate has expired"),
        (
            "another host name",
            at(&other, "SASL_SSL", &[login("PLAIN", PASSWORD), vec![trust]].concat()),
            2,
            "not for this host name",
        ),
        (
            "an unknown authority",
            at(&mutual, "SSL", &[]),
            2,
            "name its CA's certificate in KAFKA_SSL_CA_FILE",
        ),
        ("no client certificate", at(&mutual, "SSL", &[trust]), 2, "KAFKA_SSL_CERT_FILE"),
        ("a stranger's certificate", at(&mutual, "SSL", &stranger), 2, "KAFKA_SSL_CERT_FILE"),
        ("no TLS where it is wanted", at(&mutual, "PLAINTEXT", &[]), 2, "wants TLS on this port"),
        (
            "a login without TLS where it is wanted",
            at(&login_tls, "SASL_PLAINTEXT", &login("PLAIN", PASSWORD)),
            2,
            "wants TLS on this port",
        ),
        ("TLS where there is none", at(&plain, "SSL", &[trust]), 2, "speaks no TLS on this port"),
        ("no login where it is wanted", at(&open, "PLAINTEXT", &[]), 2, "lets nobody in without a login"),
        (
            "no login over TLS where it is wanted",
            at(&login_tls, "SSL", &[trust]),
            2,
            "lets nobody in without a login",
        ),
        (
            "a login where there is none",
            at(&plain, "SASL_PLAINTEXT", &login("PLAIN", PASSWORD)),
            2,
            "takes no logins here",
        ),
    ];
    for (what, settings, code, words) in &cases {
        refused(&rig, what, settings, *code, words).await;
    }

    let settings = at(&login_tls, "SASL_SSL", &[tokens(endpoint.url()), vec![trust]].concat());
    endpoint.will(Answer::Refuse);
    refused(&rig, "a token endpoint that refuses", &settings, 2, "(HTTP 401: invalid_client)").await;
    endpoint.will(Answer::OldToken);
    refused(&rig, "a token that has expired", &settings, 2, "refuses the token").await;
    let down = at(&login_tls, "SASL_SSL", &[tokens("http://127.0.0.1:1/"), vec![trust]].concat());
    refused(&rig, "a token endpoint that is down", &down, 1, "ask the token endpoint http://127.0.0.1:1/")
        .await;

    a_consumer_waits_until_it_is_let_in(&rig, &login_tls, trust).await;
    rig.finish().await;
}

async fn refused(rig: &Rig, what: &str, settings: &[(&str, &str)], code: i32, words: &str) {
    let limits = [("RUN_DEADLINE", "12s"), ("REQUEST_TIMEOUT", "10s")];
    let ended = rig.produce(&[], &[settings, &limits[..]].concat()).await;
    assert_eq!(ended.code, Some(code), "{what}: {}", ended.log);
    let summary = ended.summary();
    let error = summary["error"].as_str().unwrap_or_default();
    assert!(error.contains(words), "{what}: {error}");
    assert_eq!(summary["retryable"], code == 1, "{what}");
    assert!(!error.contains("geheim") && !ended.log.contains("geheim"), "{what}: a secret is printed");
}

async fn a_consumer_waits_until_it_is_let_in(rig: &Rig, brokers: &str, trust: (&str, &str)) {
    let settings = at(brokers, "SASL_SSL", &[login("SCRAM-SHA-256", "new password"), vec![trust]].concat());
    let mut consumer: Program = rig.consumer(&settings);
    consumer.logs("check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", 1).await;
    until("people are told", async || !rig.alerts("kafka-failed").is_empty()).await;
    assert!(!consumer.has_ended(), "{}", consumer.log());
    rig.kafka.set_password(USER, "new password").await;
    consumer.logs("\"topic found\"", 1).await;
    consumer.signal(rustix::process::Signal::TERM);
    consumer.ended().await.expect_code(0);
}
