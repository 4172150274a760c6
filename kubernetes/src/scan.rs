//! What stands in the directories: files to read, and places to watch so that no change is missed.
//!
//! Hidden files and directories are left out, and with them the temporary files of most editors.
//! Symbolic links are followed, so a mounted ConfigMap works: its files lead through `..data`.
//! The walk is bounded in depth, files and directories; where it stops it says so, and what was
//! known beyond that point stays known.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use policy::Problem;

use crate::reading::whole_file;

/// How deep directories may be nested.
const MAX_DEPTH: usize = 16;
/// How many files are read.
pub(crate) const MAX_FILES: usize = 10_000;
/// How many directories are watched.
const MAX_DIRECTORIES: usize = 2_000;
/// How many symbolic links may lead to one file.
const MAX_LINKS: usize = 8;

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Files to read, and how they looked.
    pub files: BTreeMap<PathBuf, Fingerprint>,
    /// Directories to watch: for all that happens in them, or only for some names.
    pub places: BTreeMap<PathBuf, Interest>,
    /// Roots of which not everything was seen.
    pub partial: BTreeSet<PathBuf>,
    /// Where and why the walk stopped.
    pub problems: Vec<Problem>,
    seen: BTreeSet<(u64, u64)>,
}

/// What matters in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Everything: it holds manifests.
    All,
    /// These names: the way to a root, or to the target of a link.
    Names(BTreeSet<OsString>),
}

/// How a file looks from outside. The same twice: its content is taken to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    /// In bytes.
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Whether a file of this name is read.
pub(crate) fn is_manifest(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let known = [&b".yaml"[..], b".yml", b".json"].iter().any(|end| name.ends_with(end));
    known && !matches!(name.first(), Some(b'.' | b'#'))
}

impl Scan {
    /// Walks the roots, which are absolute.
    pub fn new(roots: &[PathBuf]) -> Self {
        let mut scan = Self::default();
        for root in roots {
            scan.watch_way_to(root);
            scan.directory(root, root, 0);
        }
        scan
    }

    /// The directories above a root tell when it goes and comes.
    fn watch_way_to(&mut self, path: &Path) {
        let mut path = path;
        while let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            self.watch_name(parent, name);
            path = parent;
        }
    }

    fn watch_name(&mut self, directory: &Path, name: &OsStr) {
        let interest = self
            .places
            .entry(directory.to_owned())
            .or_insert_with(|| Interest::Names(BTreeSet::new()));
        if let Interest::Names(names) = interest {
            names.insert(name.to_owned());
        }
    }

    fn directory(&mut self, root: &Path, path: &Path, depth: usize) {
        let metadata = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Ok(_) => return self.stop(root, path, "is not a directory"),
            Err(error) => return self.fail(root, path, &error),
        };
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        if depth > MAX_DEPTH {
            return self.stop(root, path, &format!("lies deeper than {MAX_DEPTH} directories"));
        }
        if self.seen.len() > MAX_DIRECTORIES {
            return self.stop(root, path, &format!("over {MAX_DIRECTORIES} directories"));
        }
        self.places.insert(path.to_owned(), Interest::All);
        match entries(path) {
            Ok(entries) => {
                for entry in entries {
                    self.entry(root, &entry, depth);
                }
            }
            Err(error) => self.fail(root, path, &error),
        }
    }

    fn entry(&mut self, root: &Path, path: &Path, depth: usize) {
        let Some(name) = path.file_name() else { return };
        if name.as_bytes().starts_with(b".") {
            return;
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // Gone since it was listed, or a link to nothing: an event tells when that changes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.watch_links(path);
            }
            Err(_) if !is_manifest(name) => return,
            Err(error) => return self.fail(root, path, &error),
        };
        if metadata.is_dir() {
            self.watch_links(path);
            self.directory(root, path, depth + 1);
        } else if metadata.is_file() && is_manifest(name) {
            self.watch_links(path);
            self.file(root, path, &metadata);
        }
    }

    fn file(&mut self, root: &Path, path: &Path, metadata: &Metadata) {
        if self.files.len() < MAX_FILES {
            self.files.insert(path.to_owned(), Fingerprint::new(metadata));
        } else if self.partial.insert(root.to_owned()) {
            let message = format!("over {MAX_FILES} files; this and later ones are not read");
            self.problems.push(whole_file(&path.into(), message));
        }
    }

    /// Where a symbolic link leads, every step may change without an event in the link's own
    /// directory.
    fn watch_links(&mut self, path: &Path) {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let Ok(target) = fs::read_link(&path) else { return };
            let Some(parent) = path.parent() else { return };
            path = parent.join(target);
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                self.watch_name(parent, name);
            }
        }
    }

    fn fail(&mut self, root: &Path, path: &Path, error: &io::Error) {
        self.stop(root, path, &format!("cannot be read: {error}"));
    }

    fn stop(&mut self, root: &Path, path: &Path, message: &str) {
        let message = format!("{message}; what it gave before stays in force");
        self.partial.insert(root.to_owned());
        self.problems.push(whole_file(&path.into(), message));
    }
}

/// The paths in a directory, in order, few enough to hold.
fn entries(path: &Path) -> io::Result<BTreeSet<PathBuf>> {
    const MAX_ENTRIES: usize = 100_000;
    let entries = fs::read_dir(path)?.take(MAX_ENTRIES + 1);
    let entries: BTreeSet<_> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    if entries.len() > MAX_ENTRIES {
        return Err(io::Error::other(format!("over {MAX_ENTRIES} entries")));
    }
    Ok(entries)
}

impl Fingerprint {
    /// The fingerprint of a file that is open or was just looked at.
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file was changed less than `age` before `now`, or after it, as clocks may have
    /// it. The time of change is the kernel's: unlike that of modification, nobody can set it.
    pub fn is_fresh(&self, now: SystemTime, age: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_epoch = u64::try_from(seconds).ok().zip(u32::try_from(nanoseconds).ok());
        let changed = since_epoch.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
        let changed = changed.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let elapsed = changed.and_then(|changed| now.duration_since(changed).ok());
        elapsed.is_none_or(|elapsed| elapsed < age)
    }
}

#[cfg(test)]
mod tests;
