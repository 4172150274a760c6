//! What can go wrong between the daemon and the kernel.

use std::io;
use std::path::PathBuf;

use model::{Interface, Prefix};
use thiserror::Error;

/// Why the datapath does not do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The file system for pins could not be mounted.
    #[error("cannot mount a bpf file system at {path}: {source}")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pin directory does not lie on a bpf file system.
    #[error("{0} is not on a bpf file system")]
    NotBpffs(PathBuf),
    /// Another process has the pin directory.
    #[error("another process uses what is pinned at {0}: one fqdnd may run on it")]
    InUse(PathBuf),
    /// A path under the pin directory could not be used.
    #[error("cannot {action} {path}: {source}")]
    Path {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A map is not as this version makes it.
    #[error("the map `{map}` has {what} {found}, and {wanted} is needed")]
    Layout {
        /// Its name.
        map: &'static str,
        /// What differs.
        what: &'static str,
        /// What it is.
        found: u32,
        /// What it should be.
        wanted: u32,
    },
    /// A map is to be smaller than what it holds.
    #[error("the map `{map}` is to have room for {wanted}, and holds more than that now")]
    TooSmall {
        /// Its name.
        map: &'static str,
        /// How much room there would be.
        wanted: u32,
    },
    /// The object could not be loaded.
    #[error("cannot load the BPF object")]
    Load(#[from] aya::EbpfError),
    /// The kernel refuses a program.
    #[error("the kernel does not take the program `{program}`")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        source: aya::programs::ProgramError,
    },
    /// The object lacks a program: it was not built from this source.
    #[error("the BPF object has no program `{0}`")]
    NoProgram(&'static str),
    /// A loaded program does not say which one it is.
    #[error("cannot read the program `{program}`: {source}")]
    OwnProgram {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An operation on a map failed.
    #[error("cannot {action} the map `{map}`: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The event ring could not be mapped.
    #[error("cannot open the event ring")]
    Ring(#[from] aya::maps::MapError),
    /// A map holds what no version of this program writes.
    #[error("the map `{map}` holds what it never should: {what}")]
    Content {
        /// Its name.
        map: &'static str,
        /// What it holds.
        what: String,
    },
    /// There is no map of this name.
    #[error("there is no map `{0}`")]
    UnknownMap(String),
    /// A program could not be attached.
    #[error("cannot {action} interface {interface} by {by}: {source}")]
    Attach {
        /// What was tried.
        action: &'static str,
        /// The interface.
        interface: Interface,
        /// tcx or clsact.
        by: &'static str,
        /// Why.
        source: io::Error,
    },
    /// More workers than the settings hold.
    #[error("{0} workers are more than the {max} that the datapath knows", max = bpf_abi::MAX_WORKERS)]
    TooManyWorkers(usize),
    /// The marks do not lie in their mask, or are the same.
    #[error("the marks {redirect:#x} and {answer:#x} must differ and lie in the mask {mask:#x}")]
    Marks {
        /// The mask.
        mask: u32,
        /// The redirect mark.
        redirect: u32,
        /// The answer mark.
        answer: u32,
    },
}

/// Why a list of changes was applied only in part: those before `index` are in force.
#[derive(Debug, Error)]
#[error("change {index}, to the map `{map}`: {fault}")]
pub struct ApplyError {
    /// The place in the list of the change that failed.
    pub index: usize,
    /// The map it was for.
    pub map: &'static str,
    /// What went wrong.
    pub fault: Fault,
}

/// Why a change could not be made.
#[derive(Debug, Error)]
pub enum Fault {
    /// The map takes no more elements.
    #[error("the map is full")]
    Full,
    /// The prefix is IPv4 in disguise: no packet on the wire has such an address.
    #[error("{0} lies in the v4-mapped addresses, which no packet has; write it as IPv4")]
    Mapped(Prefix),
    /// The number has a meaning of its own in the kernel.
    #[error("that number of the {0} has another meaning, and cannot be used")]
    Reserved(&'static str),
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] io::Error),
    /// The endpoint's own maps could not be made.
    #[error(transparent)]
    Maps(#[from] Box<Error>),
}

impl ApplyError {
    /// Whether a map had no room.
    pub const fn is_full(&self) -> bool {
        matches!(self.fault, Fault::Full)
    }
}

impl Fault {
    /// What an error of an endpoint's own maps means.
    pub(crate) fn of_maps(error: Error) -> Self {
        match error {
            Error::Map { source, .. } if source.raw_os_error() == Some(libc::E2BIG) => Self::Full,
            error => Self::Maps(Box::new(error)),
        }
    }

    /// What an error of a map update means.
    pub(crate) fn of_update(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Self::Full,
            _ => Self::Kernel(error),
        }
    }
}
