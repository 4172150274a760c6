//! Nothing in the object, and no command of ours, is younger than Linux 5.15; what is, is optional
//! and tried out first.
//!
//! The object is read as it was built: instructions, maps and sections. What a table here does not
//! know fails the test, so whoever uses something new says which kernel brought it.

use std::collections::BTreeSet;

use aya_obj::generated::bpf_insn;
use aya_obj::{Map, Object, ProgramSection};

use crate::programs::OBJECT;
use crate::sys::{self, Command, kind};

/// A kernel version.
type Version = (u32, u32);

const OLDEST: Version = (5, 15);

/// Helper functions by the kernel's numbers.
const HELPERS: [(i32, &str, Version); 16] = [
    (1, "map_lookup_elem", (3, 19)),
    (2, "map_update_elem", (3, 19)),
    (3, "map_delete_elem", (3, 19)),
    (23, "redirect", (4, 4)),
    (26, "skb_load_bytes", (4, 5)),
    (32, "skb_change_type", (4, 8)),
    (69, "fib_lookup", (4, 18)),
    (85, "sk_lookup_udp", (4, 20)),
    (86, "sk_release", (4, 20)),
    (95, "sk_fullsock", (5, 1)),
    (99, "skc_lookup_tcp", (5, 2)),
    (118, "jiffies64", (5, 6)),
    (124, "sk_assign", (5, 7)),
    (125, "ktime_get_boot_ns", (5, 8)),
    (131, "ringbuf_reserve", (5, 8)),
    (132, "ringbuf_submit", (5, 8)),
];

const MAP_TYPES: [(u32, Version); 7] = [
    (kind::HASH, (3, 19)),
    (kind::ARRAY, (3, 19)),
    (kind::PERCPU_HASH, (4, 6)),
    (kind::LRU_HASH, (4, 10)),
    (kind::LPM_TRIE, (4, 11)),
    (kind::ARRAY_OF_MAPS, (4, 12)),
    (kind::RINGBUF, (5, 8)),
];

/// The one map flag in use.
const NO_PREALLOC: (u32, Version) = (sys::NO_PREALLOC, (4, 6));

const COMMANDS: [Command; 17] = [
    Command::MapCreate,
    Command::MapLookup,
    Command::MapUpdate,
    Command::MapDelete,
    Command::ProgramLoad,
    Command::ObjectPin,
    Command::ObjectGet,
    Command::ProgramTestRun,
    Command::ProgramById,
    Command::MapById,
    Command::ObjectInfo,
    Command::ProgramQuery,
    Command::MapLookupBatch,
    Command::MapUpdateBatch,
    Command::LinkCreate,
    Command::LinkUpdate,
    Command::LinkDetach,
];

/// The younger attach points, each behind a feature that is tried out.
const OPTIONAL: [(u32, &str); 2] = [(sys::TCX_INGRESS, "tcx"), (sys::TCX_EGRESS, "tcx")];

fn object() -> Object {
    Object::parse(OBJECT).unwrap()
}

fn instructions(object: &Object) -> impl Iterator<Item = &bpf_insn> {
    object.functions.values().flat_map(|function| &function.instructions)
}

#[test]
fn every_helper_is_in_the_oldest_kernel() {
    const CALL: u8 = 0x85;
    const OWN_FUNCTION: u8 = 1;
    let object = object();
    let calls = instructions(&object).filter(|own| own.code == CALL);
    let calls = calls.filter(|own| own.src_reg() != OWN_FUNCTION);
    let used: BTreeSet<(u8, i32)> = calls.map(|own| (own.src_reg(), own.imm)).collect();
    assert!(used.len() > 5, "{used:?}");
    for (source, number) in used {
        assert_eq!(source, 0, "function {number} is the kernel's own, without a stable number");
        let known = HELPERS.iter().find(|(own, ..)| *own == number);
        let (_, name, since) = known.unwrap_or_else(|| panic!("helper {number}: since when?"));
        assert!(*since <= OLDEST, "{name} came with {since:?}");
    }
}

#[test]
fn every_map_type_is_in_the_oldest_kernel() {
    let object = object();
    let inner: Vec<Map> = object.maps.values().filter_map(Map::inner).collect();
    let maps = object.maps.iter().map(|(name, map)| (name.as_str(), map));
    let mut seen = 0;
    for (name, map) in maps.chain(inner.iter().map(|map| ("an inner map", map))) {
        let known = MAP_TYPES.iter().find(|(own, _)| *own == map.map_type());
        let (_, since) = known.unwrap_or_else(|| panic!("{name}: type {}", map.map_type()));
        assert!(*since <= OLDEST, "{name} has a type that came with {since:?}");
        let (flag, since) = NO_PREALLOC;
        assert!(map.map_flags() & !flag == 0 && since <= OLDEST, "{name}: {:#x}", map.map_flags());
        seen += 1;
    }
    assert_eq!(seen, crate::tables::SPECS.len() + inner.len());
    assert_eq!(inner.len(), 2);
}

#[test]
fn every_instruction_is_in_the_oldest_kernel() {
    let object = object();
    let mut words = instructions(&object);
    while let Some(own) = words.next() {
        let since = instruction_since(own);
        assert!(since <= OLDEST, "{:#04x} with {:#x} came with {since:?}", own.code, own.imm);
        // The second half of a load of 64 bits is no instruction.
        if own.code == 0x18 {
            words.next();
        }
    }
}

/// The kernel that brought an instruction, by the parts of its code.
fn instruction_since(own: &bpf_insn) -> Version {
    let (class, operation) = (own.code & 0x07, own.code & 0xf0);
    match class {
        // Loads; those that extend the sign are of mode 0x80.
        0x00 | 0x01 if own.code & 0xe0 == 0x80 => (6, 6),
        // Stores; mode 0xc0 is atomic, and anything but a plain addition came later.
        0x03 if own.code & 0xe0 == 0xc0 && own.imm != 0 => (5, 12),
        // A jump of 32 bits' length, and comparisons of 32 bits.
        0x06 if operation == 0x00 => (6, 6),
        0x06 => (5, 1),
        // Signed divisions and moves say so in the offset; unconditional swaps are a code of theirs.
        0x04 | 0x07 if matches!(operation, 0x30 | 0x90 | 0xb0) && own.off != 0 => (6, 6),
        0x07 if operation == 0xd0 => (6, 6),
        _ => (4, 14),
    }
}

#[test]
fn every_program_attaches_where_the_oldest_kernel_lets_it() {
    let object = object();
    assert_eq!(object.programs.len(), 3);
    for (name, program) in &object.programs {
        // Loaded as sched_cls (4.1), taken by clsact (4.5).
        assert!(matches!(program.section, ProgramSection::SchedClassifier), "{name}");
    }
}

#[test]
fn what_is_younger_is_optional_and_tried_out() {
    let features = crate::features();
    for (point, feature) in OPTIONAL {
        let found = features.iter().find(|own| own.name == feature).unwrap();
        assert!(!found.required, "attach point {point}");
    }
    for feature in features.iter().filter(|own| own.required) {
        let since = feature.since.split_once('.').unwrap();
        let since: Version = (since.0.parse().unwrap(), since.1.parse().unwrap());
        assert!(since <= OLDEST, "{} came with {since:?}", feature.name);
    }
}

#[test]
fn every_command_is_in_the_oldest_kernel() {
    for command in COMMANDS {
        assert!(command_since(command) <= OLDEST, "command {}", command as i32);
    }
}

/// The kernel that brought a command, for every kind of map that it is used on.
const fn command_since(command: Command) -> Version {
    match command {
        Command::MapCreate | Command::MapLookup | Command::MapUpdate | Command::MapDelete => {
            (3, 19)
        }
        Command::ProgramLoad => (4, 1),
        Command::ObjectPin | Command::ObjectGet => (4, 4),
        Command::ProgramTestRun => (4, 12),
        Command::ProgramById | Command::MapById | Command::ObjectInfo => (4, 13),
        // Of tcx attach points, which OPTIONAL names, from 6.6 on.
        Command::ProgramQuery => (4, 15),
        // 5.6 for hashes, 5.13 for tries.
        Command::MapLookupBatch | Command::MapUpdateBatch => (5, 13),
        // Links of tcx are the only ones, and OPTIONAL names them.
        Command::LinkCreate | Command::LinkUpdate => (5, 7),
        Command::LinkDetach => (5, 9),
    }
}
