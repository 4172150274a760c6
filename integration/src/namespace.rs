//! A network namespace under `/run/netns`, so that `ip netns`, nsenter and manifests can name it.
//!
//! - Named `fqdnd-<pid>-<lab>-<role>`: the name says whose it is, and a sweep can tell a dead
//!   owner's from a living one's.
//! - It is entered by setns on a thread of its own or in a child before exec, never by
//!   `ip netns exec`, which remounts /sys and hides the BPF filesystem.
//! - Dropping it ends the processes that still live in it: only the lab can have put them there.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::undo::Undo;

pub(crate) const DIRECTORY: &str = "/run/netns";

/// Why a namespace could not be made, entered or configured.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The namespace could not be created.
    #[error("create network namespace {name}: {source}")]
    Create {
        /// The namespace.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A thread could not enter it.
    #[error("enter network namespace {name}: {source}")]
    Enter {
        /// The namespace.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("set {key} = {value} in network namespace {name}: {source}")]
    Sysctl {
        /// The namespace.
        name: String,
        /// The setting, as a path below /proc/sys.
        key: String,
        /// The value meant for it.
        value: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    handle: Arc<File>,
    _undo: Undo,
}

impl Namespace {
    /// Makes the namespace `name`, with its loopback device still down.
    pub fn new(name: impl Into<String>) -> Result<Namespace, NamespaceError> {
        let name = name.into();
        let path = Path::new(DIRECTORY).join(&name);
        let undo = Undo::enter({
            let path = path.clone();
            move || remove(&path)
        });
        match create(&path) {
            Ok(handle) => Ok(Namespace { name, path, handle: Arc::new(handle), _undo: undo }),
            Err(source) => Err(NamespaceError::Create { name, source }),
        }
    }

    /// The name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that tools and manifests use.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread inside the namespace and waits for it; its panic goes on here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&self.handle).map(|()| work()));
            thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        });
        inside.map_err(|source| NamespaceError::Enter { name: self.name.clone(), source })
    }

    /// Starts a thread inside the namespace; `work` begins only if it could be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        thread_name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<thread::JoinHandle<io::Result<T>>> {
        let handle = Arc::clone(&self.handle);
        thread::Builder::new()
            .name(thread_name.to_owned())
            .spawn(move || enter(&handle).map(|()| work()))
    }

    /// A command that will run inside the namespace, with the machine's files as they are.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let handle = Arc::clone(&self.handle);
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe and
        // allocates nothing; the descriptor is kept open by the closure.
        unsafe { command.pre_exec(move || enter(&handle)) };
        command
    }

    /// As [`Namespace::command`], with `resolv_conf` seen in place of /etc/resolv.conf, as the
    /// kubelet arranges for a container.
    pub fn command_with_resolver(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        resolv_conf: &Path,
    ) -> Command {
        let mut command = self.command(program);
        let file = resolv_conf.to_owned();
        // SAFETY: between fork and exec only unshare(2) and mount(2) are called; nix copies these
        // short paths to the stack, so nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let nothing = None::<&Path>;
                mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
                let target = "/etc/resolv.conf";
                mount(Some(file.as_path()), target, nothing, MsFlags::MS_BIND, nothing)?;
                Ok(())
            });
        }
        command
    }

    /// Writes kernel settings, given as paths below /proc/sys, in order.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<(), NamespaceError> {
        let failed = self.run(|| {
            settings.iter().find_map(|&(key, value)| {
                let written = fs::write(Path::new("/proc/sys").join(key), value);
                written.err().map(|source| (key, value, source))
            })
        })?;
        match failed {
            None => Ok(()),
            Some((key, value, source)) => Err(NamespaceError::Sysctl {
                name: self.name.clone(),
                key: key.to_owned(),
                value: value.to_owned(),
                source,
            }),
        }
    }
}

/// Takes away a namespace and the processes in it. Idempotent: the drop, a signal and a sweep may
/// all call it.
pub(crate) fn remove(path: &Path) {
    end_processes_in(path);
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

/// Makes the namespace on a thread of its own and pins it by a mount of its /proc entry.
fn create(path: &Path) -> io::Result<File> {
    fs::create_dir_all(DIRECTORY)?;
    File::options().write(true).create_new(true).open(path)?;
    thread::scope(|scope| {
        let maker = scope.spawn(|| -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let nothing = None::<&Path>;
            let own = Some("/proc/thread-self/ns/net");
            Ok(mount(own, path, nothing, MsFlags::MS_BIND, nothing)?)
        });
        maker.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
    })?;
    File::open(path)
}

fn enter(handle: &File) -> io::Result<()> {
    debug_assert!(handle.as_raw_fd() >= 0);
    Ok(setns(handle, CloneFlags::CLONE_NEWNET)?)
}

/// Kills the processes whose main thread lives in the namespace mounted at `path`.
fn end_processes_in(path: &Path) {
    let Ok(namespace) = fs::metadata(path) else { return };
    let Ok(own) = fs::metadata("/proc/self/ns/net") else { return };
    // A file that no namespace is mounted on is of another filesystem; and never our own end.
    if namespace.dev() != own.dev() || namespace.ino() == own.ino() {
        return;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let ours = i32::try_from(std::process::id()).unwrap_or(0);
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let inside = fs::metadata(process.path().join("ns/net"))
            .is_ok_and(|net| net.dev() == namespace.dev() && net.ino() == namespace.ino());
        if inside && pid != ours {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(role: &str) -> String {
        format!("fqdnd-{}-unit-{role}", std::process::id())
    }

    #[test]
    fn a_namespace_is_another_one_and_goes_when_it_is_dropped() {
        let namespace = Namespace::new(name("drop")).unwrap();
        let outside = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let inside =
            namespace.run(|| fs::metadata("/proc/thread-self/ns/net").unwrap().ino()).unwrap();
        assert_ne!(inside, outside);
        let path = namespace.path().to_owned();
        drop(namespace);
        assert!(!path.exists());
    }

    #[test]
    fn a_process_left_inside_ends_with_the_namespace() {
        let namespace = Namespace::new(name("left")).unwrap();
        let mut child = namespace.command("sleep").arg("60").spawn().unwrap();
        drop(namespace);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_panic_inside_goes_on_outside_and_leaves_nothing() {
        let path = Path::new(DIRECTORY).join(name("panic"));
        let outcome = panic::catch_unwind(|| {
            let namespace = Namespace::new(name("panic")).unwrap();
            namespace.run(|| panic!("inside")).unwrap();
        });
        assert!(outcome.is_err());
        assert!(!path.exists());
    }
}
