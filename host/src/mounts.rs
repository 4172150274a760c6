//! Says when something was mounted or unmounted, without looking again and again.
//!
//! Namespaces get their paths by being mounted there (`ip netns add`, container runtimes), which
//! inotify does not report and which need not come with any change of the node's links.

use std::fs::File;
use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The thread's own table; all threads of a daemon share one.
const TABLE: &str = "/proc/thread-self/mountinfo";

/// Watches the mount table of the calling process.
#[derive(Debug)]
pub struct Mounts {
    table: AsyncFd<File>,
}

impl Mounts {
    /// Watches from now on.
    #[expect(unsafe_code, reason = "tokio offers no safe way to wait for one descriptor's event")]
    pub fn watch() -> io::Result<Self> {
        let file = File::open(TABLE)?;
        // SAFETY: a File gives the same open descriptor for as long as it lives, and the AsyncFd
        // owns it.
        let table = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }?;
        Ok(Self { table })
    }

    /// Waits until the table has changed since the watch began, or since this last returned.
    /// Several changes may be reported as one; a change is reported at least once.
    pub async fn changed(&self) -> io::Result<()> {
        self.table.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::namespace;
    use crate::sandbox::{Pod, in_own_namespace, ip};

    async fn soon(mounts: &Mounts) -> bool {
        tokio::time::timeout(Duration::from_secs(10), mounts.changed()).await.is_ok()
    }

    async fn never(mounts: &Mounts) -> bool {
        tokio::time::timeout(Duration::from_millis(100), mounts.changed()).await.is_err()
    }

    #[test]
    fn a_namespace_mounted_after_its_veth_is_noticed_and_found() {
        in_own_namespace(|| async {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let pod = Pod::new();
            ip(&format!("link add to-pod type veth peer name eth0 netns {}", pod.tid()));
            let path = tempfile::NamedTempFile::new().unwrap();

            let mounts = Mounts::watch().unwrap();
            assert!(never(&mounts).await, "nothing has changed yet");
            let bind = MsFlags::MS_BIND;
            mount(Some(&pod.path()), path.path(), None::<&str>, bind, None::<&str>).unwrap();
            let start = Instant::now();
            assert!(soon(&mounts).await);
            println!("from mounting until it is noticed: {:?}", start.elapsed());
            assert!(namespace::host_side(path.path()).await.is_ok());
            assert!(never(&mounts).await, "a change is not reported twice");

            umount2(path.path(), MntFlags::MNT_DETACH).unwrap();
            assert!(soon(&mounts).await);
        });
    }
}
