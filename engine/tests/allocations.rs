//! What answers cost once their addresses are known: nothing is allocated and nothing written.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use engine::leases::{Leases, Limits, NameSets, SetsFull};
use model::{Change, EndpointId, Identity, Moment, Name, NameRef, Scope};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor
// touches what is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One selector that matches everything.
struct Everything;

impl NameSets for Everything {
    fn set_of(
        &mut self,
        _: NameRef<'_>,
        _: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull> {
        Ok(Some(Identity::first(Scope::Names)))
    }

    fn union(
        &mut self,
        a: Identity,
        _: Identity,
        _: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        Ok(a)
    }
}

#[test]
fn an_answer_that_is_leased_long_enough_allocates_and_writes_nothing() {
    let mut leases = Leases::new(EndpointId(1), Limits::default());
    let mut changes = Vec::new();
    let names: Vec<Name> =
        (0..200).map(|index| format!("n{index}.example").parse().unwrap()).collect();
    let addresses: Vec<(IpAddr, u32)> =
        (0..8).map(|last| (Ipv4Addr::new(192, 0, 2, last).into(), 60)).collect();
    let mut answer_all = |at, changes: &mut Vec<Change>| {
        for name in &names {
            let now = Moment::from_secs(at);
            leases.handle_answer(name.as_ref(), &addresses, now, &mut Everything, changes).unwrap();
        }
    };
    answer_all(0, &mut changes);
    // The first renewal moves each name's place in the agenda, once.
    answer_all(1, &mut changes);
    changes.clear();
    let before = ALLOCATIONS.get();
    for at in 2..10 {
        answer_all(at, &mut changes);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(changes, []);
}
