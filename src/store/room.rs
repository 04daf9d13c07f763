//! Whether there is room for more: in the cap, and on the disk.

use std::path::PathBuf;

use rusqlite::Connection;

/// How much of the disk is left alone, so that deleting, which writes too, can still make room.
const RESERVE: u64 = 16 << 20;

/// On a small disk, this part of it is left alone instead.
const RESERVE_PART: u64 = 8;

/// Looks at the store's size and at the disk's.
pub(super) struct Room {
    pub(super) folder: PathBuf,
    pub(super) max_bytes: u64,
    /// Whether the last look found none: said when it begins and when it is over.
    pub(super) full: bool,
}

impl Room {
    /// Whether anything may be added.
    pub(super) fn check(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let used = used_bytes(connection)?;
        let short_disk = self.disk_is_short();
        let full = used >= self.max_bytes || short_disk;
        if full != self.full {
            self.full = full;
            match (full, short_disk) {
                (true, true) => {
                    tracing::error!("the disk is nearly full: callbacks are answered 503 until there is room")
                }
                (true, false) => tracing::error!(
                    used,
                    max_size = self.max_bytes,
                    "the store has reached its cap with changes that sinks still have to deliver: callbacks are answered 503 until there is room"
                ),
                _ => tracing::info!("there is room in the store again"),
            }
        }
        Ok(!full)
    }

    /// Whether the oldest delivered changes have to go to make room: from nine tenths of the cap on.
    pub(super) fn is_short(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(used_bytes(connection)? >= self.max_bytes / 10 * 9)
    }

    fn disk_is_short(&self) -> bool {
        // Where the file system can't be asked, a failing commit tells.
        rustix::fs::statvfs(&self.folder).is_ok_and(|disk| {
            let reserve = RESERVE.min(disk.f_blocks * disk.f_frsize / RESERVE_PART);
            disk.f_bavail * disk.f_frsize < reserve
        })
    }
}

/// The bytes of the database's pages that hold something.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let ask = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let pages = ask("PRAGMA page_count")? - ask("PRAGMA freelist_count")?;
    Ok(u64::try_from(pages * ask("PRAGMA page_size")?).unwrap_or_default())
}
