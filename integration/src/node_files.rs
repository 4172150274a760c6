//! Files of a node's own: a mount namespace in which `/run` and `/var/lib` are directories of the
//! lab's, so that what a container runtime puts at its usual places is nobody else's.
//!
//! - Nothing that is mounted in it is seen on the machine; it goes with its last process.
//! - Dropping it ends the processes that still live in it: only the lab can have put them there.

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{undo::Undo, wait::wait_until};

/// How long ended processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mount namespace that lives as long as this value.
#[derive(Debug)]
pub struct NodeFiles {
    run: PathBuf,
    handle: Arc<File>,
    _undo: Undo,
}

impl NodeFiles {
    /// Makes one whose own directories are below `directory`.
    pub fn new(directory: &Path) -> io::Result<NodeFiles> {
        let (run, library) = (directory.join("run"), directory.join("lib"));
        fs::create_dir_all(run.join("netns"))?;
        fs::create_dir_all(&library)?;
        let handle = Arc::new(create(&[(&run, "/run"), (&library, "/var/lib")])?);
        let undo = Undo::enter({
            let handle = Arc::clone(&handle);
            move || end_processes_in(&handle)
        });
        Ok(NodeFiles { run, handle, _undo: undo })
    }

    /// Where the machine sees what stands below `/run` in it.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Has a command see these files in the place of the machine's.
    pub fn show_to(&self, command: &mut Command) {
        let handle = Arc::clone(&self.handle);
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe and
        // allocates nothing; the descriptor is kept open by the closure.
        unsafe {
            command.pre_exec(move || Ok(setns(&handle, CloneFlags::CLONE_NEWNS)?));
        }
    }
}

/// Makes the namespace on a thread of its own, whose end leaves only the handle.
fn create(binds: &[(&Path, &str)]) -> io::Result<File> {
    thread::scope(|scope| {
        let maker = scope.spawn(|| -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&Path>;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            for (own, place) in binds {
                uncover(place)?;
                mount(Some(*own), *place, nothing, MsFlags::MS_BIND, nothing)?;
                // As systemd has it on nodes: what is mounted there reaches pods that ask for it.
                mount(nothing, *place, nothing, MsFlags::MS_SHARED, nothing)?;
            }
            File::open("/proc/thread-self/ns/mnt")
        });
        maker.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Takes away what the machine has mounted there and below, the last first: hidden, it would still
/// be told of.
fn uncover(place: &str) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts")?;
    let below = |path: &&str| Path::new(path).starts_with(place);
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(below);
    for path in paths.collect::<Vec<_>>().into_iter().rev() {
        match umount2(path, MntFlags::MNT_DETACH) {
            // It goes here, too, as soon as its place goes on the machine.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Ends the processes that see these files, and waits until none is left to write any.
fn end_processes_in(namespace: &File) {
    let Ok(namespace) = namespace.metadata() else { return };
    let ended = wait_until("the processes on the node end", PATIENCE, || {
        let living = processes_in((namespace.dev(), namespace.ino()));
        for pid in &living {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        living.is_empty()
    });
    if let Err(error) = ended {
        eprintln!("{error}");
    }
}

fn processes_in(namespace: (u64, u64)) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let inside = processes.filter(|process| {
        let own = fs::metadata(process.path().join("ns/mnt"));
        own.is_ok_and(|own| (own.dev(), own.ino()) == namespace)
    });
    let pids = inside.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_shown_them_sees_its_own_run_and_ends_with_them() {
        let directory = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(directory.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo here > /run/said; exec sleep 60"]);
        files.show_to(&mut command);
        let mut child = command.spawn().unwrap();
        let said = || fs::read_to_string(files.run().join("said")).is_ok_and(|own| own == "here\n");
        wait_until("it has spoken", PATIENCE, said).unwrap();
        assert!(!Path::new("/run/said").exists());
        drop(files);
        assert!(!child.wait().unwrap().success());
    }
}
