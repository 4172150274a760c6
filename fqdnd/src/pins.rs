//! Looks after what is pinned: what an earlier daemon left is moved over from, and pins that
//! somebody takes while the daemon runs are made again.

use std::time::Duration;

use bpf::Datapath;
use tracing::{error, info, warn};

/// How often the pins are looked at.
pub const LOOK: Duration = Duration::from_secs(2);

/// Tells what was moved over from, and takes it away. To be called when the programs are attached.
pub fn finish_move(datapath: &Datapath) {
    let moved = datapath.moved();
    for map in &moved.resized {
        info!(map, "a pinned map has another size now, and holds what it held");
    }
    for directory in &moved.unreadable {
        let directory = directory.display();
        warn!(%directory, "another version's maps cannot be read: names must be resolved again");
    }
    if let Err(error) = datapath.finish_move() {
        error!(%error, "what was moved over from cannot be taken away");
    }
}

/// The look at the pins.
#[derive(Default)]
pub struct Pins {
    /// What went wrong the last time, so that it is told once.
    problem: Option<String>,
}

impl Pins {
    /// Makes pins again that are gone.
    pub fn look(&mut self, datapath: &Datapath) {
        let problem = match datapath.repair_pins() {
            Ok(0) => None,
            Ok(pins) => {
                warn!(pins, "pins were gone and are made again");
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if self.problem != problem
            && let Some(error) = &problem
        {
            error!(error, "pins are gone and cannot be made again");
        }
        self.problem = problem;
    }
}
