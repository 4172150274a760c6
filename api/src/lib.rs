//! What fqdnd and fqdnctl say to each other: HTTP/1.1 with JSON over a unix socket.
//!
//! Paths carry the version of this vocabulary. Within one version fields are only ever added; a
//! reader ignores those it does not know, and a request with an argument that the daemon does not
//! know is refused, so that a misspelt filter never widens what a command touches.
#![forbid(unsafe_code)]

mod bypass;
mod cache;
mod endpoint;
mod explain;
mod health;
mod map;
pub mod path;
mod policy;
mod service;
mod status;

pub use bypass::{Bypass, BypassKind};
pub use cache::{CacheEntry, CacheQuery, CleanQuery, Cleaned, NameEntry};
pub use endpoint::{Endpoint, EndpointRef, EndpointRefError, Enforcement};
pub use explain::{
    Change, ChangeKind, Destination, ExplainQuery, Explanation, NearRule, QueryError, ResolvedName,
    RulePlace, Spot,
};
pub use health::{Health, Phase};
pub use map::{MapInfo, MapRow};
pub use path::DEFAULT_SOCKET;
pub use policy::{Identity, IdentityKind, Policy, PolicyRule, Selector};
pub use service::{Backend, Service, ServicePort};
pub use status::{
    AttachMode, EndpointCounts, Hubble, L7Proxy, Listener, Problem, StaleFile, Status,
};

use serde::{Deserialize, Serialize};

/// The body of every answer whose status is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Error {
    /// What went wrong, for people.
    pub message: String,
}
