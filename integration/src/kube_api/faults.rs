//! What goes wrong, and what was asked.

use std::{collections::BTreeMap, time::Duration};

/// How many requests are remembered.
const MAX_REQUESTS: usize = 10_000;

/// An answer in the place of the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub code: u16,
    /// What `Retry-After` says, in seconds.
    pub retry_after: Option<u32>,
}

/// What goes wrong.
#[derive(Debug)]
pub struct Faults {
    /// Nobody listens, and every connection is closed.
    pub away: bool,
    /// The tokens that are good.
    pub tokens: Vec<String>,
    /// By a part of the path: what is answered in the place of everything.
    pub refusals: BTreeMap<String, Refusal>,
    /// How long each answer takes.
    pub delay: Duration,
    /// Whether a watch from a forgotten version is refused by the answer's own code, and not by
    /// an event.
    pub gone_as_code: bool,
    /// Whether lists come in another order than by name.
    pub shuffled: bool,
    /// How many items a page has at most, whatever is asked for.
    pub page: usize,
    /// How often bookmarks come.
    pub bookmarks: Duration,
    /// Method and path of each request, in order.
    pub(crate) requests: Vec<(String, String)>,
}

impl Faults {
    pub(crate) fn new(token: &str) -> Self {
        Self {
            away: false,
            tokens: vec![token.to_owned()],
            refusals: BTreeMap::new(),
            delay: Duration::ZERO,
            gone_as_code: false,
            shuffled: false,
            page: usize::MAX,
            bookmarks: Duration::from_millis(500),
            requests: Vec::new(),
        }
    }

    /// Refuses whatever has this part in its path.
    pub fn refuse(&mut self, part: &str, code: u16, retry_after: Option<u32>) {
        self.refusals.insert(part.to_owned(), Refusal { code, retry_after });
    }

    pub(crate) fn note(&mut self, method: &str, path: &str) {
        if self.requests.len() < MAX_REQUESTS {
            self.requests.push((method.to_owned(), path.to_owned()));
        }
    }

    pub(crate) fn refusal(&self, path: &str) -> Option<Refusal> {
        let found = self.refusals.iter().find(|(part, _)| path.contains(part.as_str()));
        found.map(|(_, refusal)| *refusal)
    }
}
