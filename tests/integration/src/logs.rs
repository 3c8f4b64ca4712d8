//! All that consumers log while a test runs, kept when it fails: also of those that were killed long before.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// What is logged into the files: more than tests look at.
pub const LEVEL: &str = "info,coinduit_consumer=debug";

/// A folder with a file for each process. It goes with this, unless a test fails: then people are told where it is.
#[derive(Debug)]
pub struct Logs {
    folder: TempDir,
    begun: AtomicU32,
}

impl Logs {
    /// An empty folder for the test `what`, next to the binaries: what is temporary may be gone when people look.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new(what: &str) -> Self {
        let test = std::env::current_exe().expect("a running program has a path");
        let folder: PathBuf = test.with_file_name("logs-of-failed-tests");
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        let folder = tempfile::Builder::new().prefix(&format!("{what}-")).tempdir_in(folder);
        Self { folder: folder.expect("make a folder for logs"), begun: AtomicU32::new(0) }
    }

    /// A file for the next process, which is called so. Files are numbered in the order of starting.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn file(&self, name: &str) -> File {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        File::create(self.folder.path().join(format!("{number:03}-{name}.log")))
            .expect("make a file for a log")
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("--- all that the consumers have logged is in {}", self.folder.path().display());
        }
    }
}
