//! The programs' stacks fit: 512 bytes for every chain of calls, counted in steps of 32 for each
//! function, as kernels did up to 6.1 and others do without a just-in-time compiler.
//!
//! The verifier of a younger kernel counts less, and so would not tell.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use crate::programs::OBJECT;

const MOST: u32 = 512;
const STEP: u32 = 32;
const FRAMES: usize = 8;
const FRAME_POINTER: u8 = 10;

/// A program with all functions that it calls, one behind another.
struct Linked {
    instructions: Vec<bpf_insn>,
    /// Where functions begin; the first is the program.
    starts: BTreeSet<usize>,
}

impl Linked {
    fn new(instructions: Vec<bpf_insn>) -> Self {
        let called = (0..instructions.len()).filter_map(|at| callee(&instructions, at));
        let starts = [0].into_iter().chain(called).collect();
        Self { instructions, starts }
    }

    fn function(&self, start: usize) -> std::ops::Range<usize> {
        let next = self.starts.range(start + 1..).next();
        start..next.copied().unwrap_or(self.instructions.len())
    }

    /// The most that a function and those that it calls have on the stack, and in how many frames.
    fn deepest(&self, start: usize, known: &mut BTreeMap<usize, (u32, usize)>) -> (u32, usize) {
        if let Some(found) = known.get(&start) {
            return *found;
        }
        let own = self.function(start);
        let depth = own.clone().filter_map(|at| reach(&self.instructions[at])).max().unwrap_or(0);
        let called: BTreeSet<usize> = own.filter_map(|at| callee(&self.instructions, at)).collect();
        let below: Vec<_> = called.into_iter().map(|at| self.deepest(at, known)).collect();
        let depth = depth.max(1).next_multiple_of(STEP);
        let found = (
            depth + below.iter().map(|below| below.0).max().unwrap_or(0),
            1 + below.iter().map(|below| below.1).max().unwrap_or(0),
        );
        known.insert(start, found);
        found
    }
}

/// The function of ours that the instruction at this place calls.
fn callee(instructions: &[bpf_insn], at: usize) -> Option<usize> {
    const CALL: u8 = 0x85;
    const OWN_FUNCTION: u8 = 1;
    let own = &instructions[at];
    let is_call = own.code == CALL && own.src_reg() == OWN_FUNCTION;
    is_call.then(|| (at + 1).checked_add_signed(own.imm as isize).unwrap())
}

/// How far down the stack an instruction reaches: by the frame pointer, or by an address that it
/// makes of it.
fn reach(own: &bpf_insn) -> Option<u32> {
    const ADD_CONSTANT: u8 = 0x07;
    let base = match own.code & 0x07 {
        0x01 => own.src_reg(),
        0x02 | 0x03 => own.dst_reg(),
        _ if own.code == ADD_CONSTANT && own.imm < 0 => return Some(own.imm.unsigned_abs()),
        _ => return None,
    };
    (base == FRAME_POINTER && own.off < 0).then(|| u32::from(own.off.unsigned_abs()))
}

#[test]
fn every_chain_of_calls_fits_onto_the_oldest_kernel_s_stack() {
    let mut object = Object::parse(OBJECT).unwrap();
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).unwrap();
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let linked = Linked::new(function.instructions.clone());
        let (depth, frames) = linked.deepest(0, &mut BTreeMap::new());
        println!("{name}: {depth} bytes in {frames} frames, {} functions", linked.starts.len());
        assert!(depth <= MOST && frames <= FRAMES, "{name}: {depth} bytes in {frames} frames");
        assert!(depth > MOST / 4, "{name}: not all was found");
    }
}
