//! The nouns that every part of fqdnd shares: names, patterns, prefixes, labels, endpoints,
//! identities, verdicts, and the changes that carry decisions into the kernel.
//!
//! Nothing here does anything: no sockets, no clock, no files, no tasks. A value of one of these
//! types is valid by construction, so whoever holds one need not check it again.
#![forbid(unsafe_code)]

mod change;
mod dns;
mod endpoint;
mod event;
mod identity;
mod inventory;
mod l7;
mod labels;
mod name;
mod pattern;
mod ports;
mod prefix;
mod ruling;
mod state;
mod time;
mod verdict;

pub use change::{
    Change, Digest, EndpointEntry, Enforcement, Frontend, LeaseEntry, NumberKind, Revision, Row,
};
pub use dns::DnsFailure;
pub use endpoint::{EndpointId, EndpointName, Interface, NameNumber, TableId};
pub use event::{Direction, Outcome, PacketEvent, PacketHeaders, TransportHeader};
pub use identity::{Identity, Scope};
pub use inventory::{
    Attachment, Changed, CidrGroup, ClusterNode, Objects, Pod, Service, ServicePort, changes,
};
pub use l7::{
    HeaderCondition, HeaderMatch, HeaderValue, Hidden, HttpRule, KAFKA_REQUESTS, KafkaRule,
    KeyPair, L7Rule, L7Rules, Mismatch, Originate, Requests, ServerNames, Terminate,
};
pub use labels::{Label, Labels, Source};
pub use name::{Name, NameBuf, NameError, NameRef};
pub use pattern::{LabelGlob, Pattern, PatternError, PatternKind};
pub use ports::{PortPrefix, Protocol, Transport};
pub use prefix::{Prefix, PrefixError};
pub use ruling::{Audited, Fate, Ruling, Way};
pub use state::State;
pub use time::Moment;
pub use verdict::{DropReason, Verdict};
