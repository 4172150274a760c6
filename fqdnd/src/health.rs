//! Whether the daemon does its work, for whoever starts and ends it.
//!
//! The daemon's own loop writes it, and it is read without any lock that the loop holds for long:
//! so a loop that hangs is seen, and nobody who asks waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::Phase;
use kubernetes::{Inventory, WatchState};

use crate::reconcile::Reconciler;

/// How long the loop may take for one round, with a revision of any size.
const LATE: Duration = Duration::from_secs(60);

/// How the daemon fares.
#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    ready: bool,
    reasons: Vec<String>,
    /// Ways that packets take past the programs.
    bypasses: Vec<String>,
    /// When the loop last came round.
    round: Instant,
}

impl Health {
    /// The health of a daemon that starts.
    pub fn starting() -> Self {
        Self(Mutex::new(State {
            phase: Phase::Starting,
            ready: false,
            reasons: Vec::new(),
            bypasses: Vec::new(),
            round: Instant::now(),
        }))
    }

    /// Says what the daemon does before it is in charge, and whether it could be at once.
    pub fn prepare(&self, phase: Phase, ready: bool, what: &str) {
        let mut state = self.lock();
        (state.phase, state.ready) = (phase, ready);
        state.reasons = vec![what.to_owned()];
    }

    /// The loop has come round, and this is what it enforces.
    pub fn round(&self, reconciler: &Reconciler, manifests: &Inventory) {
        let (planned, applied) = reconciler.revisions();
        let mut reasons = interruptions(manifests);
        if planned != applied {
            reasons.push(format!("revision {planned} is not in force, but {applied} is"));
            reasons.extend(reconciler.problems().first().cloned());
        }
        if reconciler.audits() {
            reasons.push("every policy is audited: nothing is enforced".to_owned());
        }
        let mut state = self.lock();
        state.phase = Phase::InCharge;
        state.ready = planned == applied;
        state.reasons = reasons;
        state.round = Instant::now();
    }

    /// Packets go past the programs in these ways. That is told, and makes no daemon unready: no
    /// other one would see more.
    pub fn tell_bypasses(&self, bypasses: Vec<String>) {
        self.lock().bypasses = bypasses;
    }

    /// What is said to whoever asks.
    pub fn report(&self) -> api::Health {
        let state = self.lock();
        let late = state.phase == Phase::InCharge && state.round.elapsed() > LATE;
        let mut reasons = state.reasons.clone();
        reasons.extend(state.bypasses.iter().cloned());
        if late {
            reasons.push(format!("nothing has moved for {}s", state.round.elapsed().as_secs()));
        }
        api::Health { phase: state.phase, ready: state.ready && !late, live: !late, reasons }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lists of a cluster that are not followed now. What was read of them stays in force.
fn interruptions(inventory: &Inventory) -> Vec<String> {
    let watched = inventory.watched.iter();
    let interrupted = watched.filter_map(|(kind, watched)| match &watched.state {
        WatchState::Interrupted { reason } => Some(format!("{kind} are not followed: {reason}")),
        WatchState::Listing | WatchState::Live => None,
    });
    interrupted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_prepares_is_live_however_long_that_takes() {
        let health = Health::starting();
        health.lock().round -= 2 * LATE;
        assert!(health.report().live && !health.report().ready);
        health.prepare(Phase::StandingBy, true, "another fqdnd enforces here");
        assert!(health.report().live && health.report().ready);
    }

    #[test]
    fn a_loop_that_does_not_come_round_is_told() {
        let health = Health::starting();
        health.lock().phase = Phase::InCharge;
        health.lock().ready = true;
        assert_eq!((health.report().live, health.report().ready), (true, true));
        health.lock().round -= 2 * LATE;
        assert_eq!((health.report().live, health.report().ready), (false, false));
        assert_eq!(health.report().reasons, ["nothing has moved for 120s"]);
    }
}
