//! When changes are read: soon, but not in the middle of a write.
//!
//! A batch is due a moment after its last change, or a little later if changes keep coming. A
//! manifest that is open for writing holds it back until it is closed, up to a longer bound, so
//! that half a file is not taken for all of it. The bounds hold whatever comes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(30);
/// How long a batch waits while changes keep coming.
const LONGEST: Duration = Duration::from_millis(100);
/// How long a batch waits for a file to be closed.
const LONGEST_WRITE: Duration = Duration::from_millis(400);
/// How many open files are waited for; more are read as they are, and again when they are closed.
const MAX_WRITING: usize = 1024;

/// Changes that were not read yet.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    batch: Option<Batch>,
}

#[derive(Debug)]
struct Batch {
    first: Instant,
    last: Instant,
    writing: BTreeSet<PathBuf>,
}

impl Settling {
    /// A manifest was written to, and is open.
    pub fn handle_write(&mut self, now: Instant, path: PathBuf) {
        let batch = self.touch(now);
        if batch.writing.len() < MAX_WRITING {
            batch.writing.insert(path);
        }
    }

    /// A manifest was closed, moved or removed.
    pub fn handle_settled(&mut self, now: Instant, path: &Path) {
        self.touch(now).writing.remove(path);
    }

    /// Something else happened, which may change what files there are.
    pub fn handle_other(&mut self, now: Instant) {
        self.touch(now);
    }

    /// When to read, if anything happened.
    pub fn due(&self) -> Option<Instant> {
        let batch = self.batch.as_ref()?;
        if batch.writing.is_empty() {
            Some((batch.last + QUIET).min(batch.first + LONGEST))
        } else {
            Some(batch.first + LONGEST_WRITE)
        }
    }

    /// Whether it is time to read; if so, what happened until now counts as read.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.batch = None;
        }
        due
    }

    fn touch(&mut self, now: Instant) -> &mut Batch {
        let new = || Batch { first: now, last: now, writing: BTreeSet::new() };
        let batch = self.batch.get_or_insert_with(new);
        batch.last = now;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn changes_are_read_together_once_it_is_quiet() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        assert!(settling.due().is_none() && !settling.poll(start));
        settling.handle_settled(start, Path::new("a.yaml"));
        settling.handle_other(at(start, 20));
        assert!(!settling.poll(at(start, 49)));
        assert!(settling.poll(at(start, 50)));
        assert!(!settling.poll(at(start, 500)));
    }

    #[test]
    fn endless_changes_do_not_hold_back_what_came_first() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        for milliseconds in (0..100).step_by(10) {
            settling.handle_other(at(start, milliseconds));
            assert!(!settling.poll(at(start, milliseconds)));
        }
        assert!(settling.poll(at(start, 100)));
    }

    #[test]
    fn a_file_open_for_writing_is_waited_for_until_it_is_closed() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        settling.handle_write(start, "a.yaml".into());
        assert!(!settling.poll(at(start, 200)));
        settling.handle_settled(at(start, 200), Path::new("a.yaml"));
        assert!(settling.poll(at(start, 200)));
    }

    #[test]
    fn a_file_that_is_never_closed_is_read_at_last() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        settling.handle_write(start, "a.yaml".into());
        assert!(!settling.poll(at(start, 399)));
        assert!(settling.poll(at(start, 400)));
    }
}
