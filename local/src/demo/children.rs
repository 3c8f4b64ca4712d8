//! The processes of a demo: the very binaries that ship, each with a log file, none left behind.
//!
//! Each child leads a process group of its own. Ctrl-C on a terminal goes to a whole group, and would otherwise
//! stop the stack under a consumer that still has something to store: here the demo alone hears it, and stops its
//! children in their order. Dropping [`Children`] stops them too, so neither an error nor a panic leaves one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::environment::{Environment, Exports, ExportsError, inherited};
use super::folder::Folder;

/// How long the stack may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a producer run may take; its own deadline comes first.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// How long a child may take from SIGTERM to its end; its own limits come first.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The same where nothing can be waited for any more.
const LAST_LIMIT: Duration = Duration::from_secs(5);
/// How often something is looked at that cannot be waited for.
const POLL: Duration = Duration::from_millis(20);

/// What the consumer is started with, besides the stack's exports: prices soon in objects.
const CONSUMER_SETTINGS: [(&str, &str); 2] = [("MAX_OBJECT_AGE", "2s"), ("HTTP_ADDR", "off")];
/// The same for the producer.
const PRODUCER_SETTINGS: [(&str, &str); 2] = [("COINS", "50"), ("RUN_DEADLINE", "30s")];
/// The recorded coins reach from rank 1 to 100. Without these, the first 50 are the largest ones and ten with
/// what is rare: codes that begin with underscores (`_IMX`, `__GMX`), a rate that is written with an exponent.
const WITHOUT_RANKS: &str = "41-79";

/// Why a child could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// A binary is not where it should be.
    #[error("there is no {name} in {}; build it (cargo build), or name its folder with --bin-dir", dir.display())]
    Missing {
        /// Which.
        name: &'static str,
        /// Where it should be.
        dir: PathBuf,
    },
    /// It did not start.
    #[error("start {}", program.display())]
    Start {
        /// What.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It can't be waited for.
    #[error("wait for {name}")]
    Wait {
        /// Which.
        name: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody had told it to.
    #[error("{name} ended by itself ({status})")]
    Ended {
        /// Which.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// What it said.
        log: PathBuf,
    },
    /// The producer's run failed.
    #[error("the producer failed ({status}): {error}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Its summary's word on it, or the summary itself.
        error: String,
        /// What it said.
        log: PathBuf,
    },
    /// It was given up, and killed where it had been told to stop.
    #[error("{name} did not {what} within {limit:?}")]
    TooLong {
        /// Which.
        name: &'static str,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
        /// What it said.
        log: PathBuf,
    },
    /// The stack's exports can't be used.
    #[error("read {}", path.display())]
    Exports {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ExportsProblem,
    },
}

/// What can be wrong with the file of exports.
#[derive(Debug, thiserror::Error)]
pub enum ExportsProblem {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It says something else.
    #[error(transparent)]
    Text(#[from] ExportsError),
}

impl ChildError {
    /// The log that says more, if one does.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        match self {
            Self::Ended { log, .. } | Self::Failed { log, .. } | Self::TooLong { log, .. } => Some(log),
            Self::Missing { .. } | Self::Start { .. } | Self::Wait { .. } | Self::Exports { .. } => None,
        }
    }
}

/// A producer's last line of output, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// How many records were acknowledged.
    pub records: usize,
    /// The run's instant, RFC 3339.
    pub fetched_at: String,
}

/// All children of a demo, in the order in which they are stopped: what makes work before what does it.
#[derive(Debug)]
pub struct Children {
    producer: Option<Process>,
    consumer: Option<Process>,
    stack: Option<Process>,
    bin_dir: PathBuf,
}

impl Children {
    /// Nobody yet. All programs are there.
    ///
    /// # Errors
    /// [`ChildError::Missing`].
    pub fn new(bin_dir: &Path) -> Result<Self, ChildError> {
        // bootstrap is started by coinduit-local, which looks for it beside itself.
        for name in ["coinduit-local", "producer", "consumer", "bootstrap"] {
            if !bin_dir.join(name).is_file() {
                return Err(ChildError::Missing { name, dir: bin_dir.to_owned() });
            }
        }
        Ok(Self { producer: None, consumer: None, stack: None, bin_dir: bin_dir.to_owned() })
    }

    /// Where the program `name` is.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// Starts the stack on `folder` and waits until everything in it is up.
    ///
    /// # Errors
    /// [`ChildError`]; the stack may be running then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a stack that [`Children::stop`] stops.
    pub async fn start_stack(&mut self, folder: &Folder) -> Result<Exports, ChildError> {
        let env_file = folder.path().join("stack.env");
        let arguments = [
            "--data-dir".as_ref(),
            folder.path().as_os_str(),
            "--env-file".as_ref(),
            env_file.as_os_str(),
            "--without-ranks".as_ref(),
            WITHOUT_RANKS.as_ref(),
        ];
        let stack = Process::start(
            "coinduit-local",
            Command::new(self.program("coinduit-local")).args(arguments).stdout(Stdio::null()),
            inherited(std::env::vars_os()),
            folder,
        )?;
        let stack = self.stack.insert(stack);
        let deadline = Instant::now() + START_LIMIT;
        // The file is there when the stack is, and as a whole.
        while !env_file.exists() {
            stack.check()?;
            if Instant::now() >= deadline {
                return Err(stack.too_long("start", START_LIMIT));
            }
            sleep(POLL).await;
        }
        std::fs::read_to_string(&env_file)
            .map_err(ExportsProblem::from)
            .and_then(|text| Ok(Exports::parse(&text)?))
            .map_err(|source| ChildError::Exports { path: env_file, source })
    }

    /// Starts the consumer.
    ///
    /// # Errors
    /// [`ChildError::Start`].
    pub fn start_consumer(&mut self, exports: &Exports, folder: &Folder) -> Result<(), ChildError> {
        let consumer = Process::start(
            "consumer",
            Command::new(self.program("consumer")).stdout(Stdio::null()),
            exports.environment(std::env::vars_os(), &CONSUMER_SETTINGS),
            folder,
        )?;
        self.consumer = Some(consumer);
        Ok(())
    }

    /// Runs the producer once.
    ///
    /// # Errors
    /// [`ChildError::Failed`] when it says so itself, and whatever else can come between.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a producer that [`Children::stop`] stops.
    pub async fn run_producer(
        &mut self,
        exports: &Exports,
        folder: &Folder,
    ) -> Result<Published, ChildError> {
        let producer = Process::start(
            "producer",
            Command::new(self.program("producer")).stdout(Stdio::piped()),
            exports.environment(std::env::vars_os(), &PRODUCER_SETTINGS),
            folder,
        )?;
        let producer = self.producer.insert(producer);
        let (status, output) = producer.finish(RUN_LIMIT).await?;
        let log = producer.log.clone();
        self.producer = None;
        let last = output.lines().last().unwrap_or_default();
        match serde_json::from_str::<Published>(last) {
            Ok(published) if status.success() => Ok(published),
            _ => {
                #[derive(Deserialize)]
                struct Failed {
                    error: String,
                }
                let error = serde_json::from_str(last).map_or(last.to_owned(), |Failed { error }| error);
                Err(ChildError::Failed { status, error, log })
            }
        }
    }

    /// Lets `consumer audit` look at what the consumer has stored; returns what it says, word for word, and its end.
    /// It takes the consumer's place in the log folder as `audit`.
    ///
    /// # Errors
    /// [`ChildError`]: it could not be started, or takes too long.
    ///
    /// # Cancel safety
    /// Dropping the future leaves an audit that [`Children::stop`] stops.
    pub async fn audit(
        &mut self,
        exports: &Exports,
        folder: &Folder,
    ) -> Result<(ExitStatus, String), ChildError> {
        let audit = Process::start(
            "audit",
            Command::new(self.program("consumer")).arg("audit").stdout(Stdio::piped()),
            exports.environment(std::env::vars_os(), &CONSUMER_SETTINGS),
            folder,
        )?;
        let audit = self.consumer.insert(audit);
        let ended = audit.finish(RUN_LIMIT).await?;
        self.consumer = None;
        Ok(ended)
    }

    /// Whether the stack and the consumer are still there, as far as they were started.
    ///
    /// # Errors
    /// [`ChildError::Ended`].
    pub fn check(&mut self) -> Result<(), ChildError> {
        self.stack.iter_mut().chain(&mut self.consumer).try_for_each(Process::check)
    }

    /// Tells the consumer to stop and waits for its end. Without one there is no status.
    ///
    /// # Errors
    /// [`ChildError::TooLong`]; then it was killed.
    pub async fn stop_consumer(&mut self) -> Result<Option<ExitStatus>, ChildError> {
        stop(&mut self.consumer).await
    }

    /// The same for the stack.
    ///
    /// # Errors
    /// [`ChildError::TooLong`]; then it was killed.
    pub async fn stop_stack(&mut self) -> Result<Option<ExitStatus>, ChildError> {
        stop(&mut self.stack).await
    }

    /// Stops everybody who is left, in order, and says whether all of them took their leave in peace.
    ///
    /// # Errors
    /// The first child that did not end with exit code 0. The others are stopped all the same.
    pub async fn stop(&mut self) -> Result<(), ChildError> {
        // A producer that is told to stop says that its run failed, which it is meant to.
        let producer = stop(&mut self.producer).await.map(drop);
        let mut outcome = producer;
        for child in [&mut self.consumer, &mut self.stack] {
            let Some((name, log)) = child.as_ref().map(|child| (child.name, child.log.clone())) else {
                continue;
            };
            let stopped = match stop(child).await {
                Ok(Some(status)) if !status.success() => Err(ChildError::Ended { name, status, log }),
                other => other.map(drop),
            };
            outcome = outcome.and(stopped);
        }
        outcome
    }

    /// Kills everybody who is left.
    pub fn kill(&self) {
        for child in [&self.producer, &self.consumer, &self.stack].into_iter().flatten() {
            child.signal_group(Signal::KILL);
        }
    }

    /// The log of each child that is running.
    #[must_use]
    pub fn logs(&self) -> Vec<PathBuf> {
        let running = [&self.producer, &self.consumer, &self.stack];
        running.into_iter().flatten().map(|child| child.log.clone()).collect()
    }
}

async fn stop(child: &mut Option<Process>) -> Result<Option<ExitStatus>, ChildError> {
    let Some(process) = child else { return Ok(None) };
    let status = process.stop(STOP_LIMIT).await;
    *child = None;
    status.map(Some)
}

/// A child that runs, or has just ended.
#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    /// Its group's id too.
    id: Option<Pid>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with `environment` and nothing else; what it says is appended to its log.
    fn start(
        name: &'static str,
        command: &mut Command,
        environment: Environment,
        folder: &Folder,
    ) -> Result<Self, ChildError> {
        let program = PathBuf::from(command.as_std().get_program());
        let log = folder.log(name);
        let child = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|file| {
                command
                    .env_clear()
                    .envs(environment)
                    .stdin(Stdio::null())
                    .stderr(file)
                    .process_group(0)
                    .kill_on_drop(true)
                    .spawn()
            })
            .map_err(|source| ChildError::Start { program, source })?;
        let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Self { name, child, id, log })
    }

    /// Whether it is still running.
    fn check(&mut self) -> Result<(), ChildError> {
        let ended = self.child.try_wait().map_err(|source| ChildError::Wait { name: self.name, source })?;
        match ended {
            Some(status) => {
                self.bury();
                Err(ChildError::Ended { name: self.name, status, log: self.log.clone() })
            }
            None => Ok(()),
        }
    }

    /// Waits for its end; returns its output too.
    async fn finish(&mut self, limit: Duration) -> Result<(ExitStatus, String), ChildError> {
        let name = self.name;
        let mut stdout = self.child.stdout.take();
        let finished = async {
            let mut output = Vec::new();
            if let Some(stdout) = &mut stdout {
                stdout.read_to_end(&mut output).await?;
            }
            Ok((self.child.wait().await?, String::from_utf8_lossy(&output).into_owned()))
        };
        match timeout(limit, finished).await {
            Ok(finished) => finished.map_err(|source| ChildError::Wait { name, source }),
            Err(_) => Err(self.too_long("end", limit)),
        }
    }

    /// SIGTERM, then its end, or after `limit` SIGKILL.
    async fn stop(&mut self, limit: Duration) -> Result<ExitStatus, ChildError> {
        let deadline = Instant::now() + limit;
        self.signal(Signal::TERM);
        let name = self.name;
        match timeout_at(deadline, self.child.wait()).await {
            Ok(status) => {
                self.bury();
                status.map_err(|source| ChildError::Wait { name, source })
            }
            Err(_) => {
                self.signal_group(Signal::KILL);
                // It is dead, whatever the answer.
                drop(self.child.wait().await);
                Err(self.too_long("stop", limit))
            }
        }
    }

    fn too_long(&self, what: &'static str, limit: Duration) -> ChildError {
        ChildError::TooLong { name: self.name, what, limit, log: self.log.clone() }
    }

    /// Whether its id is still its own: it has not been waited for.
    fn is_there(&self) -> bool {
        self.child.id().is_some()
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id.filter(|_| self.is_there()) {
            // An error says that it has ended.
            kill_process(id, signal).ok();
        }
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(id) = self.id.filter(|_| self.is_there()) {
            kill_process_group(id, signal).ok();
        }
    }

    /// Right after its end: kills what it has started and left behind, as a coinduit-local that was killed leaves
    /// its bootstrap. As long as anybody is in the group, its id is nobody else's.
    fn bury(&self) {
        if let Some(id) = self.id {
            kill_process_group(id, Signal::KILL).ok();
        }
    }
}

impl Drop for Process {
    /// Where nobody has stopped it (an error on the way, a panic): SIGTERM, a short wait, SIGKILL. It blocks, as
    /// there may be no runtime any more that could wait.
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + LAST_LIMIT;
        while self.is_there() && matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                self.signal_group(Signal::KILL);
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The last `count` lines of a log, as much as can be read of it.
#[must_use]
pub fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}
