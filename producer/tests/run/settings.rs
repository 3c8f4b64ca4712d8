//! Settings: every fault at once, before anything is opened, and no secret in sight.

use tempfile::NamedTempFile;

use crate::{
    scripted::{Answer, Scripted},
    world::{KEY, Run, World, price_api},
};

#[tokio::test]
async fn every_fault_is_reported_at_once() {
    let settings = [
        ("API_URL", "ftp://x"),
        ("COINS", "many"),
        ("CURRENCY", "dollars"),
        ("RUN_DEADLINE", "90"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:b"),
        ("KAFKA_TOPIC", "a b"),
        ("SNS_TOPIC_ARN", "alerts"),
        ("LOG_FORMAT", "xml"),
    ];
    let run = settings.iter().fold(Run::bare(), |run, (name, value)| run.with(name, value));
    let outcome = run.finish().await;
    outcome.failed(2, "config", &["9 settings can't be used", "API_KEY: is not set"]).retryable(false);
    for (name, _) in settings {
        outcome.failed(2, "config", &[name]);
        assert!(outcome.log.contains(name), "{name} in {}", outcome.log);
    }
}

#[tokio::test]
async fn nothing_is_opened_with_settings_that_cannot_be_used() {
    let world = World::new(1).await;
    let api = Scripted::start([Answer::ok(r#"[{"code":"BTC"}]"#)]).await;
    world.run(&api.url).with("COINS", "0").finish().await.failed(2, "config", &["COINS"]);
    assert!(api.asked().is_empty());
    assert_eq!(world.broker.faults().seen(coinduit_local::broker::ApiKey::ApiVersions), 0);
}

#[tokio::test]
async fn the_brokers_two_names_may_agree_and_may_not_differ() {
    let (world, api) = (World::new(1).await, price_api());
    let bootstrap = world.broker.bootstrap();
    let seed = world.run(&api.url()).without("KAFKA_BOOTSTRAP_SERVERS").with("KAFKA_HOST", &bootstrap);
    seed.finish().await.published(50);
    let both = world.run(&api.url()).with("KAFKA_HOST", &bootstrap);
    both.finish().await.published(50);
    let different = world.run(&api.url()).with("KAFKA_HOST", "elsewhere:9092");
    different.finish().await.failed(2, "config", &["KAFKA_HOST", "elsewhere:9092"]).retryable(false);
    assert_eq!(world.records().await.len(), 100);
}

#[tokio::test]
async fn the_key_may_come_from_a_file() {
    let (world, file) = (World::new(1).await, NamedTempFile::new().unwrap());
    std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
    let api = Scripted::start([Answer::ok(r#"[{"code":"BTC"}]"#)]).await;
    let run = world.run(&api.url).without("API_KEY").with("API_KEY_FILE", file.path().to_str().unwrap());
    run.finish().await.published(1);
    assert!(api.asked()[0].head.contains(&format!("x-api-key: {KEY}\r\n")), "{:?}", api.asked());
}

#[tokio::test]
async fn a_key_that_cannot_be_read_or_sent_is_a_fault_that_does_not_show_it() {
    let world = World::new(1).await;
    let run = || world.run("http://127.0.0.1:1");
    let missing = run().without("API_KEY").with("API_KEY_FILE", "/nowhere/key");
    missing.finish().await.failed(2, "config", &["API_KEY_FILE", "/nowhere/key"]);
    run().with("API_KEY_FILE", "/nowhere/key").finish().await.failed(2, "config", &["set one of the two"]);
    run().with("API_KEY", &format!("{KEY} x")).finish().await.failed(
        2,
        "config",
        &["API_KEY: holds characters"],
    );
    run().with("API_KEY", "").finish().await.failed(2, "config", &["API_KEY: is not set"]);
}

#[tokio::test]
async fn no_secret_is_logged_however_much_is() {
    let world = World::new(1).await;
    let refusal = Answer::http("401 Unauthorized", "", "");
    let run = world.run(&Scripted::start([refusal]).await.url).with("RUST_LOG", "trace");
    let outcome = run.with("AWS_SECRET_ACCESS_KEY", "an0th3r-s3cr3t").finish().await;
    outcome.failed(2, "fetch", &[]);
    assert!(outcome.log.contains("TRACE") && !outcome.log.contains("an0th3r-s3cr3t"));
}

#[tokio::test]
async fn a_password_in_an_address_is_not_printed() {
    let world = World::new(1).await;
    for url in ["http://me:g3h31m@127.0.0.1:1", "ftp://me:g3h31m@127.0.0.1:1"] {
        let run = world.run(url).with("RUN_DEADLINE", "1s").with("REQUEST_TIMEOUT", "1s");
        let outcome = run.finish().await;
        assert!(!format!("{outcome:?}").contains("g3h31m"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let world = World::new(1).await;
    let api = Scripted::start([Answer::ok(r#"[{"code":"BTC"}]"#)]).await;
    world.run(&api.url).with("COINS", "7").argument("--coins").argument("9").finish().await.published(1);
    assert_eq!(api.asked()[0].body["limit"], 9);
}

#[tokio::test]
async fn an_unknown_flag_is_a_fault_with_a_summary() {
    Run::bare().argument("--coin").finish().await.failed(2, "config", &["--coin"]).retryable(false);
}

#[tokio::test]
async fn help_is_no_run() {
    for flag in ["--help", "-h", "--version"] {
        let output = Run::bare().argument(flag).start().output().await;
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(if flag == "--version" { "producer " } else { "API_KEY" }), "{text}");
    }
}
