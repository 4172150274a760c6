//! Looks for ways that packets of pods take past the programs: other programs' doing, other kinds
//! of devices, and connections that end without an answer that was seen.
//!
//! Every few seconds, since a CNI may come after the daemon. One look is bounded: links and what is
//! attached to them, programs by [`bpf::Survey`], and the flows of a few endpoints in turn. It
//! changes nothing; what it finds is told once when it appears and once when it is gone.

mod judgement;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use model::{EndpointId, EndpointName};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::clock;
use crate::daemon::Shared;

pub use judgement::{Unanswered, judge};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);
/// Of so many endpoints the flows are gone through in one look.
const ENDPOINTS: usize = 8;

/// What the last look found.
#[derive(Debug, Default)]
pub struct Bypasses(Mutex<Arc<[api::Bypass]>>);

impl Bypasses {
    /// What there is.
    pub fn found(&self) -> Arc<[api::Bypass]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of what there is, and tells what is new and what is gone.
    fn take(&self, found: Vec<api::Bypass>) {
        let found: Arc<[api::Bypass]> = found.into();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, Arc::clone(&found));
        drop(known);
        for own in found.iter().filter(|own| !has(&before, own)) {
            let api::Bypass { kind, cause, effect, remedy, .. } = own;
            if kind.is_known() {
                warn!(%kind, cause, effect, remedy, "packets of pods go past the programs");
            } else {
                info!(%kind, cause, effect, remedy, "a program of somebody else is not known");
            }
        }
        for api::Bypass { kind, cause, .. } in before.iter().filter(|own| !has(&found, own)) {
            info!(%kind, cause, "packets do not go past the programs by this any more");
        }
    }
}

/// Whether it is among these, be it in other places.
fn has(all: &[api::Bypass], one: &api::Bypass) -> bool {
    all.iter().any(|own| own.kind == one.kind && own.subject == one.subject)
}

/// Looks until what this gives is dropped.
pub fn watch(shared: &Arc<Shared>) -> Result<JoinSet<()>> {
    let survey = shared.datapath.survey().context("programs of others cannot be looked at")?;
    let mut look = Look { survey, unanswered: Unanswered::new(), next: EndpointId(0) };
    let shared = Arc::clone(shared);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut problem = None;
        loop {
            ticks.tick().await;
            let names = endpoints(&shared).await;
            let own = Arc::clone(&shared);
            let looked = tokio::task::spawn_blocking(move || {
                let found = look.look(&own, &names);
                (look, found)
            });
            let Ok((again, found)) = looked.await else { return };
            look = again;
            let failure = found.map(|found| shared.tell_bypasses(found)).err();
            let failure = failure.map(|error| format!("{error:#}"));
            if let Some(error) = failure.as_ref().filter(|_| problem != failure) {
                warn!(error, "programs of others cannot be looked at");
            }
            problem = failure;
        }
    });
    Ok(tasks)
}

type Names = Vec<(EndpointId, EndpointName)>;

async fn endpoints(shared: &Shared) -> Names {
    let reconciler = shared.reconciler.lock().await;
    let endpoints = reconciler.endpoints().iter();
    endpoints.map(|(id, local)| (*id, local.name.clone())).collect()
}

/// What one look keeps for the next.
struct Look {
    survey: bpf::Survey,
    unanswered: Unanswered,
    /// The endpoint whose flows are the next.
    next: EndpointId,
}

impl Look {
    fn look(&mut self, shared: &Shared, names: &Names) -> Result<Vec<api::Bypass>> {
        let node = shared.node.borrow().clone();
        let sight = self.survey.look(node.links().map(|link| link.index))?;
        self.look_at_flows(shared, names)?;
        Ok(judge(&sight, &node, &self.unanswered))
    }

    /// Goes through the flows of a few endpoints, from where the last look ended.
    fn look_at_flows(&mut self, shared: &Shared, names: &Names) -> Result<()> {
        let alive: BTreeSet<&EndpointName> = names.iter().map(|(_, name)| name).collect();
        self.unanswered.retain(|name, _| alive.contains(name));
        let start = names.partition_point(|(id, _)| *id < self.next);
        for (id, name) in names[start..].iter().chain(&names[..start]).take(ENDPOINTS) {
            let count = shared.datapath.unanswered(*id, clock::now())?;
            match count {
                0 => drop(self.unanswered.remove(name)),
                _ => drop(self.unanswered.insert(name.clone(), count)),
            }
            self.next = EndpointId(id.0 + 1);
        }
        Ok(())
    }
}

impl Shared {
    fn tell_bypasses(&self, found: Vec<api::Bypass>) {
        let known = found.iter().filter(|own| own.kind.is_known());
        self.health
            .tell_bypasses(known.map(|own| format!("{}: {}", own.cause, own.effect)).collect());
        self.bypasses.take(found);
    }
}
