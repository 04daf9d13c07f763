//! Why the store does not do something, or can't be opened.

use std::path::PathBuf;

/// Why the store did not do what it was asked for. Nothing of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// As much is under way as may be.
    #[error("too much is in flight")]
    Busy,
    /// The cap or the disk is reached.
    #[error("the store is full")]
    Full,
    /// The disk or the database fails; the log has the cause.
    #[error("the store is failing")]
    Failing,
    /// The store has been closed.
    #[error("the store has stopped")]
    Stopped,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder can't be made or used.
    #[error("cannot use the folder {path}: {error}; create it or change store.sqlite.path", path = .path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another process has it.
    #[error("the store in {path} is in use by {holder}; stop that first, or give this one another store.sqlite.path", path = .path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
        /// Who has it, as far as it says.
        holder: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "{path} has schema version {version}, and this program knows versions up to {known}: it was written by a newer \
         plugchat-receiver; run that one, or a newer", path = .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        version: u32,
        /// The latest version that this program knows.
        known: u32,
    },
    /// Some other program's database.
    #[error("{path} is not a plugchat-receiver store; change store.sqlite.path", path = .0.display())]
    Foreign(PathBuf),
    /// SQLite's own trouble.
    #[error(
        "cannot open the store: {0}; when the disk is full make room, when the database is damaged put a backup in its place \
         or move it away to begin anew"
    )]
    Sqlite(#[from] rusqlite::Error),
    /// The database is empty, and the log of what was written to it is not.
    #[error(
        "{path} is empty, but {path}-wal beside it is not: the database was damaged, and opening it would lose the rest; put a \
         backup in its place or move both files away to begin anew", path = .0.display()
    )]
    Emptied(PathBuf),
    /// The writer's thread could not be started.
    #[error("cannot start the writer: {0}")]
    Thread(std::io::Error),
}
