//! An empty bucket of the embedded S3, in a folder that goes with it.

use std::{net::Ipv4Addr, path::Path};

use coinduit_local::s3::{S3, S3Config};

use crate::error::BenchError;

/// Its name.
pub(crate) const BUCKET: &str = "bench";

/// The bucket, and the S3 that has no other.
pub(crate) struct Bucket {
    s3: S3,
    folder: tempfile::TempDir,
}

impl Bucket {
    /// Starts S3 on a port of its own.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::io("make a temporary folder"))?;
        let config = S3Config {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            directory: folder.path().to_owned(),
            buckets: vec![BUCKET.to_owned()],
            events: None,
        };
        Ok(Self { s3: S3::start(config).map_err(BenchError::io("start S3"))?, folder })
    }

    /// The endpoint's URL.
    pub(crate) fn url(&self) -> String {
        self.s3.url()
    }

    /// How many lines its objects have.
    pub(crate) fn lines(&self) -> Result<usize, BenchError> {
        let mut folders = vec![self.folder.path().join(BUCKET)];
        let mut lines = 0;
        let failed = |path: &Path| BenchError::io(format!("read {}", path.display()));
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
                let path = entry.map_err(failed(&folder))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                    let object = std::fs::read(&path).map_err(failed(&path))?;
                    lines += object.iter().filter(|byte| **byte == b'\n').count();
                }
            }
        }
        Ok(lines)
    }

    /// Stops S3, and removes what it has stored.
    pub(crate) async fn stop(self) {
        self.s3.stop().await;
    }
}
