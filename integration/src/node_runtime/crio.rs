//! How CRI-O is told to run in a lab, and to take an image. Beside itself it needs its own `pinns`,
//! and `conmon`, `runc` and `skopeo` of the machine.

use std::{fs, io, path::Path};

use super::{image, network, program};

/// Where it keeps images and containers, at its usual places below the lab's directories.
const STORAGE: &str = "vfs@/var/lib/containers/storage+/run/containers/storage";

/// Writes its configuration, for `program`.
pub(super) fn configure(program: &Path, directory: &Path, networks: &Path) -> io::Result<()> {
    let trust = directory.join("trust.json");
    fs::write(&trust, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
    // Nobody here plays systemd. The monitors of containers stand in pods' cgroups, and end with
    // them.
    let text = format!(
        "[crio]\n\
         storage_driver = \"vfs\"\n\
         log_dir = \"{logs}\"\n\
         [crio.runtime]\n\
         cgroup_manager = \"cgroupfs\"\n\
         default_runtime = \"runc\"\n\
         hooks_dir = []\n\
         pinns_path = \"{pinns}\"\n\
         [crio.runtime.runtimes.runc]\n\
         runtime_root = \"/run/runc\"\n\
         monitor_cgroup = \"pod\"\n\
         [crio.image]\n\
         pause_image = \"{image}\"\n\
         pause_command = \"\"\n\
         signature_policy = \"{trust}\"\n\
         [crio.network]\n\
         network_dir = \"{networks}\"\n\
         plugin_dirs = [\"{plugins}\"]\n",
        logs = directory.join("logs").display(),
        pinns = program.with_file_name("pinns").display(),
        image = image::BUSYBOX,
        trust = trust.display(),
        networks = networks.display(),
        plugins = network::plugins(),
    );
    fs::write(directory.join(program::CONFIGURATION), text)
}

/// The command that takes an archive.
pub(super) fn import(archive: &Path, name: &str) -> Vec<String> {
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("containers-storage:[{STORAGE}]{name}");
    ["skopeo", "--insecure-policy", "copy", &from, &to].map(str::to_owned).to_vec()
}
