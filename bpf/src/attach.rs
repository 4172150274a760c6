//! Putting programs in the packets' way, and taking ours, and only ours, out again.
//!
//! By tcx, each attachment is a link pinned under `links/`: it outlives the process, and the next
//! one puts its program into the same link. The process holds it too, so that a pin that is lost
//! opens nothing while it runs. By clsact, it is a filter with a fixed place, replaced
//! in one step; the pin of its program stands for it, and is made first.

pub(crate) mod clsact;
mod netlink;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use model::Interface;

use crate::programs::Programs;
use crate::{AttachMode, Datapath, Error, bpffs, sys};

/// A place in the packets' way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// What an endpoint sends: ingress of its interface's host side.
    FromEndpoint,
    /// What reaches it: egress there.
    ToEndpoint,
    /// Ingress of a bridge that endpoints are ports of.
    Bridge,
}

/// A way of attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// A tcx link.
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

/// A program in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attached {
    /// On which interface.
    pub interface: Interface,
    /// In which place.
    pub hook: Hook,
    /// In which way.
    pub by: By,
}

impl Hook {
    pub(crate) const ALL: [Self; 3] = [Self::FromEndpoint, Self::ToEndpoint, Self::Bridge];
    const ENDPOINT: [Self; 2] = [Self::FromEndpoint, Self::ToEndpoint];

    /// The program's name, and the pin's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FromEndpoint => "from_endpoint",
            Self::ToEndpoint => "to_endpoint",
            Self::Bridge => "bridge_ingress",
        }
    }

    const fn is_ingress(self) -> bool {
        match self {
            Self::FromEndpoint | Self::Bridge => true,
            Self::ToEndpoint => false,
        }
    }

    const fn tcx_point(self) -> u32 {
        if self.is_ingress() { sys::TCX_INGRESS } else { sys::TCX_EGRESS }
    }

    pub(crate) fn program(self, programs: &Programs) -> BorrowedFd<'_> {
        match self {
            Self::FromEndpoint => programs.from_endpoint.as_fd(),
            Self::ToEndpoint => programs.to_endpoint.as_fd(),
            Self::Bridge => programs.bridge_ingress.as_fd(),
        }
    }
}

impl By {
    /// The name that people know.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Attached {
    fn pin(&self, links: &Path) -> PathBuf {
        let Self { interface, hook, by } = self;
        links.join(format!("{interface}-{}-{by}", hook.name()))
    }

    /// What a pin's name stands for.
    fn from_pin(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let interface = Interface(parts.next()?.parse().ok()?);
        let (hook, by) = (parts.next()?, parts.next()?);
        let hook = Hook::ALL.into_iter().find(|known| known.name() == hook)?;
        let by = [By::Tcx, By::Clsact].into_iter().find(|known| known.name() == by)?;
        Some(Self { interface, hook, by })
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let Self { interface, by, .. } = *self;
        move |source| Error::Attach { action, interface, by: by.name(), source }
    }
}

/// Attaches the loaded programs.
#[derive(Debug)]
pub(crate) struct Attacher {
    pub programs: Programs,
    links: PathBuf,
    mode: AttachMode,
    tcx: OnceLock<bool>,
    /// The links, or what stands for filters, by their pins: let go of when they are detached.
    held: Mutex<BTreeMap<PathBuf, OwnedFd>>,
}

impl Attacher {
    pub const fn new(programs: Programs, links: PathBuf, mode: AttachMode) -> Self {
        Self { programs, links, mode, tcx: OnceLock::new(), held: Mutex::new(BTreeMap::new()) }
    }

    fn by(&self) -> By {
        let tcx = match self.mode {
            AttachMode::Tcx => true,
            AttachMode::Clsact => false,
            AttachMode::Auto => {
                *self.tcx.get_or_init(|| has_tcx(self.programs.from_endpoint.as_fd()))
            }
        };
        if tcx { By::Tcx } else { By::Clsact }
    }

    /// Attaches the program of a place, then lets go of what was attached there in the other way.
    fn attach(&self, interface: Interface, hook: Hook) -> Result<(), Error> {
        let wanted = Attached { interface, hook, by: self.by() };
        let program = hook.program(&self.programs);
        let done = match wanted.by {
            By::Tcx => attach_tcx(&wanted, &wanted.pin(&self.links), program)
                .map(|link| self.hold(&wanted, Some(link))),
            By::Clsact => clsact::attach(&wanted, &self.links, program)
                .and_then(|()| self.hold_programs(&wanted, program)),
        };
        done.map_err(wanted.failed("attach to"))?;
        let other = match wanted.by {
            By::Tcx => By::Clsact,
            By::Clsact => By::Tcx,
        };
        self.let_go(&Attached { by: other, ..wanted })
    }

    /// Undoes one attachment. The link that is held goes last: it is off when this returns.
    fn let_go(&self, attached: &Attached) -> Result<(), Error> {
        detach(&self.links, attached)?;
        self.hold(attached, None);
        Ok(())
    }

    /// Holds what the pins of a filter, and of the qdisc that was made for it, are of.
    fn hold_programs(&self, attached: &Attached, program: BorrowedFd<'_>) -> io::Result<()> {
        self.hold(attached, Some(program.try_clone_to_owned()?));
        let note = clsact::note(attached.interface, &self.links);
        if note.exists() {
            self.held().insert(note, program.try_clone_to_owned()?);
        }
        Ok(())
    }

    /// Visits what is held, with its pin.
    pub fn for_each_held<E>(
        &self,
        mut visit: impl FnMut(&Path, BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.held().iter().try_for_each(|(pin, object)| visit(pin, object.as_fd()))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<PathBuf, OwnedFd>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds this link from now on, or none.
    fn hold(&self, attached: &Attached, link: Option<OwnedFd>) {
        let mut held = self.held();
        let pin = attached.pin(&self.links);
        match link {
            Some(link) => held.insert(pin, link),
            None => held.remove(&pin),
        };
    }

    fn detach(&self, interface: Interface, hooks: &[Hook]) -> Result<(), Error> {
        for by in [By::Tcx, By::Clsact] {
            for hook in hooks {
                self.let_go(&Attached { interface, hook: *hook, by })?;
            }
        }
        clsact::remove_qdisc(interface, &self.links).map_err(|source| Error::Attach {
            action: "remove the qdisc of",
            interface,
            by: By::Clsact.name(),
            source,
        })?;
        let note = clsact::note(interface, &self.links);
        if !note.exists() {
            self.held().remove(&note);
        }
        Ok(())
    }
}

impl Datapath {
    /// Attaches the programs to an endpoint's interface, or puts the present ones in the place of
    /// an earlier process', without a moment between.
    pub fn attach(&self, interface: Interface) -> Result<(), Error> {
        // What comes in is recorded first, so that no reply is judged as a request.
        self.attacher.attach(interface, Hook::ToEndpoint)?;
        self.attacher.attach(interface, Hook::FromEndpoint)
    }

    /// Takes them off. An interface that is gone has nothing left to take off.
    pub fn detach(&self, interface: Interface) -> Result<(), Error> {
        self.attacher.detach(interface, &Hook::ENDPOINT)
    }

    /// Attaches the program that receives redirected packets to a bridge.
    pub fn attach_bridge(&self, bridge: Interface) -> Result<(), Error> {
        self.attacher.attach(bridge, Hook::Bridge)
    }

    /// Takes it off.
    pub fn detach_bridge(&self, bridge: Interface) -> Result<(), Error> {
        self.attacher.detach(bridge, &[Hook::Bridge])
    }

    /// How this kernel has programs attached, in the configured mode.
    pub fn attaches_by(&self) -> By {
        self.attacher.by()
    }

    /// What is attached. What is left of interfaces that are gone is not.
    pub fn attached(&self) -> Result<Vec<Attached>, Error> {
        let mut found = pinned(&self.attacher.links)?;
        found.retain(|attached| is_attached(attached, &self.attacher.links));
        Ok(found)
    }
}

/// Everything that has a pin, in order.
pub(crate) fn pinned(links: &Path) -> Result<Vec<Attached>, Error> {
    let failed = |source| Error::Path { action: "read", path: links.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(links).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().and_then(Attached::from_pin));
    }
    found.sort_unstable();
    Ok(found)
}

fn is_attached(attached: &Attached, links: &Path) -> bool {
    match attached.by {
        By::Tcx => sys::object_get(&attached.pin(links))
            .and_then(|link| sys::link_info(link.as_fd()))
            .is_ok_and(|info| info.interface == attached.interface.0),
        By::Clsact => clsact::is_attached(attached).unwrap_or(false),
    }
}

/// Undoes one attachment. What is not there is no error.
pub(crate) fn detach(links: &Path, attached: &Attached) -> Result<(), Error> {
    let pin = attached.pin(links);
    if !pin.exists() {
        return Ok(());
    }
    let detached = match attached.by {
        By::Tcx => sys::object_get(&pin).and_then(|link| sys::link_detach(link.as_fd())),
        By::Clsact => clsact::detach(attached),
    };
    detached.map_err(attached.failed("detach from"))?;
    fs::remove_file(&pin).map_err(|source| Error::Path { action: "remove", path: pin, source })
}

/// Takes the qdisc away that was made for an interface's filters, if nobody else uses it.
pub(crate) fn remove_qdisc(links: &Path, interface: Interface) -> io::Result<()> {
    clsact::remove_qdisc(interface, links)
}

fn attach_tcx(wanted: &Attached, pin: &Path, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match sys::object_get(pin) {
        Ok(link) => {
            let info = sys::link_info(link.as_fd())?;
            if info.interface == wanted.interface.0 {
                return sys::link_update(link.as_fd(), program).map(|()| link);
            }
            // Of an earlier interface with this number.
            fs::remove_file(pin)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let link = sys::link_create(program, wanted.interface.0, wanted.hook.tcx_point())?;
    bpffs::pin(link.as_fd(), pin).map(|()| link)
}

/// Whether the kernel knows tcx: an interface that cannot exist is then what it complains of.
pub(crate) fn has_tcx(program: BorrowedFd<'_>) -> bool {
    let answer = sys::link_create(program, i32::MAX.cast_unsigned(), sys::TCX_INGRESS);
    answer.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_what_it_stands_for() {
        for hook in Hook::ALL {
            for by in [By::Tcx, By::Clsact] {
                let attached = Attached { interface: Interface(12), hook, by };
                let pin = attached.pin(Path::new("/"));
                let name = pin.file_name().and_then(|name| name.to_str()).unwrap();
                assert_eq!(Attached::from_pin(name), Some(attached), "{name}");
            }
        }
        assert_eq!(Attached::from_pin("12-qdisc"), None);
        assert_eq!(Attached::from_pin("x-from_endpoint-tcx"), None);
    }
}
