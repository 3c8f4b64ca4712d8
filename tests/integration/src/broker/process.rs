//! Brokers as processes: a script starts them, and what it leaves in its folder says which they are.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// Where the script is found.
const VARIABLE: &str = "KAFKA_UP";

/// The script that starts brokers: `$KAFKA_UP start FOLDER PORT`.
#[derive(Debug)]
pub(crate) struct Script(OsString);

impl Script {
    /// The one that the environment names.
    pub(crate) fn find() -> Option<Self> {
        std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(Self)
    }

    /// Lets it start what `setting` says.
    ///
    /// # Panics
    /// When it fails.
    pub(crate) async fn start(&self, folder: &Path, port: u16, setting: (&str, &OsStr)) {
        let mut start = tokio::process::Command::new(&self.0);
        start.arg("start").arg(folder).arg(port.to_string()).env(setting.0, setting.1).stdin(Stdio::null());
        let script = Path::new(&self.0).display();
        let started = start.output().await;
        let started = started.unwrap_or_else(|error| panic!("run {script} ({VARIABLE}): {error}"));
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "{script} ({VARIABLE}) failed: {said}");
    }
}

/// A broker's process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    /// How it was started.
    command: Vec<OsString>,
    log: PathBuf,
    pid_file: PathBuf,
    pid: Option<Pid>,
}

impl Process {
    /// The one that the script calls `name`, once it has started it in `folder`.
    pub(crate) fn of_script(folder: &Path, name: &str) -> Self {
        let file = |kind| folder.join(name).with_extension(kind);
        Self { command: Vec::new(), log: file("log"), pid_file: file("pid"), pid: None }
    }

    /// One like this that has not been started: it is called `name`, and told `settings`.
    pub(crate) fn sibling(&self, folder: &Path, name: &str, settings: PathBuf) -> Self {
        let mut sibling = Self::of_script(folder, name);
        sibling.command.clone_from(&self.command);
        *sibling.command.last_mut().expect("a broker is told its settings") = settings.into_os_string();
        sibling
    }

    /// Finds the process, if the script has started one and it is not known yet.
    pub(crate) fn find(&mut self) {
        if self.pid.is_some() || !self.command.is_empty() {
            return;
        }
        let Ok(text) = std::fs::read_to_string(&self.pid_file) else { return };
        self.pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let line = std::fs::read(format!("/proc/{}/cmdline", text.trim())).unwrap_or_default();
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        self.command = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.pid.expect("the broker runs");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("send {signal:?} to a broker: {error}"));
    }

    pub(super) async fn ended(&mut self) {
        let pid = self.pid.take().expect("it has been sent a signal");
        until("a broker has ended", async || is_gone(pid)).await;
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.pid.is_none_or(is_gone)
    }

    /// The last lines of its log: the folder goes with the test.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(super) fn launch(&mut self) -> io::Result<()> {
        let [program, arguments @ ..] = &self.command[..] else {
            return Err(io::Error::other("nobody knows how it was started"));
        };
        let log = std::fs::OpenOptions::new().append(true).create(true).open(&self.log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        // Whoever cleans up by the script's files finds it too.
        std::fs::write(&self.pid_file, child.id().to_string())?;
        self.pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(())
    }
}

/// Whether a process has ended: it is gone, or a zombie (Z, X) that waits for its parent to notice.
///
/// Its command line would not tell: for a moment, one that has just been started has none either.
fn is_gone(pid: Pid) -> bool {
    // `proc_pid_stat(5)`: `pid (name) state ...`, and the name may have brackets of its own.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

impl Drop for Process {
    fn drop(&mut self) {
        // The script may have failed half-way.
        self.find();
        if let Some(pid) = self.pid.take() {
            // It has nothing to keep; and a broker that stands still takes no other signal.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    /// It looked so about once in a thousand times.
    #[test]
    fn what_has_just_been_started_has_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..1000 {
            let mut process = Process::of_script(folder.path(), "sleep");
            process.command = ["sleep", "60"].map(OsString::from).to_vec();
            process.launch().unwrap();
            assert!(!process.has_ended());
            let pid = process.pid;
            drop(process);
            // A thousand that wait for it to notice would be more than some machines allow.
            waitpid(pid, WaitOptions::empty()).unwrap();
        }
    }

    #[tokio::test]
    async fn what_ends_by_itself_has_ended_and_its_log_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::of_script(folder.path(), "broker");
        process.command = ["sh", "-c", "echo the port is taken >&2; exit 1"].map(OsString::from).to_vec();
        process.launch().unwrap();
        until("it has ended", async || process.has_ended()).await;
        assert_eq!(process.last_words(), "the port is taken");
    }
}
