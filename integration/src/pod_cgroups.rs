//! The cgroups of a lab's pods, as a kubelet without systemd names them: `kubepods…/pod<uid>`,
//! in every hierarchy that the machine has.
//!
//! Taking them away ends the processes in them, and so every container of the lab's.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{undo::Undo, wait::wait_until};

/// What the names of all labs' begin with.
pub(crate) const PREFIX: &str = "kubepods-lab-";
/// How long ended processes may take to leave.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cgroup above those of a lab's pods, which a runtime makes when it makes these.
#[derive(Debug)]
pub(crate) struct PodCgroups {
    name: String,
    _undo: Undo,
}

impl PodCgroups {
    /// The one of this lab.
    pub(crate) fn of_lab(number: u32) -> PodCgroups {
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let undo = Undo::enter({
            let name = name.clone();
            move || remove(&name)
        });
        PodCgroups { name, _undo: undo }
    }

    /// A pod's, as a path below the root of each hierarchy.
    pub(crate) fn of_pod(&self, uid: &str) -> String {
        format!("/{}/pod{uid}", self.name)
    }

    /// Moves a process into a cgroup of its own in a pod's, but not among the cpusets, whose cgroups
    /// take nobody before they have processors.
    pub(crate) fn admit(&self, uid: &str, pid: u32) -> io::Result<()> {
        let roots = hierarchies().into_iter().filter(|root| !root.join("cpuset.cpus").exists());
        let pods = roots.map(|root| root.join(self.of_pod(uid).trim_start_matches('/')));
        for pod in pods.filter(|pod| pod.exists()) {
            let own = pod.join(format!("monitor-{pid}"));
            fs::create_dir(&own)?;
            fs::write(own.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }
}

/// The names of all that are there.
pub(crate) fn names() -> Vec<String> {
    let directories = hierarchies().into_iter().filter_map(|root| fs::read_dir(root).ok());
    let names =
        directories.flatten().flatten().filter_map(|own| own.file_name().into_string().ok());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

/// Ends the processes in a cgroup of this name, and takes it away. Idempotent.
pub(crate) fn remove(name: &str) {
    let own: Vec<PathBuf> = hierarchies().into_iter().map(|root| root.join(name)).collect();
    let gone = wait_until("the pods' cgroups are gone", PATIENCE, || {
        own.iter().for_each(|path| clear(path));
        !own.iter().any(|path| path.exists())
    });
    if let Err(error) = gone {
        eprintln!("{error}");
    }
}

/// The roots of all hierarchies, of both versions.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|own| matches!(own.get(2), Some(&("cgroup" | "cgroup2"))));
    cgroups.map(|own| PathBuf::from(own[1])).collect()
}

fn clear(cgroup: &Path) {
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear(&child.path());
        }
    }
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // Not before its processes have left: the next look finds it empty.
    let _ = fs::remove_dir(cgroup);
}
