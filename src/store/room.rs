//! Whether there is room for more: in the cap, and on the disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{Error, Store};

/// How much of the disk is left alone, so that deleting, which writes too, can still make room.
const RESERVE: u64 = 16 << 20;

/// On a small disk, this part of it is left alone instead.
const RESERVE_PART: u64 = 8;

/// Less room than this is none: the largest callback would not fit, unless larger ones than usual are configured.
const FULL_BELOW: u64 = 64 << 10;

/// Looks at the store's size and at the disk's.
pub(super) struct Room {
    pub(super) folder: PathBuf,
    pub(super) max_bytes: u64,
    /// The database's device and inode: what the path names when nobody has taken the file away.
    pub(super) file: (u64, u64),
    /// Whether the last look found none: said when it begins and when it is over.
    pub(super) full: bool,
}

impl Room {
    /// Whether the file that is written is still the one that a start would find. A deleted one takes everything, and keeps nothing.
    pub(super) fn check_file(&self, connection: &Connection) -> rusqlite::Result<()> {
        let path = PathBuf::from(connection.path().unwrap_or_default());
        match file_id(&path) {
            Ok(file) if file == self.file => Ok(()),
            _ => Err(rusqlite::Error::InvalidPath(path)),
        }
    }

    /// How many bytes may be added, about.
    pub(super) fn left_bytes(&mut self, connection: &Connection) -> rusqlite::Result<u64> {
        let size = Size::of(connection)?;
        let in_cap = self.max_bytes.saturating_sub(size.used());
        // What is added is written twice: to the write-ahead log and to the database.
        let on_disk = self.disk_left_bytes(&size, 1).map_or(u64::MAX, |left| left / 2);
        let left = in_cap.min(on_disk);
        let full = left < FULL_BELOW;
        if full != self.full {
            self.full = full;
            match (full, on_disk < in_cap) {
                (true, true) => {
                    tracing::error!("the disk is nearly full: callbacks are answered 503 until there is room")
                }
                (true, false) => tracing::error!(
                    used = size.used(),
                    max_size = self.max_bytes,
                    "the store has reached its cap with changes that sinks still have to deliver: callbacks are answered 503 until there is room"
                ),
                _ => tracing::info!("there is room in the store again"),
            }
        }
        Ok(if full { 0 } else { left })
    }

    /// Whether the oldest delivered changes have to go to make room: from nine tenths of the cap on, or when the disk has no more
    /// than twice what is left alone.
    pub(super) fn is_short(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let size = Size::of(connection)?;
        Ok(size.used() >= self.max_bytes / 10 * 9 || self.disk_left_bytes(&size, 2) == Some(0))
    }

    /// What the disk has for the store above so many times what is left alone. `None` where the file system can't be asked: then
    /// a failing commit tells.
    fn disk_left_bytes(&self, size: &Size, reserves: u64) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        let reserve = RESERVE.min(disk.f_blocks * disk.f_frsize / RESERVE_PART);
        // The file never shrinks: what was deleted from it is room in it.
        let available = disk.f_bavail * disk.f_frsize + size.free;
        Some(available.saturating_sub(reserve * reserves + size.owed))
    }
}

impl Store {
    /// How many bytes of the database hold something, and how many there may be at most.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn bytes(&self) -> Result<(u64, u64), Error> {
        let used = self.read(|connection| Size::of(connection).map(|size| size.used())).await?;
        Ok((used, self.inner.max_bytes))
    }
}

/// A file's device and inode.
pub(super) fn file_id(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The database's size, in bytes.
struct Size {
    /// All of its pages.
    all: u64,
    /// Those that hold nothing.
    free: u64,
    /// By how much its file will grow when what stands in the write-ahead log is moved there.
    owed: u64,
}

impl Size {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let ask = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, u32>(0)).map(u64::from);
        let page = ask("PRAGMA page_size")?;
        let all = ask("PRAGMA page_count")? * page;
        let file = connection.path().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len());
        Ok(Self { all, free: ask("PRAGMA freelist_count")? * page, owed: all.saturating_sub(file) })
    }

    /// What holds something.
    fn used(&self) -> u64 {
        self.all.saturating_sub(self.free)
    }
}
