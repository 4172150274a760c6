//! The files' content, read again where it may have changed.
//!
//! A file that looks as it did is not read again, unless it was so fresh when it was read that a
//! later write may have left it looking the same.
//!
//! What an earlier daemon had in force is there before the first file is read. Files that are gone
//! by then go as they would have gone under that daemon.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::{Document, Problem};

use crate::catalogue::{Catalogue, InForce};
use crate::inventory::Inventory;
use crate::last_good::{Entry, LastGood};
use crate::reading::{Reading, whole_file};
use crate::scan::{Fingerprint, MAX_FILES, Scan};

/// How many bytes all files together may have.
const MAX_TOTAL: u64 = 256 << 20;
/// How many bytes are kept of them for a restart, paths and headers included.
const MAX_KEPT: u64 = MAX_TOTAL + (MAX_FILES as u64) * 8192;
/// A file that was changed less than this before it was read may change again unnoticed.
const FRESH: Duration = Duration::from_millis(200);

/// The files that are known.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    known: BTreeMap<PathBuf, Known>,
    catalogue: Catalogue,
    scan_problems: Vec<Problem>,
    /// What a restart will find, if there is a place for it.
    last_good: Option<LastGood>,
    /// Roots that could not be seen whole since the start.
    unseen: BTreeSet<PathBuf>,
    /// Whether what an earlier daemon kept was there.
    kept: bool,
    policies: policy::Options,
    hasher: RandomState,
    /// How often something has changed.
    revision: u64,
}

/// A file as it was when it was read.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// None as long as only an earlier daemon has read it.
    fingerprint: Option<Fingerprint>,
    fresh: bool,
    /// Whether there was room for it.
    fits: bool,
    /// The hash of its text, none if it could not be read.
    content: Option<u64>,
}

impl Known {
    /// Whether the file's content is surely what it was.
    fn is_trusted(&self, fingerprint: Fingerprint, fits: bool) -> bool {
        self.fingerprint == Some(fingerprint) && self.fits == fits && !self.fresh
    }
}

impl Sources {
    /// Begins with what an earlier daemon left in its state directory, if one is given.
    pub fn restore(roots: &[PathBuf], state: Option<&Path>, policies: policy::Options) -> Self {
        let mut this = Self { policies, ..Self::default() };
        this.last_good =
            state.map(|state| LastGood::open(state, MAX_KEPT, |entry| this.restore_file(&entry)));
        let damaged = this.last_good.as_ref().is_some_and(LastGood::is_damaged);
        this.kept = !damaged && !this.known.is_empty();
        this.unseen = roots.iter().cloned().collect();
        this
    }

    fn restore_file(&mut self, entry: &Entry) {
        let Entry { file, last_good, objects, text } = entry;
        let reading = Reading::new(file, text, self.policies);
        // What this reader understands in another way is read again.
        let content = (reading.objects.len() == *objects).then(|| self.hasher.hash_one(text));
        self.catalogue.restore(file, reading, InForce { last_good: *last_good, objects: *objects });
        let known = Known { fingerprint: None, fresh: true, fits: true, content };
        self.known.insert(file.to_path_buf(), known);
    }

    /// Reads what a scan found and may have changed. Tells whether anything did.
    pub fn refresh(&mut self, mut scan: Scan) -> bool {
        let mut changed = self.forget(&scan);
        let mut total = 0;
        let mut beyond = None;
        for (path, fingerprint) in &scan.files {
            total += fingerprint.size;
            if !self.known.contains_key(path) && self.known.len() >= MAX_FILES {
                beyond.get_or_insert(path);
                continue;
            }
            changed |= self.read(path, *fingerprint, total <= MAX_TOTAL);
        }
        scan.problems.extend(beyond.map(|path| {
            let message = format!("over {MAX_FILES} files; this and other new ones are not read");
            whole_file(&path.as_path().into(), message)
        }));
        changed |= self.scan_problems != scan.problems;
        self.scan_problems = scan.problems;
        changed |= self.see(&scan.partial);
        self.revision += u64::from(changed);
        changed
    }

    /// Notes which roots were seen whole now, and tells whether any was for the first time.
    fn see(&mut self, partial: &BTreeSet<PathBuf>) -> bool {
        let before = self.unseen.len();
        self.unseen.retain(|root| partial.contains(root));
        if let Some(last_good) = self.last_good.as_mut().filter(|_| self.unseen.is_empty()) {
            last_good.prune(self.known.keys());
        }
        self.unseen.len() != before
    }

    /// What a restart is to find, if there is a place for it.
    pub fn last_good(&mut self) -> Option<&mut LastGood> {
        self.last_good.as_mut()
    }

    /// What the files give together.
    pub fn inventory(&self) -> Inventory {
        let mut inventory = self.catalogue.inventory();
        inventory.revision = self.revision;
        inventory.problems.extend(self.scan_problems.iter().cloned());
        let kept = self.last_good.iter().flat_map(LastGood::problems);
        inventory.problems.extend(kept.cloned());
        let lost = self.unseen.iter().filter(|_| !self.kept);
        inventory.lost.extend(lost.map(|root| Arc::from(root.as_path())));
        inventory.problems.sort();
        inventory
    }

    /// Drops the files that are gone, but for those under a root of which not all was seen.
    fn forget(&mut self, scan: &Scan) -> bool {
        let Self { known, catalogue, last_good, .. } = self;
        let before = known.len();
        known.retain(|path, _| {
            let stays = scan.files.contains_key(path)
                || scan.partial.iter().any(|root| path.starts_with(root));
            if !stays {
                catalogue.remove(path);
                if let Some(last_good) = last_good {
                    last_good.forget(path);
                }
            }
            stays
        });
        known.len() != before
    }

    fn read(&mut self, path: &Path, fingerprint: Fingerprint, fits: bool) -> bool {
        let known = self.known.get(path).copied();
        if known.is_some_and(|known| known.is_trusted(fingerprint, fits)) {
            return false;
        }
        let now = SystemTime::now();
        let file: Arc<Path> = path.into();
        let text = if fits { text(&file) } else { Err(too_much(&file)) };
        let content = text.as_ref().ok().map(|text| self.hasher.hash_one(text));
        let fresh = fingerprint.is_fresh(now, FRESH);
        let fingerprint = Some(fingerprint);
        self.known.insert(path.to_owned(), Known { fingerprint, fresh, fits, content });
        if content.is_some() && known.is_some_and(|known| known.content == content) {
            return false;
        }
        let (reading, text) = match text {
            Ok(text) => (Reading::new(&file, &text, self.policies), text),
            Err(problem) => (Reading::failed(problem), String::new()),
        };
        if known.is_none() && self.unseen.iter().any(|root| path.starts_with(root)) {
            self.catalogue.expect(&file);
        }
        self.catalogue.replace(&file, reading, now);
        self.keep(&file, text);
        true
    }

    /// Has kept what a file has in force, if this text says it all.
    fn keep(&mut self, file: &Arc<Path>, text: String) {
        let Some(last_good) = &mut self.last_good else { return };
        let Some(InForce { last_good: time, objects }) = self.catalogue.in_force(file) else {
            return;
        };
        last_good.keep(Entry { file: Arc::clone(file), last_good: time, objects, text });
    }
}

fn too_much(file: &Arc<Path>) -> Problem {
    whole_file(file, format!("is not read: all files together have over {MAX_TOTAL} bytes"))
}

/// A file's text; of a longer one than is read, never more than shows that.
fn text(file: &Arc<Path>) -> Result<String, Problem> {
    let bytes =
        bytes(file).map_err(|error| whole_file(file, format!("cannot be read: {error}")))?;
    if bytes.len() > Document::MAX_FILE_LEN {
        let message =
            format!("has over {} bytes, which is more than is read", Document::MAX_FILE_LEN);
        return Err(whole_file(file, message));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))
}

fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(Document::MAX_FILE_LEN as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(file: &Arc<Path>, error: &std::string::FromUtf8Error) -> Problem {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line_start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    Problem {
        line: good.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: String::from_utf8_lossy(&good[line_start..]).chars().count() + 1,
        ..whole_file(file, "is not UTF-8 from here on")
    }
}
