//! `coinduit-bench`: what the shipped binaries cost, held against what they may cost.
//!
//! ```text
//! this process: price API, broker, S3, tables, Runtime API        (or a real Kafka)
//!      |  starts
//!      v
//! this program again, as `measured` --starts, waits for--> producer, consumer, kcat     CPU, peak memory, time
//! bootstrap                                                                             time, peak memory
//! ```
//!
//! | module | |
//! | --- | --- |
//! | [`figures`] | samples, and the table that shows them |
//! | [`measured`] | one process from its start to its end |
//! | [`kafka`] | topics, and what is in them |
//! | [`bucket`] | where objects are stored |
//! | [`producer`], [`consumer`], [`function`], [`sizes`] | what is measured |

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use coinduit_common::{config, crypto, exit::Exit, report::Chain};

mod bucket;
mod consumer;
mod error;
mod figures;
mod function;
mod kafka;
mod measured;
mod producer;
mod sizes;

use error::BenchError;
use figures::{Row, table};

/// Measures the shipped binaries, and prints a table of what was measured, what the budget is, and whether it is kept.
///
/// Everything but Kafka is the embedded stack, in this process. Exit codes: 0 measured, whatever the figures are;
/// 1 something could not be measured.
#[derive(Debug, Parser)]
#[command(name = "coinduit-bench", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Folder of producer, consumer and bootstrap
    #[arg(long, value_name = "DIR", default_value = ".")]
    bin_dir: PathBuf,
    /// Real Kafka to read from and write to; topics named coinduit-bench-... are created and deleted there [default: an
    /// embedded broker, and fewer records]
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,...")]
    kafka: Option<String>,
    /// How many times the consumer reads a topic
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    rounds: usize,
    /// Records of 68 bytes [default: 3000000, embedded 300000]
    #[arg(long, value_name = "NUMBER")]
    small: Option<usize>,
    /// Records of 757 bytes [default: 500000, embedded 50000]
    #[arg(long, value_name = "NUMBER")]
    coins: Option<usize>,
    /// Size of the large object that the Lambda is given, as lines and as gzip
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = config::bytes)]
    object: usize,
    /// A Python that has confluent-kafka and boto3: a script on them is measured beside the consumer
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Measure these alone [default: all]
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a program and writes what it cost to a file: a small process, because a child's peak memory begins with its
    /// parent's
    #[command(hide = true)]
    Measured {
        file: PathBuf,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The binaries' sizes
    Sizes,
    /// A run from its start to its exit
    Producer,
    /// Its start, one object, a large object
    Lambda,
    /// From the broker to the bucket
    Consumer,
}

fn main() -> ExitCode {
    crypto::install_ring();
    let args = Args::parse();
    if let Some(Command::Measured { file, program, arguments }) = &args.command {
        return match measured::run(file, program, arguments) {
            Ok(()) => Exit::Done.into(),
            Err(error) => complain(&error),
        };
    }
    let measured = tokio::runtime::Runtime::new()
        .map_err(|source| BenchError::Io { what: "start the runtime".to_owned(), source })
        .and_then(|runtime| runtime.block_on(measure(&args)));
    let shown = measured.and_then(|rows| {
        let written = io::stdout().write_all(table(&rows).as_bytes());
        written.map_err(|source| BenchError::Io { what: "print the table".to_owned(), source })
    });
    match shown {
        Ok(()) => Exit::Done.into(),
        Err(error) => complain(&error),
    }
}

async fn measure(args: &Args) -> Result<Vec<Row>, BenchError> {
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let kafka = config::given(args.kafka.as_deref());
    let mut rows = Vec::new();
    if wanted(Part::Sizes) {
        rows.extend(sizes::measure(&args.bin_dir)?);
    }
    if wanted(Part::Producer) {
        rows.extend(producer::measure(&args.bin_dir, kafka).await?);
    }
    if wanted(Part::Lambda) {
        rows.extend(function::measure(&args.bin_dir, args.object).await?);
    }
    if wanted(Part::Consumer) {
        let load = consumer::Load::new(args.small, args.coins, kafka.is_some());
        let (rounds, python) = (args.rounds.max(1), args.python.as_deref());
        rows.extend(consumer::measure(&args.bin_dir, kafka, load, rounds, python).await?);
    }
    Ok(rows)
}

/// Says what is being done, to people who wait.
fn progress(what: &str) {
    eprintln!("{what} ...");
}

fn complain(error: &BenchError) -> ExitCode {
    eprintln!("error: {}", Chain(error));
    Exit::Failed.into()
}
