//! Programs of others in the packets' way: where they stand, whether packets meet them before ours,
//! and whether they hand packets on past ours.
//!
//! A program that may not be read counts as unread, never as harmless. What one look reads is
//! bounded; what it leaves out for that is unread as well.

mod calls;
mod reading;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use model::Interface;

use crate::attach::clsact::{self, Filter};
use crate::sys::{self, program};
use crate::{By, Datapath, Error, Hook};
use reading::Reader;

/// A program, or a filter of another kind, that somebody else has attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// On which interface.
    pub interface: Interface,
    /// On which of its sides.
    pub side: Side,
    /// In which way.
    pub by: By,
    /// Its number; none for filters that are no programs.
    pub program: Option<u32>,
    /// Its name; empty where it may not be read.
    pub name: String,
    /// Whether packets meet it before ours there. Its verdict may then be the last.
    pub precedes: bool,
    /// What it does to a packet's way.
    pub redirects: Redirects,
}

/// What stands on interfaces at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Where programs of ours do.
    pub own: BTreeSet<Interface>,
    /// What others have attached, by interface, side and order.
    pub others: Vec<Other>,
}

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What comes in by it.
    Ingress,
    /// What goes out.
    Egress,
}

/// Whether a program, or one that it goes on with, sends packets another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// No such call is in it.
    Never,
    /// To an interface, whose hooks they meet.
    ToInterface,
    /// Into the namespace behind an interface, past the hooks of the interface itself.
    IntoNamespace {
        /// The name of the program that does it.
        caller: String,
    },
    /// It was not read.
    Unread(Unread),
}

/// Why a program was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unread {
    /// Programs of others may not be opened.
    NotPermitted,
    /// They may, but what they call is not shown.
    CallsHidden,
    /// There are more than one look reads.
    TooMany,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPermitted => "reading it takes CAP_SYS_ADMIN",
            Self::CallsHidden => "reading what it calls takes CAP_SYSLOG",
            Self::TooMany => "there are too many programs",
        })
    }
}

/// Looks at the programs on interfaces, again and again: what was read once is remembered for as
/// long as it stands there.
#[derive(Debug)]
pub struct Survey {
    own: BTreeSet<u32>,
    reader: Reader,
}

impl Survey {
    /// A survey that takes these programs for our own.
    fn new(own: BTreeSet<u32>) -> Self {
        Self { own, reader: Reader::default() }
    }

    /// A survey that takes what is pinned under a directory for our own.
    pub fn of_pins(pin: &Path) -> Self {
        let versions = entries(pin);
        let links = versions.flat_map(|version| entries(&version.path().join("links")));
        let programs = links.filter_map(|pin| {
            let object = sys::object_get(&pin.path()).ok()?;
            let is_link = pin.file_name().to_str()?.ends_with(By::Tcx.name());
            let id = if is_link {
                sys::link_info(object.as_fd()).map(|link| link.program)
            } else {
                program::id(object.as_fd())
            };
            id.ok()
        });
        Self::new(programs.collect())
    }

    /// Looks at these interfaces, in the calling thread's network namespace.
    pub fn look(&mut self, interfaces: impl IntoIterator<Item = Interface>) -> io::Result<Sight> {
        let with_filters = clsact::interfaces()?;
        let mut sight = Sight::default();
        for interface in interfaces {
            for side in [Side::Ingress, Side::Egress] {
                let filtered = with_filters.contains(&interface);
                let place = Place::read(interface, side, filtered)?;
                place.take_in(&self.own, &mut sight);
            }
        }
        self.reader.begin(sight.others.iter().filter_map(|other| other.program));
        for other in &mut sight.others {
            let Some(id) = other.program else { continue };
            other.redirects = self.reader.redirects(id);
            if let Some(name) = self.reader.name(id) {
                name.clone_into(&mut other.name);
            }
        }
        Ok(sight)
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok)
}

impl Datapath {
    /// A survey of what others have attached.
    pub fn survey(&self) -> Result<Survey, Error> {
        let ids = Hook::ALL.into_iter().map(|hook| {
            let failed = |source| Error::OwnProgram { program: hook.name(), source };
            program::id(self.program(hook)).map_err(failed)
        });
        Ok(Survey::new(ids.collect::<Result<_, _>>()?))
    }
}

/// What stands on a side of an interface, in order: first tcx, then the filters.
#[derive(Debug)]
struct Place {
    interface: Interface,
    side: Side,
    tcx: Vec<u32>,
    filters: Vec<Filter>,
}

impl Place {
    fn read(interface: Interface, side: Side, filtered: bool) -> io::Result<Self> {
        let point = match side {
            Side::Ingress => sys::TCX_INGRESS,
            Side::Egress => sys::TCX_EGRESS,
        };
        let tcx = match program::query(interface.0, point) {
            // The interface is gone, or the kernel is older than tcx.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => {
                Vec::new()
            }
            found => found?,
        };
        let filters = if filtered {
            clsact::all_filters(interface, side == Side::Ingress)?
        } else {
            Vec::new()
        };
        Ok(Self { interface, side, tcx, filters })
    }

    fn take_in(self, own: &BTreeSet<u32>, sight: &mut Sight) {
        let is_own = |program: &Option<u32>| program.is_some_and(|id| own.contains(&id));
        let tcx = self.tcx.into_iter().map(|id| (By::Tcx, Some(id), String::new()));
        let filters = self.filters.into_iter().map(|own| (By::Clsact, own.program, own.name));
        let all: Vec<_> = tcx.chain(filters).collect();
        let first_own = all.iter().position(|(_, program, _)| is_own(program));
        sight.own.extend(first_own.map(|_| self.interface));
        let others = all.into_iter().enumerate().filter(|(_, (_, program, _))| !is_own(program));
        sight.others.extend(others.map(|(index, (by, program, name))| Other {
            interface: self.interface,
            side: self.side,
            by,
            program,
            name,
            precedes: first_own.is_some_and(|own| index < own),
            redirects: Redirects::Never,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(tcx: &[u32], filters: &[Option<u32>]) -> Vec<(Option<u32>, bool)> {
        let filter = |program: &Option<u32>| Filter { program: *program, name: "bpf".to_owned() };
        let place = Place {
            interface: Interface(7),
            side: Side::Ingress,
            tcx: tcx.to_vec(),
            filters: filters.iter().map(filter).collect(),
        };
        let mut sight = Sight::default();
        place.take_in(&[1, 2].into(), &mut sight);
        sight.others.into_iter().map(|other| (other.program, other.precedes)).collect()
    }

    #[test]
    fn what_packets_meet_before_ours_precedes() {
        assert_eq!(order(&[8, 1, 9], &[]), [(Some(8), true), (Some(9), false)]);
        assert_eq!(order(&[1], &[Some(8), None]), [(Some(8), false), (None, false)]);
        assert_eq!(order(&[8], &[None, Some(2)]), [(Some(8), true), (None, true)], "tcx is first");
        assert_eq!(
            order(&[8], &[Some(9)]),
            [(Some(8), false), (Some(9), false)],
            "no place of ours"
        );
    }
}
