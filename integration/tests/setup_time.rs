//! How long it takes to make a lab; alone in its file, so that no other test runs beside it.

use std::time::Duration;

use integration::{Lab, LabOptions, Topology};

#[test]
fn a_lab_is_made_in_under_two_seconds() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        println!("{topology:?} lab made in {:?}", lab.setup_time());
        assert!(lab.setup_time() < Duration::from_secs(2), "{:?}", lab.setup_time());
    }
}
