//! What files have in force, kept in a directory, so that a restart finds it again.
//!
//! - One entry a file, named by the digest of the file's path. It is written beside its place,
//!   synced and renamed into it, so a crash leaves the old one or the new one.
//! - An entry's text alone gives everything that the file has in force.
//! - What does not read as this module wrote it is left out with a problem, never guessed at.
//! - At most one change a file waits to be written, and one more is being written, so what waits is
//!   bounded as the files are.
//! - Changes are written on a thread of their own: a disk that hangs holds up nothing else.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::Problem;

pub(crate) use entry::Entry;

use crate::reading::whole_file;
use crate::scan::MAX_FILES;

/// The directory within the daemon's state directory.
const DIRECTORY: &str = "last-good";
/// What entries' names end with; no manifest's name does.
const SUFFIX: &str = ".last-good";
/// What the name of one that is being written begins with.
const UNFINISHED: &str = ".new-";
/// How long writing may take before it is told of.
const LATE: Duration = Duration::from_secs(10);
/// When writing is tried again after it failed.
const RETRY: Duration = Duration::from_secs(30);

/// The directory of entries, and what is still to be written there.
#[derive(Debug)]
pub(crate) struct LastGood {
    directory: PathBuf,
    waiting: Changes,
    /// Names of entries that could not be read.
    damaged: BTreeSet<String>,
    reading: Vec<Problem>,
    /// Since when changes are being written, while they are.
    begun: Option<Instant>,
    /// Why the last writing failed, or does not end.
    failed: Option<Problem>,
    /// When writing is tried again.
    retry: Option<Instant>,
}

/// Changes on their way to the disk.
#[derive(Debug)]
pub(crate) struct Batch {
    directory: PathBuf,
    changes: Changes,
    failed: Option<io::Error>,
}

/// By file: its new entry, or none where its entry is to go.
type Changes = BTreeMap<Arc<Path>, Option<Entry>>;

impl LastGood {
    /// Opens the directory, which is made if need be, and hands each entry to `restore`.
    pub fn open(state: &Path, limit: u64, mut restore: impl FnMut(Entry)) -> Self {
        let mut this = Self {
            directory: state.join(DIRECTORY),
            waiting: Changes::new(),
            damaged: BTreeSet::new(),
            reading: Vec::new(),
            begun: None,
            failed: None,
            retry: None,
        };
        if let Err(error) = this.restore_all(limit, &mut restore) {
            this.tell(&this.directory.clone(), &format!("cannot be used: {error}"));
        }
        this
    }

    fn restore_all(&mut self, limit: u64, restore: &mut impl FnMut(Entry)) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut room = limit;
        for found in fs::read_dir(&self.directory)?.take(2 * MAX_FILES) {
            let path = found?.path();
            // A name that is no text, or does not end so, is none of ours.
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if !name.ends_with(SUFFIX) {
                continue;
            }
            if name.starts_with(UNFINISHED) {
                // It is written anew when it is needed.
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&path, name, &mut room) {
                Ok(entry) => restore(entry),
                Err(error) => {
                    self.tell(&path, &format!("what it kept of a file is lost: {error}"));
                    self.damaged.insert(name.to_owned());
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: &Path, message: &str) {
        tracing::warn!(path = %path.display(), message, "last good versions");
        if self.reading.len() < crate::reading::MAX_PROBLEMS {
            self.reading.push(whole_file(&path.into(), message));
        }
    }

    /// Whether something was kept that could not be read again.
    pub fn is_damaged(&self) -> bool {
        !self.reading.is_empty()
    }

    /// What is wrong with the directory.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.reading.iter().chain(&self.failed)
    }

    /// Has an entry written in the place of the file's last one.
    pub fn keep(&mut self, entry: Entry) {
        self.waiting.insert(Arc::clone(&entry.file), Some(entry));
    }

    /// Has the entry of a file removed that is no more.
    pub fn forget(&mut self, file: &Path) {
        self.waiting.insert(file.into(), None);
    }

    /// Removes the damaged entries of files that are no more: all that there are are given.
    pub fn prune<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        if self.damaged.is_empty() {
            return;
        }
        let names: BTreeSet<String> = files.map(|file| name_of(file)).collect();
        self.damaged.retain(|name| {
            // One that cannot be removed is told of again at the next start.
            names.contains(name) || fs::remove_file(self.directory.join(name)).is_err()
        });
    }

    /// When there is something to write, or writing is late.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match self.begun {
            Some(begun) => self.failed.is_none().then_some(begun + LATE),
            None => (!self.waiting.is_empty()).then(|| self.retry.unwrap_or(now)),
        }
    }

    /// What is to be written now. Nothing more comes until it has been given back to `end`.
    pub fn begin(&mut self, now: Instant) -> Option<Batch> {
        if self.begun.is_some() || self.due(now).is_none_or(|due| due > now) {
            return None;
        }
        self.begun = Some(now);
        let changes = std::mem::take(&mut self.waiting);
        Some(Batch { directory: self.directory.clone(), changes, failed: None })
    }

    /// Takes note of what was written, and keeps the rest. Tells whether the problems are others
    /// than before.
    pub fn end(&mut self, batch: Batch, now: Instant) -> bool {
        self.begun = None;
        for (file, change) in batch.changes {
            self.waiting.entry(file).or_insert(change);
        }
        self.retry = batch.failed.is_some().then(|| now + RETRY);
        self.tell_writing(batch.failed.map(|error| format!("cannot be written: {error}")))
    }

    /// Looks whether writing takes too long. Tells whether the problems are others than before.
    pub fn look(&mut self, now: Instant) -> bool {
        let late = self.begun.is_some_and(|begun| now >= begun + LATE);
        late && self.failed.is_none()
            && self.tell_writing(Some(format!("does not take what is written, for {LATE:?} now")))
    }

    fn tell_writing(&mut self, message: Option<String>) -> bool {
        let problem = message.map(|message| {
            let message = format!(
                "{message}; a file that is broken at the next start would have no last good version"
            );
            whole_file(&self.directory.as_path().into(), message)
        });
        let changed = problem != self.failed;
        if let Some(problem) = problem.as_ref().filter(|_| changed) {
            let directory = self.directory.display();
            tracing::warn!(%directory, message = %problem.message, "last good versions");
        }
        self.failed = problem;
        changed
    }
}

impl Batch {
    /// Writes, for as long as the disk takes, until something fails.
    pub fn write(mut self) -> Self {
        while let Some((file, change)) = self.changes.pop_first() {
            if let Err(error) = self.carry_out(&file, change.as_ref()) {
                self.changes.insert(file, change);
                self.failed = Some(error);
                break;
            }
        }
        self
    }

    fn carry_out(&self, file: &Path, change: Option<&Entry>) -> io::Result<()> {
        let name = name_of(file);
        let place = self.directory.join(&name);
        let Some(entry) = change else {
            return match fs::remove_file(place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        };
        // It may have been removed while the daemon runs.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let unfinished = self.directory.join(format!("{UNFINISHED}{name}"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut written = options.open(&unfinished)?;
        written.write_all(&entry.encode())?;
        written.sync_all()?;
        fs::rename(unfinished, place)?;
        File::open(&self.directory)?.sync_all()
    }
}

fn name_of(file: &Path) -> String {
    format!("{}{SUFFIX}", entry::digest(file.as_os_str().as_encoded_bytes()))
}

fn read(path: &Path, name: &str, room: &mut u64) -> io::Result<Entry> {
    let invalid = |error: entry::EntryError| io::Error::new(io::ErrorKind::InvalidData, error);
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let left = room.checked_sub(metadata.len());
    *room = left.ok_or_else(|| io::Error::other("all entries together are more than is read"))?;
    let mut bytes = Vec::new();
    File::open(path)?.take(Entry::MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    let entry = Entry::decode(&bytes).map_err(invalid)?;
    if name_of(&entry.file) != name {
        return Err(invalid(entry::EntryError::Name));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests;
