//! The maps against their model.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use model::{
    Change, DropReason, EndpointEntry, EndpointId, Enforcement, Frontend, Identity, Interface,
    LeaseEntry, Moment, NameNumber, NumberKind, PortPrefix, Prefix, Protocol, Row, State, TableId,
    Verdict,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::Fixture;
use crate::flow_table::Family;
use crate::{AttachMode, Datapath, Error, Fault, Options, features, lock};

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..6).prop_map(|last| Ipv4Addr::new(192, 0, 2, last).into()),
        (0u16..6).prop_map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0u8..=128).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Prefix::new(address, length.min(most)).unwrap()
    })
}

fn ports() -> impl Strategy<Value = PortPrefix> {
    prop_oneof![
        Just(PortPrefix::Any),
        Just(PortPrefix::Protocol(Protocol::UDP)),
        (0u16..4).prop_map(|port| PortPrefix::port(Protocol::TCP, 440 + port)),
        Just(PortPrefix::Ports { protocol: Protocol::TCP, port: 0x8000, bits: 3 }),
    ]
}

fn endpoint_change() -> impl Strategy<Value = Change> {
    let enforcement = prop_oneof![
        Just(Enforcement::Open),
        (1u32..4).prop_map(|table| Enforcement::Table(TableId(table))),
        Just(Enforcement::Closed(DropReason::EndpointConflict)),
    ];
    let entry = (1u32..4, enforcement, 0u32..9, proptest::option::of(1u32..9));
    prop_oneof![
        (1u32..9, entry).prop_map(|(interface, (endpoint, enforcement, generation, bridge))| {
            let entry = EndpointEntry {
                endpoint: EndpointId(endpoint),
                enforcement,
                generation,
                bridge: bridge.map(Interface),
            };
            Change::PutEndpoint(Interface(interface), entry)
        }),
        (1u32..9).prop_map(|interface| Change::DeleteEndpoint(Interface(interface))),
        (1u32..4, prefix()).prop_map(|(id, prefix)| Change::PutSource(EndpointId(id), prefix)),
        (1u32..4, prefix()).prop_map(|(id, prefix)| Change::DeleteSource(EndpointId(id), prefix)),
    ]
}

fn node_change() -> impl Strategy<Value = Change> {
    let frontend = || {
        (address(), 0u16..3).prop_map(|(address, port)| Frontend {
            address,
            protocol: Protocol::TCP,
            port,
        })
    };
    let row = || {
        (1u32..3, 0u32..4, ports()).prop_map(|(table, identity, ports)| Row {
            table: TableId(table),
            identity: Identity(identity),
            ports,
        })
    };
    let verdict = prop_oneof![Just(Verdict::Allow), Just(Verdict::Dns), Just(Verdict::Deny)];
    prop_oneof![
        (prefix(), 1u32..9).prop_map(|(prefix, id)| Change::PutPrefix(prefix, Identity(id))),
        prefix().prop_map(Change::DeletePrefix),
        (frontend(), 1u32..9).prop_map(|(at, id)| Change::PutFrontend(at, Identity(id))),
        frontend().prop_map(Change::DeleteFrontend),
        (row(), verdict).prop_map(|(row, verdict)| Change::PutRow(row, verdict.into())),
        row().prop_map(Change::DeleteRow),
        (1u32..9, any::<[u8; 16]>()).prop_map(|(number, digest)| Change::PutNumber(
            NumberKind::Table,
            number,
            digest
        )),
        (1u32..9).prop_map(|number| Change::DeleteNumber(NumberKind::Table, number)),
    ]
}

fn name_change() -> impl Strategy<Value = Change> {
    let id = || (1u32..4).prop_map(EndpointId);
    let number = || (0u32..4).prop_map(NameNumber);
    let lease =
        (proptest::option::of(1u32..9), number(), any::<u64>()).prop_map(|(set, name, expires)| {
            LeaseEntry {
                sets: [set.map(Identity), None],
                name,
                expires: Moment::from_nanos(expires),
            }
        });
    let name = prop_oneof![Just("."), Just("a.example."), Just("*.b_c.example.")];
    prop_oneof![
        (id(), number(), name).prop_map(|(id, number, name)| Change::PutName(
            id,
            number,
            name.parse().unwrap()
        )),
        (id(), number()).prop_map(|(id, number)| Change::DeleteName(id, number)),
        (id(), address(), lease).prop_map(|(id, at, lease)| Change::PutLease(id, at, lease)),
        (id(), address()).prop_map(|(id, at)| Change::DeleteLease(id, at)),
        (id(), address(), number(), any::<u64>()).prop_map(|(id, at, number, expires)| {
            Change::PutShared(id, at, number, Moment::from_nanos(expires))
        }),
        (id(), address(), number())
            .prop_map(|(id, at, number)| { Change::DeleteShared(id, at, number) }),
    ]
}

#[test]
fn the_kernel_holds_what_the_model_holds_after_any_changes() {
    let mut fixture = Fixture::new(AttachMode::Auto);
    let mut state = State::default();
    let change = prop_oneof![endpoint_change(), node_change(), name_change()];
    let lists = proptest::collection::vec(change, 1..60);
    let mut runner = TestRunner::default();
    for _ in 0..60 {
        let changes = lists.new_tree(&mut runner).unwrap().current();
        fixture.datapath().apply(&changes).unwrap();
        changes.iter().for_each(|change| state.apply(change));
        assert_eq!(fixture.datapath().dump().unwrap(), state);
    }
    fixture.reopen();
    assert_eq!(fixture.datapath().dump().unwrap(), state);
    flow_tables_follow_endpoints(fixture.datapath(), &state);
}

fn flow_tables_follow_endpoints(datapath: &Datapath, state: &State) {
    let bound: BTreeSet<_> = state.endpoints.values().map(|entry| entry.endpoint).collect();
    for endpoint in bound {
        let tables = datapath.endpoints.tables(endpoint);
        let families: BTreeSet<_> = tables.iter().map(|(kind, _)| kind.family).collect();
        let own = state.sources.keys().filter(|(id, _)| *id == endpoint);
        for (_, source) in own {
            assert!(families.contains(&Family::of(*source)), "{endpoint} {source}");
        }
    }
}

#[test]
fn a_full_map_is_named_with_the_change_that_found_it_so() {
    let fixture = Fixture::new(AttachMode::Auto);
    let lease = LeaseEntry { sets: [None; 2], name: NameNumber(1), expires: Moment::ZERO };
    let changes: Vec<_> = (0u32..300)
        .map(|n| Change::PutLease(EndpointId(1), Ipv4Addr::from(n).into(), lease))
        .collect();
    let error = fixture.datapath().apply(&changes).unwrap_err();
    assert_eq!((error.index, error.map, error.is_full()), (256, "leases", true));
    assert_eq!(fixture.datapath().dump().unwrap().leases.len(), 256);
}

#[test]
fn ipv4_in_ipv6_notation_gets_no_identity() {
    let fixture = Fixture::new(AttachMode::Auto);
    let prefix: Prefix = "::ffff:10.0.0.0/104".parse().unwrap();
    let error = fixture.datapath().apply(&[Change::PutPrefix(prefix, Identity(9))]).unwrap_err();
    assert!(matches!(error.fault, Fault::Mapped(_)), "{error}");
}

#[test]
fn a_pin_directory_belongs_to_one_process_at_a_time() {
    let mut fixture = Fixture::new(AttachMode::Auto);
    let options = fixture.options.clone();
    assert!(matches!(Datapath::open(&options), Err(Error::InUse(pin)) if pin == options.pin));
    assert!(matches!(lock(&options.pin), Err(Error::InUse(_))));
    fixture.reopen();
}

#[test]
fn every_map_can_be_looked_at() {
    let fixture = Fixture::new(AttachMode::Auto);
    for map in fixture.datapath().maps().unwrap() {
        let rows = fixture.datapath().dump_map(map.name).unwrap();
        assert_eq!(rows.len(), map.entries.unwrap_or(0), "{}", map.name);
        // Only an empty trie takes nothing.
        assert!(map.bytes > 0 || map.kind == "lpm-trie", "{}", map.name);
    }
    let error = fixture.datapath().dump_map("flows").unwrap_err();
    assert!(matches!(error, Error::UnknownMap(_)));
}

#[test]
fn nothing_can_be_pinned_outside_a_bpf_file_system() {
    let options = Options { pin: "/tmp/fqdnd-test-nowhere".into(), ..Options::default() };
    assert!(matches!(Datapath::open(&options), Err(Error::NotBpffs(_))));
}

#[test]
fn this_machine_has_what_is_required() {
    let _mounted = Fixture::new(AttachMode::Auto);
    for feature in features() {
        assert!(feature.present || !feature.required, "{feature:?}");
    }
}

#[test]
fn a_machine_without_a_mounted_bpf_file_system_is_tried_all_the_same() {
    let trial = std::thread::spawn(|| {
        crate::bpffs::mount_apart().unwrap();
        while crate::bpffs::is_bpffs(Path::new("/sys/fs/bpf")) {
            nix::mount::umount("/sys/fs/bpf").unwrap();
        }
        features()
    });
    let features = trial.join().unwrap();
    let programs = features.iter().find(|own| own.name.starts_with("programs ")).unwrap();
    assert!(programs.present, "{}", programs.detail);
}
