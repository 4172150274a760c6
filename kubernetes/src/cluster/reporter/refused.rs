//! Policies whose status the server does not take, as one that a webhook is against, or that a
//! stricter definition came over. Each waits a while, and no other waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::PolicyKey;
use tokio::time::Instant;

use crate::cluster::access::reason;
use crate::cluster::verdict::{Verdict, Verdicts};

/// How long after a refusal it is tried again. A server that has just begun may refuse for a moment
/// whatever it knows no role for yet.
const WAITS: Duration = Duration::from_secs(30);

/// What was refused: no more than there are policies.
#[derive(Default)]
pub(super) struct Refused(BTreeMap<PolicyKey, Refusal>);

struct Refusal {
    uid: String,
    generation: i64,
    until: Instant,
}

impl Refused {
    /// Whether this generation of a policy was refused a short while ago.
    pub fn holds(&self, key: &PolicyKey, verdict: &Verdict) -> bool {
        self.0.get(key).is_some_and(|own| own.is_of(verdict) && Instant::now() < own.until)
    }

    /// Takes note of a refusal, and tells of the first.
    pub fn note(&mut self, key: &PolicyKey, verdict: &Verdict, error: &kube::Error) {
        let reason = reason(error);
        if self.0.is_empty() {
            tracing::warn!(policy = %key, reason, "a policy's status is refused");
        } else {
            tracing::debug!(policy = %key, reason, "a policy's status is refused");
        }
        let (uid, generation) = (verdict.uid.clone(), verdict.generation);
        let refusal = Refusal { uid, generation, until: Instant::now() + WAITS };
        self.0.insert(key.clone(), refusal);
    }

    /// Forgets what is not there any more.
    pub fn keep(&mut self, verdicts: &Verdicts) {
        self.0.retain(|key, own| verdicts.get(key).is_some_and(|verdict| own.is_of(verdict)));
    }

    /// Forgets a refusal of what the server has taken since.
    pub fn forget(&mut self, key: &PolicyKey) {
        self.0.remove(key);
    }
}

impl Refusal {
    fn is_of(&self, verdict: &Verdict) -> bool {
        (self.uid.as_str(), self.generation) == (verdict.uid.as_str(), verdict.generation)
    }
}
