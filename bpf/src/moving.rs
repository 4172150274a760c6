//! Moving over from what was pinned with other sizes, or by another version.
//!
//! A map of another size is set aside as `NAME-old`, and what it holds is copied into a new one. A
//! directory that this version cannot read, another version's or one with a map of another layout,
//! is left as it is but for its links, which go to this version's directory. Either way the
//! programs that are attached run on with the maps that they were loaded with, until those of this
//! version take their place in the same links; [`Datapath::finish_move`] then takes the old away.
//!
//! A move that is interrupted, or fails, begins anew with the next start: what was set aside is put
//! back first.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::remove::{entries, is_version, remove_version};
use crate::tables::{Fit, Maps, SPECS};
use crate::{Datapath, Error, Removed, Sizes, bpffs, sys};

/// What a map that was set aside is called beside its name, behind a dash: the file system keeps
/// names with dots to itself.
const ASIDE: &str = "old";

/// What had to be moved over from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The maps that were pinned with other sizes. What they held is in the new ones.
    pub resized: Vec<&'static str>,
    /// The directories that this version cannot read. What they held is lost: names must be
    /// resolved again, and living connections are judged as if they began.
    pub unreadable: Vec<PathBuf>,
}

impl Moved {
    /// Whether nothing had to be moved.
    pub fn is_empty(&self) -> bool {
        self.resized.is_empty() && self.unreadable.is_empty()
    }
}

/// Makes room for the maps that are to be made. What they will not be made of is set aside.
pub(crate) fn prepare(pin: &Path, directory: &Path, sizes: &Sizes) -> Result<Moved, Error> {
    put_back(directory)?;
    let mut moved = Moved::default();
    let mut readable = true;
    for spec in &SPECS {
        let path = directory.join(spec.name);
        if !path.exists() {
            continue;
        }
        let failed = |source| Error::Map { map: spec.name, action: "open", source };
        let fd = sys::object_get(&path).map_err(failed)?;
        match spec.fit(&sys::map_info(fd.as_fd()).map_err(failed)?, sizes) {
            Fit::Same => {}
            Fit::OtherSize => moved.resized.push(spec.name),
            Fit::OtherLayout => readable = false,
        }
    }
    if readable {
        for name in &moved.resized {
            rename(&directory.join(name), &aside(directory, name))?;
        }
    } else {
        moved.resized.clear();
        rename(directory, &free_name(directory))?;
        bpffs::prepare(pin, &directories(directory))?;
    }
    moved.unreadable = others(pin, directory)?;
    Ok(moved)
}

/// Fills the new maps from those that were set aside, and takes the links of unreadable directories
/// over.
pub(crate) fn fill(moved: &Moved, directory: &Path, maps: &Maps) -> Result<(), Error> {
    for name in &moved.resized {
        let old = sys::object_get(&aside(directory, name));
        let old = old.map_err(|source| Error::Map { map: name, action: "open", source })?;
        maps.take_over(name, old)?;
    }
    for other in &moved.unreadable {
        take_links(&other.join("links"), &directory.join("links"))?;
    }
    Ok(())
}

/// Undoes a move that came to no end.
pub(crate) fn put_back(directory: &Path) -> Result<(), Error> {
    for spec in &SPECS {
        let (path, aside) = (directory.join(spec.name), aside(directory, spec.name));
        if aside.exists() {
            rename(&aside, &path)?;
        }
    }
    Ok(())
}

/// What is under a version's directory beside maps.
pub(crate) fn directories(directory: &Path) -> [PathBuf; 2] {
    [directory.join("links"), directory.join("flows")]
}

impl Datapath {
    /// What [`Datapath::open`] had to move over from.
    pub const fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Takes away what was moved over from. To be called when this version's programs are attached
    /// everywhere: what is still attached of another directory is taken off.
    pub fn finish_move(&self) -> Result<(), Error> {
        for name in &self.moved.resized {
            let path = aside(&self.directory, name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Path { action: "remove", path, source: error });
                }
                Ok(()) | Err(_) => {}
            }
        }
        let mut removed = Removed::default();
        for other in &self.moved.unreadable {
            remove_version(other, &mut removed)?;
        }
        Ok(())
    }
}

fn aside(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}-{ASIDE}"))
}

/// A name for a directory of this version's that this version cannot read.
fn free_name(directory: &Path) -> PathBuf {
    let named = |number| directory.with_file_name(format!("{}-{ASIDE}{number}", bpf_abi::VERSION));
    (1u32..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0))
}

/// The directories of other versions.
fn others(pin: &Path, directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut others = entries(pin)?;
    others.retain(|path| path != directory && is_version(path));
    others.sort_unstable();
    Ok(others)
}

/// Links keep their programs when their pins move.
fn take_links(from: &Path, to: &Path) -> Result<(), Error> {
    if !from.exists() {
        return Ok(());
    }
    for path in entries(from)? {
        let Some(name) = path.file_name() else { continue };
        // A second link in one place goes when the move is finished.
        let pin = to.join(name);
        if !pin.exists() {
            rename(&path, &pin)?;
        }
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    let renamed = fs::rename(from, to);
    renamed.map_err(|source| Error::Path { action: "rename", path: from.to_owned(), source })
}
