//! The record as the kubelet's cgroups have it: a pod's processes stand in a cgroup that is named
//! by its uid, and one of them lives in its network namespace.
//!
//! A process of a pod may make itself further namespaces, so the one that counts is the oldest
//! process's: the sandbox's own. Where the runtime keeps no process for the sandbox, as CRI-O does
//! not, the oldest one is a container's, which may have left; so a namespace that the runtime
//! mounted counts before one that it did not. What watches containers from a pod's cgroup lives in
//! the node's network, and counts for nothing.
//!
//! A process's number may be another's by the time it is used; what is given is therefore where the
//! namespace is mounted, and its process only where it is not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::runtime::{RuntimeError, Sandbox, Sandboxes};

/// Where runtimes mount the namespaces that they make.
const MOUNTS: [&str; 2] = ["/run/netns", "/run/docker/netns"];
/// How deep below the root the pods' cgroups are, at most, and how deep their processes are below.
const MAX_DEPTH: usize = 8;
/// How many cgroups are looked at.
const MAX_CGROUPS: usize = 65_536;

/// Where the second version's hierarchy, or one that has every process, stands below the root on a
/// node that mounts each controller by itself.
const HIERARCHIES: [&str; 3] = ["unified", "systemd", "pids"];

/// What the kernel says of a cgroup that is going.
const ENODEV: i32 = 19;

/// Which network namespace it is.
type Inode = (u64, u64);

/// Reads the record.
pub(super) fn read(root: &Path) -> Result<Sandboxes, RuntimeError> {
    let failed = |source| RuntimeError::Cgroups { root: root.to_owned(), source };
    let own = inode(Path::new("/proc/thread-self/ns/net")).map_err(failed)?;
    let mut pods = BTreeMap::new();
    let mut left = MAX_CGROUPS;
    for hierarchy in hierarchies(root) {
        find_pods(&hierarchy, 0, &mut left, &mut pods).map_err(failed)?;
    }
    let mounted = mounted();
    let mut sandboxes = BTreeMap::new();
    for (uid, cgroup) in pods {
        let living = processes(&cgroup, 0, &mut left).into_iter().filter_map(Process::look);
        let Some(process) = counting(living, own, &mounted) else { continue };
        // It may have ended, and its number be another's.
        if !processes(&cgroup, 0, &mut left).contains(&process.pid) {
            continue;
        }
        let namespace = mounted.get(&process.namespace).cloned();
        let namespace = namespace.unwrap_or_else(|| namespace_of(process.pid));
        sandboxes.insert(uid, Sandbox { pod: None, namespace });
    }
    Ok(Sandboxes(sandboxes))
}

/// The root itself, or what stands below it on a node with the first version's controllers.
fn hierarchies(root: &Path) -> Vec<PathBuf> {
    let below: Vec<PathBuf> =
        HIERARCHIES.iter().map(|name| root.join(name)).filter(|path| path.is_dir()).collect();
    if root.join("cgroup.controllers").exists() || below.is_empty() {
        return vec![root.to_owned()];
    }
    below
}

fn find_pods(
    directory: &Path,
    depth: usize,
    left: &mut usize,
    pods: &mut BTreeMap<String, PathBuf>,
) -> io::Result<()> {
    for child in children(directory, left)? {
        let name = child.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(uid) = pod_uid(name).filter(|_| depth > 0) {
            pods.insert(uid, child);
        } else if depth < MAX_DEPTH && (name.starts_with("kubepods") || is_of_kubepods(directory)) {
            find_pods(&child, depth + 1, left, pods).or_else(gone)?;
        } else if depth == 0 && is_node_agent(name) {
            // As in a node that is itself a container.
            find_pods(&child, depth + 1, left, pods).or_else(gone)?;
        }
    }
    Ok(())
}

fn is_of_kubepods(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"kubepods"))
}

fn is_node_agent(name: &str) -> bool {
    name == "kubelet" || name == "kubelet.slice"
}

/// The uid in a cgroup's name: `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for `-`.
fn pod_uid(name: &str) -> Option<String> {
    let plain = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match plain.strip_prefix("pod") {
        Some(uid) => uid.to_owned(),
        None if plain.starts_with("kubepods") => plain.split_once("-pod")?.1.replace('_', "-"),
        None => return None,
    };
    let legal = uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (legal && !uid.is_empty()).then_some(uid)
}

/// The process whose namespace is the pod's.
fn counting(
    living: impl Iterator<Item = Process>,
    own: Inode,
    mounted: &BTreeMap<Inode, PathBuf>,
) -> Option<Process> {
    let inside = living.filter(|process| process.namespace != own);
    inside.min_by_key(|process| {
        (!mounted.contains_key(&process.namespace), process.started, process.pid)
    })
}

/// A process of a pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    started: u64,
    namespace: Inode,
}

impl Process {
    /// Nothing of one that has ended.
    fn look(pid: u32) -> Option<Self> {
        let namespace = inode(&namespace_of(pid)).ok()?;
        Some(Self { pid, started: start_time(pid)?, namespace })
    }
}

fn namespace_of(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("ns/net")
}

/// When a process began: the 22nd field of its stat, after a name that may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The processes of a cgroup and of those below it.
fn processes(cgroup: &Path, depth: usize, left: &mut usize) -> Vec<u32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
    if depth < MAX_DEPTH {
        for child in children(cgroup, left).unwrap_or_default() {
            all.extend(processes(&child, depth + 1, left));
        }
    }
    all
}

fn children(directory: &Path, left: &mut usize) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other(format!("there are over {MAX_CGROUPS} cgroups")))?;
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A cgroup that goes while it is looked at holds no pod.
fn gone(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ if error.raw_os_error() == Some(ENODEV) => Ok(()),
        _ => Err(error),
    }
}

/// The namespaces that are mounted somewhere, and where.
fn mounted() -> BTreeMap<Inode, PathBuf> {
    let directories = MOUNTS.iter().filter_map(|directory| fs::read_dir(directory).ok());
    let paths = directories.flatten().flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((inode(&path).ok()?, path))).collect()
}

fn inode(path: &Path) -> io::Result<Inode> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_read_from_the_names_that_both_cgroup_drivers_give() {
        let uid = "0b2a8f0e-1c5d-4d7f-9a57-3a0f3f9be4b1";
        let slice = uid.replace('-', "_");
        for name in [
            format!("pod{uid}"),
            format!("kubepods-pod{slice}.slice"),
            format!("kubepods-burstable-pod{slice}.slice"),
        ] {
            assert_eq!(pod_uid(&name).as_deref(), Some(uid), "{name}");
        }
        for name in ["system.slice", "kubepods-besteffort.slice", "pod", "pod.."] {
            assert_eq!(pod_uid(name), None, "{name}");
        }
    }
    #[test]
    fn the_namespace_that_counts_is_the_oldest_that_the_runtime_mounted_and_never_the_nodes_own() {
        const NODE: Inode = (4, 1);
        const POD: Inode = (4, 2);
        const INNER: Inode = (4, 3);
        let process = |pid, started, namespace| Process { pid, started, namespace };
        let counts = |living: &[Process], mounted: &[Inode]| {
            let mounted = mounted.iter().map(|own| (*own, "/run/netns/pod".into())).collect();
            counting(living.iter().copied(), NODE, &mounted).map(|process| process.pid)
        };
        let [monitor, main, child] =
            [process(7, 10, NODE), process(8, 11, POD), process(9, 12, INNER)];
        assert_eq!(counts(&[child, main, monitor], &[]), Some(8));
        assert_eq!(counts(&[child, main, monitor], &[NODE, POD]), Some(8));
        // The first process has left for a namespace of its own.
        let [left, stayed] = [process(8, 11, INNER), process(9, 12, POD)];
        assert_eq!(counts(&[left, stayed], &[POD]), Some(9));
        assert_eq!(counts(&[left, stayed], &[]), Some(8));
        assert_eq!(counts(&[monitor], &[NODE]), None);
    }
}
