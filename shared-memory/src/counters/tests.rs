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

/// What clients have executed from one look to the next, in this order: whose it is, and how many.
fn looks(memory: &Memory, eye: &mut Eye) -> Vec<(Whose, u64)> {
    let mut seen = Vec::new();
    memory.look_at_clients(eye, |whose, new| seen.push((whose, new.count())));
    seen
}

#[test]
fn a_look_sees_what_has_come_since_the_last_one() {
    let memory = memory();
    let mut own = Box::new(Own::new());
    let me = Me { number: 0, pid: 1, database: 5 };
    let mut call = |queryid, by_job| {
        let statement = Statement { queryid, user: 10, toplevel: true, by_job };
        memory.count_call(&mut own, me, statement, 5_000_000, 1, || 0);
    };
    let mut eye = Eye::default();
    let calls = memory.calls_of_clients();
    call(1, false);
    call(2, true);
    assert_eq!(looks(&memory, &mut eye), [], "the first look only opens the eye");
    call(1, false);
    call(1, false);
    call(2, true);
    memory.count_commit(me, 1000, 5000);
    let seen = looks(&memory, &mut eye);
    assert_eq!(seen.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!([seen[1].0, seen[2].0], [COMMITS, TRANSACTIONS]);
    assert_eq!(looks(&memory, &mut eye), []);
    assert_eq!(memory.calls_of_clients().wrapping_sub(calls), 3, "those of jobs are not counted");
    // Drained or not is all the same.
    call(1, false);
    let drained = memory.drain(&Alone, 5).unwrap();
    assert_eq!(drained.entries.iter().map(|entry| entry.figures.histogram.count()).sum::<u64>(), 6);
    call(1, false);
    assert_eq!(looks(&memory, &mut eye), [(seen[0].0, 2)]);
    // Somebody lets the figures begin anew: what is between cannot be told.
    assert!(memory.reset(&Alone, 5, 0, |_, _| true));
    assert_eq!(looks(&memory, &mut eye), []);
    call(1, false);
    assert_eq!(looks(&memory, &mut eye), [(seen[0].0, 1)]);
}

#[test]
fn where_the_extension_is_not_all_statements_are_looked_at_as_one() {
    let memory = memory();
    let mut own = Box::new(Own::new());
    let me = Me { number: 0, pid: 1, database: 5 };
    let mut call = |queryid| {
        let statement = Statement { queryid, user: 10, toplevel: true, by_job: false };
        memory.count_call(&mut own, me, statement, 5_000_000, 1, || 0);
    };
    let mut eye = Eye::default();
    call(1);
    memory.set_presence(&Alone, 5, Presence::Absent, |_| ());
    call(2);
    assert_eq!(looks(&memory, &mut eye), [], "the first look only opens the eye");
    call(1);
    call(3);
    let counts: Vec<_> = looks(&memory, &mut eye).iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [2]);
    // Where it is, what has no entry of its own may be a job's.
    memory.set_presence(&Alone, 5, Presence::Present, |_| ());
    call(0);
    assert_eq!(looks(&memory, &mut eye), []);
}

/// The only process.
struct Alone;

impl crate::Host for Alone {
    fn pid(&self) -> u32 {
        1
    }

    fn is_alive(&self, _pid: u32) -> bool {
        true
    }

    fn wait(&self, _turn: u32) {}

    fn now(&self) -> i64 {
        0
    }
}
