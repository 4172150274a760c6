//! From the text of policies to the verdicts of an endpoint.
//!
//! [`Document::read_all`] splits a file, [`Policy::read`] checks one document, and
//! [`Table::compile`] turns the rules that select an endpoint into the rows of a verdict table.
//! Nothing here touches files, sockets or a clock. Whatever a document says is either understood
//! whole or refused with the place and the reason: no field is ever ignored in silence.
#![forbid(unsafe_code)]

mod audit;
mod context;
mod counted;
mod document;
mod explain;
mod meaning;
mod options;
mod pattern_index;
mod problem;
mod report;
mod rule;
mod selector;
mod spec;
mod table;
mod yaml;

pub use audit::{Population, audit};
pub use context::{Concerns, Context, Wants};
pub use document::Document;
pub use explain::{Decision, Destination, Explanation, Lack, Near, Packet, explain};
pub use meaning::Meaning;
pub use options::{Options, SelectorScope};
pub use pattern_index::{PatternIndex, SelectorId};
pub use problem::Problem;
pub use report::{Report, check};
pub use rule::{
    Application, Direction, Egress, EndpointPeer, Entity, HeaderSecret, L7, NamedPort, Origin,
    Peers, Policy, PolicyKey, PortRule, PrefixBase, PrefixPeer, Rule, SecretKey, ServicePeer, Spot,
    TlsContext, Unenforced,
};
pub use selector::{LabelSelector, Operator, Requirement, SelectorIndex};
pub use table::{Altered, AlteredNames, Asked, DefaultDeny, NameFilter, Subject, Table, TableRow};
