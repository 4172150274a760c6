//! Policies, revisions and endpoints as families.

use std::time::UNIX_EPOCH;

use super::family::{counter, gauge};
use crate::daemon::Shared;
use crate::observer::Observer;
use crate::reconcile::Reconciler;
use crate::report;

/// What the cold half says at one moment.
pub struct Cold {
    planned: u64,
    applied: u64,
    /// Seconds since 1970.
    applied_at: f64,
    failed: u64,
    problems: u64,
    identities: u64,
    endpoints: api::EndpointCounts,
}

impl Cold {
    /// Reads it.
    pub fn read(reconciler: &Reconciler) -> Self {
        let (planned, applied) = reconciler.revisions();
        let applied_at = reconciler.applied_at().duration_since(UNIX_EPOCH);
        Self {
            planned,
            applied,
            applied_at: applied_at.map_or(0.0, |since| since.as_secs_f64()),
            failed: reconciler.failed(),
            problems: reconciler.problems().len() as u64,
            identities: reconciler.node().identities().len() as u64,
            endpoints: report::counts(reconciler),
        }
    }

    /// Tells of it, and of what the manifests say.
    pub fn tell(&self, shared: &Shared) {
        self.tell_revisions();
        self.tell_endpoints();
        tell_manifests(self.problems, shared);
        tell_daemon(shared);
    }

    fn tell_revisions(&self) {
        gauge("fqdnd_revision_planned", "The last revision of what is to be enforced.")
            .counts(self.planned);
        gauge("fqdnd_revision_applied", "The revision that the kernel enforces.")
            .counts(self.applied);
        gauge(
            "fqdnd_revision_applied_timestamp_seconds",
            "When that revision came into force, in seconds since 1970.",
        )
        .is(self.applied_at);
        counter(
            "fqdnd_reconcile_errors_total",
            "Revisions that could not be decided or not be written; what was enforced stayed.",
        )
        .is(self.failed);
    }

    fn tell_endpoints(&self) {
        let api::EndpointCounts { open, enforced, audited, denied } = self.endpoints;
        gauge(
                "fqdnd_endpoints",
                "Endpoints of this node: selected by no policy, judged by policies, judged by policies that are all audited, or denied everything because they are not bound as their record says.",
            )
            .by(
                "state",
                [("open", open), ("enforced", enforced), ("audited", audited), ("denied", denied)],
            );
        gauge("fqdnd_identities", "Identities in use, those with fixed meanings included.")
            .counts(self.identities);
    }
}

fn tell_manifests(problems: u64, shared: &Shared) {
    let manifests = shared.manifests.borrow().clone();
    let stale = manifests.files.values();
    let stale = stale.filter(|state| matches!(state, kubernetes::FileState::Stale { .. })).count();
    let unenforced = manifests.policies.values().map(|policy| policy.unenforced.len()).sum();
    let gauge_of = |name, help, count: usize| {
        gauge(name, help).counts(count as u64);
    };
    gauge_of("fqdnd_policies", "Policies in force.", manifests.policies.len());
    let audited = manifests.policies.values().filter(|policy| policy.audited).count();
    gauge_of(
        "fqdnd_audited_policies",
        "Policies in force that are audited: what they alone would drop passes.",
        audited,
    );
    gauge_of("fqdnd_manifest_files", "Manifest files that are read.", manifests.files.len());
    gauge_of(
        "fqdnd_stale_manifest_files",
        "Manifest files that are broken, so that their last good version is in force.",
        stale,
    );
    gauge_of(
        "fqdnd_unenforced_rules",
        "Rules that are valid and need what is not enforced here, so that they allow nothing.",
        unenforced,
    );
    gauge("fqdnd_problems", "What is wrong: in the sources, or with what was made of them.")
        .by("where", [("sources", manifests.problems.len() as u64), ("inventory", problems)]);
}

fn tell_daemon(shared: &Shared) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let kernel = shared.kernel.clone();
    gauge("fqdnd_build_info", "1, with the version and what it runs on.").with(
        [
            ("version", version),
            ("kernel", kernel),
            ("attach_mode", shared.attach_mode().to_string()),
        ],
        1.0,
    );
    gauge("fqdnd_audit", "1 where every policy is audited, so that nothing is enforced, else 0.")
        .counts(u64::from(shared.audits));
    let bypasses = shared.bypasses.found();
    let count = |kind| bypasses.iter().filter(|own| own.kind == kind).count() as u64;
    gauge(
        "fqdnd_bypasses",
        "Ways that packets of pods take past the programs, or, unread, may take.",
    )
    .by("kind", api::BypassKind::ALL.map(|kind| (kind.as_str(), count(kind))));
    if let Some(hubble) = shared.observer.as_ref().map(Observer::report) {
        gauge("fqdnd_hubble_clients", "Connected clients of the Hubble API.")
            .counts(hubble.clients);
        counter("fqdnd_hubble_clients_refused_total", "Clients turned away as too many.")
            .is(hubble.clients_refused);
    }
}
