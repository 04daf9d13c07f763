//! Overwriting what stands in unused parts of the database's file.
//!
//! `secure_delete` overwrites what is deleted, but where SQLite moves rows from one page to another it leaves copies of them in the
//! gap between a page's directory and its rows. They belong to nothing, and would go only when the gap is used. What was deleted while
//! there was no room to overwrite it, or by somebody's own tool, still stands in pages that are free. Pages are read and written through
//! SQLite itself (`sqlite_dbpage`, which `.cargo/config.toml` has it compiled with), so this is a change like any other: in a
//! transaction, and safe with readers. The format is that of <https://www.sqlite.org/fileformat2.html>.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::{Connection, params};

/// The most pages in one look.
pub(super) const PART: i64 = 2000;

/// The most pages that are overwritten at once: they stand in the write-ahead log first.
pub(super) const OVERWRITTEN_AT_ONCE: usize = 100;

/// With more pages, the number with which another kind of page begins could be taken for the kind of a b-tree's.
const MAX_PAGES: i64 = 0x0200_0000;

/// How many pages the database has.
pub(super) fn count_pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA page_count", [], |row| row.get(0))
}

/// Which of these pages have something in their unused parts.
pub(super) fn find(connection: &Connection, pages: Range<i64>) -> rusqlite::Result<Vec<i64>> {
    // One state of the database for all of them.
    let transaction = connection.unchecked_transaction()?;
    let free = free_pages(&transaction, |page| pages.contains(&page))?;
    let mut found = Vec::new();
    for page in pages {
        let content = read(&transaction, page)?;
        let mut parts = unused(&content, page, free.get(&page)).into_iter();
        found.extend(parts.any(|part| content[part].iter().any(|byte| *byte != 0)).then_some(page));
    }
    Ok(found)
}

/// Overwrites the unused parts of these pages, which ascend, with zeros; how many pages that were.
pub(super) fn overwrite(connection: &Connection, pages: &[i64]) -> rusqlite::Result<usize> {
    // They may have changed since they were looked at.
    let free = free_pages(connection, |page| pages.binary_search(&page).is_ok())?;
    for page in pages {
        let mut content = read(connection, *page)?;
        for part in unused(&content, *page, free.get(page)) {
            content[part].fill(0);
        }
        connection
            .prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?
            .execute(params![page, content])?;
    }
    Ok(pages.len())
}

fn read(connection: &Connection, page: i64) -> rusqlite::Result<Vec<u8>> {
    connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?.query_row([page], |row| row.get(0))
}

/// The pages that are free, of those that are wanted, and how many bytes at the beginning of each are in use all the same: some of them
/// list the others.
fn free_pages(connection: &Connection, is_wanted: impl Fn(i64) -> bool) -> rusqlite::Result<HashMap<i64, usize>> {
    let mut free = HashMap::new();
    let mut list = number(&read(connection, 1)?, 32);
    let mut lists_left = count_pages(connection)?;
    while list > 0 && lists_left > 0 {
        let content = read(connection, list)?;
        let listed = usize::try_from(number(&content, 4)).unwrap_or_default().min(content.len() / 4 - 2);
        let pages = (0..listed).map(|index| (number(&content, 8 + 4 * index), 0));
        free.extend(pages.chain([(list, 8 + 4 * listed)]).filter(|(page, _)| is_wanted(*page)));
        list = number(&content, 0);
        lists_left -= 1;
    }
    Ok(free)
}

/// The four bytes there as a number; 0 beyond the end.
fn number(content: &[u8], at: usize) -> i64 {
    content.get(at..at + 4).map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte)))
}

/// The unused parts of a page: of one that is free what is not `used` at its beginning, else those of a b-tree's; none of one that is
/// another kind, or makes no sense.
fn unused(content: &[u8], page: i64, used: Option<&usize>) -> Vec<Range<usize>> {
    if let Some(used) = used {
        return std::iter::once(*used..content.len()).collect();
    }
    // The file's own header is on the first page.
    let header = if page == 1 { 100 } else { 0 };
    let number =
        |at: usize| content.get(at..at + 2).map_or(0, |bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]));
    let header_bytes = match content.get(header) {
        Some(2 | 5) => 12,
        Some(10 | 13) => 8,
        _ => return Vec::new(),
    };
    let rows_begin = match number(header + 5) {
        0 => 1 << 16,
        begin => begin,
    };
    let directory_ends = header + header_bytes + 2 * number(header + 3);
    if page >= MAX_PAGES || directory_ends > rows_begin || rows_begin > content.len() {
        return Vec::new();
    }
    let mut parts = Vec::new();
    // Each free block among the rows begins with where the next one is, further on, and how long it is itself.
    let mut block = number(header + 1);
    while block >= rows_begin {
        let (next, end) = (number(block), block + number(block + 2));
        if end < block + 4 || end > content.len() || (next != 0 && next < end) {
            return Vec::new();
        }
        parts.push(block + 4..end);
        block = next;
    }
    parts.push(directory_ends..rows_begin);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_gap_and_the_free_blocks_of_a_page_are_unused_and_nothing_else() {
        // A leaf with two rows at 40 and 52, a free block of eight bytes at 44, and the gap from the end of its directory to 40.
        let mut page = vec![7; 64];
        page[..12].copy_from_slice(&[13, 0, 44, 0, 2, 0, 40, 0, 0, 40, 0, 52]);
        page[44..48].copy_from_slice(&[0, 0, 0, 8]);
        assert_eq!(unused(&page, 2, None), [48..52, 12..40]);
        // The kind of any other page is 0 in its first byte, as long as there are fewer pages than this.
        assert!(unused(&page, MAX_PAGES, None).is_empty());
        assert_eq!(unused(&page, 2, Some(&12)).first(), Some(&(12..64)), "it is free, whatever it was");
        page[0] = 0;
        assert!(unused(&page, 2, None).is_empty());
    }

    proptest! {
        #[test]
        fn a_page_that_makes_no_sense_is_left_alone(page in prop::collection::vec(any::<u8>(), 0..300), kind in 0..14_u8, number in 1..3_i64) {
            let mut page = page;
            if let Some(first) = page.get_mut(if number == 1 { 100 } else { 0 }) {
                *first = kind;
            }
            for part in unused(&page, number, None) {
                prop_assert!(part.start <= part.end && part.end <= page.len());
            }
        }
    }
}
