//! The file system that pins live in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::Error;

/// Where distributions mount it.
const MOUNT_POINT: &str = "/sys/fs/bpf";

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

/// Whether a path, or what exists of it, lies on a bpf file system.
pub fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
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
