//! Random days of a node: policies come and go, are audited and enforced, pods come and go, answers
//! come in, time passes, the daemon starts again on what the kernel holds.
//!
//! Beside it stands a plain list of who may reach what. Whenever things are settled, the maps must
//! say exactly what the list says; and after every single write on the way, a packet that was and
//! will be allowed passes, and one that was not and will not be does not.

mod day;
mod expected;

use arbitrary::{Result, Unstructured};

use day::Day;

const MAX_EVENTS: usize = 40;

/// Runs one day.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // Input that ends in the middle is a shorter day.
    let _ = run(&mut input);
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let mut day = Day::new();
    for _ in 0..MAX_EVENTS {
        match input.int_in_range(0..=9)? {
            0..=3 => day.learn(input)?,
            4 | 5 => day.change_policies(input)?,
            6 => day.change_pods(input)?,
            7 | 8 => day.wait(input.int_in_range(0..=30)?),
            _ => day.restart(input)?,
        }
        day.check();
    }
    Ok(())
}
