//! A directory for pinned maps, programs and links of a lab's, which goes when this value does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    lab::Lab,
    sweep::{BPF_DIRECTORY, LAB_PREFIX},
    undo::Undo,
};

/// Where a lab's daemon pins. What is pinned there last keeps the datapath, so that without it
/// nothing is enforced any more.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
    _undo: Undo,
}

impl Pins {
    /// The directory of a lab, which whoever pins makes.
    pub fn of(lab: &Lab) -> Pins {
        let name = format!("{LAB_PREFIX}{}-{}", std::process::id(), lab.number());
        let path = Path::new(BPF_DIRECTORY).join(name);
        let undo = Undo::enter({
            let path = path.clone();
            move || {
                // Nothing pinned is as good.
                let _ = fs::remove_dir_all(path);
            }
        });
        Pins { path, _undo: undo }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
