//! One process from its start to its end: time, CPU time of all its threads, peak memory.
//!
//! The kernel counts as a process's peak what its parent had when it was started. So a program is started by a process
//! that has next to nothing: this program again ([`run`]), which leaves what it saw in a file.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};
use wait4::Wait4 as _;

use crate::error::BenchError;

/// A process that takes longer is taken to hang.
const LIMIT: Duration = Duration::from_secs(900);
/// How much of what a program said last is shown when it failed.
const SAID: usize = 2_000;

/// What a process cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// From its start until it was gone.
    pub(crate) wall_ms: f64,
    /// User and system time.
    pub(crate) cpu_s: f64,
    /// The most memory that it had at once.
    pub(crate) peak_mib: f64,
}

impl Cost {
    fn read(text: &str) -> Option<(Self, i64)> {
        let seen: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| seen.get(name)?.as_f64();
        let cost =
            Self { wall_ms: number("wall_ms")?, cpu_s: number("cpu_s")?, peak_mib: number("peak_mib")? };
        Some((cost, seen.get("code")?.as_i64()?))
    }
}

/// Runs `program` with this environment and no more, and fails unless it ends with 0.
pub(crate) async fn cost(
    program: &Path,
    arguments: &[&str],
    env: &[(String, String)],
) -> Result<Cost, BenchError> {
    let name = program.display().to_string();
    let this = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let folder = tempfile::tempdir().map_err(BenchError::io("make a temporary folder"))?;
    let (seen, said) = (folder.path().join("seen"), folder.path().join("said"));
    let log = std::fs::File::create(&said).map_err(BenchError::io("make a temporary file"))?;
    let mut child = Command::new(this)
        .arg("measured")
        .args([&seen, program])
        .arg("--")
        .args(arguments)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(BenchError::io(format!("start {name}")))?;
    let ended = tokio::time::timeout(LIMIT, child.wait()).await;
    let tail = || {
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        let from = text.len().saturating_sub(SAID);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text[from..].to_owned()
    };
    ended
        .map_err(|_| BenchError::program(&*name, format!("does not end within {LIMIT:?}: {}", tail())))?
        .map_err(BenchError::io(format!("wait for {name}")))?;
    let text = std::fs::read_to_string(&seen).unwrap_or_default();
    match Cost::read(&text) {
        Some((cost, 0)) => Ok(cost),
        Some((_, code)) => Err(BenchError::program(name, format!("ended with {code}: {}", tail()))),
        None => Err(BenchError::program(name, format!("was not measured: {}", tail()))),
    }
}

/// Runs `program`, waits for it, and writes what it cost to `file`.
pub(crate) fn run(file: &Path, program: &Path, arguments: &[String]) -> Result<(), BenchError> {
    let begin = Instant::now();
    let child = std::process::Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(BenchError::io(format!("start {}", program.display())))?;
    let used = child.wait4().map_err(BenchError::io(format!("wait for {}", program.display())))?;
    let cpu = used.rusage.utime + used.rusage.stime;
    let seen = json!({
        "wall_ms": begin.elapsed().as_secs_f64() * 1e3,
        "cpu_s": cpu.as_secs_f64(),
        "peak_mib": mib(used.rusage.maxrss),
        "code": used.status.code().unwrap_or(-1),
    });
    std::fs::write(file, seen.to_string()).map_err(BenchError::io(format!("write {}", file.display())))
}

/// What /proc says of a running process under `name` (`VmHWM`, `VmRSS`), in MiB.
pub(crate) fn memory(pid: u32, name: &str) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(BenchError::io(format!("read {path}")))?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| mib(kib * 1024)).ok_or_else(|| BenchError::program(path, format!("has no {name}")))
}

/// The path of a binary that has to be there.
pub(crate) fn binary(folder: &Path, name: &str) -> Result<PathBuf, BenchError> {
    let path = std::path::absolute(folder.join(name)).map_err(BenchError::io("find the binaries"))?;
    if path.is_file() { Ok(path) } else { Err(BenchError::Missing(path)) }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "nobody looks at the sixteenth digit")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_cost_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        run(&file, Path::new("/bin/sh"), &["-c".to_owned(), "exit 3".to_owned()]).unwrap();
        let (cost, code) = Cost::read(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(code, 3);
        assert!(cost.peak_mib > 0.0, "{cost:?}");
        assert_eq!(Cost::read("{}"), None);
    }

    #[test]
    fn this_process_has_memory_and_nothing_has_what_the_kernel_does_not_count() {
        let pid = std::process::id();
        assert!(memory(pid, "VmHWM").unwrap() >= memory(pid, "VmRSS").unwrap());
        assert!(memory(pid, "VmNothing").unwrap_err().to_string().contains("VmNothing"));
    }
}
