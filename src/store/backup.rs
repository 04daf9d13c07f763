//! Copying the database while it is written.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{lock, schema};

/// How many pages are copied between two looks at how it goes.
const PAGES_AT_ONCE: i32 = 1000;

/// What is written while it is copied stands in the write-ahead log until the copy is done. With this much of it the copy is given
/// up: it would go on growing.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// The database in a store's folder, as a copy sees it: all that was committed when it began, and nothing of what comes in later.
/// The receiver may run; a copy costs it no more than the disk's time.
#[derive(Debug)]
pub(crate) struct Source {
    database: PathBuf,
    connection: Connection,
    max_log_bytes: u64,
}

impl Source {
    /// Begins with what is committed now.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let database = folder.join("store.sqlite3");
        // SQLite would throw the log away that is beside it.
        lock::refuse_emptied(&database)?;
        if !database.exists() {
            bail!("there is no store in {}: is store.sqlite.path right, and is it meant from here?", folder.display());
        }
        let connection = schema::open_reader(&database).context("cannot open the store")?;
        schema::check(&connection, &database)?;
        // What was read first is what is seen until the end.
        connection.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema").context("cannot read the store")?;
        Ok(Self { database, connection, max_log_bytes: MAX_LOG_BYTES })
    }

    /// Writes the copy to a file that is empty, and syncs it to disk; its size in bytes. `goes_on` is told now and then how many
    /// pages of how many are done, and can end it.
    pub(crate) fn copy_to(&self, file: &Path, mut goes_on: impl FnMut(u64, u64) -> bool) -> anyhow::Result<u64> {
        let mut copy = Connection::open(file)?;
        // Half a copy is none, and a whole one is synced below.
        copy.pragma_update(None, "journal_mode", "OFF")?;
        copy.pragma_update(None, "synchronous", "OFF")?;
        let backup = Backup::new(&self.connection, &mut copy)?;
        loop {
            let step = backup.step(PAGES_AT_ONCE).with_context(|| format!("cannot write {}", file.display()))?;
            let progress = backup.progress();
            let (all, left) = (progress.pagecount as u64, progress.remaining as u64);
            match step {
                StepResult::Done => break,
                _ if !goes_on(all - left, all) => bail!("broken off: nothing was kept of it"),
                _ => {}
            }
            if self.log_bytes() > self.max_log_bytes {
                bail!(
                    "given up, because too much is written to the store meanwhile; copy it to a faster disk, or at a quieter time"
                );
            }
        }
        drop(backup);
        copy.close().map_err(|(_, error)| error).with_context(|| format!("cannot write {}", file.display()))?;
        let file = File::open(file)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.database.with_extension("sqlite3-wal")).map_or(0, |log| log.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_can_be_broken_off_and_gives_up_when_the_log_grows_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let writer = schema::open_writer(&folder.path().join("store.sqlite3")).unwrap();
        let text = "x".repeat(6 << 20);
        writer.execute("INSERT INTO rejected (received_at, errors, body) VALUES (0, '[]', ?1)", [text]).unwrap();
        let copy = |source: Source, goes_on: bool| {
            let file = tempfile::NamedTempFile::new().unwrap();
            source.copy_to(file.path(), |done, all| goes_on && done < all).map_err(|error| error.to_string())
        };
        let source = || Source::open(folder.path()).unwrap();
        let error = copy(source(), false).unwrap_err();
        assert!(error.contains("broken off"), "{error}");
        let error = copy(Source { max_log_bytes: 1 << 20, ..source() }, true).unwrap_err();
        assert!(error.contains("given up"), "{error}");
        assert!(copy(source(), true).unwrap() > 6 << 20);
    }
}
