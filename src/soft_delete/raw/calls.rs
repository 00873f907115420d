//! `soft_delete()` and both forms of `undelete()`: what the caller asked for is checked and put together behind pgrx's guard;
//! what runs the caller's text, and other people's triggers, is raw.

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

use super::engine::{self, Keys};
use super::{programs, state, statements};
use crate::calls::arguments;
use crate::server::door;
use crate::server::encoding;
use crate::server::raise::answer;
use crate::server::raw::unguarded::toast_raw_datum_size;
use crate::server::raw::{self, Planned, Report, Sight};
use crate::server::value::{self, Records};
use crate::soft_delete::cleared::Cleared;
use crate::soft_delete::program::{Back, KeyColumn, Own};
use crate::soft_delete::request::{self, Restore, Selection};

raw::version_1!(pg_finfo_upkeep_soft_delete, pg_finfo_upkeep_undelete, pg_finfo_upkeep_undelete_where);

/// Safety: the server's call of a function that has so many arguments.
unsafe fn argument(call: pg_sys::FunctionCallInfo, number: usize) -> Option<Datum> {
    // SAFETY: the server passes as many arguments as the function is declared with.
    unsafe {
        let argument = &*(*call).args.as_ptr().add(number);
        if argument.isnull { None } else { Some(argument.value) }
    }
}

/// Safety: as [`argument`], which is a text.
pub(super) unsafe fn text_argument(call: pg_sys::FunctionCallInfo, number: usize) -> *const c_char {
    // SAFETY: the size of a text is looked at where it is, and its copy is in the server's memory.
    unsafe {
        let Some(text) = argument(call, number) else { return null() };
        // Before anything is copied, as `arguments::check_text`.
        if toast_raw_datum_size(text) > arguments::LONGEST_TEXT {
            raw::raise(&Report::new(c"54000", c"a text that is given to soft delete must have at most 1 MB"));
        }
        raw::to_c(text)
    }
}

/// Safety: as [`argument`], which is an OID.
pub(super) unsafe fn oid_argument(call: pg_sys::FunctionCallInfo, number: usize) -> Oid {
    // SAFETY: as the caller promises; an OID is passed by value.
    unsafe { argument(call, number).map_or(Oid::INVALID, |oid| Oid::from(oid.value() as u32)) }
}

/// Safety: null, or it ends in a zero. Behind pgrx's guard: it allocates.
pub(super) unsafe fn to_text(text: *const c_char) -> Option<String> {
    // SAFETY: not null, so it ends in a zero.
    unsafe { (!text.is_null()).then(|| encoding::text(text)) }
}

/// # Safety
/// Called by the server with (target, condition, reason).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are as declared. The selection and the program live until the transaction ends, so does
    // the deletion; keys and parameters until `finish`, after which none of them is used.
    unsafe {
        statements::refuse_unfinished(0);
        let selection = &*deletes(oid_argument(call, 0), text_argument(call, 1));
        let deletion = state::begin(text_argument(call, 2));
        raw::connect();
        let values = engine::parameters(deletion, 0);
        let rows = engine::run_own(selection.relid, deletion, &selection.statement, values, null(), Sight::Transaction);
        let keys = Keys::of_result(rows, &selection.keys);
        let found = keys.rows;
        if let Some(own) = &programs::of(selection.relid).own {
            engine::carry_on(deletion, own, keys, true);
        }
        raw::finish();
        if found == 0 {
            (*call).isnull = true;
            return Datum::null();
        }
        Datum::from((&raw mut (*deletion).id).cast::<u8>())
    }
}

/// Safety: `condition` is null or ends in a zero.
#[pg_guard]
unsafe extern "C-unwind" fn deletes(target: Oid, condition: *const c_char) -> *const Selection {
    // SAFETY: as the caller promises.
    let condition = unsafe { to_text(condition) };
    keep(answer(request::deletes(target, condition.as_deref())))
}

pub(super) fn keep<T: 'static>(what: T) -> *const T {
    let what = Box::new(what);
    let address = &raw const *what;
    programs::keep(what);
    address
}

/// # Safety
/// Called by the server with (target, condition).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_undelete_where(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are as declared. The selection lives until the transaction ends; the keys until `finish`,
    // before which their number is taken.
    unsafe {
        statements::refuse_unfinished(0);
        let selection = &*undeletes(oid_argument(call, 0), text_argument(call, 1));
        raw::connect();
        let keys = bring_back(selection.relid, &selection.statement, &selection.keys, null_mut());
        check_parents(selection.relid, &keys);
        let rows = keys.rows;
        raw::finish();
        Datum::from(rows as i64)
    }
}

/// Safety: `condition` is null or ends in a zero.
#[pg_guard]
unsafe extern "C-unwind" fn undeletes(target: Oid, condition: *const c_char) -> *const Selection {
    // SAFETY: as the caller promises.
    let condition = unsafe { to_text(condition) };
    keep(answer(request::undeletes(target, condition.as_deref())))
}

/// Clears the deletion of rows; gives what they reference.
///
/// Safety: connected; `deletion` is null or of this transaction, and `keys` live as long as it.
unsafe fn bring_back(relid: Oid, update: &Planned, keys: &[KeyColumn], deletion: *mut state::Deletion) -> Keys {
    // SAFETY: the statement takes the three common parameters, and there are three nulls. What an error leaves of
    // `enter` the abort puts right.
    unsafe {
        let values = engine::parameters(deletion, 0);
        state::enter(relid, deletion, true);
        let mut nulls = *b"nnn";
        if !deletion.is_null() {
            nulls = *b"   ";
        }
        let rows = raw::run_theirs(update, values, nulls.as_ptr().cast(), Sight::Transaction);
        state::leave();
        Keys::of_result(rows, keys)
    }
}

/// The table has been locked and found to have soft delete.
///
/// Safety: nothing above has anything to drop.
unsafe fn back_of(relid: Oid) -> &'static Back {
    // SAFETY: a program lives until the transaction ends.
    unsafe {
        match &programs::of(relid).own {
            Some(Own { back: Some(back), .. }) => back,
            _ => raw::raise(&Report {
                hint: c"Try the transaction again.".as_ptr(),
                ..Report::new(c"40001", c"a table of the deletion has changed meanwhile")
            }),
        }
    }
}

/// Refuses to leave a live row that references a deleted one; the referenced rows stay locked.
///
/// Safety: connected; `keys` are of that table.
unsafe fn check_parents(relid: Oid, keys: &Keys) {
    // SAFETY: the program lives until the transaction ends; values and nulls have room for the three common
    // parameters and one for each column.
    unsafe {
        if keys.rows == 0 {
            return;
        }
        let program = programs::of(relid);
        let mut i = 0;
        while i < program.parents.len() {
            let parent = &*program.parents.as_ptr().add(i);
            i += 1;
            let count = parent.references.len();
            let values = engine::parameters(null(), count);
            let nulls: *mut c_char = raw::allocate(3 + count);
            std::ptr::write_bytes(nulls, b' ', 3 + count);
            std::ptr::write_bytes(nulls, b'n', 3);
            let mut k = 0;
            while k < count {
                *values.add(3 + k) = keys.of(*parent.references.as_ptr().add(k));
                k += 1;
            }
            let before = raw::become_owner(parent.relid, pg_sys::RowShareLock);
            // Twice: the first waits for who deletes a row, and then gives the version that it had found before.
            raw::run_theirs(&parent.look_all, values, nulls, Sight::Latest);
            raw::run_theirs(&parent.look_all, values, nulls, Sight::Latest);
            raw::become_again(before);
            if raw::value(1).is_some() {
                engine::refuse(&parent.refusal, raw::value(1), parent.relid);
            }
        }
    }
}

/// # Safety
/// Called by the server with (deletion).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_undelete(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the argument is as declared, and `restores` refuses null; what it gives lives until the transaction
    // ends. `all` has a place for each table, each written before any is read.
    unsafe {
        statements::refuse_unfinished(0);
        let id = argument(call, 0).map_or(null(), |id| id.cast_mut_ptr::<[u8; 16]>().cast_const());
        let restore = &*restores(id);
        let deletion = state::begin(null());
        (*deletion).id = *id;
        (*deletion).written = 1;
        raw::connect();
        let values = engine::parameters(deletion, 0);
        if engine::keep_books(restore.mark, values, null()) == 0 {
            raw::raise(&Report::new(c"55000", c"this deletion has been undeleted already"));
        }
        // From here on every purge waits for us; one that we have waited for may have taken rows of it.
        refuse_purged(id);
        let mut total = 0;
        let mut counted = 0;
        let all: *mut Keys = raw::allocate(restore.tables.len());
        let mut i = 0;
        while i < restore.tables.len() {
            let table = &*restore.tables.as_ptr().add(i);
            let back = back_of(table.relid);
            if table.as_caller {
                *all.add(i) = bring_back(table.relid, &back.update, &back.keys, deletion);
            } else {
                let before = raw::become_owner(table.relid, pg_sys::RowExclusiveLock);
                *all.add(i) = bring_back(table.relid, &back.update, &back.keys, deletion);
                raw::become_again(before);
            }
            total += (*all.add(i)).rows;
            counted += table.rows;
            i += 1;
        }
        if total == 0 && counted > 0 {
            // What row security hides is told as such.
            i = 0;
            while i < restore.tables.len() {
                refuse_less(&*restore.tables.as_ptr().add(i), values, 0);
                i += 1;
            }
            nothing_left();
        }
        i = 0;
        while i < restore.tables.len() {
            refuse_less(&*restore.tables.as_ptr().add(i), values, (*all.add(i)).rows);
            i += 1;
        }
        i = 0;
        while i < restore.tables.len() {
            check_parents((*restore.tables.as_ptr().add(i)).relid, &*all.add(i));
            i += 1;
        }
        i = 0;
        while i < restore.cleared.len() {
            let cleared = &*restore.cleared.as_ptr().add(i);
            i += 1;
            let rows = engine::keep_books(&cleared.load, values, null());
            if rows == 0 {
                continue;
            }
            let before = raw::become_owner(cleared.relid, pg_sys::RowExclusiveLock);
            let values = engine::parameters(deletion, 1);
            *values.add(3) = references(cleared, rows);
            let restored = raw::run_theirs(&cleared.restore, values, null(), Sight::Latest);
            raw::become_again(before);
            // What somebody has set to something else stays remembered.
            if restored == rows {
                engine::keep_books(&cleared.forget, values, null());
            }
        }
        raw::finish();
        state::close(id);
        Datum::from(total as i64)
    }
}

/// The rows that have just been loaded, as values.
///
/// Safety: connected; the last result is that of `load` of this foreign key, and has so many rows.
unsafe fn references(cleared: &Cleared, rows: u64) -> Datum {
    // SAFETY: the result stays while values are read, which run no statement; a row has a column more than there are
    // types, and values and nulls have room for each type.
    unsafe {
        let result = raw::result();
        let count = cleared.types.len();
        let mut records = Records::new(&cleared.types);
        let values: *mut Datum = raw::allocate(count);
        let nulls: *mut bool = raw::allocate(count);
        let mut row = 0;
        while row < rows as usize {
            let tuple = *(*result).vals.add(row);
            let exact = raw::attribute(tuple, (*result).tupdesc, 1).is_some_and(|exact| exact.value() != 0);
            // An older version wrote amounts of money as the session's locale has them.
            let pinned = raw::pin(if exact { &door::EXACT } else { door::OURS });
            let mut i = 0;
            while i < count {
                let text = raw::attribute(tuple, (*result).tupdesc, i as i16 + 2);
                *nulls.add(i) = text.is_none();
                if let Some(text) = text {
                    let (type_oid, text) = (*cleared.types.as_ptr().add(i), raw::to_c(text));
                    *values.add(i) = if exact { value::read(type_oid, text) } else { value::read_old(type_oid, text) };
                }
                i += 1;
            }
            raw::unpin(pinned);
            records.add(values, nulls);
            row += 1;
        }
        records.finish()
    }
}

/// Fewer rows than the deletion has counted: some may have come back before, or have gone with a later one. The owner, from
/// whom no policy hides any, looks whether it still has others.
///
/// Safety: connected; the first of `values` is the deletion's id.
unsafe fn refuse_less(table: &request::Table, values: *mut Datum, back: u64) {
    // SAFETY: `left` takes the three common parameters; the program lives until the transaction ends.
    unsafe {
        if back == table.rows {
            return;
        }
        let before = raw::become_owner(table.relid, pg_sys::AccessShareLock);
        raw::run_theirs(&back_of(table.relid).left, values, null(), Sight::Transaction);
        raw::become_again(before);
        let left = raw::value(1).map_or(0, |left| left.value() as u64);
        if left > 0 {
            incomplete(table, back, left);
        }
    }
}

/// Safety: the table lives.
#[pg_guard]
unsafe extern "C-unwind" fn incomplete(table: *const request::Table, back: u64, left: u64) {
    // SAFETY: as the caller promises.
    answer(Err(request::incomplete(unsafe { &*table }, back, left)))
}

/// Safety: none of its own: its error passes the caller by longjmp.
#[pg_guard]
unsafe extern "C-unwind" fn nothing_left() {
    answer(Err(request::nothing_left()))
}

/// Safety: the id is there.
#[pg_guard]
unsafe extern "C-unwind" fn refuse_purged(id: *const [u8; 16]) {
    // SAFETY: as the caller promises; it is copied.
    answer(request::refuse_purged(pgrx::Uuid::from_bytes(unsafe { *id })));
}

/// Safety: the id is null or there.
#[pg_guard]
unsafe extern "C-unwind" fn restores(id: *const [u8; 16]) -> *const Restore {
    // SAFETY: as the caller promises; it is copied.
    let id = unsafe { id.as_ref() }.map(|id| pgrx::Uuid::from_bytes(*id));
    keep(answer(request::restores(id)))
}
