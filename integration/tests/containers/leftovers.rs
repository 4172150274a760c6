//! Nothing of a node's containers stays behind, however the test ends.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use integration::{Lab, LabOptions, NodeRuntime, PodNetwork, soon};

/// Tells this program that it is the one that will be killed.
const VICTIM: &str = "FQDND_LAB_CONTAINERS_VICTIM";

#[test]
fn what_a_killed_test_left_of_its_containers_is_ended_by_the_next_lab() {
    if std::env::var_os(VICTIM).is_some() {
        hold_a_pod();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let this = "leftovers::what_a_killed_test_left_of_its_containers_is_ended_by_the_next_lab";
    command.args([this, "--exact", "--nocapture"]).env(VICTIM, "1").stdout(Stdio::piped());
    let mut victim = command.spawn().unwrap();
    let mut said = BufReader::new(victim.stdout.take().unwrap()).lines();
    said.find(|line| line.as_ref().is_ok_and(|line| line.contains("it runs"))).unwrap().unwrap();
    let pid = victim.id();
    assert!(!cgroups(pid).is_empty());
    assert!(processes(pid) >= 3, "a runtime, what watches a container, and the container");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(!cgroups(pid).is_empty(), "it could not tidy");
    drop(Lab::new(LabOptions { pods: Vec::new(), ..LabOptions::default() }).unwrap());
    soon("all of its processes have ended", || processes(pid) == 0);
    assert_eq!(cgroups(pid), Vec::<PathBuf>::new());
}

#[test]
fn nothing_of_containers_stays_after_a_panic() {
    let outcome = std::panic::catch_unwind(|| {
        let (_lab, _runtime) = with_a_pod();
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    // Others of this process have theirs at the same time, in their own labs.
    let marked = |path: &PathBuf| fs::read_dir(path.join("podpanic")).is_ok();
    assert!(!cgroups(std::process::id()).iter().any(marked));
}

fn hold_a_pod() -> ! {
    let _held = with_a_pod();
    println!("it runs");
    loop {
        std::thread::park();
    }
}

fn with_a_pod() -> (Lab, NodeRuntime) {
    let lab = Lab::new(LabOptions { pods: Vec::new(), ..LabOptions::default() }).unwrap();
    let runtime = NodeRuntime::start(&lab, PodNetwork::PointToPoint).unwrap();
    runtime.run("default/left", "panic").unwrap();
    (lab, runtime)
}

/// The cgroups of a process's labs.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let roots = mounts.lines().filter(|line| line.contains(" cgroup"));
    let roots = roots.filter_map(|line| line.split(' ').nth(1));
    let entries = roots.filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    let ours = format!("kubepods-lab-{pid}-");
    let of_pid = entries.filter(|own| own.file_name().to_string_lossy().starts_with(&ours));
    of_pid.map(|own| own.path()).collect()
}

/// How many processes run among the files of a process's labs: each sees a mount below these.
fn processes(pid: u32) -> usize {
    let ours = format!("/fqdnd-lab-{pid}-");
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mounts = all.filter_map(|own| fs::read_to_string(own.path().join("mountinfo")).ok());
    mounts.filter(|own| own.contains(&ours)).count()
}
