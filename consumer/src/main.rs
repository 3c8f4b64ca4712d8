//! The `consumer` binary.

use std::process::ExitCode;

use clap::Parser;
use coinduit_common::{config::Env, crypto, exit::Exit, report::Chain, shutdown::Signals, telemetry};
use coinduit_consumer::config::{Cli, Config};
use tracing::{error, info};

fn main() -> ExitCode {
    crypto::install_ring();
    let config = match Config::new(&Cli::parse().into_args(), &Env::from_process()) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("error: {faults}");
            return Exit::Misconfigured.into();
        }
    };
    telemetry::init(config.log.clone());
    match run_to_the_end(config) {
        Ok(exit) => exit.into(),
        Err(error) => {
            error!(%error, "can't start");
            Exit::Failed.into()
        }
    }
}

/// Runs, and leaves behind whatever can't be stopped: a name that is being looked up would otherwise keep the
/// process beyond DRAIN_TIMEOUT.
fn run_to_the_end(config: Config) -> std::io::Result<Exit> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(run(config));
    runtime.shutdown_background();
    ended
}

async fn run(config: Config) -> std::io::Result<Exit> {
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
