//! A Kafka cluster of a test's own, whose brokers it may stop.
//!
//! ```text
//! Cluster: broker 1, the controller too · broker 2     as the script starts them
//!          broker 3, by `Cluster::join`                so that two can be away while the controller stays
//! ```

use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::wait::{until, within};

/// Where the script that starts brokers is found.
const VARIABLE: &str = "KAFKA_UP";
/// A broker that has not started by then, and has not ended, never will. At a load of forty it took more than two minutes.
const START: Duration = Duration::from_secs(600);
/// So many lines of the log of a broker that has ended are shown.
const LAST_WORDS: usize = 30;
/// The brokers' names in the script's folder. The first is the controller too.
const BROKERS: [&str; 2] = ["kafka", "kafka2"];

/// Two brokers. They are killed when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    brokers: [Broker; 2],
    /// With the logs of the brokers.
    folder: TempDir,
}

/// A broker.
#[derive(Debug)]
pub struct Broker {
    address: String,
    /// How the script started it.
    command: Vec<std::ffi::OsString>,
    log: PathBuf,
    pid_file: PathBuf,
    pid: Option<Pid>,
}

impl Cluster {
    /// Starts one.
    ///
    /// # Panics
    /// When the environment names no script for that, or it fails.
    pub async fn start() -> Self {
        let script = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).unwrap_or_else(|| {
            panic!(
                "this test stops brokers: set {VARIABLE} to a script that starts a cluster of its own, \
                 `BROKERS=2 $KAFKA_UP start FOLDER PORT` (.ci/run sets it)"
            )
        });
        let folder =
            tempfile::Builder::new().prefix("coinduit-kafka-").tempdir().expect("a temporary folder");
        let port = free_port();
        let mut start = tokio::process::Command::new(&script);
        start.arg("start").arg(folder.path()).arg(port.to_string()).env("BROKERS", "2").stdin(Stdio::null());
        // The cluster is known from here on: it is stopped though the script fails half-way.
        let mut cluster = Self { brokers: [0, 3].map(|step| Broker::new(port + step)), folder };
        let started = start.output().await.expect("run the script");
        for (broker, name) in cluster.brokers.iter_mut().zip(BROKERS) {
            broker.find(cluster.folder.path(), name);
        }
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(started.status.success(), "{} failed: {said}", script.display());
        cluster
    }

    /// The addresses of both.
    pub fn bootstrap(&self) -> String {
        self.brokers.each_ref().map(|broker| broker.address.as_str()).join(",")
    }

    /// Starts a third broker, whose id is 3. It is the caller's to stop, and is killed when it is dropped.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn join(&self) -> Joined {
        let [_, second] = &self.brokers;
        let folder = self.folder.path();
        let (settings, data) = (folder.join("server2.properties"), folder.join("data2"));
        let port = free_port();
        let changed = |path: &Path, changes: &[(&str, String)]| {
            let text =
                std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let line = |line: &str| {
                let change = changes.iter().find(|(name, _)| line.starts_with(&format!("{name}=")));
                change.map_or_else(|| line.to_owned(), |(name, value)| format!("{name}={value}"))
            };
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        let address = format!("127.0.0.1:{port}");
        let own_data = folder.join("data3");
        std::fs::create_dir(&own_data).expect("a folder for the broker's logs");
        let listener = format!("PLAINTEXT://{address}");
        let own = [
            ("node.id", "3".to_owned()),
            ("log.dirs", own_data.display().to_string()),
            ("listeners", listener.clone()),
            ("advertised.listeners", listener),
        ];
        let own_settings = folder.join("server3.properties");
        std::fs::write(&own_settings, changed(&settings, &own)).expect("write its settings");
        let directory = ("directory.id", URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes()));
        let meta = changed(&data.join("meta.properties"), &[("node.id", "3".to_owned()), directory]);
        std::fs::write(own_data.join("meta.properties"), meta).expect("write whose folder it is");

        let mut broker = Broker::new(port);
        broker.log = folder.join("kafka3.log");
        broker.pid_file = folder.join("kafka3.pid");
        broker.command = second.command.clone();
        *broker.command.last_mut().expect("a broker is told its settings") = own_settings.into_os_string();
        let mut joined = Joined(broker);
        joined.0.start_again().await;
        joined
    }

    /// The brokers: the one that is the controller too, and the other one. Their ids are 1 and 2.
    pub fn brokers(&mut self) -> &mut [Broker; 2] {
        &mut self.brokers
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (broker, name) in self.brokers.iter_mut().zip(BROKERS) {
            broker.find(self.folder.path(), name);
            broker.end();
        }
    }
}

/// A third broker.
#[derive(Debug)]
pub struct Joined(Broker);

impl Joined {
    /// The broker.
    pub const fn broker(&mut self) -> &mut Broker {
        &mut self.0
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Broker {
    fn new(port: u16) -> Self {
        Self {
            address: format!("127.0.0.1:{port}"),
            command: Vec::new(),
            log: PathBuf::new(),
            pid_file: PathBuf::new(),
            pid: None,
        }
    }

    /// Finds its process, if the script has started one and it is not known yet.
    fn find(&mut self, folder: &Path, name: &str) {
        self.log = folder.join(name).with_extension("log");
        self.pid_file = folder.join(name).with_extension("pid");
        if self.pid.is_some() || !self.command.is_empty() {
            return;
        }
        let Ok(text) = std::fs::read_to_string(&self.pid_file) else { return };
        self.pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let line = std::fs::read(format!("/proc/{}/cmdline", text.trim())).unwrap_or_default();
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        self.command = words.map(|word| std::ffi::OsString::from_vec(word.to_vec())).collect();
    }

    fn end(&mut self) {
        if let Some(pid) = self.pid.take() {
            // It has nothing to keep; and a broker that stands still takes no other signal.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends it `signal`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid.expect("the broker runs");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("send {signal:?} to a broker: {error}"));
    }

    /// Stops it: orderly with `TERM`, at once with `KILL`.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        let pid = self.pid.take().expect("it has been sent a signal");
        until("a broker has ended", async || {
            // It may still listen for a moment.
            has_ended(pid) && TcpStream::connect(&self.address).await.is_err()
        })
        .await;
    }

    /// Starts it again, and waits until it listens.
    ///
    /// # Panics
    /// When it ends instead, or does not in time.
    pub async fn start_again(&mut self) {
        self.launch().unwrap_or_else(|error| panic!("start a broker again: {error}"));
        let pid = self.pid.expect("it has been started");
        within(START, "the broker listens again", async || {
            assert!(!has_ended(pid), "a broker has ended instead of starting:\n{}", self.last_words());
            TcpStream::connect(&self.address).await.is_ok()
        })
        .await;
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }

    fn launch(&mut self) -> io::Result<()> {
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

/// Whether a process is gone, or has ended and waits for its parent to notice: it has no command line then.
fn has_ended(pid: Pid) -> bool {
    std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default().is_empty()
}

/// The first of a few ports in a row that are free now: the brokers' and the controller's. None that systems hand out by
/// themselves (32768 and up on Linux): while a broker starts, or is away, somebody's connection would have its port.
fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(10_000..32_000);
        if (0..=3).all(|step| TcpListener::bind(("127.0.0.1", port + step)).is_ok()) {
            return port;
        }
    }
}
