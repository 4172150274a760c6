//! The node that the daemon runs on: its links and addresses as they come and go, which interface
//! leads into a pod's namespace, and the rules, routes and nftables table that carry redirected
//! packets to local sockets.
//!
//! Everything works in the network namespace of the calling process. Nothing here polls, and
//! nothing is trusted that was read inside a pod's namespace.
#![deny(unsafe_code)]

mod follow;
mod machine;
mod mark;
mod message;
mod mounts;
pub mod namespace;
mod netlink;
mod nft;
mod node;
pub mod redirect;
#[cfg(test)]
mod sandbox;
mod watch;

pub use machine::{Finding, Machine, Severity};
pub use mark::{MarkError, Marks};
pub use mounts::Mounts;
pub use netlink::NetlinkError;
pub use nft::NftError;
pub use node::{Address, Link, LinkEvent, LinkKind, Mac, Node, Peer, PeerNamespace};
pub use watch::{WatchError, WatchOptions, Watcher, watch};
