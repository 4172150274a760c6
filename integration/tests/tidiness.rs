//! Nothing of a lab stays behind, however it ends.

use std::{
    cell::RefCell,
    fs,
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use integration::{Lab, LabOptions, Namespace, Topology};

const CLIENT: &str = "default/client";

#[test]
fn nothing_stays_after_a_drop() {
    let lab = lab(Topology::Bridged);
    let paths = paths_of(&lab);
    assert!(paths.iter().all(|path| path.exists()));
    let mut child = lab.pod(CLIENT).command("sleep").arg("60").spawn().unwrap();
    drop(lab);
    assert_eq!(remaining(&paths), Vec::<&Path>::new());
    assert!(!child.wait().unwrap().success());
}

#[test]
fn nothing_stays_after_a_panic() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let outcome = std::panic::catch_unwind(move || {
        let lab = lab(Topology::Routed);
        sender.send(paths_of(&lab)).unwrap();
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    assert_eq!(remaining(&receiver.recv().unwrap()), Vec::<&Path>::new());
}

#[test]
fn nothing_stays_after_ctrl_c_or_a_kill() {
    for (signal, code) in [("INT", 2), ("TERM", 15)] {
        let lab = Running::start();
        lab.signal(signal);
        assert_eq!(lab.ends_with_signal(), code);
        assert!(lab.namespaces().is_empty(), "{:?}", lab.namespaces());
    }
    let killed = Running::start();
    killed.signal("KILL");
    assert_eq!(killed.ends_with_signal(), 9);
    // It could not tidy; the next lab does.
    drop(lab(Topology::Routed));
    assert!(killed.namespaces().is_empty(), "{:?}", killed.namespaces());
}

/// A lab kept by the binary.
struct Running(RefCell<Child>);

impl Running {
    fn start() -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fqdnd-lab"));
        command.arg("up").stdout(Stdio::piped());
        // SAFETY: between fork and exec only sigaction(2) is called.
        unsafe { command.pre_exec(heed_signals) };
        let mut child = command.spawn().unwrap();
        let mut said = [0; 1];
        // It speaks only once the lab stands.
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        let running = Running(child.into());
        assert!(running.namespaces().len() > 5);
        running
    }

    fn signal(&self, name: &str) {
        let pid = self.0.borrow().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn ends_with_signal(&self) -> i32 {
        self.0.borrow_mut().wait().unwrap().signal().unwrap()
    }

    fn namespaces(&self) -> Vec<String> {
        let prefix = format!("fqdnd-{}-", self.0.borrow().id());
        let names = fs::read_dir("/run/netns").unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(&prefix))
            .collect()
    }
}

/// A shell's background job, such as this test's may be, ignores Ctrl-C and hands that on.
fn heed_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default)? };
    }
    Ok(())
}

fn lab(topology: Topology) -> Lab {
    Lab::new(LabOptions::with_topology(topology)).unwrap()
}

fn paths_of(lab: &Lab) -> Vec<PathBuf> {
    let namespaces: [&Namespace; 4] =
        [lab.node(), lab.router(), lab.pod(CLIENT).namespace(), lab.outside("web").namespace()];
    let mut paths: Vec<_> = namespaces.iter().map(|space| space.path().to_owned()).collect();
    paths.push(lab.directory().to_owned());
    paths
}

fn remaining(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).filter(|path| path.exists()).collect()
}
