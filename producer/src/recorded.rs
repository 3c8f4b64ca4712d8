//! Recorded pages, for `--from-file`: the answers of one run, each in a file, as the API wrote them.
//!
//! They are one run's pages, so that they have one instant: `--fetched-at`, else the time at which the first file was
//! last written. The same pages with the same instant are the same records, with the same ids, however often they
//! are published.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use crate::{
    page::{self, PageError},
    records::Coins,
    source::http::MOST_BODY_BYTES,
};

/// A recording can't be published.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no list of coins.
    #[error("{} holds no coins", path.display())]
    Page {
        /// Which.
        path: PathBuf,
        /// What it holds.
        #[source]
        source: PageError,
    },
}

/// Reads all `paths`; the instant is `fetched_at`, else when the first of them was written.
///
/// # Errors
/// [`RecordedError`] for the first file that can't be published; then none is.
pub fn read(
    paths: &[PathBuf],
    fetched_at: Option<DateTime<Utc>>,
) -> Result<(Coins, DateTime<Utc>), RecordedError> {
    let mut coins = Coins::default();
    let mut written = None;
    let mut offset = 0;
    for path in paths {
        let failed = |source| RecordedError::Read { path: path.clone(), source };
        let (body, modified) = contents(path).map_err(failed)?;
        let page = page::parse(&body).map_err(|source| RecordedError::Page { path: path.clone(), source })?;
        let entries = page.coins.len() + page.rejected.len();
        coins.add(offset, page);
        offset += entries;
        written.get_or_insert(modified);
    }
    // To the millisecond, as every instant that is written down.
    let at = fetched_at.or(written).map_or(0, |at| at.timestamp_millis());
    Ok((coins, DateTime::from_timestamp_millis(at).unwrap_or_default()))
}

fn contents(path: &Path) -> io::Result<(Vec<u8>, DateTime<Utc>)> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let most = u64::try_from(MOST_BODY_BYTES).unwrap_or(u64::MAX);
    let mut body = Vec::new();
    file.take(most + 1).read_to_end(&mut body)?;
    if body.len() > MOST_BODY_BYTES {
        return Err(io::Error::other(format!("it is larger than {MOST_BODY_BYTES} bytes")));
    }
    Ok((body, about.modified()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_one_run_have_one_instant_and_every_coin_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1.json"), folder.path().join("2.json"));
        std::fs::write(&one, r#"[{"code":"A"},7]"#).unwrap();
        std::fs::write(&two, r#"[{"code":"A"},{"code":"B"},null]"#).unwrap();
        let at: DateTime<Utc> = "2026-11-23T10:05:00.123456Z".parse().unwrap();
        let (coins, instant) = read(&[one.clone(), two], Some(at)).unwrap();
        assert_eq!((coins.len(), coins.repeated(), instant.timestamp_subsec_nanos()), (2, 1, 123_000_000));
        assert_eq!(coins.rejected().iter().map(|rejected| rejected.position).collect::<Vec<_>>(), [1, 4]);

        let (_, instant) = read(std::slice::from_ref(&one), None).unwrap();
        let written: DateTime<Utc> = std::fs::metadata(&one).unwrap().modified().unwrap().into();
        assert_eq!(instant.timestamp_millis(), written.timestamp_millis());
    }

    #[test]
    fn what_is_no_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(&[folder.path().join("gone")], None).unwrap_err();
        assert!(missing.to_string().ends_with("gone"), "{missing}");
        assert!(matches!(read(&[folder.path().to_owned()], None), Err(RecordedError::Read { .. })));
        let error = folder.path().join("error.json");
        std::fs::write(&error, r#"{"error":{"code":401}}"#).unwrap();
        assert!(matches!(read(&[error], None), Err(RecordedError::Page { .. })));
    }
}
