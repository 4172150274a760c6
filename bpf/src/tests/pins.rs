//! Pins that somebody takes while the process runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Fixture;
use super::attaching::{MODES, both_places, connects, enforced_on_a_veth, listen, on_a_node};
use crate::{Datapath, Error};

/// Everything under a directory.
fn everything(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

#[test]
fn pins_that_are_gone_are_made_again_and_outlive_the_process() {
    for (mode, by) in MODES {
        on_a_node(move || {
            let (lab, mut fixture) = enforced_on_a_veth(mode);
            let pin = fixture.options.pin.clone();
            let before = everything(&pin);
            let state = fixture.datapath().dump().unwrap();
            assert_eq!(fixture.datapath().repair_pins().unwrap(), 0);

            fs::remove_dir_all(&pin).unwrap();
            assert_eq!(fixture.datapath().repair_pins().unwrap(), before.len());
            assert_eq!(everything(&pin), before);
            fs::remove_file(before.first().unwrap()).unwrap();
            assert_eq!(fixture.datapath().repair_pins().unwrap(), 1);
            assert_eq!(fixture.datapath().pins_repaired(), before.len() as u64 + 1);

            let server = listen("10.1.0.1", 80);
            fixture.datapath = None;
            assert!(!connects(&lab, "10.1.0.1", 80));
            fixture.reopen();
            assert_eq!(fixture.datapath().dump().unwrap(), state);
            assert_eq!(fixture.datapath().attached().unwrap(), both_places(lab.interface, by));
            fixture.datapath().detach(lab.interface).unwrap();
            assert!(connects(&lab, "10.1.0.1", 80));
            drop(server);
        });
    }
}

#[test]
fn a_pin_directory_that_was_made_again_belongs_to_the_same_process() {
    let fixture = Fixture::new(crate::AttachMode::Auto);
    let pin = &fixture.options.pin;
    fs::remove_dir_all(pin).unwrap();
    fixture.datapath().repair_pins().unwrap();
    assert!(matches!(Datapath::open(&fixture.options), Err(Error::InUse(own)) if own == *pin));
}

#[test]
fn a_pin_directory_that_another_process_has_taken_is_left_to_it() {
    let fixture = Fixture::new(crate::AttachMode::Auto);
    fs::remove_dir_all(&fixture.options.pin).unwrap();
    let other = Datapath::open(&fixture.options).unwrap();
    let theirs = everything(&fixture.options.pin);
    fs::remove_file(theirs.first().unwrap()).unwrap();
    let error = fixture.datapath().repair_pins().unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    assert_eq!(other.repair_pins().unwrap(), 1);
}
