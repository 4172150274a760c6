//! Programs of others, found where they stand.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::attaching::{Lab, index, ip, on_a_node};
use super::{Fixture, run};
use crate::sys::program::{self, Instruction};
use crate::sys::{self, kind};
use crate::{AttachMode, By, Other, Redirects, Side, Survey};

/// It sends nothing anywhere.
const RANDOM: i32 = 7;
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;
const REDIRECT_PEER: i32 = 155;

/// A program that goes by what it calls, with one argument that is 1 and others that are 0.
fn calling(name: &str, helper: i32) -> OwnedFd {
    let set = |register, immediate| instruction(0xb7, register, immediate);
    let body = [set(1, 1), set(2, 0), instruction(0x85, 0, helper), instruction(0x95, 0, 0)];
    program::load(name, &body).unwrap()
}

/// A program that goes on with the first of an array, if one is there.
fn going_on(name: &str, array: &OwnedFd) -> OwnedFd {
    // A load of 64 bits, whose source register says that it is of a map.
    let map = [instruction(0x18, 0x12, array.as_raw_fd()), Instruction::default()];
    let rest = [
        instruction(0xb7, 3, 0),
        instruction(0x85, 0, TAIL_CALL),
        instruction(0xb7, 0, -1),
        instruction(0x95, 0, 0),
    ];
    program::load(name, &[&map[..], &rest[..]].concat()).unwrap()
}

fn instruction(code: u8, registers: u8, immediate: i32) -> Instruction {
    Instruction { code, registers, offset: 0, immediate }
}

fn into_namespace(caller: &str) -> Redirects {
    Redirects::IntoNamespace { caller: caller.to_owned() }
}

/// What is found of one name.
fn named<'a>(found: &'a [Other], name: &str) -> &'a Other {
    let of_name: Vec<_> = found.iter().filter(|other| other.name == name).collect();
    assert_eq!(of_name.len(), 1, "{name}: {found:?}");
    of_name[0]
}

#[test]
fn programs_of_others_are_found_with_what_they_call_and_whether_they_come_first() {
    on_a_node(|| {
        let fixture = Fixture::new(AttachMode::Tcx);
        let lab = Lab::new(false);
        ip("link add up0 type bridge");
        let up = index("up0");
        let attach = |program: &OwnedFd, interface: model::Interface, point| {
            sys::link_create(program.as_fd(), interface.0, point).unwrap()
        };
        let _behind = attach(&calling("behind", REDIRECT), lab.interface, sys::TCX_INGRESS);
        fixture.datapath().attach(lab.interface).unwrap();
        let _before = attach(&calling("before", REDIRECT), lab.interface, sys::TCX_INGRESS);
        let _last = attach(&calling("out", RANDOM), lab.interface, sys::TCX_EGRESS);
        let peer = calling("to_peer", REDIRECT_PEER);
        let link = attach(&peer, up, sys::TCX_INGRESS);

        let mut survey = fixture.datapath().survey().unwrap();
        let sight = survey.look([lab.interface, up, model::Interface(99_999)]).unwrap();
        assert_eq!(sight.own, [lab.interface].into());
        let found = sight.others;
        assert_eq!(found.len(), 4, "{found:?}");
        let (behind, before) = (named(&found, "behind"), named(&found, "before"));
        assert_eq!((behind.precedes, before.precedes), (false, true));
        assert_eq!((behind.side, behind.by), (Side::Ingress, By::Tcx));
        assert_eq!(before.redirects, Redirects::ToInterface);
        assert_eq!(named(&found, "out").redirects, Redirects::Never);
        assert_eq!(named(&found, "out").side, Side::Egress);
        let to_peer = named(&found, "to_peer");
        assert_eq!((to_peer.interface, to_peer.precedes), (up, false));
        assert_eq!(to_peer.redirects, into_namespace("to_peer"));
        assert_eq!(to_peer.program, Some(program::id(peer.as_fd()).unwrap()));

        sys::link_detach(link.as_fd()).unwrap();
        assert_eq!(survey.look([up]).unwrap().others, []);
        let mut by_pins = Survey::of_pins(&fixture.options.pin);
        assert_eq!(by_pins.look([lab.interface]).unwrap(), survey.look([lab.interface]).unwrap());
    });
}

#[test]
fn a_filter_that_goes_on_with_another_program_does_what_that_one_does() {
    on_a_node(|| {
        let fixture = Fixture::new(AttachMode::Clsact);
        let lab = Lab::new(false);
        let array = sys::map_create("others", kind::PROGRAM_ARRAY, 4, 4, 8, 0, None).unwrap();
        let first = going_on("first", &array);
        let pin = fixture.options.pin.join("first");
        sys::object_pin(first.as_fd(), &pin).unwrap();
        fixture.datapath().attach(lab.interface).unwrap();
        let mut tc = std::process::Command::new("tc");
        let line = "filter add dev pod0 ingress prio 7 bpf direct-action object-pinned";
        let output = tc.args(line.split(' ')).arg(&pin).output().unwrap();
        std::fs::remove_file(&pin).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = "filter add dev pod0 egress prio 7 protocol ip u32 match u32 0 0";
        run("tc", &line.split(' ').collect::<Vec<_>>());

        let mut survey = fixture.datapath().survey().unwrap();
        let found = survey.look([lab.interface]).unwrap().others;
        assert_eq!(
            named(&found, "first").redirects,
            Redirects::Never,
            "there is nothing to go on with"
        );
        assert_eq!(
            (named(&found, "first").by, named(&found, "first").precedes),
            (By::Clsact, false)
        );
        let filters: Vec<_> = found.iter().filter(|other| other.side == Side::Egress).collect();
        assert!(!filters.is_empty(), "{found:?}");
        assert!(filters.iter().all(|own| own.name == "u32" && own.program.is_none()), "{found:?}");

        let second = going_on("second", &array);
        let third = calling("third", REDIRECT_PEER);
        for (place, program) in [(5u32, &second), (6, &third)] {
            let fd = program.as_raw_fd().cast_unsigned();
            // SAFETY: keys and values of an array of programs are of 32 bits.
            unsafe { sys::map_update(array.as_fd(), &place, sys::value_address(&fd), 0) }.unwrap();
        }
        let found = survey.look([lab.interface]).unwrap().others;
        assert_eq!(named(&found, "first").redirects, into_namespace("third"));
    });
}
