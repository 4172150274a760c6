//! Joins policies, pods, services, names and time into what the kernel should hold.
//!
//! Pure: time and everything else that happens is handed in, changes come out. The cold half
//! ([`Node`]) decides revisions; the hot half ([`leases`]) is one state machine for each endpoint,
//! which learns an answer's addresses without asking the cold half.
#![forbid(unsafe_code)]

mod bindings;
mod compute;
mod difference;
pub mod explain;
mod generations;
mod identities;
pub mod leases;
mod node;
mod plan;
pub mod rebinding;
mod roster;
mod sets;
mod snapshot;
mod table;

pub use bindings::{BindingError, Bindings};
pub use compute::Addresses;
pub use difference::{Difference, difference};
pub use identities::Meaning;
pub use node::{Inventory, Node, Settings};
pub use plan::{InventoryProblem, LocalEndpoint, Plan, PlanError};
pub use sets::TableSets;
pub use snapshot::{Judgement, Question, Snapshot};
pub use table::VerdictTable;
