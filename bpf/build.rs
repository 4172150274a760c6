//! Compiles the programs with the newest clang on this machine, or the one that `CLANG` names.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Tried in this order where `CLANG` is not set.
const COMPILERS: [&str; 7] =
    ["clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14", "clang"];
/// The kernel's headers for this architecture lie in one of these, by Debian's naming.
const HEADERS: [(&str, &str); 5] = [
    ("x86_64", "/usr/include/x86_64-linux-gnu"),
    ("aarch64", "/usr/include/aarch64-linux-gnu"),
    ("riscv64", "/usr/include/riscv64-linux-gnu"),
    ("s390x", "/usr/include/s390x-linux-gnu"),
    ("powerpc64", "/usr/include/powerpc64le-linux-gnu"),
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=programs");
    println!("cargo::rerun-if-env-changed=CLANG");
    let compiler = compiler()?;
    let object = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("fqdnd.o");
    let mut command = Command::new(&compiler);
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    command.args(["-Wno-unused-parameter", "-Wno-missing-braces"]);
    // Where the source lies must not change what is built.
    command.arg(format!(
        "-fdebug-prefix-map={}=.",
        env::var("CARGO_MANIFEST_DIR").unwrap_or_default()
    ));
    if let Some(headers) = headers() {
        command.arg("-I").arg(headers);
    }
    command.arg("-c").arg("programs/fqdnd.bpf.c").arg("-o").arg(&object);
    let output = command.output().map_err(|error| format!("{compiler}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let hint =
        if said.contains("bpf_helpers.h") || said.contains("bpf/") && said.contains("not found") {
            "\nthe headers of libbpf are missing: install the Debian package `libbpf-dev`"
        } else {
            ""
        };
    Err(format!("{compiler} does not compile the BPF programs:\n{said}{hint}"))
}

/// The compiler to use: any clang from 14 on.
fn compiler() -> Result<String, String> {
    if let Ok(chosen) = env::var("CLANG") {
        return if runs(&chosen) {
            Ok(chosen)
        } else {
            Err(format!("CLANG names `{chosen}`, which does not run"))
        };
    }
    COMPILERS.into_iter().find(|name| runs(name)).map(str::to_owned).ok_or_else(|| {
        "the BPF programs need clang from 14 on: install the Debian package `clang-19` (or \
         `clang`), or name a compiler by CLANG="
            .to_owned()
    })
}

fn runs(compiler: &str) -> bool {
    let mut command = Command::new(compiler);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn headers() -> Option<&'static Path> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    HEADERS
        .into_iter()
        .filter(|(name, _)| *name == architecture)
        .map(|(_, path)| Path::new(path))
        .find(|path| path.is_dir())
}
