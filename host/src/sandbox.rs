//! Network namespaces for tests: each lives as long as a thread, so nothing can stay behind.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

/// Runs a test in a network namespace of its own, on a runtime of its own.
pub(crate) fn in_own_namespace<F: Future>(test: impl FnOnce() -> F + Send) {
    let outcome = std::thread::scope(|scope| {
        let body = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            ip("link set lo up");
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async { tokio::task::LocalSet::new().run_until(test()).await });
        };
        scope.spawn(body).join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs `ip` and gives what it prints.
pub(crate) fn ip_output(arguments: &str) -> String {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

type Job = Box<dyn FnOnce() + Send>;

/// A further namespace, held by a thread that does jobs in it.
pub(crate) struct Pod {
    thread: Option<JoinHandle<()>>,
    jobs: Option<mpsc::Sender<Job>>,
    tid: Pid,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let (ready, tid) = mpsc::channel();
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            ready.send(gettid()).unwrap();
            for job in queue {
                job();
            }
        });
        Self { thread: Some(thread), jobs: Some(jobs), tid: tid.recv().unwrap() }
    }

    /// Something that `ip link ... netns` takes.
    pub(crate) fn tid(&self) -> Pid {
        self.tid
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/proc").join(self.tid.to_string()).join("ns/net")
    }

    /// Runs a job in this namespace and waits for its result.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        let job = Box::new(move || sender.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the job panicked")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes a sysctl of the calling thread's namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    let path = Path::new("/proc/sys").join(name);
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
