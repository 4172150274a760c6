//! Taking everything away: attachments, maps, directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::Interface;

use crate::{Error, attach, bpffs};

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The interfaces that nothing is attached to any more.
    pub interfaces: Vec<Interface>,
    /// How many maps and flow tables were unpinned.
    pub maps: usize,
}

/// Detaches every program and unpins every map under a pin directory, of every version, and removes
/// it. From then on, nothing is enforced. What is not there is no error.
pub fn remove(pin: &Path) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    if !pin.exists() {
        return Ok(removed);
    }
    if !bpffs::is_bpffs(pin) {
        return Err(Error::NotBpffs(pin.to_owned()));
    }
    for version in entries(pin)? {
        if !is_version(&version) {
            continue;
        }
        remove_version(&version, &mut removed)?;
    }
    remove_directory(pin)?;
    Ok(removed)
}

/// Takes away what is under one version's directory, and it.
pub(crate) fn remove_version(version: &Path, removed: &mut Removed) -> Result<(), Error> {
    remove_links(&version.join("links"), removed)?;
    removed.maps += remove_files(&version.join("flows"))?;
    removed.maps += remove_files(version)?;
    Ok(())
}

/// Whether a directory is a version's: its name is `v`, a number, and whatever follows a dash.
pub(crate) fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.split('-').next().and_then(|name| name.strip_prefix('v'));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

fn remove_links(links: &Path, removed: &mut Removed) -> Result<(), Error> {
    if !links.exists() {
        return Ok(());
    }
    for attached in attach::pinned(links)? {
        attach::detach(links, &attached)?;
        if !removed.interfaces.contains(&attached.interface) {
            removed.interfaces.push(attached.interface);
        }
    }
    for interface in &removed.interfaces {
        attach::remove_qdisc(links, *interface).map_err(|source| Error::Attach {
            action: "remove the qdisc of",
            interface: *interface,
            by: "clsact",
            source,
        })?;
    }
    remove_files(links).map(drop)
}

/// Unlinks what a directory holds, and removes it.
fn remove_files(directory: &Path) -> Result<usize, Error> {
    if !directory.exists() {
        return Ok(0);
    }
    let mut count = 0;
    for path in entries(directory)? {
        let gone = fs::remove_file(&path);
        gone.map_err(|source| Error::Path { action: "remove", path, source })?;
        count += 1;
    }
    remove_directory(directory)?;
    Ok(count)
}

/// Removes a directory if nothing of others' is in it.
fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(source) => Err(Error::Path { action: "remove", path: path.to_owned(), source }),
    }
}

pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Path { action: "read", path: directory.to_owned(), source };
    let read = fs::read_dir(directory).map_err(failed)?;
    read.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}
