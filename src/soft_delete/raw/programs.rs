//! The programs of this session's relations, kept until something about them changes; and what a call has prepared, kept
//! until its transaction ends. The one place here that builds anything: guarded, because its errors are ours.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
    // SAFETY: entries are boxed, and one that is replaced is kept until the transaction ends.
    unsafe {
        if let Some(program) = known(relid) {
            return &*program;
        }
        &*build(relid)
    }
}

/// Safety: in a transaction; its error passes the caller by longjmp.
#[pg_guard]
unsafe extern "C-unwind" fn build(relid: Oid) -> *const Program {
    if !REGISTERED.replace(true) {
        // SAFETY: once per session; no callback allocates or fails.
        unsafe { register() };
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

/// Everything that a program names. What changes seldom makes all programs out of date, as the server does with its plans;
/// types, of which each new table is one, and roles only those that have to do with them.
///
/// Safety: once per session, or the server runs out of places.
unsafe fn register() {
    use pg_sys::SysCacheIdentifier::{AMOPOPID, AUTHOID, COLLOID, NAMESPACEOID, OPEROID, TYPEOID};
    // SAFETY: the callbacks are functions of a library that stays; they neither allocate nor fail.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(changed), Datum::from(0usize));
        for cache in [NAMESPACEOID, OPEROID, AMOPOPID, COLLOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(any_changed), Datum::from(0usize));
        }
        for cache in [TYPEOID, AUTHOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(object_changed), Datum::from(0usize));
        }
    }
}

/// Safety: called by the server.
unsafe extern "C-unwind" fn changed(_arg: Datum, relid: Oid) {
    out_of_date(|program| relid == Oid::INVALID || program.names(relid));
}

/// Safety: called by the server.
unsafe extern "C-unwind" fn any_changed(_arg: Datum, _cache: i32, _hash: u32) {
    out_of_date(|_| true);
}

/// Safety: called by the server.
unsafe extern "C-unwind" fn object_changed(_arg: Datum, _cache: i32, hash: u32) {
    out_of_date(|program| hash == 0 || program.hashes.contains(&hash));
}

fn out_of_date(is: impl Fn(&Program) -> bool) {
    CHANGES.set(CHANGES.get() + 1);
    ENTRIES.with(|entries| {
        let Ok(mut entries) = entries.try_borrow_mut() else { return };
        for entry in entries.iter_mut() {
            entry.stale |= is(&entry.program);
        }
    });
}

/// Is there anything in [`OLD`]? Every transaction of every session asks when it ends, and the first use of a list that is to be
/// dropped allocates (LAW 13).
static HAS_OLD: AtomicBool = AtomicBool::new(false);

/// Keeps something until the transaction ends, however it ends.
pub fn keep(what: Box<dyn Any>) {
    HAS_OLD.store(true, Relaxed);
    OLD.with_borrow_mut(|old| old.push(what));
}

/// At the end of a transaction: nobody holds any of it.
pub fn forget_old() {
    if !HAS_OLD.load(Relaxed) {
        return;
    }
    OLD.with(|old| {
        if let Ok(mut old) = old.try_borrow_mut() {
            old.clear();
            HAS_OLD.store(false, Relaxed);
        }
    });
}
