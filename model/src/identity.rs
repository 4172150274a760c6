//! Numeric identities: what a destination is, as the verdict tables know it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a security identity. The highest byte is its [`Scope`]; the reserved numbers are
/// Cilium's (`pkg/identity/numericidentity.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(pub u32);

/// The kind of thing that an identity stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// 0 to 255: fixed meanings such as `host` and `world`.
    Reserved,
    /// 256 up to 2^24: pods with one set of labels.
    Labels,
    /// From 1 << 24: addresses outside the cluster, under one prefix of a policy.
    Cidr,
    /// From 2 << 24: addresses of names, under one set of FQDN selectors.
    Names,
    /// From 3 << 24: one frontend of a service.
    Service,
}

impl Identity {
    /// In a verdict table: the row holds for every destination.
    pub const ANY: Self = Self(0);
    /// This node.
    pub const HOST: Self = Self(1);
    /// Outside the cluster, both families.
    pub const WORLD: Self = Self(2);
    /// A pod that is not managed.
    pub const UNMANAGED: Self = Self(3);
    /// Health endpoints.
    pub const HEALTH: Self = Self(4);
    /// A pod whose labels are not known yet.
    pub const INIT: Self = Self(5);
    /// Another node of the cluster.
    pub const REMOTE_NODE: Self = Self(6);
    /// The Kubernetes API server.
    pub const KUBE_APISERVER: Self = Self(7);
    /// Ingress proxies.
    pub const INGRESS: Self = Self(8);
    /// Outside the cluster, IPv4.
    pub const WORLD_IPV4: Self = Self(9);
    /// Outside the cluster, IPv6.
    pub const WORLD_IPV6: Self = Self(10);
    /// Ours: an address of the service range, at a port where no service is known.
    pub const NO_SERVICE: Self = Self(200);

    /// The scope's first number; its numbers end where the next scope's begin.
    pub const fn first(scope: Scope) -> Self {
        match scope {
            Scope::Reserved => Self(0),
            Scope::Labels => Self(256),
            Scope::Cidr => Self(1 << 24),
            Scope::Names => Self(2 << 24),
            Scope::Service => Self(3 << 24),
        }
    }

    /// The kind of thing this identity stands for.
    pub const fn scope(self) -> Scope {
        match self.0 >> 24 {
            0 if self.0 < 256 => Scope::Reserved,
            0 => Scope::Labels,
            1 => Scope::Cidr,
            2 => Scope::Names,
            _ => Scope::Service,
        }
    }

    /// Whether addresses of this identity lie outside the cluster: only there do resolved names
    /// and CIDR rules count.
    pub const fn is_outside(self) -> bool {
        matches!(self, Self::WORLD | Self::WORLD_IPV4 | Self::WORLD_IPV6)
            || matches!(self.scope(), Scope::Cidr)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::ANY => "any",
            Self::HOST => "host",
            Self::WORLD => "world",
            Self::UNMANAGED => "unmanaged",
            Self::HEALTH => "health",
            Self::INIT => "init",
            Self::REMOTE_NODE => "remote-node",
            Self::KUBE_APISERVER => "kube-apiserver",
            Self::INGRESS => "ingress",
            Self::WORLD_IPV4 => "world-ipv4",
            Self::WORLD_IPV6 => "world-ipv6",
            Self::NO_SERVICE => "no-service",
            Self(number) => return number.fmt(f),
        };
        f.write_str(name)
    }
}
