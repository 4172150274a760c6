//! Which directories the kernel watches, and what its events mean.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use inotify::{EventMask, EventOwned, WatchDescriptor, WatchMask};
use policy::Problem;

use crate::reading::whole_file;
use crate::scan::{Interest, is_manifest};
use crate::settle::Settling;

/// The watched directories.
pub(crate) struct Watches {
    kernel: inotify::Watches,
    /// By the number of the kernel's watch: one directory may be reached by several paths.
    watched: BTreeMap<i32, Watched>,
}

struct Watched {
    descriptor: WatchDescriptor,
    places: Vec<(PathBuf, Interest)>,
}

impl Watches {
    /// Watches nothing yet.
    pub fn new(kernel: inotify::Watches) -> Self {
        Self { kernel, watched: BTreeMap::new() }
    }

    /// Watches these places and no others. Tells whether any is new, for what happened there
    /// before was not seen.
    pub fn set(
        &mut self,
        places: &BTreeMap<PathBuf, Interest>,
        problems: &mut Vec<Problem>,
    ) -> bool {
        let mut watched = BTreeMap::new();
        for (path, interest) in places {
            if let Err(error) = self.watch(path, interest, &mut watched)
                && *interest == Interest::All
            {
                let message =
                    format!("cannot be watched: {error}; see fs.inotify.max_user_watches");
                problems.push(whole_file(&path.as_path().into(), message));
            }
        }
        let new = watched.keys().any(|number| !self.watched.contains_key(number));
        for (number, old) in std::mem::replace(&mut self.watched, watched) {
            if !self.watched.contains_key(&number) {
                // An error means that the directory is gone, and its watch with it.
                let _ = self.kernel.remove(old.descriptor);
            }
        }
        new
    }

    fn watch(
        &mut self,
        path: &Path,
        interest: &Interest,
        watched: &mut BTreeMap<i32, Watched>,
    ) -> std::io::Result<()> {
        let descriptor = self.kernel.add(path, mask())?;
        watched
            .entry(descriptor.get_watch_descriptor_id())
            .or_insert_with(|| Watched { descriptor, places: Vec::new() })
            .places
            .push((path.to_owned(), interest.clone()));
        Ok(())
    }

    /// Notes what an event means.
    pub fn handle_event(&self, event: &EventOwned, now: Instant, settling: &mut Settling) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return settling.handle_other(now);
        }
        // An event of a watch that was just taken back.
        let Some(watched) = self.watched.get(&event.wd.get_watch_descriptor_id()) else { return };
        for (path, interest) in &watched.places {
            handle_at(path, interest, event.name.as_deref(), event.mask, now, settling);
        }
    }
}

fn handle_at(
    path: &Path,
    interest: &Interest,
    name: Option<&OsStr>,
    mask: EventMask,
    now: Instant,
    settling: &mut Settling,
) {
    if let (Interest::Names(names), Some(name)) = (interest, name)
        && !names.contains(name)
    {
        return;
    }
    match name {
        Some(name) if is_manifest(name) && mask.contains(EventMask::MODIFY) => {
            settling.handle_write(now, path.join(name));
        }
        Some(name) if is_manifest(name) => settling.handle_settled(now, &path.join(name)),
        Some(_) | None => settling.handle_other(now),
    }
}

fn mask() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::ATTRIB
        | WatchMask::MOVE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}
