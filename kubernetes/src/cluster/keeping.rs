//! When what changed is written to the journal: soon, together, and on a thread of its own, so that
//! a disk that hangs holds up nothing else.
//!
//! What waits is one change an object at most, so it is bounded as the objects are.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::cluster::journal::{Changes, Journal, JournalError, Names, Place};

/// How long changes wait for others.
const TOGETHER: Duration = Duration::from_millis(500);
/// When writing is tried again after it failed, or while another daemon writes.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_TAKEN: Duration = Duration::from_secs(1);
/// How long writing may take before it is told of.
const LATE: Duration = Duration::from_secs(10);

/// What is to be written, and what writes.
#[derive(Debug)]
pub(super) struct Keeping {
    place: Place,
    waiting: Changes,
    /// Ours once it is claimed; away while something is being written.
    journal: Option<Journal>,
    writing: Option<JoinHandle<Written>>,
    /// When the next writing begins, or when the present one is late.
    due: Option<Instant>,
    problem: Option<String>,
}

/// What came of writing.
#[derive(Debug)]
struct Written {
    journal: Option<Journal>,
    changes: Changes,
    failed: Option<JournalError>,
}

impl Keeping {
    /// Nothing is written yet.
    pub fn new(place: Place) -> Self {
        let due = Some(Instant::now());
        Self { place, waiting: Changes::new(), journal: None, writing: None, due, problem: None }
    }

    /// Has changes written.
    pub fn keep(&mut self, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        self.waiting.extend(changes);
        if self.writing.is_none() && self.due.is_none() {
            self.due = Some(Instant::now() + TOGETHER);
        }
    }

    /// What is wrong, for people to read.
    pub fn problem(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(format!(
            "{}: {problem}; a start without the API server would not find what it gave last",
            self.place.directory().display()
        ))
    }

    /// Waits until there is something to do, and does it. Tells whether the problem is another one
    /// than before. Every list was read whole by now: these objects there are.
    pub async fn work(&mut self, names: impl Fn() -> Names) -> bool {
        match (&mut self.writing, self.due) {
            (Some(writing), due) => {
                let late = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    written = writing => {
                        self.writing = None;
                        match written {
                            Ok(written) => self.end(written),
                            // A bug: it is told, and the file stays as it is.
                            Err(error) => self.fail(error.to_string(), RETRY),
                        }
                    }
                    () = late => {
                        self.due = None;
                        self.tell(Some(format!("does not take what is written, for {LATE:?} now")))
                    }
                }
            }
            (None, Some(due)) => {
                sleep_until(due).await;
                self.begin(names);
                false
            }
            (None, None) => std::future::pending().await,
        }
    }

    fn begin(&mut self, names: impl Fn() -> Names) {
        let changes = std::mem::take(&mut self.waiting);
        let (journal, place) = (self.journal.take(), self.place.clone());
        let names = if journal.is_none() { names() } else { Names::new() };
        self.writing = Some(spawn_blocking(move || write(journal, &place, &names, changes)));
        self.due = Some(Instant::now() + LATE);
    }

    fn end(&mut self, Written { journal, changes, failed }: Written) -> bool {
        self.journal = journal;
        for (object, change) in changes {
            self.waiting.entry(object).or_insert(change);
        }
        match failed {
            Some(JournalError::Taken) => {
                self.due = Some(Instant::now() + RETRY_TAKEN);
                self.tell(None)
            }
            Some(error) => self.fail(format!("cannot be written: {error}"), RETRY),
            None => {
                self.due = (!self.waiting.is_empty()).then(|| Instant::now() + TOGETHER);
                self.tell(None)
            }
        }
    }

    fn fail(&mut self, problem: String, pause: Duration) -> bool {
        self.due = Some(Instant::now() + pause);
        self.tell(Some(problem))
    }

    fn tell(&mut self, problem: Option<String>) -> bool {
        let changed = self.problem != problem;
        if let Some(problem) = problem.as_ref().filter(|_| changed) {
            tracing::warn!(directory = %self.place.directory().display(), problem, "what the API server gave is not kept");
        }
        self.problem = problem;
        changed
    }
}

fn write(journal: Option<Journal>, place: &Place, names: &Names, changes: Changes) -> Written {
    let mut journal = match journal.map_or_else(|| Journal::claim(place, names), Ok) {
        Ok(journal) => journal,
        Err(error) => return Written { journal: None, changes, failed: Some(error) },
    };
    match journal.append(&changes, true) {
        Ok(()) => Written { journal: Some(journal), changes: Changes::new(), failed: None },
        Err(error) => Written { journal: Some(journal), changes, failed: Some(error) },
    }
}
