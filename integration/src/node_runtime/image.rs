//! Images without any registry: a directory becomes an archive of one layer, as the image format
//! of the Open Container Initiative has it.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::proto::ImageSpec;

/// An image that holds busybox.
pub(super) const BUSYBOX: &str = "lab.invalid/busybox:1";
/// What pods' clients use of it.
const APPLETS: [&str; 5] = ["cat", "nslookup", "sleep", "timeout", "wget"];

/// An image as a kubelet asks for it: also by the name that stands in the pod.
pub(super) fn named(name: &str) -> ImageSpec {
    ImageSpec { image: name.to_owned(), user_specified_image: name.to_owned() }
}

/// The archive of an image that holds busybox, and sleeps if it is told nothing else.
pub(super) fn busybox(directory: &Path) -> io::Result<PathBuf> {
    let root = directory.join("busybox");
    for name in ["bin", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    pack(&root, BUSYBOX, &["/bin/sleep", "2147483647"])
}

/// Packs the directory `root` into an archive beside it, and gives its path.
pub(super) fn pack(root: &Path, name: &str, entrypoint: &[&str]) -> io::Result<PathBuf> {
    let layout = root.with_extension("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = layout.join("layer");
    tar(root, &layer)?;
    let digest = digest(&layer)?;
    let length = fs::metadata(&layer)?.len();
    fs::rename(&layer, blobs.join(&digest))?;

    let format = |what: &str| format!("application/vnd.oci.image.{what}");
    let layer = json!({
        "mediaType": format("layer.v1.tar"), "digest": digested(&digest), "size": length,
    });
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {
            "Entrypoint": entrypoint,
            "Env": ["PATH=/bin:/usr/bin:/usr/sbin"],
            // Who sleeps as a container's first process hears of nothing else.
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [digested(&digest)]},
    });
    let config = blob(&blobs, &format("config.v1+json"), &config)?;
    let manifest_type = format("manifest.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer],
    });
    let mut manifest = blob(&blobs, &manifest_type, &manifest)?;
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = root.with_extension("tar");
    tar(&layout, &archive)?;
    fs::remove_dir_all(layout)?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}

/// Writes a document under its digest; what refers to it.
fn blob(blobs: &Path, media_type: &str, document: &Value) -> io::Result<Value> {
    let text = document.to_string();
    let digest = hexadecimal(&Sha256::digest(&text));
    fs::write(blobs.join(&digest), &text)?;
    Ok(json!({"mediaType": media_type, "digest": digested(&digest), "size": text.len()}))
}

fn tar(directory: &Path, archive: &Path) -> io::Result<()> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"]);
    command.arg("-C").arg(directory).arg("-cf").arg(archive).arg(".");
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("tar: {status}"))) }
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn digested(digest: &str) -> String {
    format!("sha256:{digest}")
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
