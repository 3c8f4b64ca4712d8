//! `coinduit-demo` from start to end, with the binaries that `cargo build` has put beside it (`make test` does).

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use coinduit_local::demo::folder::Folder;
use rustix::process::{Pid, Signal, kill_process};

/// A demo in `folder`, in an environment that would lead astray whoever believed it.
fn demo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coinduit-demo"));
    command.arg("--data-dir").arg(folder);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "somebodys"),
        ("AWS_SECRET_ACCESS_KEY", "somebodys"),
        ("AWS_PROFILE", "nobodys"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("API_KEY", "somebodys"),
        ("API_URL", "http://127.0.0.1:9"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9"),
        ("S3_PREFIX", "elsewhere"),
        ("COINS", "7"),
        ("CURRENCY", "EUR"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
    ] {
        command.env(name, value);
    }
    command
}

/// That nobody uses the folder any more: neither the demo nor its stack.
fn is_free(folder: &Path) {
    drop(Folder::claim(folder).unwrap());
}

#[test]
fn three_runs_are_proved_from_the_api_to_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    for line in [
        "ok      3 pages of 50 coins served by the price API",
        "ok      150 records on the topic",
        "ok      150 records with key, id, source, currency and instant",
        "ok      _IMX and __GMX are among the coins",
        "ok      the objects of 4 partitions are chains without gap or overlap",
        "ok      the metadata of every object agrees with its lines and the topic",
        "ok      150 lines are the topic's records, each once, in order, byte for byte",
        "ok      no record and no line is in quarantine, and nothing else is in the bucket",
        "ok      150 rows in prices, one of each record",
        "ok      150 rates in prices are the API's, to the last decimal",
        "ok      50 rows in coins, all of the newest run, rates too",
        "ok      no alert was published",
        "ok      no event was given up by the Lambda",
        "ok      consumer audit, bucket against topic, has found nothing",
        "ok      the consumer stopped on SIGTERM with exit code 0",
        "ok      coinduit-local stopped on SIGTERM with exit code 0",
        "All 19 checks held.",
    ] {
        assert!(out.lines().any(|printed| printed == line), "{line:?} is not in\n{out}");
    }
    for words in [
        "ok      150 rates on the topic are the API's, digit for digit (6 with an exponent",
        "ok      150 lines in ",
    ] {
        assert!(out.lines().any(|printed| printed.starts_with(words)), "{words:?} is not in\n{out}");
    }
    let first_coin = "   1  BTC       Bitcoin ";
    assert!(out.lines().any(|printed| printed.starts_with(first_coin)), "{first_coin:?} is not in\n{out}");
    // Not on a terminal: no colours, no live line.
    assert!(!out.contains('\x1b') && err.is_empty(), "{out}\n{err}");
    let object = "s3/coinduit/crypto_prices/partition=0/00000000000000000000.jsonl";
    assert!(folder.path().join(object).is_file());
    is_free(folder.path());
}

#[test]
fn without_an_end_it_runs_until_it_is_stopped_and_is_done_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path())
        .args(["--forever", "--interval", "5s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut said = String::new();
    // Run, records, new objects, rows of prices, rows of coins: of two runs whose rows have arrived.
    let mut runs: Vec<[usize; 5]> = Vec::new();
    while runs.len() < 2 {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it has ended:\n{said}");
        said.push_str(&line);
        let columns: Vec<&str> = line.split_whitespace().collect();
        if let [_, run, records, objects, prices, coins, _, "s"] = columns[..] {
            runs.push([run, records, objects, prices, coins].map(|number| number.parse().unwrap()));
        }
    }
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    out.read_to_string(&mut said).unwrap();
    let mut err = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{said}\n{err}");
    for [run, records, objects, prices, coins] in runs {
        assert_eq!([records, prices, coins], [50, 50 * run, 50], "{said}");
        assert!(objects >= 4, "{said}");
    }
    is_free(folder.path());
}

#[test]
fn a_consumer_that_dies_ends_the_demo_with_its_name_and_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (data, programs) = (folder.path().join("data"), folder.path().join("programs"));
    std::fs::create_dir(&programs).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_coinduit-demo")).parent().unwrap();
    for name in ["coinduit-local", "producer", "bootstrap"] {
        std::os::unix::fs::symlink(built.join(name), programs.join(name)).unwrap();
    }
    // It does its work, which is another, and ends.
    std::os::unix::fs::symlink(built.join("producer"), programs.join("consumer")).unwrap();
    let output = demo(&data).arg("--bin-dir").arg(&programs).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("error: consumer ended by itself"), "{err}");
    assert!(err.contains("logs/consumer.log:\n  | "), "{err}");
    is_free(&data);
}

#[test]
fn programs_that_are_not_built_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(&folder.path().join("data")).arg("--bin-dir").arg(folder.path()).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("there is no coinduit-local in") && err.contains("cargo build"), "{err}");
    assert!(!folder.path().join("data").exists());
}
