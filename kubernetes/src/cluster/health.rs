//! How the watch of a list fares.

use std::collections::BTreeMap;
use std::time::SystemTime;

use model::EndpointName;

/// A watched list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// How many objects it has.
    pub objects: usize,
    /// How it fares.
    pub state: WatchState,
    /// Since when.
    pub since: SystemTime,
}

/// How the watch of a list fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// It was never read whole.
    Listing,
    /// It is followed.
    Live,
    /// It is not: what is known of it is as old as that.
    Interrupted {
        /// Why, in the words of whoever said so.
        reason: String,
    },
}

impl Watched {
    /// The list was never read.
    pub(crate) fn listing() -> Self {
        Self { objects: 0, state: WatchState::Listing, since: SystemTime::now() }
    }
}

/// How the watches of single Secrets fare.
#[derive(Debug, Default)]
pub(crate) struct SecretWatches(BTreeMap<EndpointName, Watched>);

impl SecretWatches {
    /// Takes note of how one fares.
    pub fn insert(&mut self, name: EndpointName, watched: Watched) {
        self.0.insert(name, watched);
    }

    /// Forgets one that is not watched any more.
    pub fn remove(&mut self, name: &EndpointName) {
        self.0.remove(name);
    }

    /// How all of them fare: as one that is interrupted, if there is one.
    pub fn outline(&self) -> Option<&Watched> {
        let is_interrupted = |own: &&Watched| matches!(own.state, WatchState::Interrupted { .. });
        self.0.values().find(is_interrupted).or_else(|| self.0.values().next())
    }
}
