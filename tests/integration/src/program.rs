//! The binaries that ship, as processes: started, watched, signalled, waited for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::wait::{LIMIT, until};

/// A consumer's word for where it answers.
const SERVING: &str = "serving /metrics, /livez and /readyz";
/// Lines of a log that are written down and not shown to tests.
const DEBUG: &str = "\"level\":\"DEBUG\"";
/// A process that stands still is not waited for any longer when a test has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The path of the binary `name`, next to the tests' own folder in the target directory.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("tests are built in target/debug/deps");
    let path = folder.join(name);
    assert!(path.is_file(), "there is no {}: run `cargo build` (make integration does)", path.display());
    path
}

/// A process. It is killed when this is dropped; when that happens because a test fails, its log is shown, and how it
/// says that it stands.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    out: Text,
    log: Text,
    readers: [JoinHandle<()>; 2],
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub log: String,
}

impl Ended {
    /// The last line of output, which is the producer's summary.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn summary(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no summary: {error}"))
    }

    /// Fails the test, with the log, unless the process ended with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; output: {}\nlog:\n{}", self.out, self.log);
        self
    }
}

impl Program {
    /// Starts the binary `name` with these arguments, and with this environment and no more.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(name: &str, arguments: &[&str], env: &[(String, String)]) -> Self {
        Self::spawn(name, Command::new(binary(name)).args(arguments), env, None)
    }

    /// The same, and writes all that it logs into `file`. Only there are the lines of level debug.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_logged(name: &str, arguments: &[&str], env: &[(String, String)], file: File) -> Self {
        Self::spawn(name, Command::new(binary(name)).args(arguments), env, Some(file))
    }

    /// Starts the program `name` of this machine with these arguments. `package` is where people find it.
    ///
    /// # Panics
    /// When it is not installed.
    pub fn tool(name: &str, package: &str, arguments: &[&str]) -> Self {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
        let path = paths.find(|path| path.is_file());
        let path = path.unwrap_or_else(|| {
            panic!("this test needs {name}: install the package {package} (.ci/run does)")
        });
        Self::spawn(name, Command::new(path).args(arguments), &[], None)
    }

    fn spawn(name: &str, command: &mut Command, env: &[(String, String)], file: Option<File>) -> Self {
        let mut child = command
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let (out, log) = (Text::default(), Text::default());
        let readers = [
            tokio::spawn(collect(child.stdout.take().expect("it is piped"), out.clone(), None)),
            tokio::spawn(collect(child.stderr.take().expect("it is piped"), log.clone(), file)),
        ];
        Self { name: name.to_owned(), child, out, log, readers }
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// What it has printed so far.
    pub fn out(&self) -> String {
        self.out.get()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.get()
    }

    /// Waits until it has logged `phrase` `times` times in all.
    ///
    /// # Panics
    /// When it ends without, or does not in time.
    pub async fn logs(&mut self, phrase: &str, times: usize) {
        let what = format!("{} logs {phrase:?} {times} times", self.name);
        until(&what, async || {
            if self.log().matches(phrase).count() >= times {
                return true;
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{} ended ({ended:?}) before: {what}", self.name);
            false
        })
        .await;
    }

    /// The most memory that it has had so far, in KiB.
    ///
    /// # Panics
    /// When it has ended.
    pub fn peak_kib(&self) -> u64 {
        let id = self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name));
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.and_then(|peak| peak.trim().parse().ok()).unwrap_or_else(|| panic!("no VmHWM in {status}"))
    }

    /// Sends it `signal`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.unwrap_or_else(|| panic!("{} has ended before {signal:?}", self.name));
        kill_process(id, signal).unwrap_or_else(|error| panic!("send {signal:?} to {}: {error}", self.name));
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn ended(mut self) -> Ended {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let Ok(status) = status else { panic!("{} does not end within {LIMIT:?}", self.name) };
        for reader in &mut self.readers {
            reader.await.expect("reading a process's output does not panic");
        }
        let code = status.expect("a child can be waited for").code();
        Ended { code, out: self.out.get(), log: self.log.get() }
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    ///
    /// # Panics
    /// When it has ended by itself.
    pub async fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        let ended = self.ended().await;
        assert_eq!(ended.code, None, "it ended by itself before it was killed:\n{}", ended.log);
        ended
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.get();
            let ready = serving(&log).map(|address| match readiness(address) {
                Ok(answer) => format!("/readyz: {answer}\n"),
                Err(error) => format!("/readyz: {error}\n"),
            });
            eprintln!("--- log of {}:\n{log}{}---", self.name, ready.unwrap_or_default());
        }
    }
}

/// Where a consumer with this log answers, if it does.
fn serving(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(SERVING))?;
    let event: Value = serde_json::from_str(line).ok()?;
    event["address"].as_str()?.strip_prefix("Some(")?.strip_suffix(')')?.parse().ok()
}

/// What it says of itself there.
fn readiness(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

/// The lines of a log whose message is `message`.
///
/// # Panics
/// When one is not JSON.
pub fn events(log: &str, message: &str) -> Vec<Value> {
    let said = log.lines().filter(|line| line.contains(message));
    said.map(|line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no line of a log: {error}"))
    })
    .filter(|event: &Value| event["message"] == message)
    .collect()
}

/// Text that one task writes and others look at.
#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<String>>);

impl Text {
    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn collect(pipe: impl AsyncRead + Unpin, text: Text, mut file: Option<File>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(file) = &mut file {
            writeln!(file, "{line}").expect("write down what a process has logged");
            if line.contains(DEBUG) {
                continue;
            }
        }
        let mut text = text.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&line);
        text.push('\n');
    }
}
