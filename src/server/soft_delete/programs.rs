//! The programs of this session's relations, kept until something about them changes; and what a call has prepared, kept
//! until its transaction ends. The one place here that builds anything: guarded, because its errors are ours.

use std::any::Any;
use std::cell::{Cell, RefCell};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

use crate::server::raise::answer;
use crate::soft_delete::program::{self, Program};

struct Entry {
    relid: Oid,
    program: Box<Program>,
    stale: bool,
}

thread_local! {
    static ENTRIES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    /// Not in use any more once the transaction has ended.
    static OLD: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

fn known(relid: Oid) -> Option<*const Program> {
    ENTRIES.with_borrow(|entries| {
        let entry = entries.iter().find(|entry| entry.relid == relid && !entry.stale)?;
        Some(&raw const *entry.program)
    })
}

/// The program of a relation. It lives at least until the transaction ends.
///
/// # Safety
/// In a transaction; the caller's frames hold nothing to drop.
pub unsafe fn of(relid: Oid) -> &'static Program {
    unsafe {
        if let Some(program) = known(relid) {
            return &*program;
        }
        &*build(relid)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn build(relid: Oid) -> *const Program {
    if !REGISTERED.replace(true) {
        // SAFETY: once per session; neither callback allocates nor fails.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(changed), Datum::from(0usize)) };
    }
    let before = CHANGES.get();
    let program = Box::new(answer(program::build(relid)));
    let address = &raw const *program;
    ENTRIES.with_borrow_mut(|entries| {
        for entry in entries.extract_if(.., |entry| entry.relid == relid || entry.stale) {
            keep(entry.program);
        }
        // What changed while it was built may or may not be in it.
        entries.push(Entry { relid, program, stale: before != CHANGES.get() });
    });
    address
}

unsafe extern "C-unwind" fn changed(_arg: Datum, relid: Oid) {
    CHANGES.set(CHANGES.get() + 1);
    ENTRIES.with(|entries| {
        let Ok(mut entries) = entries.try_borrow_mut() else { return };
        for entry in entries.iter_mut() {
            if relid == Oid::INVALID || entry.program.relations.contains(&relid) {
                entry.stale = true;
            }
        }
    });
}

/// Keeps something until the transaction ends, however it ends.
pub fn keep(what: Box<dyn Any>) {
    super::state::register();
    OLD.with_borrow_mut(|old| old.push(what));
}

/// At the end of a transaction.
pub fn forget_old() {
    OLD.with(|old| {
        if let Ok(mut old) = old.try_borrow_mut() {
            old.clear();
        }
    });
}
