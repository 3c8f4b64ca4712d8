//! The `consumer` binary.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use coinduit_common::{
    config::{Env, Faults},
    crypto,
    exit::Exit,
    report::Chain,
    shutdown::Signals,
    telemetry,
};
use coinduit_consumer::{
    audit::{self, settings::AuditConfig},
    check::{self, settings::CheckConfig},
    config::{Cli, Command, Config, HealthArgs},
    http,
};
use tokio::runtime::Builder;
use tracing::{error, info};

fn main() -> ExitCode {
    crypto::install_ring();
    let env = Env::from_process();
    let ended = match Cli::parse().into_command() {
        Command::Run(args) => Config::new(&args, &env).map(|config| {
            telemetry::init(config.log.clone());
            to_the_end(Some(config.worker_threads), run(config))
        }),
        Command::Health(args) => health(&args),
        Command::Audit(args) => AuditConfig::new(&args, &env).map(|config| {
            telemetry::init(config.log.clone());
            to_the_end(None, look(config))
        }),
        Command::Check(args) => CheckConfig::new(&args, &env).map(|config| {
            telemetry::init(config.run.log.clone());
            to_the_end(None, try_all(config))
        }),
    };
    ended.unwrap_or_else(misconfigured).into()
}

fn misconfigured(faults: Faults) -> Exit {
    eprintln!("error: {faults}");
    Exit::Misconfigured
}

/// Works on so many threads (`None`: one for each core), and leaves behind whatever can't be stopped: a name that is
/// being looked up would otherwise keep the process beyond DRAIN_TIMEOUT.
fn to_the_end(threads: Option<usize>, work: impl Future<Output = io::Result<Exit>>) -> Exit {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let ended = builder.enable_all().build().and_then(|runtime| {
        let ended = runtime.block_on(work);
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| {
        error!(%error, "can't start");
        Exit::Failed
    })
}

async fn run(config: Config) -> io::Result<Exit> {
    let mut signals = Signals::install()?;
    Ok(match coinduit_consumer::run(config, signals.received()).await {
        Ok(()) => {
            info!("consumer ends");
            Exit::Done
        }
        Err(error) => {
            error!(error = %Chain(&error), "consumer ends");
            error.exit()
        }
    })
}

async fn look(config: AuditConfig) -> io::Result<Exit> {
    let mut signals = Signals::install()?;
    let terminal = io::stderr().is_terminal();
    let show = |line: &str| show(terminal, line);
    let audited = tokio::select! {
        audited = audit::run(&config, &show) => audited,
        signal = signals.received() => {
            show("");
            info!(signal, "stopped before the audit was done");
            return Ok(Exit::Failed);
        }
    };
    show("");
    Ok(match audited {
        Ok(report) => {
            let mut out = io::stdout().lock();
            // Where nobody listens any more, the exit code still says it.
            drop(out.write_all(report.print(config.json).as_bytes()).and_then(|()| out.flush()));
            if report.totals().findings == 0 { Exit::Done } else { Exit::Finding }
        }
        Err(error) => {
            error!(error = %Chain(&error), "the audit could not look");
            error.exit()
        }
    })
}

async fn try_all(config: CheckConfig) -> io::Result<Exit> {
    let mut signals = Signals::install()?;
    let report = tokio::select! {
        report = check::run(&config) => report,
        signal = signals.received() => {
            info!(signal, "stopped before the check was done");
            return Ok(Exit::Failed);
        }
    };
    let mut out = io::stdout().lock();
    // Where nobody listens any more, the exit code still says it.
    drop(out.write_all(report.print(config.json).as_bytes()).and_then(|()| out.flush()));
    Ok(report.exit())
}

/// Asks the consumer on this machine how it is. Needs no set-up: it runs every few seconds, in an image without a shell.
fn health(args: &HealthArgs) -> Result<Exit, Faults> {
    let (address, path) = args.read()?;
    Ok(to_the_end(Some(1), async move {
        let (exit, said) = match http::ask(address, path).await {
            Ok((ok, said)) => (if ok { Exit::Done } else { Exit::Failed }, said),
            Err(error) => (Exit::Failed, format!("error: {}\n", Chain(&error))),
        };
        // Where nobody listens any more, the exit code still says it.
        drop(io::stdout().lock().write_all(said.as_bytes()));
        Ok(exit)
    }))
}

/// How far the audit has come: one line that is written over, for people who watch.
fn show(terminal: bool, line: &str) {
    if terminal {
        eprint!("\r\x1b[K{line}");
    }
}
