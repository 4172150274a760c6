//! What a cluster's API server gave, kept in a file, so that a start without the server finds it.
//!
//! - One line a change, with a digest of its own: an object's text, or its end. What stands is what
//!   the lines give one after the other.
//! - A line that was cut off at the end was never written. Any other line that is not as it was
//!   written makes all of the file worth nothing: nothing is guessed at.
//! - The file counts only once it holds a line which says that every list was in it whole.
//! - Who writes holds the lock beside it. Lines that were overtaken go when they are most of the
//!   file: it is written anew beside its place, synced and renamed into it.

mod line;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::cluster::kind::Kind;
use crate::cluster::object::Name;
use line::{Key, Line};

/// The directory within the daemon's state directory, and what is in it.
const DIRECTORY: &str = "cluster";
const FILE: &str = "journal";
const LOCK: &str = "lock";
/// The longest line: more than an API server takes of one object.
const MAX_LINE: u64 = 8 << 20;
/// The longest file.
const MAX_FILE: u64 = 2 << 30;
/// How much more than what stands the file may hold, beside as much again.
const SLACK: u64 = 8 << 20;

/// By object: its new text, or none where it is gone.
pub(super) type Changes = BTreeMap<(Kind, Name), Option<Box<str>>>;
/// The objects that there are.
pub(super) type Names = BTreeMap<Kind, BTreeSet<Name>>;

/// Why nothing can be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// Another daemon writes it.
    #[error("another fqdnd writes it")]
    Taken,
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is not what was written.
    #[error("line {0} is not what was written: all of it counts as lost")]
    Damaged(usize),
    /// There is more than is read.
    #[error("it has over {MAX_FILE} bytes")]
    TooLong,
}

/// The file, while it is this daemon's to write.
#[derive(Debug)]
pub(super) struct Journal {
    place: Place,
    file: File,
    /// The file's length in whole lines.
    len: u64,
    /// Digest and length of the line that each object stands in.
    standing: HashMap<Key, (u64, u64)>,
    standing_len: u64,
    whole: bool,
    _lock: File,
}

/// Where the file is, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: PathBuf,
    node: String,
}

/// What an object became, as the file has it.
pub(super) enum Kept<'a> {
    /// It has this text.
    Put(&'a str),
    /// It is gone.
    Gone(Name),
}

impl Place {
    /// In this state directory, for this node.
    pub fn new(state: &Path, node: &str) -> Self {
        Self { directory: state.join(DIRECTORY), node: node.to_owned() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Reads what was kept, change by change; whether it holds every list whole. If it does not,
    /// or there is an error, what was told is worth nothing.
    pub fn read(&self, mut each: impl FnMut(Kind, Kept<'_>)) -> Result<bool, JournalError> {
        let mut whole = false;
        let tell = |line: Line<'_>| match line {
            Line::Put { kind, text, .. } => each(kind, Kept::Put(text)),
            Line::Gone { kind, name } => each(kind, Kept::Gone(name)),
            Line::Whole => whole = true,
        };
        self.lines(tell)?;
        Ok(whole)
    }

    /// Each whole line with its digest; how long they are together.
    fn lines(&self, mut each: impl FnMut(Line<'_>)) -> Result<u64, JournalError> {
        self.lines_with(|line, _, _| {
            each(line);
            Ok(())
        })
    }

    fn lines_with(
        &self,
        mut each: impl FnMut(Line<'_>, u64, &[u8]) -> io::Result<()>,
    ) -> Result<u64, JournalError> {
        let file = match File::open(self.file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            file => file?,
        };
        if file.metadata()?.len() > MAX_FILE {
            return Err(JournalError::TooLong);
        }
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let (mut bytes, mut len, mut number) = (Vec::new(), 0, 0);
        loop {
            bytes.clear();
            (&mut reader).take(MAX_LINE).read_until(b'\n', &mut bytes)?;
            number += 1;
            let Some(text) = bytes.strip_suffix(b"\n") else {
                // Cut off while it was written, or nothing at all.
                let cut = (bytes.len() as u64) < MAX_LINE;
                return if cut { Ok(len) } else { Err(JournalError::Damaged(number)) };
            };
            if number == 1 {
                if text != line::header(&self.node).as_bytes() {
                    // Another node's, or another layout's: none of ours.
                    return Ok(0);
                }
            } else {
                let (line, digest) = Line::decode(text).ok_or(JournalError::Damaged(number))?;
                each(line, digest, &bytes)?;
            }
            len += bytes.len() as u64;
        }
    }
}

impl Journal {
    /// Makes the file this daemon's to write, with what stands in it and is among `names`: what is
    /// not has gone meanwhile. One that cannot be read is begun anew.
    pub fn claim(place: &Place, names: &Names) -> Result<Self, JournalError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&place.directory)?;
        let lock = open(&place.directory.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Taken),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut journal = Self {
            place: place.clone(),
            file: open(&place.file())?,
            len: 0,
            standing: HashMap::new(),
            standing_len: 0,
            whole: false,
            _lock: lock,
        };
        let gone = match journal.load(names) {
            Ok(gone) => gone,
            Err(JournalError::Damaged(_) | JournalError::TooLong) => {
                (journal.len, journal.standing_len) = (0, 0);
                journal.standing.clear();
                Changes::new()
            }
            Err(error) => return Err(error),
        };
        if journal.len == 0 {
            journal.whole = false;
            let header = line::header(&place.node) + "\n";
            journal.write(header.as_bytes())?;
        }
        journal.append(&gone, false)?;
        Ok(journal)
    }

    /// Takes in what stands in the file; what of it has gone.
    fn load(&mut self, names: &Names) -> Result<Changes, JournalError> {
        let (mut gone, mut whole) = (Changes::new(), false);
        let (standing, standing_len) = (&mut self.standing, &mut self.standing_len);
        self.len = self.place.lines_with(|line, digest, bytes| {
            let (key, new) = match line {
                Line::Whole => {
                    whole = true;
                    return Ok(());
                }
                Line::Put { kind, name, .. } => {
                    let key = Key::of(kind, &name);
                    if !names.get(&kind).is_some_and(|names| names.contains(&name)) {
                        gone.insert((kind, name), None);
                    }
                    (key, Some((digest, bytes.len() as u64)))
                }
                Line::Gone { kind, name } => (Key::of(kind, &name), None),
            };
            replace(standing, standing_len, key, new);
            Ok(())
        })?;
        self.whole = whole && self.len > 0;
        Ok(gone)
    }

    /// Writes what changed, and whether every list was read whole by now. What fails is as if it
    /// had not been begun.
    pub fn append(&mut self, changes: &Changes, whole: bool) -> Result<(), JournalError> {
        let mut lines = Vec::new();
        let mut taken = Vec::new();
        for ((kind, name), text) in changes {
            let key = Key::of(*kind, name);
            let known = self.standing.get(&key);
            let line = match text {
                Some(text) => Line::Put { kind: *kind, name: name.clone(), text },
                None if known.is_none() => continue,
                None => Line::Gone { kind: *kind, name: name.clone() },
            };
            let (encoded, digest) = line.encode();
            let new = text.is_some().then_some((digest, encoded.len() as u64));
            if new.is_some() && known == new.as_ref() {
                continue;
            }
            lines.extend_from_slice(encoded.as_bytes());
            taken.push((key, new));
        }
        if whole && !self.whole {
            lines.extend_from_slice(Line::Whole.encode().0.as_bytes());
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.write(&lines)?;
        for (key, new) in taken {
            replace(&mut self.standing, &mut self.standing_len, key, new);
        }
        self.whole |= whole;
        if self.len > 2 * self.standing_len + SLACK { self.compact() } else { Ok(()) }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        // Of what failed before, a part may stand there.
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Writes the file anew with what stands alone.
    fn compact(&mut self) -> Result<(), JournalError> {
        let path = self.place.directory.join(format!("{FILE}.new"));
        // What a compaction left that was cut short.
        let _ = fs::remove_file(&path);
        let mut new = BufWriter::new(open(&path)?);
        let mut written = HashSet::with_capacity(self.standing.len());
        let header = line::header(&self.place.node) + "\n";
        new.write_all(header.as_bytes())?;
        if self.whole {
            new.write_all(Line::Whole.encode().0.as_bytes())?;
        }
        let standing = &self.standing;
        self.place.lines_with(|line, digest, bytes| {
            let Line::Put { kind, name, .. } = line else { return Ok(()) };
            let key = Key::of(kind, &name);
            let stands = standing.get(&key).is_some_and(|(own, _)| *own == digest);
            if stands && written.insert(key) { new.write_all(bytes) } else { Ok(()) }
        })?;
        let new = new.into_inner().map_err(io::IntoInnerError::into_error)?;
        new.sync_all()?;
        fs::rename(&path, self.place.file())?;
        File::open(&self.place.directory)?.sync_all()?;
        self.len = new.metadata()?.len();
        self.file = new;
        Ok(())
    }
}

fn replace(
    standing: &mut HashMap<Key, (u64, u64)>,
    len: &mut u64,
    key: Key,
    new: Option<(u64, u64)>,
) {
    let old = match new {
        Some(new) => {
            *len += new.1;
            standing.insert(key, new)
        }
        None => standing.remove(&key),
    };
    *len -= old.map_or(0, |(_, len)| len);
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests;
