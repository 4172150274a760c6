//! Says when something was mounted or unmounted, without looking again and again.
//!
//! Namespaces get their paths by being mounted there (`ip netns add`, container runtimes), which
//! inotify does not report and which need not come with any change of the node's links.

use std::fs::File;
use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// The thread's own table; all threads of a daemon share one.
const TABLE: &str = "/proc/thread-self/mountinfo";

/// After a change, the next ones are reported together this much later: whoever mounts and unmounts
/// all the time does not have every namespace looked up all the time.
const PAUSE: Duration = Duration::from_millis(250);

/// Watches the mount table of the calling process.
#[derive(Debug)]
pub struct Mounts {
    table: AsyncFd<File>,
    rests_until: Instant,
}

impl Mounts {
    /// Watches from now on.
    #[expect(unsafe_code, reason = "tokio offers no safe way to wait for one descriptor's event")]
    pub fn watch() -> io::Result<Self> {
        let file = File::open(TABLE)?;
        // SAFETY: a File gives the same open descriptor for as long as it lives, and the AsyncFd
        // owns it.
        let table = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }?;
        Ok(Self { table, rests_until: Instant::now() })
    }

    /// Waits until the table has changed since the watch began, or since this last returned.
    /// Several changes may be reported as one; a change is reported at least once. Nothing is lost
    /// when the wait is given up.
    pub async fn changed(&mut self) -> io::Result<()> {
        sleep_until(self.rests_until).await;
        self.table.ready(Interest::PRIORITY).await?.clear_ready();
        self.rests_until = Instant::now() + PAUSE;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::namespace;
    use crate::sandbox::{Pod, in_own_namespace, ip};

    async fn soon(mounts: &mut Mounts) -> bool {
        tokio::time::timeout(Duration::from_secs(10), mounts.changed()).await.is_ok()
    }

    /// Whether the reports come to an end. Mounts of others' namespaces may go meanwhile: where a
    /// mount's directory is removed, it goes from every namespace.
    async fn settles(mounts: &mut Mounts) -> bool {
        for _ in 0..20 {
            if tokio::time::timeout(2 * PAUSE, mounts.changed()).await.is_err() {
                return true;
            }
        }
        false
    }

    fn mount_apart() {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    }

    fn bind(source: &Path, target: &Path) {
        mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }

    #[test]
    fn a_namespace_mounted_after_its_veth_is_noticed_and_found() {
        in_own_namespace(|| async {
            mount_apart();
            let pod = Pod::new();
            ip(&format!("link add to-pod type veth peer name eth0 netns {}", pod.tid()));
            let path = tempfile::NamedTempFile::new().unwrap();

            let mut mounts = Mounts::watch().unwrap();
            assert!(settles(&mut mounts).await, "nothing has changed yet");
            bind(&pod.path(), path.path());
            let start = Instant::now();
            assert!(soon(&mut mounts).await);
            println!("from mounting until it is noticed: {:?}", start.elapsed());
            assert!(namespace::host_side(path.path()).await.is_ok());
            assert!(settles(&mut mounts).await, "a change is not reported for ever");

            umount2(path.path(), MntFlags::MNT_DETACH).unwrap();
            assert!(soon(&mut mounts).await);
        });
    }

    #[test]
    fn many_changes_are_reported_now_and_then_and_the_last_one_is() {
        in_own_namespace(|| async {
            mount_apart();
            let path = tempfile::NamedTempFile::new().unwrap();
            let mut mounts = Mounts::watch().unwrap();
            let start = Instant::now();
            let mut reported = 0;
            for _ in 0..200 {
                bind(path.path(), path.path());
                umount2(path.path(), MntFlags::MNT_DETACH).unwrap();
                let wait = tokio::time::timeout(Duration::from_millis(3), mounts.changed());
                reported += u128::from(wait.await.is_ok());
            }
            let most = start.elapsed().as_millis() / PAUSE.as_millis() + 1;
            assert!((1..=most).contains(&reported), "{reported} of at most {most}");
            bind(path.path(), path.path());
            assert!(soon(&mut mounts).await);
            assert!(settles(&mut mounts).await);
        });
    }
}
