//! Opening the datapath.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::attach::{Attacher, Hook};
use crate::bpffs::PinLock;
use crate::endpoints::Endpoints;
use crate::programs::Programs;
use crate::tables::{Maps, SPECS};
use crate::{Error, Options, Settings, Sizes, bpffs, sys};

/// The loaded programs and the pinned maps. Dropping it leaves both as they are.
#[derive(Debug)]
pub struct Datapath {
    /// Where the pins are, the version included.
    pub(crate) directory: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) maps: Maps,
    pub(crate) endpoints: Endpoints,
    pub(crate) attacher: Attacher,
    _lock: Option<PinLock>,
}

impl Datapath {
    /// Loads the programs on the maps that are pinned, and makes and pins those that are not.
    ///
    /// A pin directory belongs to one process at a time; the second one gets an error.
    ///
    /// A pinned map that is not as it would be made now is an error that names it: nothing is
    /// changed then.
    pub fn open(options: &Options) -> Result<Self, Error> {
        // Before 5.11, maps count against this limit. Where it may not be raised, loading says so.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let directory = options.pin.join(bpf_abi::VERSION);
        bpffs::prepare(&options.pin, &[directory.join("links"), directory.join("flows")])?;
        let lock = bpffs::lock(&options.pin)?;
        check_pinned(&directory, &options.sizes)?;
        let programs = Programs::load(&directory, &options.sizes)?;
        check_pinned(&directory, &options.sizes)?;
        let maps = Maps::open(&directory)?;
        let attacher = Attacher::new(programs, directory.join("links"), options.attach);
        let endpoints = Endpoints::restore(&maps, &directory)?;
        let sizes = options.sizes;
        let datapath = Self { directory, sizes, maps, endpoints, attacher, _lock: lock };
        datapath.count_unknown()?;
        Ok(datapath)
    }

    /// Tells the programs what to go by. Until this is first called on a new pin directory, the
    /// marks are unset and flows count as idle at once.
    pub fn configure(&self, settings: &Settings) -> Result<(), Error> {
        let settings = settings.to_abi()?;
        let written = self.maps.settings.put(&0, &settings);
        written.map_err(|source| Error::Map { map: "settings", action: "write", source })
    }

    /// The program of a hook, for [`test_run`](crate::test_run).
    pub fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        hook.program(&self.attacher.programs)
    }

    /// Gives interfaces that are bound to no endpoint a place to be counted.
    fn count_unknown(&self) -> Result<(), Error> {
        let put = self.maps.counters.put_zero(&0);
        put.map(drop).map_err(|source| Error::Map { map: "counters", action: "write", source })
    }
}

/// Compares every map that is pinned with what it must be.
fn check_pinned(directory: &std::path::Path, sizes: &Sizes) -> Result<(), Error> {
    for spec in &SPECS {
        let path = directory.join(spec.name);
        if !path.exists() {
            continue;
        }
        let failed = |source| Error::Map { map: spec.name, action: "open", source };
        let fd = sys::object_get(&path).map_err(failed)?;
        spec.check(&sys::map_info(fd.as_fd()).map_err(failed)?, sizes)?;
    }
    Ok(())
}
