//! Disks under the state directory that are full, hang, or lose their power. What is enforced and
//! what changes does not depend on them, and what was kept is kept.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, ECHO, FRESH_NAMES, Lab, LabOptions, LoopDisk, Ports, Reach, Resolver, SmallDisk,
    fresh_address, ip, soon,
};
use kubernetes::{Manifests, Options};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const CLIENT: &str = "default/client";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_keeps_no_policy_from_being_enforced() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", FRESH_NAMES).unwrap();
    let disk = SmallDisk::mount(&lab.directory().join("state")).unwrap();
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    disk.fill().unwrap();
    let full = |daemon: &Daemon| {
        daemon.problems().iter().any(|problem| problem.contains("cannot be written"))
    };
    lab.policy("echo", ECHO).unwrap();
    soon("the changed policy", || client.echo(ip("192.0.2.10")) == Reach::Open);
    soon("the disk is told of", || full(&daemon));
    println!("{:?}", daemon.problems());
    client.ask(Resolver::new(lab.dns_service()[0]), "f1.fresh.example", RecordType::A);
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);

    daemon.kill9().unwrap();
    daemon.restart().unwrap();
    assert_eq!(client.echo(ip("192.0.2.10")), Reach::Open);
    assert_eq!(client.echo(ip("192.0.2.11")), Reach::Silent);
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
}

#[test]
fn a_disk_that_hangs_holds_up_neither_names_nor_packets_nor_changes() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", FRESH_NAMES).unwrap();
    let disk = disk(&lab);
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    soon("what is in force is kept", || entries(&daemon.state_directory()).len() > 1);
    let hangs = |daemon: &Daemon| {
        daemon.problems().iter().any(|problem| problem.contains("does not take what is written"))
    };
    let hanging = disk.hang().unwrap();
    for (number, reach) in [(1, Reach::Open), (2, Reach::Silent), (3, Reach::Open)] {
        if reach == Reach::Open {
            lab.policy("echo", &format!("{ECHO}# change {number}\n")).unwrap();
        } else {
            lab.remove_policy("echo").unwrap();
        }
        soon("the changed policy", || client.echo(ip("192.0.2.10")) == reach);
        let name = format!("f{number}.fresh.example");
        client.ask(Resolver::new(lab.dns_service()[0]), &name, RecordType::A);
        assert_eq!(client.connect(fresh_address(number), Ports::HTTP), Reach::Open);
    }
    soon("the disk is told of", || hangs(&daemon));
    drop(hanging);
    soon("it is there again", || !hangs(&daemon));
    // What waited for the disk may be written before it.
    let is_last = |text: &String| text.contains("# change 3");
    soon("the last change is kept", || entries(&daemon.state_directory()).values().any(is_last));

    daemon.kill9().unwrap();
    lab.policy("echo", "kind: [").unwrap();
    daemon.restart().unwrap();
    assert_eq!(client.echo(ip("192.0.2.10")), Reach::Open);
}

/// The daemon stands still while the disk is copied, so the copy is what its writing and syncing
/// up to that moment leave on the disk.
#[test]
fn whenever_the_power_fails_what_was_kept_is_there_as_it_was_or_as_it_became() {
    const FILES: u32 = 30;
    const MOMENTS: usize = 12;
    let lab = Lab::new(LabOptions::default()).unwrap();
    let disk = disk(&lab);
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let state = daemon.state_directory();
    let write_all = |version: usize| {
        for file in 0..FILES {
            let text = format!("{ECHO}# version {version}\n");
            lab.policy(&format!("many{file}"), &text.replace("echo,", &format!("n{file},")))
                .unwrap();
        }
    };
    write_all(0);
    soon("all is kept", || versions(&state).len() == FILES as usize);
    let images: Vec<_> =
        (0..MOMENTS).map(|moment| lab.directory().join(format!("image{moment}"))).collect();
    for (moment, image) in images.iter().enumerate() {
        write_all(moment + 1);
        let (new, part) = (moment + 1, 1 + moment * FILES as usize / MOMENTS);
        // Looked at without a pause: all of it may be written in one.
        let begun = Instant::now();
        while versions(&state).values().filter(|&&version| version == new).count() < part {
            assert!(begun.elapsed() < PATIENCE, "{part} of version {new} are not kept");
        }
        let pid = Pid::from_raw(daemon.pid().unwrap().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        soon("it stands still", || stands_still(pid));
        let copied = disk.lose_power(image);
        kill(pid, Signal::SIGCONT).unwrap();
        copied.unwrap();
    }
    drop(daemon);

    // What is in force can come from what was kept alone.
    for file in 0..FILES {
        lab.policy(&format!("many{file}"), "kind: [").unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut before = BTreeMap::new();
    let mut mixed = 0;
    for image in &images {
        let mounted = image.with_extension("mounted");
        let _disk = LoopDisk::mount(image, &mounted).unwrap();
        let kept = versions(&mounted);
        mixed += usize::from(kept.values().min() != kept.values().max());
        for (entry, version) in &before {
            assert!(kept[entry] >= *version, "{entry} is of version {} again", kept[entry]);
        }
        let options = Options { state: Some(mounted), ..Options::default() };
        let directories = [lab.manifests().directory().to_owned()];
        let manifests = runtime.block_on(Manifests::watch(&directories, options)).unwrap();
        let inventory = manifests.subscribe().borrow().clone();
        assert_eq!(inventory.policies.len(), FILES as usize);
        assert!(inventory.lost.is_empty(), "{:?}", inventory.lost);
        before = kept;
    }
    assert!(mixed > 0, "the power never failed while something was written");
}

fn disk(lab: &Lab) -> LoopDisk {
    LoopDisk::make(&lab.directory().join("disk"), &lab.directory().join("state")).unwrap()
}

/// What is kept, by the entry's name.
fn entries(state: &Path) -> BTreeMap<String, String> {
    let Ok(directory) = fs::read_dir(state.join("last-good")) else { return BTreeMap::new() };
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    directory
        .map(Result::unwrap)
        .filter(|entry| !name(entry).starts_with('.'))
        .map(|entry| (name(&entry), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

/// The version in the last line of each entry.
fn versions(state: &Path) -> BTreeMap<String, usize> {
    let version = |text: &str| text.trim_end().rsplit_once("# version ")?.1.parse().ok();
    let read = entries(state).into_iter();
    read.filter_map(|(name, text)| Some((name, version(&text)?))).collect()
}

fn stands_still(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(Result::unwrap).all(|task| {
        // "1234 (name) T ..."
        fs::read_to_string(task.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })
}
