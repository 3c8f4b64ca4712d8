//! `coinduit-demo`: the shipped binaries on the embedded stack, and the proof that every price arrived.
//!
//! ```text
//!            coinduit-local  (price API, Kafka, S3, DynamoDB, SNS, Lambda host -> bootstrap)
//! demo ----> consumer        all the time
//!            producer        once a run
//!
//! runs done --> follow until all rows are there --> stop the consumer --> collect --> proof --> stop the stack
//! ```
//!
//! | module | |
//! | --- | --- |
//! | `once` | three runs, the proof, the table: `make demo` |
//! | `forever` | a run every interval: `make run` |
//! | [`children`], [`environment`] | the processes, and what they are told |
//! | `services`, `follow`, `collect` | looking into the stack: its clients, what is new, everything |
//! | [`evidence`], [`proof`] | what was found, and whether it is what should be there |
//! | [`table`], [`screen`] | what people see |
//! | [`settings`], [`folder`] | what the operator wants, and where |

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use coinduit_common::exit::Exit;
use coinduit_common::report::Chain;
use coinduit_common::shutdown::Signals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

pub mod children;
pub mod environment;
pub mod evidence;
pub mod folder;
pub mod proof;
pub mod screen;
pub mod settings;
pub mod table;

mod collect;
mod follow;
mod forever;
mod once;
mod services;

use children::{ChildError, Children};
use environment::Exports;
use folder::{Folder, FolderError};
use screen::Screen;
use services::{LookError, Services};
use settings::Settings;

/// How often what can't be waited for is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long the stack may take to answer one look.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How many lines of a log are shown after a failure.
const LOG_LINES: usize = 15;

/// Why a demo came to no result.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("the stack did not answer within {LOOK_LIMIT:?}")]
    Silent,
    #[error("install signal handlers")]
    Signals(#[source] io::Error),
}

impl DemoError {
    const fn exit(&self) -> Exit {
        match self {
            Self::Folder(_) | Self::Child(ChildError::Missing { .. }) => Exit::Misconfigured,
            Self::Child(_) | Self::Look(_) | Self::Silent | Self::Signals(_) => Exit::Failed,
        }
    }

    /// The logs that say more.
    fn logs(&self, children: &Children) -> Vec<PathBuf> {
        match self {
            Self::Child(error) => error.log().map(PathBuf::from).into_iter().collect(),
            Self::Look(_) | Self::Silent => children.logs(),
            Self::Folder(_) | Self::Signals(_) => Vec::new(),
        }
    }
}

/// How the work of a demo ended.
enum Ending {
    /// All of it held.
    Proved,
    /// Some of it did not, and has been shown.
    NotProved,
    /// Somebody stopped it.
    Interrupted,
}

/// Runs a demo as `settings` say, shows it, and leaves no process behind.
///
/// Returns the exit code: done when everything held; a demo without an end is done when it was stopped and all of
/// it ended in peace.
pub async fn run(settings: &Settings) -> Exit {
    let mut screen = Screen::stdout();
    let begun = Interrupts::install().map_err(DemoError::Signals).and_then(|interrupts| {
        let children = Children::new(&settings.bin_dir)?;
        Ok((interrupts, children, Folder::claim(&settings.data_dir)?))
    });
    let (mut interrupts, mut children, folder) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            complain(&format!("error: {}", Chain(&error)));
            return error.exit();
        }
    };
    let mut demo =
        Demo { children: &mut children, folder: &folder, screen: &mut screen, started: Instant::now() };
    let work = async {
        match settings.interval {
            None => once::run(&mut demo).await,
            Some(interval) => forever::run(&mut demo, interval).await,
        }
    };
    let worked = tokio::select! {
        biased;
        () = interrupts.next() => Ok(Ending::Interrupted),
        worked = work => worked,
    };
    screen.clear();
    let failed = worked.is_err();
    let exit = match worked {
        Ok(Ending::Proved) => Exit::Done,
        Ok(Ending::NotProved) => Exit::Failed,
        Ok(Ending::Interrupted) => {
            screen.line("Stopping: producer, consumer, stack. Once more to kill them.");
            if settings.interval.is_some() { Exit::Done } else { Exit::Failed }
        }
        Err(error) => show_error(error, &mut children),
    };
    let stopped = tokio::select! {
        stopped = children.stop() => Some(stopped),
        () = interrupts.next() => None,
    };
    let exit = match stopped {
        Some(Ok(())) => exit,
        // That somebody is gone has been said.
        Some(Err(ChildError::Ended { .. })) if failed => exit,
        Some(Err(error)) => {
            let shown = show_error(error.into(), &mut children);
            if exit == Exit::Done { shown } else { exit }
        }
        None => {
            children.kill();
            complain("error: killed before everything was stopped");
            Exit::Failed
        }
    };
    if exit != Exit::Done {
        screen.line(&format!("Logs and data are in {}", folder.path().display()));
    }
    exit
}

/// Shows an error with the last lines of the logs that say more.
fn show_error(error: DemoError, children: &mut Children) -> Exit {
    // Where something does not answer because its process is gone, that is what there is to say.
    let error = match error {
        DemoError::Look(_) | DemoError::Silent | DemoError::Child(ChildError::Failed { .. }) => {
            children.check().err().map_or(error, DemoError::Child)
        }
        other => other,
    };
    complain(&format!("error: {}", Chain(&error)));
    for log in error.logs(children) {
        complain(&format!("the last lines of {}:", log.display()));
        for line in children::last_lines(&log, LOG_LINES) {
            complain(&format!("  | {line}"));
        }
    }
    error.exit()
}

/// Says what is wrong. The terminal may be gone, which is no reason to leave the children behind.
fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Ctrl-C, SIGTERM, and a terminal that is closed.
struct Interrupts {
    signals: Signals,
    hangup: Signal,
}

impl Interrupts {
    fn install() -> io::Result<Self> {
        Ok(Self { signals: Signals::install()?, hangup: signal(SignalKind::hangup())? })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// Dropping the future loses none.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.signals.received() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// What a demo works with.
struct Demo<'a> {
    children: &'a mut Children,
    folder: &'a Folder,
    screen: &'a mut Screen,
    started: Instant,
}

impl Demo<'_> {
    /// Starts the stack and the consumer.
    async fn begin(&mut self) -> Result<(Exports, Services), DemoError> {
        self.screen.live("starting Kafka, price API, S3, DynamoDB, SNS and Lambda host");
        let exports = self.children.start_stack(self.folder).await?;
        let services = self.watched(Services::connect(&exports)).await?;
        self.say("the stack is up: Kafka, price API, S3, DynamoDB, SNS, Lambda host");
        self.children.start_consumer(&exports, self.folder)?;
        Ok((exports, services))
    }

    /// Prints a line with the time since the start.
    fn say(&mut self, text: &str) {
        let time = self.screen.colours().dim(&format!("{:6.1} s", self.started.elapsed().as_secs_f64()));
        self.screen.line(&format!("{time}  {text}"));
    }

    /// Does `work`, as long as stack and consumer are alive, and not for ever: rskafka goes on asking a broker that
    /// is gone.
    async fn watched<T>(&mut self, work: impl Future<Output = Result<T, LookError>>) -> Result<T, DemoError> {
        let deadline = Instant::now() + LOOK_LIMIT;
        tokio::pin!(work);
        while Instant::now() < deadline {
            self.children.check()?;
            tokio::select! {
                done = &mut work => return Ok(done?),
                () = sleep(POLL) => {}
            }
        }
        Err(DemoError::Silent)
    }
}
