//! The store's folder: private to its user, and to one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::OpenError;

/// Held while this process uses the store; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock of this folder.
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("lock");
        let failed = |error| OpenError::Folder { path: path.clone(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without its number the message still says what is wrong.
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "another process".into()
                } else {
                    format!("process {}", holder.trim())
                };
                return Err(OpenError::InUse { path: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self(file))
    }
}

/// Makes the folder, readable by its owner alone, and syncs its name to disk: a database in a folder that a power cut
/// forgets is not durable.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if let Some(parent) = folder.canonicalize()?.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// SQLite takes an empty database for a new one, and throws the log beside it away. But the log is never there before the
/// database has its first page: an empty file with a log has been damaged.
pub(super) fn refuse_emptied(database: &Path) -> Result<(), OpenError> {
    let length = |path: &Path| std::fs::metadata(path).map(|file| file.len());
    let log = database.with_extension("sqlite3-wal");
    match (length(database), length(&log)) {
        (Ok(0), Ok(1..)) => Err(OpenError::Emptied(database.to_owned())),
        _ => Ok(()),
    }
}

/// Makes a file that its owner alone may read, if it isn't there. SQLite gives its other files the same mode.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
