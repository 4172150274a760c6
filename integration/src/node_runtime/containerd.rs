//! How containerd is told to run in a lab, and to take an image.

use std::{fs, io, path::Path};

use super::{image, network, program};

/// Writes its configuration.
pub(super) fn configure(directory: &Path, networks: &Path) -> io::Result<()> {
    // A profile of AppArmor's would be the machine's; not every root may have the kernel spare
    // somebody when memory is short; the native snapshots need no file system of any kind.
    let text = format!(
        "version = 2\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{}\"\n\
         disable_apparmor = true\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{}\"\n\
         conf_dir = \"{}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
         snapshotter = \"native\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n\
         path = \"/var/lib/containerd/opt\"\n",
        image::BUSYBOX,
        network::plugins(),
        networks.display(),
    );
    fs::write(directory.join(program::CONFIGURATION), text)
}

/// The command that takes an archive.
pub(super) fn import(archive: &Path) -> Vec<String> {
    let words = ["ctr", "--namespace", "k8s.io", "images", "import", "--snapshotter", "native"];
    let archive = archive.display().to_string();
    words.map(str::to_owned).into_iter().chain([archive]).collect()
}
