//! What can be looked at in one process: counting takes no memory (LAW 13).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::*;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's own allocator does it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const ENTRIES: u32 = 8;

fn memory() -> Memory {
    let lines = vec![Line([0; 64]); Memory::size(ENTRIES, 1) / 64].leak();
    // SAFETY: aligned, zero, and leaked.
    unsafe { Memory::create(lines.as_mut_ptr().cast(), ENTRIES, 1, 0) }
}

#[test]
fn counting_allocates_nothing() {
    let memory = memory();
    let mut own = Box::new(Own::new());
    let me = Me { number: 0, pid: 1, database: 5 };
    let before = ALLOCATIONS.get();
    // New ones, known ones, and more than there is room for.
    for queryid in (1..=4 * i64::from(ENTRIES)).chain(1..=4) {
        let statement = Statement { queryid, user: 10, toplevel: true, by_job: false };
        memory.count_call(&mut own, me, statement, 1000, 1, || 0);
        memory.count_failure(&mut own, me, statement, Failure::Error, || 0);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1, "it would be noticed");
}
