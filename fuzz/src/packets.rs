//! Random packets on the programs in the kernel, beside a model of them.
//!
//! Both see the same maps and the same packets, sent and received, in the same order; each answer,
//! and the reason where it is a drop, must be the same. The programs run by BPF_PROG_TEST_RUN in a
//! network namespace of the process' own, whose loopback interface stands for the endpoint's.

mod frame;
mod reference;
mod world;

use std::cell::RefCell;

use arbitrary::Unstructured;

use world::World;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Runs one script of packets and changes.
pub fn check(data: &[u8]) {
    WORLD.with_borrow_mut(|world| {
        let world = world.get_or_insert_with(World::new);
        let mut input = Unstructured::new(data);
        // Input that ends in the middle is a shorter script.
        let _ = world.run(&mut input);
        world.reset();
    });
}
