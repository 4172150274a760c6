//! The Python that runs clients and servers which are not ours.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Python with the packages that the scripts in `integration/clients` need, installed once.
///
/// # Panics
/// They cannot be installed.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/python-clients");
        let output = Command::new(script).output();
        let output = output.unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}
