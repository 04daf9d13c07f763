//! Opening the database: its settings, its schema and the steps from older ones.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// "PCRx" in ASCII: tells a store from any other SQLite file.
const APPLICATION_ID: i32 = 0x5043_5278;

/// Step `n` takes a database from version `n` to `n + 1`. A step that was released is never changed.
const STEPS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

/// How long a connection waits for another one that is in its way: a person with a tool of theirs, too.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the one connection that writes, and brings the schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let version = check(&connection, path)?;
    let known = STEPS.len() as u32;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL is what makes a commit durable in WAL mode: the log is synced before COMMIT returns.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 16 MiB: enough for the inner pages of an index of many millions. A larger one costs: at a commit after some page splits
    // SQLite walks through all of its cache.
    connection.pragma_update(None, "cache_size", -16384)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What is deleted is overwritten in the file: it is personal data.
    connection.pragma_update(None, "secure_delete", "ON")?;
    for (next, step) in (1u32..).zip(STEPS).skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
    }
    if version < known {
        // Out of the log into the database: a store without its log must not look like a new one.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The version of a store's schema, when this program can use it.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as u32;
    let application_id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && application_id != APPLICATION_ID {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if version > known {
        return Err(OpenError::Newer { path: path.to_owned(), version, known });
    }
    Ok(version)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
