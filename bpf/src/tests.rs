//! Tests on the kernel: a pin directory of each test's own, gone when the test is.

mod attaching;
mod frames;
mod inspecting;
mod maps;
mod moving;
mod packets;
mod pins;
mod since;
mod stack;
mod surveying;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{AttachMode, Datapath, EventBudget, Options, Settings, Sizes, remove};

/// A datapath with a pin directory of its own.
struct Fixture {
    options: Options,
    datapath: Option<Datapath>,
}

impl Fixture {
    fn new(attach: AttachMode) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pin = PathBuf::from(format!("/sys/fs/bpf/fqdnd-test-{}-{count}", std::process::id()));
        let options = Options { pin, attach, sizes: small() };
        let mut fixture = Self { options, datapath: None };
        fixture.reopen();
        fixture.datapath().configure(&settings()).unwrap();
        fixture
    }

    /// Drops the handle, as a killed process does, and opens the datapath again.
    fn reopen(&mut self) {
        self.datapath = None;
        self.datapath = Some(Datapath::open(&self.options).unwrap());
    }

    fn datapath(&self) -> &Datapath {
        self.datapath.as_ref().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.datapath = None;
        let removed = remove(&self.options.pin);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn small() -> Sizes {
    Sizes {
        endpoints: 64,
        sources: 256,
        prefixes: 256,
        frontends: 256,
        rows: 256,
        leases: 256,
        shared: 256,
        names: 256,
        numbers: 256,
        flows_out: 512,
        flows_in: 512,
        fragments: 64,
        ring_bytes: 1 << 16,
    }
}

fn settings() -> Settings {
    Settings {
        tcp_idle: Duration::from_secs(8000),
        drop_events: EventBudget { per_second: 1000, burst: 1000 },
        flow_events: EventBudget { per_second: 1000, burst: 1000 },
        ..Settings::default()
    }
}

/// Runs a command in the calling thread's network namespace.
fn run(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}
