//! The policies that decided a flow, as the engine's explanation names them.

use std::sync::Arc;

use engine::explain::Explanation;
use flows::{PolicyKind, PolicyRef};
use policy::{Decision, Direction};

/// The policies that decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Those that allow it.
    pub allow: Arc<[PolicyRef]>,
    /// Those that deny it.
    pub deny: Arc<[PolicyRef]>,
}

impl Policies {
    /// Those that an explanation names, at a revision.
    pub fn of(explanation: &Explanation, revision: u64) -> Self {
        let of = |direction: Direction| {
            let decided = explanation.decided.iter().filter(|own| own.direction == direction);
            decided.map(|decision| describe(decision, revision)).collect()
        };
        Self { allow: of(Direction::Allow), deny: of(Direction::Deny) }
    }
}

fn describe(decision: &Decision, revision: u64) -> PolicyRef {
    let key = &decision.policy;
    let kind = match key.namespace {
        Some(_) => PolicyKind::Namespaced,
        None => PolicyKind::Clusterwide,
    };
    let namespace = key.namespace.clone().unwrap_or_default();
    let label = |name: &str, value: &str| format!("k8s:io.cilium.k8s.policy.{name}={value}");
    let mut labels = vec![label("derived-from", kind.as_str()), label("name", &key.name)];
    if !namespace.is_empty() {
        labels.push(label("namespace", &namespace));
    }
    PolicyRef {
        kind,
        namespace,
        name: key.name.clone(),
        labels,
        revision,
        file: decision.file.to_string_lossy().into(),
        line: decision.ports.as_ref().unwrap_or(&decision.entry).line,
    }
}
