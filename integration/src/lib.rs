//! The namespace lab: a node, its pods, a cluster DNS server and an outside world, all on this
//! machine and all real: kernel, packets, sockets and programs.
//!
//! - A lab owns everything that it makes. Drop, panic and signals take it all away again, and the
//!   next lab sweeps what a killed one left.
//! - The machine's own network namespace is never touched, and no lab has a way out of the machine.
//! - Everything is bounded: logs, load, transfers and waiting.

mod authority;
mod background;
mod browser;
mod cluster;
mod cri;
mod daemon;
mod dns_client;
mod dns_server;
mod dns_wire;
mod flood;
mod frozen;
mod hosts;
mod http;
mod kube_api;
mod lab;
mod length;
mod links;
mod load;
mod loads;
mod loop_disk;
mod manifests;
mod namespace;
mod node_files;
mod node_runtime;
mod observe;
mod odd_server;
mod packet;
mod ping;
mod pins;
mod plan;
mod pod_cgroups;
mod policies;
mod probe;
mod python;
mod service;
mod small_disk;
mod sweep;
mod terminal;
mod translation;
mod undo;
mod views;
mod wait;
mod wall_clock;
mod web;
mod zones;

pub use authority::{Authority, Identity};
pub use browser::Browser;
pub use cluster::{BACKEND, Place};
pub use cri::ContainerRuntime;
pub use daemon::{Daemon, DaemonError};
pub use dns_client::{Answer, DnsError, Resolver};
pub use dns_server::{DnsServer, DnsServerError, Question, QuestionLog};
pub use dns_wire::{DnsStream, framed, query, question};
pub use flood::{Flood, FloodKind, Flooded, NameFlood, NamesFlooded};
pub use frozen::freeze;
pub use hosts::{HostServices, HostServicesError, Ports};
pub use kube_api::{ApiError, Faults, KubeApi, KubeApiError, Kubelet, PodCommand, Refusal};
pub use lab::{Lab, LabError, OutsideHost, Pod};
pub use length::length;
pub use links::LinkError;
pub use load::{Load, LoadReport};
pub use loads::LOAD_PODS;
pub use loop_disk::{Hanging, LoopDisk};
pub use manifests::{Manifests, ManifestsError};
pub use namespace::{Namespace, NamespaceError};
pub use node_files::NodeFiles;
pub use node_runtime::{
    Container, ContainerSpec, Executed, Exposed, NodeRuntime, NodeRuntimeError, PodNetwork,
};
pub use odd_server::OddServer;
pub use packet::{Capture, Packet, Part};
pub use pins::Pins;
pub use plan::{Binding, LabOptions, OutsideSpec, PodSpec, Topology};
pub use policies::{ECHO, FRESH_NAMES, ONE_NAME, WWW};
pub use probe::{Reach, Transfer};
pub use python::python;
pub use service::ServiceSpec;
pub use small_disk::SmallDisk;
pub use terminal::{Left, Terminal};
pub use views::{begun, fresh_address, fresh_pair, go_on, ip, soon};
pub use wait::{TimedOut, wait_until};
pub use wall_clock::WallClock;
pub use web::{WebServer, take_over};
pub use zones::{FRESH_ZONE, ZoneError, fresh_addresses};
