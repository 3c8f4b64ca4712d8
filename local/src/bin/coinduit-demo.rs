//! `coinduit-demo`: runs the pipeline on the embedded stack and proves what came of it, or runs it without an end.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use coinduit_common::crypto;
use coinduit_local::demo::{
    self,
    settings::{Args, Settings},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = Settings::new(Args::parse(), std::env::current_exe())
        .unwrap_or_else(|faults| Args::command().error(ErrorKind::ValueValidation, faults).exit());
    crypto::install_ring();
    demo::run(&settings).await.into()
}
