//! The demo's children, played by shell scripts: what they say is heard, and none is left behind.
//!
//! These are not beside the code, because a process that forks for a moment holds the file locks of every test
//! around it, and tests there take one lock twice.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

use std::time::Duration;

use coinduit_local::demo::children::{Children, Published, last_lines};
use coinduit_local::demo::environment::Exports;
use coinduit_local::demo::folder::Folder;
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;
use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(10);

/// Programs of which one, `name`, does what `script` says, and a folder for their logs.
fn programs(name: &str, script: &str) -> (TempDir, Children, Folder) {
    let parent = tempfile::tempdir().unwrap();
    let bin = parent.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for each in ["coinduit-local", "producer", "consumer", "bootstrap"] {
        let text = if each == name { script } else { "exit 3" };
        // Written by another process: what this one has open for writing while another test forks can't be executed
        // (ETXTBSY) until that test's child has gone on.
        let written = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .args([bin.join(each).as_os_str(), text.as_ref()])
            .status();
        assert!(written.unwrap().success());
    }
    let folder = Folder::claim(&parent.path().join("data")).unwrap();
    let children = Children::new(&bin).unwrap();
    (parent, children, folder)
}

fn exports() -> Exports {
    Exports::parse("").unwrap()
}

/// The process id that the consumer has written into its log.
async fn id_in_log(folder: &Folder) -> Pid {
    loop {
        let id = last_lines(&folder.log("consumer"), 1).first().and_then(|line| line.parse().ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            return id;
        }
        sleep(POLL).await;
    }
}

#[tokio::test]
async fn a_producers_summary_is_its_last_line() {
    let script = r#"echo noise >&2; echo other; echo '{"status":"published","records":50,"fetched_at":"t"}'"#;
    let (_parent, mut children, folder) = programs("producer", script);
    let published = children.run_producer(&exports(), &folder).await.unwrap();
    assert_eq!(published, Published { records: 50, fetched_at: "t".to_owned() });
    assert_eq!(last_lines(&folder.log("producer"), 5), ["noise"]);
}

#[tokio::test]
async fn a_producer_that_fails_is_quoted() {
    let script = r#"echo '{"status":"failed","stage":"fetch","error":"no coins"}'; exit 1"#;
    let (_parent, mut children, folder) = programs("producer", script);
    let error = children.run_producer(&exports(), &folder).await.unwrap_err();
    assert_eq!(error.to_string(), "the producer failed (exit status: 1): no coins");
    assert_eq!(error.log(), Some(folder.log("producer").as_path()));
}

#[tokio::test]
async fn a_child_that_ends_by_itself_is_noticed() {
    let (_parent, mut children, folder) = programs("coinduit-local", "echo port taken >&2; exit 1");
    let error = children.start_stack(&folder).await.unwrap_err();
    assert_eq!(error.to_string(), "coinduit-local ended by itself (exit status: 1)");
    assert_eq!(last_lines(error.log().unwrap(), 5), ["port taken"]);
}

#[tokio::test]
async fn a_child_is_told_to_stop_and_asked_how_it_ended() {
    let script = "trap 'exit 7' TERM; echo $$ >&2; while :; do sleep 0.01; done";
    let (_parent, mut children, folder) = programs("consumer", script);
    children.start_consumer(&exports(), &folder).unwrap();
    id_in_log(&folder).await;
    children.check().unwrap();
    assert_eq!(children.stop_consumer().await.unwrap().unwrap().code(), Some(7));
    assert_eq!(children.stop_consumer().await.unwrap(), None);
}

#[tokio::test]
async fn what_a_killed_child_had_started_is_not_left_behind() {
    let (_parent, mut children, folder) = programs("consumer", "sleep 1000000 & echo $! >&2; kill -KILL $$");
    children.start_consumer(&exports(), &folder).unwrap();
    while children.check().is_ok() {
        sleep(POLL).await;
    }
    let grandchild = id_in_log(&folder).await;
    // Whoever takes in orphans may be slow to bury this one, but it is dead.
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", grandchild.as_raw_nonzero()));
    while stat().is_ok_and(|stat| !stat.contains(") Z ")) {
        sleep(POLL).await;
    }
}

#[tokio::test]
async fn nobody_outlives_the_children() {
    let (_parent, mut children, folder) = programs("consumer", "echo $$ >&2; exec sleep 1000000");
    children.start_consumer(&exports(), &folder).unwrap();
    let id = id_in_log(&folder).await;
    drop(children);
    assert!(test_kill_process(id).is_err());
}
