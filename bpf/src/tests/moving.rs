//! Maps of other sizes and of other versions: what they hold, and what is enforced meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use model::{Change, EndpointId, LeaseEntry, Moment, NameNumber, NumberKind, State};

use super::Fixture;
use super::attaching::{
    ENDPOINT, MODES, both_places, connects, enforced_on_a_veth, listen, on_a_node, policy,
};
use crate::{AttachMode, Datapath, Direction, Error, Moved, sys};

/// A hundred leases and a little of everything that goes with them.
fn learned() -> Vec<Change> {
    let lease = LeaseEntry { sets: [None; 2], name: NameNumber(1), expires: Moment::MAX };
    let leases =
        (0u32..100).map(|n| Change::PutLease(EndpointId(1), Ipv4Addr::from(n).into(), lease));
    let name = Change::PutName(EndpointId(1), NameNumber(1), "a.example.".parse().unwrap());
    let number = Change::PutNumber(NumberKind::Table, 3, [7; 16]);
    [name, number].into_iter().chain(leases).collect()
}

fn dump(fixture: &Fixture) -> State {
    fixture.datapath().dump().unwrap()
}

#[test]
fn a_map_of_another_size_holds_what_the_first_held() {
    let mut fixture = Fixture::new(AttachMode::Auto);
    fixture.datapath().apply(&learned()).unwrap();
    let before = dump(&fixture);
    for (leases, prefixes) in [(512, 512), (100, 512)] {
        fixture.options.sizes.leases = leases;
        fixture.options.sizes.prefixes = prefixes;
        fixture.reopen();
        let resized = &fixture.datapath().moved().resized;
        assert!(resized.contains(&"leases"), "{resized:?}");
        assert_eq!(dump(&fixture), before);
        fixture.datapath().finish_move().unwrap();
    }
    fixture.reopen();
    assert!(fixture.datapath().moved().is_empty());
    assert_eq!(dump(&fixture), before);
}

#[test]
fn a_map_too_small_for_what_it_holds_is_named_and_nothing_changes() {
    let mut fixture = Fixture::new(AttachMode::Auto);
    fixture.datapath().apply(&learned()).unwrap();
    let before = dump(&fixture);
    fixture.datapath = None;
    let mut options = fixture.options.clone();
    options.sizes.leases = 99;
    let error = Datapath::open(&options).unwrap_err();
    assert!(matches!(error, Error::TooSmall { map: "leases", wanted: 99 }), "{error}");
    fixture.reopen();
    assert!(fixture.datapath().moved().is_empty());
    assert_eq!(dump(&fixture), before);
}

#[test]
fn a_move_that_was_interrupted_begins_anew() {
    let mut fixture = Fixture::new(AttachMode::Auto);
    fixture.datapath().apply(&learned()).unwrap();
    let before = dump(&fixture);
    for leases in [512, 600, 256] {
        fixture.options.sizes.leases = leases;
        fixture.reopen();
        assert_eq!(dump(&fixture), before, "{leases}");
    }
    assert!(fixture.datapath().moved().is_empty(), "it is back where it was");
    let aside = fixture.options.pin.join(bpf_abi::VERSION).join("leases-old");
    assert!(!aside.exists());
}

#[test]
fn flows_go_on_in_tables_of_another_size() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, mut fixture) = enforced_on_a_veth(mode);
            let _server = listen("10.1.0.1", 443);
            assert!(connects(&lab, "10.1.0.1", 443));
            let flows = |fixture: &Fixture| {
                let flows = fixture.datapath().flows(ENDPOINT, Moment::ZERO).unwrap();
                let own = flows.iter().filter(|flow| flow.direction == Direction::Outbound);
                own.map(|flow| (flow.local, flow.remote)).collect::<BTreeSet<_>>()
            };
            for size in [1024, 512] {
                let before = flows(&fixture);
                assert!(!before.is_empty());
                fixture.options.sizes.flows_out = size;
                fixture.options.sizes.flows_in = size;
                fixture.reopen();
                assert_eq!(flows(&fixture), before);
                let own = fixture.datapath().endpoints.tables(ENDPOINT);
                assert!(own.iter().all(|(_, table)| table.room().unwrap() == size));
                // The programs that are attached go by the new tables already.
                assert!(connects(&lab, "10.1.0.1", 443));
                assert_eq!(flows(&fixture).len(), before.len() + 1);
                fixture.datapath().attach(lab.interface).unwrap();
                assert!(connects(&lab, "10.1.0.1", 443));
            }
        });
    }
}

#[test]
fn another_version_s_programs_enforce_until_ours_take_their_place() {
    for (mode, by) in MODES {
        on_a_node(move || {
            let (lab, mut fixture) = enforced_on_a_veth(mode);
            let servers = [listen("10.1.0.1", 443), listen("10.1.0.1", 80)];
            let check = || {
                assert!(connects(&lab, "10.1.0.1", 443));
                assert!(!connects(&lab, "10.1.0.1", 80));
            };
            check();
            fixture.datapath = None;
            let pin = &fixture.options.pin;
            let theirs = pin.join("v1");
            fs::rename(pin.join(bpf_abi::VERSION), &theirs).unwrap();
            fixture.reopen();
            let datapath = fixture.datapath();
            let expected = Moved { resized: Vec::new(), unreadable: vec![theirs.clone()] };
            assert_eq!(*datapath.moved(), expected);
            assert_eq!(datapath.dump().unwrap(), State::default());
            assert_eq!(datapath.attached().unwrap(), both_places(lab.interface, by));
            check();
            datapath.configure(&super::settings()).unwrap();
            datapath.apply(&policy(lab.interface, None)).unwrap();
            datapath.attach(lab.interface).unwrap();
            check();
            datapath.finish_move().unwrap();
            assert!(!theirs.exists());
            check();
            assert_eq!(datapath.attached().unwrap(), both_places(lab.interface, by));
            // There was never a second program beside the first.
            datapath.detach(lab.interface).unwrap();
            assert!(connects(&lab, "10.1.0.1", 80));
            drop(servers);
        });
    }
}

#[test]
fn a_map_of_another_layout_is_not_guessed_at() {
    let mut fixture = Fixture::new(AttachMode::Auto);
    fixture.datapath().apply(&learned()).unwrap();
    fixture.datapath = None;
    let directory = fixture.options.pin.join(bpf_abi::VERSION);
    let leases = directory.join("leases");
    fs::remove_file(&leases).unwrap();
    let trie = sys::kind::LPM_TRIE;
    let odd = sys::map_create("leases", trie, 24, 32, 256, sys::NO_PREALLOC, None).unwrap();
    sys::object_pin(odd.as_fd(), &leases).unwrap();
    fixture.reopen();
    let old = fixture.options.pin.join(format!("{}-old1", bpf_abi::VERSION));
    assert_eq!(fixture.datapath().moved().unreadable, std::slice::from_ref(&old));
    assert_eq!(dump(&fixture), State::default());
    fixture.datapath().finish_move().unwrap();
    assert!(!old.exists());
}
