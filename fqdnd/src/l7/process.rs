//! One life of the process `fqdnd-l7`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use l7proxy_core::Options;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::process::{Child, Command};

use super::listeners::Listeners;

/// The program's name.
const PROGRAM: &str = "fqdnd-l7";

/// How the process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// The proxy's bounds.
    pub options: Options,
    /// How many threads serve connections.
    pub threads: usize,
    /// The user that it becomes.
    pub user: u32,
    /// The mark of connections that have a pod's address, if pods' addresses are used.
    pub pod_mark: Option<u32>,
    /// What it logs.
    pub log: String,
}

/// A running process, killed when this goes.
pub struct Process(Child);

/// Where the program is if nobody says: beside this one.
pub fn beside_this_program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new("/")).join(PROGRAM))
}

impl Process {
    /// Starts it with these sockets.
    pub fn start(launch: &Launch, listeners: &Listeners, control: &UnixStream) -> io::Result<Self> {
        let options = serde_json::to_string(&launch.options)?;
        let mut command = Command::new(&launch.program);
        command
            .args(["--control", &control.as_raw_fd().to_string(), "--options", &options])
            .args(["--threads", &launch.threads.to_string(), "--user", &launch.user.to_string()])
            .env_clear()
            .env("FQDND_LOG", &launch.log)
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let mut passed = vec![control.as_fd().as_raw_fd()];
        for listener in listeners.descriptors() {
            command.args(["--listener", &listener.as_raw_fd().to_string()]);
            passed.push(listener.as_raw_fd());
        }
        if let Some(mark) = launch.pod_mark {
            command.args(["--pod-mark", &mark.to_string(), "--keep", kept_right()]);
        }
        pass(&mut command, passed);
        command.spawn().map(Self)
    }

    /// Its number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.0.id()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }
}

/// The right to mark sockets: before Linux 5.17 it was another one.
fn kept_right() -> &'static str {
    let release = nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |own| own.release().to_string_lossy().into_owned());
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (5, 17) { "net-admin" } else { "net-raw" }
}

/// Has the program keep these descriptors, and no other program.
fn pass(command: &mut Command, descriptors: Vec<RawFd>) {
    let keep = move || {
        for &descriptor in &descriptors {
            // SAFETY: the descriptor is open: whoever lent it to `start` holds it until the
            // process is made, and this runs before that returns.
            let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only fcntl(2) is called, which may be called there, and
    // nothing is allocated.
    unsafe { command.pre_exec(keep) };
}
