//! Pins that are removed under a living daemon: nothing opens, and they are there again before it
//! can end without them.

use std::{fs, path::Path};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, FRESH_NAMES, Lab, LabOptions, PodSpec, Ports, Reach, Resolver, Transfer, fresh_address,
    soon,
};

const CLIENT: &str = "default/client";
const NEWCOMER: &str = "default/newcomer";

#[test]
fn pins_that_are_gone_are_made_again_and_outlive_the_daemon() {
    for attach in ["tcx", "clsact"] {
        let mut lab = Lab::new(LabOptions::default()).unwrap();
        lab.policy("names", FRESH_NAMES).unwrap();
        let mut daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
        let resolver = Resolver::new(lab.dns_service()[0]);
        lab.pod(CLIENT).ask(resolver, "f1.fresh.example", RecordType::A);
        let transfer = Transfer::start(lab.pod(CLIENT).namespace(), fresh_address(1)).unwrap();
        let pins = daemon.pin_directory();
        let before = everything(Path::new(&pins));

        fs::remove_dir_all(pins).unwrap();
        transfer.goes_on().unwrap();
        assert_eq!(lab.pod(CLIENT).connect(fresh_address(2), Ports::HTTP), Reach::Silent);
        soon("all pins again", || everything(Path::new(&pins)) == before);
        soon("told of them", || daemon.count("limits", "pins-made-again") >= before.len() as u64);
        assert!(daemon.log().contains("pins were gone and are made again"));
        lab.add_pod(PodSpec::new(NEWCOMER).label("app", "client")).unwrap();
        soon("a new pod", || daemon.enforcement(NEWCOMER) == "enforced");

        daemon.kill9().unwrap();
        transfer.goes_on().unwrap();
        let (client, newcomer) = (lab.pod(CLIENT), lab.pod(NEWCOMER));
        assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
        assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Silent);
        assert_eq!(newcomer.connect(fresh_address(1), Ports::HTTP), Reach::Silent);
        daemon.restart().unwrap();
        transfer.goes_on().unwrap();
        assert_eq!(daemon.learned(CLIENT).len(), 1);
        assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Silent);
    }
}

/// The paths of all files under a directory, in order; none if it is gone.
fn everything(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort_unstable();
    found
}
