//! The datapath: BPF programs on endpoints' interfaces, and the maps that they judge by.
//!
//! [`Datapath::open`] loads the programs and opens the pinned maps, or makes them;
//! [`Datapath::apply`] carries the engine's changes in; [`Datapath::attach`] puts the programs in
//! the packets' way. All of it takes `&self` and holds no lock. Maps and attachments are pinned
//! under a versioned directory, so what is enforced stays enforced when the process is gone, and
//! [`remove`] takes everything away.
//!
//! Attaching looks interfaces up in the calling thread's network namespace.

mod apply;
mod attach;
mod bpffs;
mod codec;
mod datapath;
mod dump;
mod endpoints;
mod error;
mod events;
mod features;
mod flow_table;
mod flows;
mod inspect;
mod map;
mod moving;
mod options;
mod others;
mod patience;
mod pins;
mod programs;
mod remove;
mod sys;
mod tables;

pub use attach::{Attached, By, Hook};
pub use bpffs::{PinLock, lock};
pub use datapath::Datapath;
pub use error::{ApplyError, Error, Fault};
pub use events::EventRing;
pub use features::{Feature, features};
pub use flows::{Counts, Flow, Stage, Untold};
pub use inspect::MapInfo;
pub use model::Direction;
pub use moving::Moved;
pub use options::{AttachMode, EventBudget, Marks, Options, Settings, Sizes};
pub use others::{Other, Redirects, Side, Sight, Survey, Unread};
pub use remove::{Removed, remove};
pub use sys::test_run;

#[cfg(test)]
mod tests;
