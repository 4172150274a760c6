//! The fixed names of `toEntities`.

use std::fmt;

use model::Source;

use crate::selector::{LabelSelector, Operator, Requirement};

/// A part of the cluster or of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Everything.
    All,
    /// Every pod and node, and the API server wherever it is.
    Cluster,
    /// Nothing.
    None,
    /// Whatever carries the reserved label of this name.
    Reserved(&'static str),
}

/// The entities that are reserved labels.
const RESERVED: &[&str] = &[
    "health",
    "host",
    "ingress",
    "init",
    "kube-apiserver",
    "remote-node",
    "unmanaged",
    "world",
    "world-ipv4",
    "world-ipv6",
];

impl Entity {
    /// Everything outside the cluster.
    pub const WORLD: Self = Self::Reserved("world");

    /// The entity of a name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "cluster" => Some(Self::Cluster),
            "none" => Some(Self::None),
            other => RESERVED.iter().find(|known| **known == other).copied().map(Self::Reserved),
        }
    }

    /// All names, in order.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<_> =
            RESERVED.iter().copied().chain(["all", "cluster", "none"]).collect();
        names.sort_unstable();
        names
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Cluster => "cluster",
            Self::None => "none",
            Self::Reserved(name) => name,
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl LabelSelector {
    /// What carries a reserved label.
    pub(crate) fn reserved(name: &str) -> Self {
        Self::everything().and(Requirement {
            key: name.to_owned(),
            source: Source::Reserved,
            operator: Operator::Exists,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        let names = Entity::names();
        assert_eq!(names.len(), 13);
        assert!(names.iter().all(|name| Entity::parse(name).unwrap().as_str() == *name));
        assert_eq!(Entity::parse("World"), None);
    }
}
