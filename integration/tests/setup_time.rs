//! How long it takes to make a lab; alone in its file, so that no other test runs beside it.

use std::time::Duration;

use integration::{Lab, LabOptions, Topology};

/// A machine that is busy with other things makes one lab slowly, and not five.
#[test]
fn a_lab_is_made_in_under_two_seconds() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let quick = (0..5).any(|_| {
            let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
            println!("{topology:?} lab made in {:?}", lab.setup_time());
            lab.setup_time() < Duration::from_secs(2)
        });
        assert!(quick, "{topology:?}");
    }
}
