//! Pinning again what somebody took the pins of: the process holds all of it itself, so nothing
//! opens meanwhile, and it must not end without them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::flow_table::FlowTable;
use crate::tables::SPECS;
use crate::{Datapath, Error, bpffs, moving};

impl Datapath {
    /// Pins again what is not pinned any more; how much that was. If another process has taken the
    /// directory meanwhile, nothing is pinned there.
    pub fn repair_pins(&self) -> Result<usize, Error> {
        let mut repair = Repair { datapath: self, ready: false, pinned: 0 };
        for spec in &SPECS {
            repair.pin(self.maps.descriptor(spec.name), &self.directory.join(spec.name))?;
        }
        for (endpoint, _, kind, table) in self.endpoints.all_tables() {
            let path = FlowTable::pin(&self.directory, endpoint, kind);
            repair.pin(table.fd().as_fd(), &path)?;
        }
        self.attacher.for_each_held(|path, object| repair.pin(object, path))?;
        let pinned = repair.pinned;
        self.pins_repaired.fetch_add(pinned as u64, Ordering::Relaxed);
        Ok(pinned)
    }

    /// How many pins were made again since the datapath was opened.
    pub fn pins_repaired(&self) -> u64 {
        self.pins_repaired.load(Ordering::Relaxed)
    }

    /// Makes the directories again, and has the pin directory for this process alone.
    fn remake_directories(&self) -> Result<(), Error> {
        bpffs::prepare(&self.pin, &moving::directories(&self.directory))?;
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !lock.as_ref().is_some_and(|lock| lock.is_of(&self.pin)) {
            *lock = bpffs::lock(&self.pin)?;
        }
        Ok(())
    }
}

/// One look at the pins.
struct Repair<'a> {
    datapath: &'a Datapath,
    /// Whether the directories are there.
    ready: bool,
    pinned: usize,
}

impl Repair<'_> {
    fn pin(&mut self, object: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        if path.exists() {
            return Ok(());
        }
        if !self.ready {
            self.datapath.remake_directories()?;
            self.ready = true;
        }
        bpffs::pin(object, path).map_err(|source| Error::Path {
            action: "pin again",
            path: path.to_owned(),
            source,
        })?;
        self.pinned += 1;
        Ok(())
    }
}
