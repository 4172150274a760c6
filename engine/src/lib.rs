//! Joins policies, pods, services, names and time into what the kernel should hold.
//!
//! Pure: time and everything else that happens is handed in, changes come out. The cold half
//! ([`Node`]) decides revisions; the hot half ([`leases`]) is one state machine for each endpoint,
//! which learns an answer's addresses without asking the cold half.
#![forbid(unsafe_code)]

mod addresses;
mod advance;
mod bindings;
mod conversing;
mod destinations;
mod difference;
mod endpoints;
pub mod explain;
mod generations;
mod identities;
mod inventory;
pub mod leases;
mod ledger;
mod node;
mod places;
mod plan;
mod prefix_map;
pub mod querying;
pub mod rebinding;
mod resolvers;
mod rewriting;
mod roster;
mod rows;
mod sayings;
mod selection;
mod services;
mod sets;
mod snapshot;
mod table;
mod tracked;
mod world;

pub use addresses::Addresses;
pub use bindings::{BindingError, Bindings};
pub use conversing::{Alternatives, L7Judgement, Unmatched};
pub use difference::{Difference, difference};
pub use identities::Meaning;
pub use inventory::Inventory;
pub use node::{Node, Settings};
pub use plan::{InventoryProblem, LocalEndpoint, Plan, PlanError};
pub use resolvers::{Learning, Resolvers, Teachers};
pub use sets::TableSets;
pub use snapshot::{Judgement, Question, Snapshot};
pub use table::VerdictTable;
