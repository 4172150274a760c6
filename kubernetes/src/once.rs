//! Manifests read once, for whoever asks a question and goes away: nothing is watched, nothing is
//! kept, and paths stay as they were given.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policy::Problem;
use thiserror::Error;

use crate::inventory::Inventory;
use crate::scan::Scan;
use crate::sources::Sources;

/// Why a directory cannot be read at all.
#[derive(Debug, Error)]
#[error("cannot read {path}: {error}", path = path.display())]
pub struct ReadError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

impl Inventory {
    /// Reads the directories as they are now. What is wrong in their files is told by the
    /// inventory.
    pub fn read(directories: &[PathBuf], policies: policy::Options) -> Result<Self, ReadError> {
        for path in directories {
            fs::read_dir(path).map_err(|error| ReadError { path: path.clone(), error })?;
        }
        let mut sources = Sources::restore(directories, None, policies);
        sources.refresh(Scan::new(directories));
        Ok(sources.inventory())
    }
}

/// The files below a directory that are read as manifests, and what kept from looking at all of it.
pub fn manifests_below(directory: &Path) -> (Vec<PathBuf>, Vec<Problem>) {
    let scan = Scan::new(&[directory.to_owned()]);
    (scan.files.into_keys().collect(), scan.problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_directories_is_read_and_named_as_it_was_given() {
        let directory = tempfile::tempdir().unwrap();
        let (pod, broken) = (directory.path().join("pod.yaml"), directory.path().join("bad.yaml"));
        fs::write(&pod, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n").unwrap();
        fs::write(&broken, "apiVersion: v1\nkind: Pod\n").unwrap();
        let roots = [directory.path().to_owned()];
        let inventory = Inventory::read(&roots, policy::Options::default()).unwrap();
        assert_eq!(inventory.pods.len(), 1);
        assert_eq!(inventory.problems[0].file.as_ref(), broken);
        fs::write(directory.path().join("notes.txt"), "no manifest").unwrap();
        assert_eq!(manifests_below(directory.path()), (vec![broken, pod], vec![]));
    }

    #[test]
    fn a_missing_directory_is_an_error_with_its_name() {
        let missing = PathBuf::from("/nowhere/to/be/found");
        let error = Inventory::read(&[missing], policy::Options::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read /nowhere/to/be/found: No such file or directory (os error 2)"
        );
    }
}
