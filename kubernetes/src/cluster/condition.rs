//! What a policy's status says: whether it could be read, and where it is in force.

use serde::{Deserialize, Serialize};

use crate::cluster::tally::Tally;
use crate::cluster::verdict::Verdict;
use crate::crd::{ENFORCED, VALID};

/// A condition as the API has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub observed_generation: i64,
    pub last_transition_time: String,
}

/// How soon a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It says so already.
    Not,
    /// Only the number of nodes is another.
    Sometime,
    /// Something else is.
    Now,
}

impl Condition {
    fn new(kind: &str, holds: bool, reason: &str, message: String, generation: i64) -> Self {
        Self {
            kind: kind.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: String::new(),
        }
    }

    fn is_of(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// How soon this is to be written where that stands.
    fn due(&self, told: Option<&Self>) -> Due {
        let Some(told) = told else { return Due::Now };
        let outline =
            |own: &Self| (own.status.clone(), own.reason.clone(), own.observed_generation);
        if outline(self) != outline(told) {
            return Due::Now;
        }
        match (self.message == told.message, self.is_of(ENFORCED)) {
            (true, _) => Due::Not,
            (false, true) => Due::Sometime,
            (false, false) => Due::Now,
        }
    }
}

impl Verdict {
    /// What its status is to say, and how soon. While nobody knows what nodes have in force, what
    /// was said of that stands.
    pub(crate) fn conditions(&self, tally: Option<&Tally>, now: &str) -> (Vec<Condition>, Due) {
        let told = |kind: &str| self.told.iter().find(|own| own.is_of(kind));
        let reason = if self.problems.is_empty() { "Accepted" } else { "Refused" };
        let valid = Condition::new(
            VALID,
            self.problems.is_empty(),
            reason,
            self.message(),
            self.generation,
        );
        let enforced = match tally {
            Some(tally) => self.enforced(tally),
            None => told(ENFORCED).cloned(),
        };
        let mut due = Due::Not;
        let mut wanted = Vec::new();
        for mut condition in std::iter::once(valid).chain(enforced) {
            let known = told(&condition.kind);
            due = due.max(condition.due(known));
            let same = known.filter(|known| known.status == condition.status);
            condition.last_transition_time =
                same.map_or(now, |known| &known.last_transition_time).to_owned();
            wanted.push(condition);
        }
        (wanted, due)
    }

    /// Where it is in force; nothing before any node has told.
    fn enforced(&self, tally: &Tally) -> Option<Condition> {
        if tally.nodes() == 0 {
            return None;
        }
        if !self.problems.is_empty() {
            let message = "what it said before, if it did, stays in force".to_owned();
            return Some(Condition::new(ENFORCED, false, "Refused", message, self.generation));
        }
        let (nodes, enforcing) = (tally.nodes(), tally.enforcing(&self.uid));
        if self.audited {
            let message = format!("audited on {enforcing} of {nodes} nodes: it drops nothing");
            return Some(Condition::new(ENFORCED, false, "Audited", message, self.generation));
        }
        let everywhere = enforcing == nodes;
        let reason = if everywhere { "Everywhere" } else { "NotEverywhere" };
        let message = format!("on {enforcing} of {nodes} nodes");
        Some(Condition::new(ENFORCED, everywhere, reason, message, self.generation))
    }
}

impl Due {
    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::Sometime, _) | (_, Self::Sometime) => Self::Sometime,
            (Self::Not, Self::Not) => Self::Not,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use policy::Problem;

    use super::*;
    use crate::cluster::tally::Digest;
    use crate::cluster::verdict::Verdicts;

    fn verdict(generation: i64) -> Verdict {
        let (uid, audited) = ("u".to_owned(), false);
        Verdict { uid, generation, audited, problems: Vec::new(), told: Vec::new() }
    }

    fn tally(of: &Verdict, nodes: &[&Verdict]) -> Tally {
        let key = |name: &str| policy::PolicyKey { namespace: None, name: name.to_owned() };
        let digest = |own: &Verdict| Digest::of(&Verdicts::unit(key("p"), Arc::new(own.clone())));
        Tally::of(&digest(of), nodes.iter().map(|own| digest(own)))
    }

    #[test]
    fn a_status_is_written_at_once_where_it_changes_and_sometime_where_nodes_come_and_go() {
        let mut policy = verdict(2);
        let (first, due) = policy.conditions(Some(&tally(&policy, &[])), "t1");
        assert_eq!((first.len(), due), (1, Due::Now));
        let (wanted, due) = policy.conditions(Some(&tally(&policy, &[&policy, &verdict(1)])), "t1");
        assert_eq!((wanted[1].message.as_str(), due), ("on 1 of 2 nodes", Due::Now));
        assert_eq!((wanted[1].status.as_str(), wanted[0].status.as_str()), ("False", "True"));
        policy.told = wanted.clone();
        let (same, due) = policy.conditions(Some(&tally(&policy, &[&policy, &verdict(1)])), "t2");
        assert_eq!((same, due), (wanted.clone(), Due::Not));
        let three = [&policy, &verdict(1), &verdict(1)];
        assert_eq!(policy.conditions(Some(&tally(&policy, &three)), "t2").1, Due::Sometime);
        assert_eq!(policy.conditions(None, "t2"), (wanted, Due::Not));

        let all = tally(&policy, &[&policy, &policy]);
        let (everywhere, due) = policy.conditions(Some(&all), "t3");
        assert_eq!((everywhere[1].status.as_str(), due), ("True", Due::Now));
        let times: Vec<_> =
            everywhere.iter().map(|own| own.last_transition_time.as_str()).collect();
        assert_eq!(times, ["t1", "t3"], "what did not change has its time");
    }

    #[test]
    fn one_that_is_audited_is_not_enforced_and_says_where_it_is_audited() {
        let policy = Verdict { audited: true, ..verdict(2) };
        let (wanted, _) = policy.conditions(Some(&tally(&policy, &[&policy, &verdict(2)])), "t");
        let shown = [&wanted[1].status, &wanted[1].reason, &wanted[1].message];
        assert_eq!(shown, ["False", "Audited", "audited on 1 of 2 nodes: it drops nothing"]);
    }

    #[test]
    fn one_that_is_refused_is_not_in_force_as_it_stands() {
        let mut policy = verdict(1);
        let file: Arc<Path> = Arc::from(Path::new("x"));
        let field = "spec.egress".to_owned();
        policy.problems = vec![Problem { file, line: 0, column: 0, field, message: "no".into() }];
        let (wanted, _) = policy.conditions(Some(&tally(&policy, &[&verdict(1)])), "t");
        assert_eq!(
            (wanted[0].status.as_str(), wanted[0].message.as_str()),
            ("False", "spec.egress: no")
        );
        assert_eq!((wanted[1].status.as_str(), wanted[1].reason.as_str()), ("False", "Refused"));
    }
}
