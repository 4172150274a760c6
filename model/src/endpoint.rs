//! Endpoints (the pods and plain interfaces that are enforced) and the numbers they are known by.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of an endpoint in the maps. Never 0; not reused while any map holds it.
    EndpointId
}
number! {
    /// The number of a verdict table, shared by all endpoints with the same rules. Never 0.
    TableId
}
number! {
    /// The number of a name among one endpoint's names. 0 stands for "see the shared leases".
    NameNumber
}
number! {
    /// The index of a network interface in the node's namespace.
    Interface
}

impl NameNumber {
    /// In a lease: several names share the address, and each has a row of its own.
    pub const SHARED: Self = Self(0);
}

/// What people call an endpoint: the namespace and name of its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointName {
    /// The Kubernetes namespace, `default` where a document names none.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
