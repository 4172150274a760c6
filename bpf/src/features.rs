//! What the datapath needs of a machine, tried out.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::Programs;
use crate::sys::{self, kind};
use crate::{Options, attach, bpffs};

/// Something that the datapath needs or can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The kernel that brought it.
    pub since: &'static str,
    /// Whether nothing works without it.
    pub required: bool,
    /// Whether it is there.
    pub present: bool,
    /// What was found, or why not.
    pub detail: String,
}

/// Where a bpf file system is mounted by custom.
const BASE: &str = bpffs::MOUNT_POINT;

/// Tries out everything that the datapath needs. Nothing stays behind, no mount either.
pub fn features() -> Vec<Feature> {
    let mut found = map_types();
    found.extend(programs());
    found
}

fn feature(
    name: &'static str,
    since: &'static str,
    required: bool,
    answer: Result<String, String>,
) -> Feature {
    let present = answer.is_ok();
    let (Ok(detail) | Err(detail)) = answer;
    Feature { name, since, required, present, detail }
}

fn map_types() -> Vec<Feature> {
    let hash = sys::map_create("probe", kind::HASH, 4, 8, 1, 0, None);
    let inner = hash.as_ref().ok().map(AsFd::as_fd);
    let trie = sys::map_create("probe", kind::LPM_TRIE, 8, 4, 1, sys::NO_PREALLOC, None);
    let nested = sys::map_create("probe", kind::ARRAY_OF_MAPS, 4, 4, 1, 0, inner);
    let ring = sys::map_create("probe", kind::RINGBUF, 0, 0, 1 << 16, 0, None);
    vec![
        feature("bpf(2)", "3.18", true, made(&hash)),
        feature("LPM tries", "4.11", true, made(&trie)),
        feature("arrays of maps", "4.12", true, made(&nested)),
        feature("ring buffers", "5.8", true, made(&ring)),
    ]
}

fn made<T>(answer: &io::Result<T>) -> Result<String, String> {
    match answer {
        Ok(_) => Ok("works".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Loads the very programs, on maps of a directory that is removed again.
fn programs() -> Vec<Feature> {
    let loaded = load();
    let tcx = match &loaded {
        Ok(programs) if attach::has_tcx(programs.from_endpoint.as_fd()) => {
            Ok("used unless told otherwise".to_owned())
        }
        Ok(_) => Err("clsact filters are used".to_owned()),
        Err(_) => Err("not tried: the programs do not load".to_owned()),
    };
    let loads = loaded.map(|_| "the programs load".to_owned());
    vec![
        feature("programs (bpf_sk_assign and all)", "5.12", true, loads),
        feature("tcx", "6.6", false, tcx),
    ]
}

/// Where no bpf file system is mounted, one is mounted for this trial alone.
fn load() -> Result<Programs, String> {
    if bpffs::is_bpffs(Path::new(BASE)) {
        return load_here();
    }
    let trial = std::thread::spawn(|| {
        bpffs::mount_apart().map_err(|error| format!("cannot mount one: {error}"))?;
        load_here()
    });
    trial.join().unwrap_or_else(|_| Err("the trial ended early".to_owned()))
}

fn load_here() -> Result<Programs, String> {
    let base = Path::new(BASE);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let pin = base.join(format!("fqdnd-check-{}-{count}", std::process::id()));
    let mut options = Options { pin: pin.clone(), ..Options::default() };
    options.sizes.ring_bytes = 1 << 16;
    let loaded = bpffs::prepare(&pin, &[pin.join("v0")])
        .and_then(|()| Programs::load(&pin.join("v0"), &options.sizes));
    let removed = crate::remove(&pin);
    let programs = loaded.map_err(|error| chain(&error))?;
    removed.map_err(|error| chain(&error))?;
    Ok(programs)
}

/// An error and what caused it, each told once: some errors tell their cause themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
