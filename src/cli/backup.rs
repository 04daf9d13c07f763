//! `backup`

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::{Usage, output};
use crate::config::Config;
use crate::store::Source;
use crate::{http, phone};

/// Copy the store to a file, while the receiver runs or not
///
/// FILE is the database as it was when the copy began: everything that was acknowledged before is in it. The keys that the receiver
/// made for itself are put beside it, as FILE.secret and FILE.phone-key. All of them are readable by their owner alone, and hold
/// personal data and secrets. docs/installing.md says how to put them back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver backup /var/backups/plugchat-receiver-$(date +%F).sqlite3")]
pub(super) struct Backup {
    /// Where to: a file that is not there yet, in a folder that is.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What the receiver keeps in the store's folder besides the database, and can't do without.
const KEYS: [&str; 2] = [http::SECRET_FILE, phone::KEY_FILE];

impl Backup {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let broken_off = Arc::new(AtomicBool::new(false));
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (folder, is_broken_off) = (config.store.sqlite.path.clone(), Arc::clone(&broken_off));
        let mut copying = tokio::task::spawn_blocking(move || copy(&folder, &self.file, &is_broken_off));
        tokio::select! {
            copied = &mut copying => return copied?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        broken_off.store(true, Ordering::Relaxed);
        copying.await?
    }
}

fn copy(folder: &Path, file: &Path, is_broken_off: &AtomicBool) -> anyhow::Result<ExitCode> {
    let keys: Vec<_> =
        KEYS.iter().filter(|key| folder.join(key).exists()).map(|key| (key, beside(file, key))).collect();
    let part = beside(file, "part");
    refuse_store_s_own(folder, file)?;
    for place in keys.iter().map(|(_, place)| place).chain([&file.to_owned(), &part]) {
        if place.symlink_metadata().is_ok() {
            return Err(Usage(format!("{} is there already: name another file, or remove it", place.display())).into());
        }
    }
    let source = Source::open(folder)?;
    // Whatever goes wrong from here on, what was made so far is removed.
    let mut made = Made::default();
    made.make(&part)?;
    let bar = progress_bar()?;
    let bytes = source.copy_to(&part, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        !is_broken_off.load(Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    for (key, place) in &keys {
        let mut copy = made.make(place)?;
        let copied = fs::read(folder.join(key)).and_then(|key| copy.write_all(&key)).and_then(|()| copy.sync_all());
        copied.with_context(|| format!("cannot write {}", place.display()))?;
    }
    // Last, because a file of this name is a whole backup.
    fs::rename(&part, file).with_context(|| format!("cannot make {}", file.display()))?;
    made.0.clear();
    File::open(folder_of(file)).and_then(|folder| folder.sync_all()).context("cannot sync the folder of the backup")?;
    output::line(&format!("{}: {}", file.display(), ByteSize(bytes)));
    for (_, place) in &keys {
        output::line(&format!("{}: a key, as secret as the original", place.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The file with this ending after its name.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file in the store's folder is fine, but for names that the receiver or SQLite would take for theirs.
fn refuse_store_s_own(folder: &Path, file: &Path) -> Result<(), Usage> {
    let is_inside =
        folder_of(file).canonicalize().is_ok_and(|parent| folder.canonicalize().is_ok_and(|own| own == parent));
    let name = file.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let is_own = name.starts_with("store.sqlite3") || name == "lock" || KEYS.contains(&name.as_ref());
    if is_inside && is_own {
        return Err(Usage(format!("{} is a name of the store's own: name another file", file.display())));
    }
    Ok(())
}

fn progress_bar() -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %, {elapsed} gone, {eta} to go")?;
    Ok(ProgressBar::no_length().with_style(style))
}

/// Files of a backup that is not whole yet: removed unless it gets so.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn make(&mut self, file: &Path) -> anyhow::Result<File> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let made = made.with_context(|| format!("cannot make {}", file.display()))?;
        self.0.push(file.to_owned());
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for file in &self.0 {
            // There is nobody left to tell when this fails.
            let _ = fs::remove_file(file);
        }
    }
}
