//! Which helper a call in a loaded program is.
//!
//! The kernel has replaced a helper's number by a distance within itself, which differs from boot
//! to boot. So a program of our own makes the calls that matter, and is read back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::programs::undisturbed;
use crate::sys::program::{self, Instruction};

use super::Redirects;

const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;

const CLONE_REDIRECT: i32 = 13;
const REDIRECT: i32 = 23;
const REDIRECT_NEIGH: i32 = 152;
const REDIRECT_PEER: i32 = 155;
const HELPERS: [i32; 4] = [CLONE_REDIRECT, REDIRECT, REDIRECT_NEIGH, REDIRECT_PEER];

/// The calls that send a packet another way, as this kernel shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls([i32; HELPERS.len()]);

impl Calls {
    /// Finds out; none where the kernel does not show calls.
    pub fn learn() -> io::Result<Option<Self>> {
        let program = load_example()?;
        let found = called(&program::read(program.as_fd())?.instructions).collect::<Vec<_>>();
        let distinct = |calls: &[i32; HELPERS.len()]| calls.iter().all(|call| *call != 0);
        Ok(<[i32; HELPERS.len()]>::try_from(found).ok().filter(distinct).map(Self))
    }

    /// What a program by itself does to a packet's way.
    pub fn judge(&self, name: &str, instructions: &[Instruction]) -> Redirects {
        let [.., into_namespace] = self.0;
        let mut redirects = Redirects::Never;
        for call in called(instructions).filter(|call| self.0.contains(call)) {
            if call == into_namespace {
                return Redirects::IntoNamespace { caller: name.to_owned() };
            }
            redirects = Redirects::ToInterface;
        }
        redirects
    }
}

/// A program that makes the calls.
fn load_example() -> io::Result<OwnedFd> {
    undisturbed(|| program::load("fqdnd_example", &example()))
}

fn example() -> Vec<Instruction> {
    let mut program = vec![copy(6, 1)];
    for helper in HELPERS {
        let first = if helper == CLONE_REDIRECT { copy(1, 6) } else { set(1, 1) };
        program.extend([first, set(2, 0), set(3, 0), set(4, 0)]);
        program.push(Instruction { code: CALL, immediate: helper, ..Instruction::default() });
    }
    program.extend([set(0, 0), Instruction { code: EXIT, ..Instruction::default() }]);
    program
}

fn set(register: u8, immediate: i32) -> Instruction {
    Instruction { code: SET, registers: registers(register, 0), offset: 0, immediate }
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction { code: COPY, registers: registers(to, from), offset: 0, immediate: 0 }
}

const fn registers(destination: u8, source: u8) -> u8 {
    if cfg!(target_endian = "little") {
        destination | source << 4
    } else {
        destination << 4 | source
    }
}

/// What helpers are called, in order. Calls of a program's own functions and of the kernel's name
/// themselves in the source register.
fn called(instructions: &[Instruction]) -> impl Iterator<Item = i32> {
    let helpers = instructions.iter().filter(|own| own.code == CALL && own.registers == 0);
    helpers.map(|own| own.immediate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_into_a_namespace_outweighs_the_others() {
        let calls = Calls([-10, -20, -30, -40]);
        let call = |immediate| Instruction { code: CALL, immediate, ..Instruction::default() };
        let function = Instruction { registers: registers(0, 1), ..call(-40) };
        let judge = |program: &[Instruction]| calls.judge("there", program);
        assert_eq!(judge(&[call(-50), function, set(1, -40)]), Redirects::Never);
        assert_eq!(judge(&[call(-20)]), Redirects::ToInterface);
        let into = Redirects::IntoNamespace { caller: "there".to_owned() };
        assert_eq!(judge(&[call(-10), call(-40), call(-30)]), into);
    }

    #[test]
    fn this_kernel_shows_root_what_is_called() {
        let Calls(calls) = Calls::learn().unwrap().unwrap();
        let distinct: std::collections::BTreeSet<_> = calls.into_iter().collect();
        assert_eq!(distinct.len(), HELPERS.len(), "{calls:?}");
    }
}
