//! `coinduit-price-api`: the embedded price API by itself, for a container beside others.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use coinduit_common::config::{Env, Faults};
use coinduit_common::crypto;
use coinduit_common::exit::Exit;
use coinduit_common::report::Chain;
use coinduit_common::shutdown::Signals;
use coinduit_common::telemetry::{self, LogSettings};
use coinduit_local::price_api::fault::{self, ApiFault};
use coinduit_local::price_api::{PriceApi, Prices};
use tracing::{error, info};

/// Which history the prices have: always the same.
const SEED: u64 = 1;
/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// LiveCoinWatch's API, played from recorded answers whose prices move. Runs until SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "coinduit-price-api", version, after_long_help = fault::help())]
struct Args {
    /// Port to listen on, at every address; 0 is a free one
    #[arg(long, env = "COINDUIT_LOCAL_API_PORT", default_value_t = 8080, global = true)]
    port: u16,

    /// Answer recorded prices as they are
    #[arg(long, env = "COINDUIT_LOCAL_FIXED_PRICES")]
    fixed_prices: bool,

    /// What it does wrong: NAME or NAME:VALUE, with xTIMES behind it where it ends, such as status:503x2 or drip; can be
    /// given several times, and is played in that order. `--help` lists all of them
    #[arg(long = "api-fault", value_name = "FAULT")]
    api_faults: Vec<ApiFault>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the one that listens on this machine whether it answers: exit code 0 or 1
    Health,
}

fn main() -> ExitCode {
    crypto::install_ring();
    let args = Args::parse();
    let mut faults = Faults::default();
    let log = LogSettings::from_env(&Env::from_process(), &mut faults);
    if let Err(faults) = faults.into_result(()) {
        eprintln!("error: {faults}");
        return Exit::Misconfigured.into();
    }
    telemetry::init(log);
    let ran = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match args.command {
                None => serve(args).await,
                Some(Command::Health) => ask(args.port).await,
            }
        })
    });
    match ran {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            error!(error = %Chain(error.as_ref()), "failed");
            Exit::Failed.into()
        }
    }
}

/// From start to stop.
async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::install()?;
    let prices = if args.fixed_prices { Prices::Fixed } else { Prices::Moving { seed: SEED } };
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, args.port));
    let api = PriceApi::start_faulty(everywhere, prices, args.api_faults)?;
    info!(url = api.url(), "ready");
    let signal = signals.received().await;
    info!(signal, "stopping");
    api.stop().await;
    Ok(())
}

async fn ask(port: u16) -> Result<(), Box<dyn Error>> {
    // The image has no authorities, and a client that may need some wants them at once.
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(PATIENCE).build()?;
    client.post(format!("http://127.0.0.1:{port}/status")).send().await?.error_for_status()?;
    Ok(())
}
