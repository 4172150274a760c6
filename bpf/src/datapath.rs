//! Opening the datapath.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::attach::{Attacher, Hook};
use crate::bpffs::PinLock;
use crate::endpoints::Endpoints;
use crate::programs::Programs;
use crate::tables::Maps;
use crate::{Error, Moved, Options, Settings, Sizes, bpffs, moving};

/// The loaded programs and the pinned maps. Dropping it leaves both as they are.
#[derive(Debug)]
pub struct Datapath {
    /// Where the pins are.
    pub(crate) pin: PathBuf,
    /// The same, with the version.
    pub(crate) directory: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) maps: Maps,
    pub(crate) endpoints: Endpoints,
    pub(crate) attacher: Attacher,
    pub(crate) moved: Moved,
    pub(crate) pins_repaired: AtomicU64,
    pub(crate) lock: Mutex<Option<PinLock>>,
}

impl Datapath {
    /// Loads the programs on the maps that are pinned, and makes and pins those that are not.
    ///
    /// A pin directory belongs to one process at a time; the second one gets an error. What was
    /// pinned with other sizes or by another version is moved over from, and programs that are
    /// attached run on until they are replaced; see [`Datapath::finish_move`].
    pub fn open(options: &Options) -> Result<Self, Error> {
        // Before 5.11, maps count against this limit. Where it may not be raised, loading says so.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let directory = options.pin.join(bpf_abi::VERSION);
        bpffs::prepare(&options.pin, &moving::directories(&directory))?;
        let lock = bpffs::lock(&options.pin)?;
        let moved = moving::prepare(&options.pin, &directory, &options.sizes)?;
        let opened = Self::open_maps(options, &directory, &moved);
        let (maps, endpoints, programs) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                moving::put_back(&directory)?;
                return Err(error);
            }
        };
        Ok(Self {
            pin: options.pin.clone(),
            sizes: options.sizes,
            maps,
            endpoints,
            attacher: Attacher::new(programs, directory.join("links"), options.attach),
            moved,
            pins_repaired: AtomicU64::new(0),
            lock: Mutex::new(lock),
            directory,
        })
    }

    fn open_maps(
        options: &Options,
        directory: &Path,
        moved: &Moved,
    ) -> Result<(Maps, Endpoints, Programs), Error> {
        let programs = Programs::load(directory, &options.sizes)?;
        let maps = Maps::open(directory)?;
        moving::fill(moved, directory, &maps)?;
        let endpoints = Endpoints::restore(&maps, directory, &options.sizes)?;
        // Interfaces that are bound to no endpoint have a place to be counted.
        let put = maps.counters.put_zero(&0);
        put.map_err(|source| Error::Map { map: "counters", action: "write", source })?;
        Ok((maps, endpoints, programs))
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
}
