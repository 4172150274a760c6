//! What every file gives, and what all of them give together.
//!
//! What a file gave before and does not give anew stays in force while any of its documents is
//! broken. Of two objects with one name the first counts, by path and line; one that is only kept
//! from before yields to every one that could be read.
//!
//! What an earlier daemon had in force is restored before anything is read, and then is as if it
//! had been read by this one. A file that is broken, and of which nothing was restored, may have
//! lost something; that stands until it is whole.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use policy::Problem;

use crate::inventory::{FileState, Inventory};
use crate::join::Join;
use crate::reading::{Found, ObjectKey, Reading, duplicate, whole_file};

/// The files and their content.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    files: BTreeMap<Arc<Path>, File>,
}

#[derive(Debug)]
struct File {
    reading: Reading,
    /// What it gave before and does not give anew.
    kept: BTreeMap<ObjectKey, Found>,
    last_good: Option<SystemTime>,
    /// Whether it may have given something that is not here.
    lost: bool,
}

/// What has to be kept of a file so that a restart finds what it has in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    pub last_good: Option<SystemTime>,
    pub objects: usize,
}

impl Catalogue {
    /// Takes what a file had in force under an earlier daemon; `objects` of them.
    pub fn restore(&mut self, file: &Arc<Path>, reading: Reading, known: InForce) {
        let lost = reading.objects.len() < known.objects;
        let last_good = known.last_good;
        let file_entry = File { reading, kept: BTreeMap::new(), last_good, lost };
        self.files.insert(Arc::clone(file), file_entry);
    }

    /// Expects a file of which nothing is known, though an earlier daemon may have read it.
    pub fn expect(&mut self, file: &Arc<Path>) {
        let unknown = InForce { last_good: None, objects: usize::MAX };
        self.restore(file, Reading::default(), unknown);
    }

    /// What has to be kept of a file, if its text alone gives all that it has in force.
    pub fn in_force(&self, file: &Path) -> Option<InForce> {
        let file = self.files.get(file).filter(|file| file.kept.is_empty() && !file.lost)?;
        Some(InForce { last_good: file.last_good, objects: file.reading.objects.len() })
    }

    /// Takes a file's new content.
    pub fn replace(&mut self, file: &Arc<Path>, mut reading: Reading, now: SystemTime) {
        let previous = self.files.remove(file);
        let last_good = previous.as_ref().and_then(|previous| previous.last_good);
        let lost = previous.as_ref().is_some_and(|previous| previous.lost);
        let mut kept = previous.map(File::into_objects).unwrap_or_default();
        if reading.blank && !kept.is_empty() {
            let message = "is empty; what it gave before stays in force until it is removed";
            reading.problems.push(whole_file(file, message));
            reading.broken = true;
        }
        let file_entry = if reading.broken {
            kept.retain(|key, _| !reading.objects.contains_key(key));
            File { reading, kept, last_good, lost }
        } else {
            File { reading, kept: BTreeMap::new(), last_good: Some(now), lost: false }
        };
        self.files.insert(Arc::clone(file), file_entry);
    }

    /// Takes out a file that is no more.
    pub fn remove(&mut self, file: &Path) {
        self.files.remove(file);
    }

    /// What all files give together.
    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        let mut objects = Objects::new();
        for (path, file) in &self.files {
            inventory.files.insert(Arc::clone(path), file.state());
            inventory.lost.extend(file.lost.then(|| Arc::clone(path)));
            inventory.problems.extend(file.reading.problems.iter().cloned());
            inventory.warnings.extend(file.reading.warnings.iter().cloned());
            inventory.skipped.extend(file.reading.skipped.iter().cloned());
            add_read(&mut objects, path, file, &mut inventory.problems);
        }
        for (path, file) in &self.files {
            for (key, found) in &file.kept {
                objects.entry(key).or_insert((path, found));
            }
        }
        let mut join = Join::default();
        for (key, (path, found)) in objects {
            join.add(key, path, found);
        }
        join.finish(&mut inventory);
        inventory.problems.sort();
        inventory.warnings.sort();
        inventory
    }
}

/// The object that counts under each name, and its file.
type Objects<'a> = BTreeMap<&'a ObjectKey, (&'a Arc<Path>, &'a Found)>;

fn add_read<'a>(
    objects: &mut Objects<'a>,
    path: &'a Arc<Path>,
    file: &'a File,
    problems: &mut Vec<Problem>,
) {
    for (key, found) in &file.reading.objects {
        match objects.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert((path, found));
            }
            Entry::Occupied(entry) => {
                let (first_path, first) = entry.get();
                problems.push(found.problem(path, duplicate(first_path, first)));
            }
        }
    }
}

impl Found {
    /// A problem with the object's name.
    pub fn problem(&self, file: &Arc<Path>, message: String) -> Problem {
        Problem {
            file: Arc::clone(file),
            line: self.line,
            column: self.column,
            field: "metadata.name".to_owned(),
            message,
        }
    }
}

impl File {
    fn into_objects(self) -> BTreeMap<ObjectKey, Found> {
        let mut objects = self.kept;
        objects.extend(self.reading.objects);
        objects
    }

    fn state(&self) -> FileState {
        match (self.reading.broken, self.last_good) {
            (false, _) => FileState::Good,
            (true, Some(last_good)) => FileState::Stale { last_good },
            (true, None) => FileState::Broken,
        }
    }
}

#[cfg(test)]
mod tests;
