//! Secrets that the program makes for itself, each in a file that its owner alone may read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::secret::Secret;

/// The secret in this file; made, and its folder with it, when there is none. Two processes that make it at once get the same.
pub(crate) fn read_or_make(path: &Path) -> anyhow::Result<Secret> {
    if !path.exists() {
        make(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let secrets = Secret::read_all(path).map_err(anyhow::Error::msg)?;
    secrets.into_iter().next().with_context(|| format!("{} is empty", path.display()))
}

fn make(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    crate::store::make_folder(folder)?;
    let secret = Secret::generate()?;
    // Written in full before it gets its name: nobody can read half a secret, and the first one to link it wins.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", secret.expose())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        linked => {
            linked?;
            Ok(std::fs::File::open(folder)?.sync_all()?)
        }
    }
}
