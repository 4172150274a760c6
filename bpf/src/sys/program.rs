//! What bpf(2) tells of programs, whoever loaded them.
//!
//! Opening by number takes CAP_SYS_ADMIN. Calls are shown as distances within the kernel to those
//! alone who may see its addresses: CAP_SYSLOG, unless `kernel.perf_event_paranoid` is below 2.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Command, Info, address, address_mut, bpf, owned, raw};

/// The program type of traffic control.
const SCHED_CLS: u32 = 3;
/// So many programs stand at one place at the most.
const PROGRAMS_AT_A_PLACE: usize = 64;
/// So many maps belong to a program at the most.
const MAPS_OF_A_PROGRAM: usize = 64;
/// The instructions that are read of one program; the verifier takes a million.
const LONGEST: usize = 1 << 20;

/// An instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u8,
    /// The registers: the destination in the lower half, the source in the upper.
    pub registers: u8,
    /// An offset.
    pub offset: i16,
    /// A number; of a call, what is called.
    pub immediate: i32,
}

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub id: u32,
    /// Its name, of at most 15 bytes.
    pub name: String,
    /// The numbers of its maps.
    pub maps: Vec<u32>,
    /// What it does, as it stands behind the verifier; nothing where the kernel shows none.
    pub instructions: Vec<Instruction>,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads a program of traffic control.
pub fn load(name: &str, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut load = ProgramLoad {
        kind: SCHED_CLS,
        count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: address(instructions),
        license: address(c"GPL"),
        ..ProgramLoad::default()
    };
    let length = name.len().min(15);
    load.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    bpf(Command::ProgramLoad, &mut load).map(owned)
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Opens the program of a number.
pub fn by_id(id: u32) -> io::Result<OwnedFd> {
    bpf(Command::ProgramById, &mut ById { id, next: 0, flags: 0 }).map(owned)
}

/// Opens the map of a number.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf(Command::MapById, &mut ById { id, next: 0, flags: 0 }).map(owned)
}

#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    native_length: u32,
    length: u32,
    native: u64,
    instructions: u64,
    loaded: u64,
    user: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
    interface: u32,
    bits: u32,
}

/// The number of a program.
pub fn id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = ProgramInfo::default();
    ask(program, &mut found)?;
    Ok(found.id)
}

/// Reads a program.
pub fn read(program: BorrowedFd<'_>) -> io::Result<Program> {
    let mut sizes = ProgramInfo::default();
    ask(program, &mut sizes)?;
    let length = (sizes.length as usize / size_of::<Instruction>()).min(LONGEST);
    let mut instructions = vec![Instruction::default(); length];
    let mut maps = vec![0u32; (sizes.map_count as usize).min(MAPS_OF_A_PROGRAM)];
    let mut found = ProgramInfo {
        length: (length * size_of::<Instruction>()) as u32,
        instructions: address_mut(instructions.as_mut_slice()),
        map_count: maps.len() as u32,
        maps: address_mut(maps.as_mut_slice()),
        ..ProgramInfo::default()
    };
    ask(program, &mut found)?;
    if found.instructions == 0 || found.length == 0 {
        instructions.clear();
    }
    let name = found.name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    Ok(Program { id: found.id, name, maps, instructions })
}

fn ask(program: BorrowedFd<'_>, found: &mut ProgramInfo) -> io::Result<()> {
    let length = size_of::<ProgramInfo>() as u32;
    let mut info = Info { fd: raw(program), length, info: address_mut(found) };
    bpf(Command::ObjectInfo, &mut info).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    target: u32,
    point: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// The numbers of the programs at an interface's tcx attach point, in the order in which they run.
pub fn query(interface: u32, point: u32) -> io::Result<Vec<u32>> {
    let mut programs = vec![0u32; PROGRAMS_AT_A_PLACE];
    let mut query = ProgramQuery {
        target: interface,
        point,
        programs: address_mut(programs.as_mut_slice()),
        count: PROGRAMS_AT_A_PLACE as u32,
        ..ProgramQuery::default()
    };
    bpf(Command::ProgramQuery, &mut query)?;
    programs.truncate(query.count as usize);
    Ok(programs)
}
