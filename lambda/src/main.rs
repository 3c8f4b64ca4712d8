//! The Lambda's `bootstrap`: settings, clients, then one invocation after the other.

use std::{process::ExitCode, sync::Arc, time::Duration};

use aws_sdk_dynamodb::config::Builder;
use clap::Parser;
use coinduit_common::{
    alert::{Alerts, SnsSender},
    aws::Aws,
    clock::Clock,
    config::{Env, Faults},
    crypto,
    exit::Exit,
    telemetry,
};
use coinduit_lambda::{
    Clients, Summary,
    config::{Args, Config},
    handle,
    object::Stores,
    runtime_api,
    table::Tables,
};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{error, warn};

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
    let clients = clients(config).await;
    match lambda_runtime::run(service_fn(|event| invoke(event, &clients))).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            error!(%error, "lost the Lambda runtime API");
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

async fn clients(config: Config) -> Clients {
    let aws = Aws::new(config.aws).await;
    let alerts = match config.sns_topic_arn {
        Some(arn) => Alerts::start("lambda", Clock::System, SnsSender::new(&aws, arn)),
        None => Alerts::logged_only(),
    };
    let tables = Tables::new(Builder::from(aws.sdk()), config.prices_table, config.coins_table);
    let stores = Stores::new(move |bucket| Ok(Arc::new(aws.s3(bucket)?)));
    Clients { stores, tables, alerts }
}

async fn invoke(event: LambdaEvent<Box<RawValue>>, clients: &Clients) -> Result<Summary, Diagnostic> {
    let ends_ms = i64::try_from(event.context.deadline).unwrap_or(i64::MAX);
    let left = u64::try_from(ends_ms.saturating_sub(Clock::System.now_ms())).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_millis(left);
    // lambda_runtime logs what is returned here.
    handle(event.payload.get().as_bytes(), deadline, clients)
        .await
        .map_err(|error| Diagnostic { error_type: error.kind().to_owned(), error_message: error.to_string() })
}
