//! The demo's folder: emptied at each start, and therefore only ever one that a demo made.
//!
//! ```text
//! .coinduit-demo          the marker that says so; locked by the demo that is running
//! logs/                   what the programs had to say
//! kafka/ s3/ dynamodb.*   coinduit-local's data
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file that makes a folder one of ours.
const MARKER: &str = ".coinduit-demo";
/// What is written into it, for people.
const MARKER_TEXT: &str = "coinduit-demo made this folder and empties it at its next start.\n";
/// What a broker holds a lock on while it uses the folder.
const BROKER_LOCK: &str = "kafka/lock";

/// Why a folder can't be used. Nothing in it was touched, except for the first.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("{attempted} {}", path.display())]
    Io {
        /// What was tried.
        attempted: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody's files.
    #[error("{} is not empty and was not made by a demo; name another folder with --data-dir", .0.display())]
    Foreign(PathBuf),
    /// Another demo, or a stack that was started on this data.
    #[error("{} is in use by another demo or coinduit-local; stop it, or name another folder with --data-dir", .0.display())]
    InUse(PathBuf),
}

fn failed(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { attempted, path, source }
}

/// An empty folder that is ours until this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder, or empties the one that an earlier demo made.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn claim(path: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(failed("make folder", path))?;
        let marker = path.join(MARKER);
        let mut names = fs::read_dir(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed("list", path))?;
        names.retain(|entry| entry.file_name() != MARKER);
        if !names.is_empty() && !marker.is_file() {
            return Err(FolderError::Foreign(path.to_owned()));
        }
        let mut lock =
            File::options().create(true).append(true).open(&marker).map_err(failed("open", &marker))?;
        take(&lock, path)?;
        match File::open(path.join(BROKER_LOCK)) {
            // Given back when this is dropped.
            Ok(broker) => take(&broker, path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", &path.join(BROKER_LOCK))(error)),
        }
        for entry in names {
            let path = entry.path();
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(failed("remove", &path))?;
        }
        if lock.metadata().is_ok_and(|marker| marker.len() == 0) {
            lock.write_all(MARKER_TEXT.as_bytes()).map_err(failed("write", &marker))?;
        }
        let logs = path.join("logs");
        fs::create_dir(&logs).map_err(failed("make folder", &logs))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log of the program `name` goes.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }
}

/// Takes the lock on `file`, which says that `path` is in use.
fn take(file: &File, path: &Path) -> Result<(), FolderError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demos_folder_is_emptied_by_the_next_demo() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = Folder::claim(&path).unwrap();
        fs::create_dir_all(path.join("s3/deep")).unwrap();
        fs::write(path.join("s3/deep/object"), "old").unwrap();
        fs::write(path.join("stack.env"), "old").unwrap();
        assert!(matches!(Folder::claim(&path), Err(FolderError::InUse(_))));
        drop(first);
        let second = Folder::claim(&path).unwrap();
        assert!(!path.join("s3").exists() && !path.join("stack.env").exists());
        assert!(second.log("consumer").starts_with(path.join("logs")) && path.join("logs").is_dir());
    }

    #[test]
    fn other_peoples_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(Folder::claim(folder.path()), Err(FolderError::Foreign(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_link_points_to_is_left_alone() {
        let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(others.path().join("thesis.txt"), "years of work").unwrap();
        drop(Folder::claim(ours.path()).unwrap());
        std::os::unix::fs::symlink(others.path(), ours.path().join("link")).unwrap();
        drop(Folder::claim(ours.path()).unwrap());
        assert!(others.path().join("thesis.txt").exists() && !ours.path().join("link").exists());
    }

    #[test]
    fn data_that_a_stack_is_using_is_not_pulled_from_under_it() {
        let folder = tempfile::tempdir().unwrap();
        drop(Folder::claim(folder.path()).unwrap());
        fs::create_dir(folder.path().join("kafka")).unwrap();
        let broker = File::create(folder.path().join(BROKER_LOCK)).unwrap();
        broker.try_lock().unwrap();
        assert!(matches!(Folder::claim(folder.path()), Err(FolderError::InUse(_))));
        drop(broker);
        drop(Folder::claim(folder.path()).unwrap());
        assert!(!folder.path().join("kafka").exists());
    }
}
