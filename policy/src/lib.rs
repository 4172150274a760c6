//! From the text of policies to the verdicts of an endpoint.
//!
//! [`Document::read_all`] splits a file, [`Policy::read`] checks one document, and
//! [`Table::compile`] turns the rules that select an endpoint into the rows of a verdict table.
//! Nothing here touches files, sockets or a clock. Whatever a document says is either understood
//! whole or refused with the place and the reason: no field is ever ignored in silence.
#![forbid(unsafe_code)]

mod document;
mod pattern_index;
mod problem;
mod rule;
mod selector;
mod spec;
mod table;
mod yaml;

pub use document::Document;
pub use pattern_index::{PatternIndex, SelectorId};
pub use problem::Problem;
pub use rule::{
    Application, Egress, EndpointPeer, Origin, Peers, Policy, PolicyKey, PortRule, Rule,
};
pub use selector::{LabelSelector, Operator, Requirement, SelectorIndex};
pub use table::{NameFilter, Subject, Table, TableRow};
