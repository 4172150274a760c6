//! Makes the container runtime's side of its interface, which a test plays, from the description
//! that the daemon's side is made from; and the kubelet's side, which a test plays before a real
//! runtime.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../kubernetes/proto/cri.proto");
    println!("cargo::rerun-if-changed=proto/kubelet.proto");
    let described = protox::compile(["../kubernetes/proto/cri.proto"], ["../kubernetes/proto"])?;
    tonic_prost_build::configure().build_client(false).compile_fds(described)?;

    // Both are of the package runtime.v1, and so are the files' names.
    let directory = PathBuf::from(env::var("OUT_DIR")?).join("kubelet");
    fs::create_dir_all(&directory)?;
    let described = protox::compile(["proto/kubelet.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).out_dir(directory).compile_fds(described)?;
    Ok(())
}
