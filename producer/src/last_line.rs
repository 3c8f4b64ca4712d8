//! A bug ends the process with the exit code of a failure, and with a summary like any other as its last line.

use std::sync::Arc;

use coinduit_common::exit::Exit;

use crate::{
    summary::{Stage, Summary},
    tally::Tally,
};

/// From now on a panic in any thread ends the process so, with what `tally` has counted. The released binary aborts
/// at a panic; this comes before.
pub fn after_a_panic(tally: Arc<Tally>) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        Summary::failed_after(&tally, Stage::Panic, panic.to_string(), true).print();
        std::process::exit(Exit::Failed.code().into());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set in the process that is to panic.
    const CHILD: &str = "COINDUIT_TEST_PANIC";

    #[test]
    fn a_panic_ends_with_a_summary_and_what_was_counted() {
        let name = "last_line::tests::a_panic_ends_with_a_summary_and_what_was_counted";
        if std::env::var_os(CHILD).is_some() {
            let tally = Arc::new(Tally::default());
            after_a_panic(Arc::clone(&tally));
            tally.sent(7);
            panic!("a bug");
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, "yes")
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let last = stdout.trim_end().lines().last().unwrap();
        // The test harness may have begun the line.
        let summary: serde_json::Value = serde_json::from_str(&last[last.find('{').unwrap()..]).unwrap();
        assert_eq!((output.status.code(), &summary["stage"]), (Some(1), &"panic".into()), "{stdout}");
        assert_eq!(summary["possible_duplicates"], 7);
        assert!(summary["error"].as_str().unwrap().contains("a bug"), "{stdout}");
    }
}
