//! Directories of Kubernetes manifests as the source of pods, services and policies.
//!
//! Namespaces, Pods, Nodes, Services with their EndpointSlices or Endpoints, Secrets that policies
//! name, and Cilium's network policies and CIDR groups are read, several documents a file; other
//! kinds are skipped with a note. The directories are watched by inotify, and every change gives a
//! new [`Inventory`].
//!
//! What cannot be read never takes away what could be read before: a broken document names its
//! place, what it gave stays in force, and nothing else is touched. Only a file that is removed,
//! or is read whole and no longer describes an object, takes that object away.
//!
//! That holds across restarts, too, where a state directory is given: what each file has in force
//! is kept there. Of what is lost all the same, the inventory tells ([`Inventory::lost`]).
//!
//! Everything but [`Manifests`] works on values: texts in, inventories out.
#![forbid(unsafe_code)]

mod backends;
mod catalogue;
mod cidr_group;
mod cluster;
pub mod crd;
mod described;
mod inventory;
mod join;
mod last_good;
mod metadata;
mod node;
mod once;
mod pod;
mod reading;
mod runtime;
mod scan;
mod secret;
mod service;
mod settle;
mod sources;
mod text;
mod watch;
mod watches;

pub use cluster::{
    Access, AccessError, Cluster, ClusterOptions, Kind, Reports, Verdict, Verdicts, WatchState,
    Watched,
};
pub use inventory::{FileState, Inventory, Skipped};
pub use once::{ReadError, manifests_below};
pub use runtime::{RuntimeError, RuntimeSource, Sandboxes};
pub use secret::{Secret, meant};
pub use watch::{Manifests, Options, WatchError};
