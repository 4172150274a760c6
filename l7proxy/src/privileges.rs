//! What the process may do: as little as it needs.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use thiserror::Error;

/// Why rights could not be given up.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// A capability could not be given up or kept.
    #[error("capabilities cannot be set: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// The process could not become another user's, or be bound.
    #[error("rights cannot be given up: {0}")]
    Process(#[from] nix::Error),
}

/// Lets the process have as many descriptors open as it may: two for each connection.
pub fn raise_file_limit() -> Result<(), PrivilegeError> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}

/// Gives up every right but the capability that is kept, for good. To be called before any thread
/// is started: each has rights of its own.
///
/// Where the process is root's it becomes `user`'s.
pub fn drop_all_but(kept: Option<Capability>, user: u32) -> Result<(), PrivilegeError> {
    prctl::set_no_new_privs()?;
    // Nobody reads keys out of a dump, nor through /proc.
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if Uid::effective().is_root() {
        for capability in caps::read(None, CapSet::Bounding)? {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
        prctl::set_keepcaps(true)?;
        setgroups(&[])?;
        let group = Gid::from_raw(user);
        setresgid(group, group, group)?;
        let user = Uid::from_raw(user);
        setresuid(user, user, user)?;
        prctl::set_keepcaps(false)?;
    }
    let may = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = kept.into_iter().filter(|kept| may.contains(kept)).collect();
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}
