//! What became of a policy.

use std::sync::Arc;

use imbl::OrdMap;
use policy::{PolicyKey, Problem};

use crate::cluster::condition::Condition;

/// What became of a policy, for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The object's uid.
    pub uid: String,
    /// The generation of the `spec` that was read.
    pub generation: i64,
    /// Whether it is audited: what it alone would drop passes.
    pub audited: bool,
    /// Why it is not in force as it stands; empty where it is.
    pub problems: Vec<Problem>,
    /// What its status says of that.
    pub(crate) told: Vec<Condition>,
}

impl Verdict {
    /// What is wrong, for people to read.
    pub fn message(&self) -> String {
        const TOLD: usize = 3;
        const LONGEST: usize = 1000;
        let tell = |problem: &Problem| match problem.field.as_str() {
            "" => problem.message.clone(),
            field => format!("{field}: {}", problem.message),
        };
        let mut message: Vec<String> = self.problems.iter().take(TOLD).map(tell).collect();
        if let Some(more) = self.problems.len().checked_sub(TOLD).filter(|more| *more > 0) {
            message.push(format!("{more} more"));
        }
        message.join("; ").chars().take(LONGEST).collect()
    }
}

/// The verdicts of all policies.
pub type Verdicts = OrdMap<PolicyKey, Arc<Verdict>>;
