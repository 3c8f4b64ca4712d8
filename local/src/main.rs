//! `coinduit-local`: starts the embedded stack, says how to use it, and runs until it is told to stop.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use coinduit_local::config::{Args, Config};
use coinduit_local::stack::Stack;

fn main() -> ExitCode {
    let config = Config::try_from(Args::parse())
        .unwrap_or_else(|faults| Args::command().error(ErrorKind::ValueValidation, faults).exit());
    log_to_stderr();
    // Several crates bring rustls with different providers; without a choice it would panic at first use. An
    // error says that one is installed, which will do.
    drop(rustls::crypto::ring::default_provider().install_default());
    let ran =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(run(config)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// From start to stop.
async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // That the file is there shall mean that the stack is.
    if let Some(path) = &config.env_file {
        remove(path)?;
    }
    let stack = Stack::start(config.stack).await?;
    let exports = exports(&stack.env());
    if let Some(path) = &config.env_file {
        write_atomically(path, &exports)?;
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(exports.as_bytes())?;
    stdout.flush()?;
    drop(stdout);
    info!("ready; stop with Ctrl-C or SIGTERM");
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    info!("stopping");
    if let Some(path) = &config.env_file {
        remove(path)?;
    }
    stack.stop().await;
    info!("stopped");
    Ok(())
}

/// Lines that a shell can evaluate.
fn exports(env: &[(String, String)]) -> String {
    env.iter().map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''"))).collect()
}

/// Writes a file that is there whole or not at all, readable by its owner alone: a user's API key is in it.
fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Logs as `RUST_LOG` and `LOG_FORMAT` say: by default `info`, as text on a terminal, else as JSON.
///
/// s3s tells every request's every detail at `info`; it has to be asked for by name.
fn log_to_stderr() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let asked = variable("RUST_LOG").unwrap_or_else(|| "info".to_owned());
    let filter: Targets = format!("s3s=warn,s3s_fs=warn,{asked}")
        .parse()
        .unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let text = variable("LOG_FORMAT").map_or(io::stderr().is_terminal(), |format| format != "json");
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = if text {
        layer
            .with_target(false)
            .with_ansi(io::stderr().is_terminal() && variable("NO_COLOR").is_none())
            .boxed()
    } else {
        layer.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

fn report(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    // Standard error is the last resort; there is none after it.
    drop(writeln!(io::stderr(), "error: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_a_shell() {
        let env = [("A".to_owned(), "it's $HOME".to_owned())];
        assert_eq!(exports(&env), "export A='it'\\''s $HOME'\n");
    }

    #[test]
    fn the_env_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        std::fs::write(&path, "a longer text that was there before").unwrap();
        write_atomically(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
