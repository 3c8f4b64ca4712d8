//! The Lambda's `bootstrap`: settings, clients, then one invocation after the other; or a replay.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::config::Builder;
use clap::Parser;
use coinduit_common::{
    alert::{Alerts, SnsSender},
    aws::Aws,
    clock::Clock,
    config::{Env, Faults},
    crypto,
    exit::Exit,
    shutdown::Signals,
    telemetry,
};
use coinduit_lambda::{
    Answer, Clients,
    config::{Args, Config, Task},
    handle,
    metrics::Metrics,
    object::Stores,
    replay::{self, Settings, Status},
    runtime_api,
    table::Tables,
};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{error, info, warn};

fn main() -> ExitCode {
    crypto::install_ring();
    let args = Args::parse();
    let env = Env::from_process();
    // One invocation at a time, which waits for the network: more threads would only cost start-up time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let exit = match runtime {
        Ok(runtime) => runtime.block_on(run(&args, &env)),
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            Exit::Failed
        }
    };
    exit.into()
}

async fn run(args: &Args, env: &Env) -> Exit {
    let config = match Config::new(args, env) {
        Ok(config) => config,
        Err(faults) => return misconfigured(&faults, env).await,
    };
    telemetry::init(config.log.clone());
    for warning in config.aws.warnings() {
        warn!("{warning}");
    }
    match config.task.clone() {
        Task::Serve(function) => serve(&clients(config, Metrics::Stdout(function)).await).await,
        Task::Replay(settings) => {
            // Whoever reads the terminal needs no other alert.
            let config = Config { sns_topic_arn: None, ..config };
            load(&settings, &clients(config, Metrics::Off).await).await
        }
    }
}

async fn serve(clients: &Clients) -> Exit {
    match lambda_runtime::run(service_fn(|event| invoke(event, clients))).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            error!(%error, "lost the Lambda runtime API");
            Exit::Failed
        }
    }
}

async fn load(settings: &Settings, clients: &Clients) -> Exit {
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "install signal handlers");
            return Exit::Failed;
        }
    };
    let outcome = replay::replay(settings, clients, signals.received()).await;
    if let Some(error) = &outcome.error {
        error!(error, "replay stopped");
    }
    if let Some(from) = &outcome.resume_from {
        info!(command = settings.command(from), "to go on");
    }
    if outcome.status == Status::Done {
        info!(done = %outcome.done, "replayed");
    }
    let line = serde_json::to_string(&outcome).expect("strings and numbers are written to memory");
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => outcome.exit,
        Err(error) => {
            error!(%error, "print the summary");
            Exit::Failed
        }
    }
}

async fn misconfigured(faults: &Faults, env: &Env) -> Exit {
    eprintln!("error: {faults}");
    if env.get("AWS_LAMBDA_RUNTIME_API").is_some()
        && let Err(error) = runtime_api::report_init_error(faults).await
    {
        eprintln!("error: tell Lambda about it: {error}");
    }
    Exit::Misconfigured
}

async fn clients(config: Config, metrics: Metrics) -> Clients {
    let aws = Aws::new(config.aws).await;
    let alerts = match config.sns_topic_arn {
        Some(arn) => Alerts::start("lambda", Clock::System, SnsSender::new(&aws, arn)),
        None => Alerts::logged_only(),
    };
    let tables = Tables::new(Builder::from(aws.sdk()), config.prices_table, config.coins_table);
    let stores = Stores::new(move |bucket| Ok(Arc::new(aws.s3(bucket)?)));
    Clients { stores, tables, row_life: config.prices_ttl, alerts, metrics, clock: Clock::System }
}

async fn invoke(event: LambdaEvent<Box<RawValue>>, clients: &Clients) -> Result<Answer, Diagnostic> {
    let ends_ms = i64::try_from(event.context.deadline).unwrap_or(i64::MAX);
    let left = u64::try_from(ends_ms.saturating_sub(Clock::System.now_ms())).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_millis(left);
    // lambda_runtime logs what is returned here.
    handle(event.payload.get().as_bytes(), deadline, clients)
        .await
        .map_err(|error| Diagnostic { error_type: error.kind().to_owned(), error_message: error.to_string() })
}
