//! The `producer` binary: one run, whose last line of output is its summary, whatever happens.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{Parser, error::ErrorKind};
use coinduit_common::{
    alert::{Alerts, SnsSender},
    aws::Aws,
    clock::Clock,
    config::Env,
    crypto,
    exit::Exit,
    shutdown::Signals,
    telemetry,
};
use coinduit_producer::{
    config::{Args, Config},
    summary::{Stage, Summary},
};
use tracing::{info, warn};

/// How long alerts get to leave: the whole process is gone within 3 s of a signal.
const LAST_ALERTS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    summary_after_panic();
    crypto::install_ring();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(wish) if matches!(wish.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => wish.exit(),
        Err(error) => return misconfigured(&error.to_string()),
    };
    let config = match Config::new(&args, &Env::from_process()) {
        Ok(config) => config,
        Err(faults) => return misconfigured(&faults.to_string()),
    };
    telemetry::init(config.log.clone());
    let (summary, exit) = run_to_the_end(&config).unwrap_or_else(|error| {
        (Summary::failed(Stage::Config, format!("start the run: {error}"), true), Exit::Failed)
    });
    print(&summary);
    exit.into()
}

/// Runs, and leaves behind whatever can't be stopped: a name that is being looked up would otherwise keep the
/// process for as long as the resolver likes, long after the signal that was to end it.
fn run_to_the_end(config: &Config) -> std::io::Result<(Summary, Exit)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run(config));
    runtime.shutdown_background();
    ended
}

async fn run(config: &Config) -> std::io::Result<(Summary, Exit)> {
    let mut signals = Signals::install()?;
    for warning in config.aws.warnings().iter().chain(&config.kafka.warnings) {
        warn!("{warning}");
    }
    let alerts = match &config.sns_topic_arn {
        Some(arn) => Alerts::start(
            "producer",
            Clock::System,
            SnsSender::new(&Aws::new(config.aws.clone()).await, arn.clone()),
        ),
        None => Alerts::logged_only(),
    };
    let result = coinduit_producer::run(config, &Clock::System, &alerts, signals.received()).await;
    alerts.flush(LAST_ALERTS).await;
    Ok(match result {
        Ok(summary) => {
            info!(topic = config.kafka.topic, "published");
            (summary, Exit::Done)
        }
        Err(error) => (error.summary(), error.exit()),
    })
}

fn misconfigured(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    print(&Summary::failed(Stage::Config, problem, false));
    Exit::Misconfigured.into()
}

/// The last line of output. Where nobody listens any more, nothing is left to be said.
fn print(summary: &Summary) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{}", summary.line()).and_then(|()| out.flush()));
}

/// A bug ends the process with the exit code of a failure, and with a summary like any other.
fn summary_after_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        print(&Summary::failed(Stage::Panic, panic.to_string(), true));
        std::process::exit(Exit::Failed.code().into());
    }));
}
