//! How the watch of a list fares.

use std::time::SystemTime;

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
