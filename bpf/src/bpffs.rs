//! The file system that pins live in.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::{Error, sys};

/// Where distributions mount it.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// Makes sure that `pin` lies on a bpf file system, mounting one at the usual place if there is
/// none, and makes the directories under it.
pub fn prepare(pin: &Path, directories: &[PathBuf]) -> Result<(), Error> {
    if !is_bpffs(pin) && pin.starts_with(MOUNT_POINT) {
        mount_once().map_err(|source| Error::Mount { path: MOUNT_POINT.into(), source })?;
    }
    if !is_bpffs(pin) {
        return Err(Error::NotBpffs(pin.to_owned()));
    }
    for path in directories {
        fs::create_dir_all(path).map_err(|source| Error::Path {
            action: "make",
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Pins what stands for something in force; if somebody took the directory away, it is made again.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    match sys::object_pin(object, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            sys::object_pin(object, path)
        }
        pinned => pinned,
    }
}

/// Whether a path, or what exists of it, lies on a bpf file system.
pub fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// What keeps a pin directory to one process; another may have it when this is dropped.
///
/// The open directory also keeps the file system from being unmounted.
#[derive(Debug)]
pub struct PinLock(Flock<File>);

impl PinLock {
    /// Whether it is of the directory that has this path now.
    pub(crate) fn is_of(&self, pin: &Path) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        let held = self.0.metadata().map(id);
        held.is_ok_and(|held| fs::metadata(pin).map(id).is_ok_and(|found| found == held))
    }
}

/// Takes a pin directory, if it exists, for this process alone.
pub fn lock(pin: &Path) -> Result<Option<PinLock>, Error> {
    let failed = |action| move |source| Error::Path { action, path: pin.to_owned(), source };
    let directory = match File::open(pin) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open")(error)),
    };
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(PinLock(lock))),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::InUse(pin.to_owned())),
        Err((_, error)) => Err(failed("lock")(error.into())),
    }
}

/// Mounts one at the usual place for the calling thread alone, which has a mount namespace of its
/// own from then on.
pub fn mount_apart() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("bpf"), MOUNT_POINT, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}

/// Mounts under a lock: a second mount on top of the first would hide what is pinned there.
fn mount_once() -> io::Result<()> {
    let lock = File::open("/sys/fs")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    if is_bpffs(Path::new(MOUNT_POINT)) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), MOUNT_POINT, Some("bpf"), flags, Some("mode=0700"))?;
    Ok(())
}
