//! Makes the container runtime's side of its interface, which a test plays, from the description
//! that the daemon's side is made from.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../kubernetes/proto/cri.proto");
    let described = protox::compile(["../kubernetes/proto/cri.proto"], ["../kubernetes/proto"])?;
    tonic_prost_build::configure().build_client(false).compile_fds(described)?;
    Ok(())
}
