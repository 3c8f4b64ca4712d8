//! The `producer` binary: a run, or with `--interval` one after the other, each with its summary as last line of
//! output, whatever happens.

use std::{future::Future, io, pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, error::ErrorKind};
use coinduit_common::{
    alert::{AlertSender, Alerts, SendError, SnsSender},
    aws::{Aws, AwsSettings},
    clock::{self, Clock},
    config::Env,
    crypto,
    exit::Exit,
    shutdown::Signals,
    telemetry,
};
use coinduit_producer::{
    budget::Budget,
    config::{Args, Config},
    error::RunError,
    last_line,
    schedule::{Schedule, Tick},
    summary::{Stage, Summary},
    tally::Tally,
};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// How long the clock is not looked at while the next run is waited for: it may be set, and the machine may sleep.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let tally = Arc::new(Tally::default());
    last_line::after_a_panic(Arc::clone(&tally));
    crypto::install_ring();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(wish) if matches!(wish.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => wish.exit(),
        Err(error) => return misconfigured(&error.to_string()),
    };
    // Signals are caught before anything that may take its time, such as a file with a secret.
    let exit = runtime().and_then(|runtime| {
        let signals = runtime.block_on(async { Signals::install() })?;
        let config = match Config::new(&args, &Env::from_process()) {
            Ok(config) => config,
            Err(faults) => return Ok(misconfigured(&faults.to_string())),
        };
        telemetry::init(config.log.clone());
        let (summary, exit) = runtime.block_on(run(&config, signals, &tally));
        // A name that is being looked up would keep the process for as long as the resolver likes.
        runtime.shutdown_background();
        if let Some(summary) = summary {
            summary.print();
        }
        Ok(exit.into())
    });
    exit.unwrap_or_else(|error| {
        Summary::failed(Stage::Config, format!("start the run: {error}"), true).print();
        Exit::Failed.into()
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn misconfigured(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    Summary::failed(Stage::Config, problem, false).print();
    Exit::Misconfigured.into()
}

/// All runs; the last one's summary where it is not printed yet, and its exit code.
async fn run(config: &Config, mut signals: Signals, tally: &Tally) -> (Option<Summary>, Exit) {
    for warning in config.aws.warnings().iter().chain(&config.kafka.warnings) {
        warn!("{warning}");
    }
    let alerts = match &config.sns_topic_arn {
        Some(arn) => Alerts::start(
            "producer",
            Clock::System,
            LazySns { aws: config.aws.clone(), arn: arn.clone(), sender: OnceCell::new() },
        ),
        None => Alerts::logged_only(),
    };
    let Some(interval) = config.interval else {
        let (summary, exit, _) = one_run(config, &mut signals, tally, &alerts).await;
        return (Some(summary), exit);
    };
    let mut schedule = Schedule::new(interval, Clock::System.now_ms());
    loop {
        tally.reset();
        let (summary, exit, interrupted) = one_run(config, &mut signals, tally, &alerts).await;
        if interrupted {
            return (Some(summary), exit);
        }
        let tick = schedule.next(Clock::System.now_ms());
        if tick.missed > 0 {
            warn!(missed = tick.missed, "the run took longer than the interval; these runs are left out");
        }
        info!(at = clock::rfc3339_ms(tick.at_ms), "next run");
        // From here to the next run nothing is logged: the summary is the last line of output, whenever a signal comes.
        summary.print();
        tokio::select! {
            () = wait_until(tick, interval) => schedule.begin(tick),
            _ = signals.received() => return (None, exit),
        }
    }
}

/// One run: its summary, its exit code, and whether a signal has ended it.
async fn one_run(
    config: &Config,
    signals: &mut Signals,
    tally: &Tally,
    alerts: &Alerts,
) -> (Summary, Exit, bool) {
    let budget = Budget::new(Instant::now(), config.run_deadline);
    let result =
        coinduit_producer::run(config, &Clock::System, &budget, tally, alerts, signals.received()).await;
    let mut interrupted = matches!(result, Err(RunError::Interrupted(_)));
    tokio::select! {
        () = alerts.flush(budget.for_alerts(Instant::now(), interrupted)) => {}
        // The run is over, and so is the time for its alerts.
        _ = signals.received() => interrupted = true,
    }
    match result {
        Ok(summary) => {
            info!(topic = config.kafka.topic, records = tally.records(), "done");
            (summary, Exit::Done, interrupted)
        }
        Err(error) => (error.summary(tally), error.exit(), interrupted),
    }
}

/// Waits until the wall clock shows `tick`, or was set back so far that another one comes first.
async fn wait_until(tick: Tick, interval: Duration) {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    loop {
        let left = tick.at_ms - Clock::System.now_ms();
        if left <= 0 || left > interval_ms.saturating_mul(2) {
            return;
        }
        sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(LOOK_AT_THE_CLOCK)).await;
    }
}

/// SNS, whose client is made for the first alert: a run that goes well has no need of it, nor of the time it takes.
struct LazySns {
    aws: AwsSettings,
    arn: String,
    sender: OnceCell<SnsSender>,
}

impl AlertSender for LazySns {
    fn send<'a>(
        &'a self,
        subject: &'a str,
        body: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>> {
        Box::pin(async move {
            let made = self.sender.get_or_init(|| async {
                SnsSender::new(&Aws::new(self.aws.clone()).await, self.arn.clone())
            });
            made.await.send(subject, body).await
        })
    }
}
