//! `coinduit-local`: starts the embedded stack, says how to use it, and runs until it is told to stop.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use coinduit_common::config::{Env, Faults};
use coinduit_common::crypto;
use coinduit_common::exit::Exit;
use coinduit_common::report::Chain;
use coinduit_common::shutdown::Signals;
use coinduit_common::telemetry::{self, LogSettings};
use coinduit_local::config::{Args, Config};
use coinduit_local::stack::Stack;
use tracing::{error, info};

fn main() -> ExitCode {
    crypto::install_ring();
    let mut faults = Faults::default();
    // s3s tells every request's every detail at `info`; it has to be asked for by name.
    let log = LogSettings::from_env(&Env::from_process(), &mut faults).quieter(&["s3s", "s3s_fs"]);
    let config = match Config::new(Args::parse(), faults) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("error: {faults}");
            return Exit::Misconfigured.into();
        }
    };
    telemetry::init(log);
    let ran =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(run(config)));
    match ran {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            error!(error = %Chain(error.as_ref()), "the stack failed");
            Exit::Failed.into()
        }
    }
}

/// From start to stop.
async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::install()?;
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
    let signal = signals.received().await;
    info!(signal, "stopping");
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
