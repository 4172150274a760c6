//! Sweeping: takes away what labs left whose process was killed before it could.
//!
//! Only names of the form `fqdnd-<pid>-...` whose process no longer runs are touched; the BPF
//! pins, the pods' cgroups and the files of such a lab go with it.

use std::{env, fs, path::Path};

use crate::{
    namespace::{self, DIRECTORY},
    pod_cgroups,
};

pub(crate) const BPF_DIRECTORY: &str = "/sys/fs/bpf";
pub(crate) const LAB_PREFIX: &str = "fqdnd-lab-";
const NAMESPACE_PREFIX: &str = "fqdnd-";

/// Sweeps namespaces, pins and files of labs whose process is gone.
pub(crate) fn sweep() {
    let namespaces = Path::new(DIRECTORY);
    for name in names_in(namespaces) {
        if is_orphan(&name, NAMESPACE_PREFIX) {
            namespace::remove(&namespaces.join(name));
        }
    }
    for name in pod_cgroups::names() {
        if is_orphan(&name, pod_cgroups::PREFIX) {
            pod_cgroups::remove(&name);
        }
    }
    for directory in [Path::new(BPF_DIRECTORY), &env::temp_dir()] {
        for name in names_in(directory) {
            if is_orphan(&name, LAB_PREFIX) {
                let _ = fs::remove_dir_all(directory.join(name));
            }
        }
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether `name` is one of ours (`<prefix><pid>-<rest>`) and its process is gone.
fn is_orphan(name: &str, prefix: &str) -> bool {
    let Some((pid, _)) = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    pid.parse::<u32>().is_ok_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_labs_names_are_orphans() {
        let living = format!("fqdnd-{}-0-node", std::process::id());
        assert!(!is_orphan(&living, NAMESPACE_PREFIX));
        // Beyond the kernel's largest process number.
        assert!(is_orphan("fqdnd-4194305-0-node", NAMESPACE_PREFIX));
        assert!(!is_orphan("fqdnd-node", NAMESPACE_PREFIX));
        assert!(!is_orphan("calico-4194305-0", NAMESPACE_PREFIX));
        assert!(is_orphan("fqdnd-lab-4194305-0", LAB_PREFIX));
    }
}
