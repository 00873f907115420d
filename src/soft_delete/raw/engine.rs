//! What a deletion does beside setting a row's columns: rows that reference it go too, are cleared, or stand in the way.
//! Set by set, a table at a time, as the tables' owners (as the server's own foreign keys act), each look as of now.

use std::ffi::c_char;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use pgrx::pg_sys::{self, Datum, Oid};

use super::programs;
use super::state::{self, Deletion};
use crate::server::raw::unguarded::{GetUserId, LockRelationOid, pg_class_aclcheck};
use crate::server::raw::{self, Planned, Report, Sight};
use crate::server::{door, value};
use crate::soft_delete::program::{Action, Child, Clearing, KeyColumn, Own, Refusal};

/// Keys of some rows: an array for each of these columns.
pub struct Keys {
    pub rows: u64,
    columns: *const KeyColumn,
    count: usize,
    arrays: *mut Datum,
}

impl Keys {
    /// Nobody has asked for any.
    pub fn none(rows: u64) -> Self {
        Keys { rows, columns: null(), count: 0, arrays: null_mut() }
    }

    /// Of columns which live as long as it; the arrays are the caller's to write.
    ///
    /// Safety: `columns` are that many, and live as long as it.
    pub unsafe fn new(rows: u64, columns: *const KeyColumn, count: usize) -> Self {
        // SAFETY: room for as many arrays as there are columns, in the current memory.
        unsafe { Keys { rows, columns, count, arrays: raw::allocate(count) } }
    }

    /// Safety: one of its columns, once.
    pub unsafe fn set(&self, at: usize, array: Datum) {
        // SAFETY: below `count`, as the caller promises.
        unsafe { *self.arrays.add(at) = array };
    }

    /// From the last result: a count and the arrays. No columns: each row of it is one.
    ///
    /// Safety: connected; the columns live until the transaction ends.
    pub unsafe fn of_result(rows: u64, columns: &[KeyColumn]) -> Self {
        // SAFETY: the result of the statement that has just been run; a column of it that is not what was expected is
        // an error before it is taken for an array.
        unsafe {
            if columns.is_empty() {
                return Keys::none(rows);
            }
            let rows = raw::value(1).map_or(0, |rows| rows.value() as u64);
            let keys = Keys::new(rows, columns.as_ptr(), columns.len());
            let mut i = 0;
            while i < columns.len() && rows > 0 {
                if raw::column_type(raw::result(), i + 1) != (*columns.as_ptr().add(i)).array_oid {
                    other_keys();
                }
                match raw::value(i as i32 + 2) {
                    Some(array) => keys.set(i, array),
                    None => other_keys(),
                }
                i += 1;
            }
            keys
        }
    }

    /// The array of that column; an error if whoever has gathered the keys did not know that it is one.
    ///
    /// Safety: all arrays are written.
    pub unsafe fn of(&self, column: KeyColumn) -> Datum {
        // SAFETY: both have `count` elements.
        unsafe {
            let mut i = 0;
            while i < self.count {
                if *self.columns.add(i) == column {
                    return *self.arrays.add(i);
                }
                i += 1;
            }
            other_keys()
        }
    }

    /// The arrays of the primary key.
    ///
    /// Safety: all arrays are written; `values` has room for the primary key.
    pub unsafe fn primary(&self, own: &Own, values: *mut Datum) {
        // SAFETY: the primary key is the first `primary` of the table's keys.
        unsafe {
            let mut i = 0;
            while i < own.primary {
                *values.add(i) = self.of((*own.keys.as_ptr().add(i)).column);
                i += 1;
            }
        }
    }
}

/// Which columns the first `count` keys are, in that memory.
///
/// Safety: `own` has that many keys.
pub unsafe fn columns_in(context: pg_sys::MemoryContext, own: &Own, count: usize) -> *mut KeyColumn {
    // SAFETY: room for `count` columns, each written.
    unsafe {
        let columns: *mut KeyColumn = raw::allocate_in(context, count);
        let mut i = 0;
        while i < count {
            *columns.add(i) = (*own.keys.as_ptr().add(i)).column;
            i += 1;
        }
        columns
    }
}

/// An error if the first keys of the table are not these.
///
/// Safety: `columns` are `count`, and `own` has as many `keys`.
pub unsafe fn require_columns(columns: *const KeyColumn, count: usize, own: &Own, keys: usize) {
    // SAFETY: below `count`, which by then is the number of keys.
    unsafe {
        if count != keys {
            other_keys();
        }
        let mut i = 0;
        while i < count {
            if *columns.add(i) != (*own.keys.as_ptr().add(i)).column {
                other_keys();
            }
            i += 1;
        }
    }
}

/// Safety: nothing above has anything to drop.
pub unsafe fn other_keys() -> ! {
    // SAFETY: as the caller promises; texts of ours end in a zero.
    unsafe {
        raw::raise(&Report {
            detail: c"A foreign key was added, or a column of one has changed, since rows were deleted.".as_ptr(),
            hint: c"Try the transaction again.".as_ptr(),
            ..Report::new(c"40001", c"a key of the table has changed meanwhile")
        })
    }
}

/// The table with soft delete, with those that reference it locked: their names, owners and keys stay as they are from
/// before they are looked at until the transaction ends.
///
/// Safety: nothing above has anything to drop.
unsafe fn with_children(relid: Oid) -> Option<&'static Own> {
    // SAFETY: a program lives until the transaction ends, also one that a lock's wait has made out of date.
    unsafe {
        let mut program = programs::of(relid);
        let mut tries = 0;
        while tries < TRIES {
            if let Some(own) = &program.own {
                let mut i = 0;
                while i < own.children.len() {
                    let child = &*own.children.as_ptr().add(i);
                    let mode = match child.action {
                        Action::Cascade { .. } | Action::Clear { .. } => pg_sys::RowExclusiveLock,
                        Action::Refuse { .. } => pg_sys::AccessShareLock,
                        Action::Nothing => pg_sys::NoLock,
                    };
                    if mode != pg_sys::NoLock {
                        LockRelationOid(child.relid, mode as pg_sys::LOCKMODE);
                    }
                    i += 1;
                }
            }
            let again = programs::of(relid);
            if std::ptr::eq(program, again) {
                return program.own.as_ref();
            }
            program = again;
            tries += 1;
        }
        other_keys()
    }
}

/// Each is a change of a table that came just before its lock.
const TRIES: u32 = 20;

/// A table whose rows have gone and whose children are still to be seen to.
struct Work {
    next: *mut Work,
    relid: Oid,
    keys: Keys,
}

/// The three parameters that all statements have, and room for `more`.
///
/// Safety: `deletion` is null or lives as long as the values.
pub unsafe fn parameters(deletion: *const Deletion, more: usize) -> *mut Datum {
    // SAFETY: room for the three and `more`; the id is passed by reference to the deletion itself.
    unsafe {
        let values: *mut Datum = raw::allocate(3 + more);
        if !deletion.is_null() {
            *values = Datum::from((&raw const (*deletion).id).cast_mut());
            *values.add(1) = Datum::from((*deletion).at);
            *values.add(2) = raw::text((*deletion).by);
        }
        values
    }
}

/// Runs an UPDATE of ours on that table.
///
/// Safety: connected; `values` and `nulls` are as many as the statement takes; `deletion` lives as long as the
/// transaction.
pub unsafe fn run_own(
    relid: Oid,
    deletion: *mut Deletion,
    statement: &Planned,
    values: *mut Datum,
    nulls: *const c_char,
    sight: Sight,
) -> u64 {
    // SAFETY: as the caller promises. What an error leaves of `enter` the abort puts right.
    unsafe {
        state::enter(relid, deletion, false);
        let rows = raw::run_theirs(statement, values, nulls, sight);
        state::leave();
        rows
    }
}

/// Carries a deletion on from rows of a table that are marked already, and counts them. `direct`: by somebody's own doing.
///
/// Safety: connected; `deletion` lives as long as the transaction, and the keys are those of `own`.
pub unsafe fn carry_on(deletion: *mut Deletion, own: &Own, keys: Keys, direct: bool) {
    // SAFETY: the list of work is in the connection's memory, and only grows; programs live until the transaction
    // ends.
    unsafe {
        count(deletion, own.relid, keys.rows, direct);
        if own.children.is_empty() || keys.rows == 0 {
            return;
        }
        let keys = of_table_itself(deletion, own, keys);
        if keys.rows == 0 {
            return;
        }
        let mut work: *mut Work = raw::allocate(1);
        *work = Work { next: null_mut(), relid: own.relid, keys };
        let first = work;
        let mut last = work;
        while !work.is_null() {
            if let Some(own) = with_children((*work).relid) {
                last = children(deletion, own, work, last);
            }
            work = (*work).next;
        }
        // Only now: a row that goes by another key is not cleared.
        work = first;
        while !work.is_null() {
            if let Some(own) = &programs::of((*work).relid).own {
                clear_all(deletion, own, &(*work).keys);
            }
            work = (*work).next;
        }
        // What stands in the way at the end: rows may have gone by another path.
        work = first;
        while !work.is_null() {
            if let Some(own) = &programs::of((*work).relid).own {
                refuse_all(own, &(*work).keys, false);
            }
            work = (*work).next;
        }
    }
}

/// Foreign keys reference rows of the table itself: one of a table that inherits from it may have the key of a row that is
/// live. Each way of deleting may meet both; the rows are marked by now.
///
/// Safety: connected; the keys are those of `own`.
unsafe fn of_table_itself(deletion: *const Deletion, own: &Own, keys: Keys) -> Keys {
    // SAFETY: values for the three parameters and the primary key, which `own_rows` takes; its columns live until the
    // transaction ends.
    unsafe {
        let Some((statement, columns)) = &own.own_rows else { return keys };
        let values = parameters(deletion, own.primary);
        keys.primary(own, values.add(3));
        let before = raw::become_owner(own.relid, pg_sys::AccessShareLock);
        let rows = raw::run_theirs(statement, values, null(), Sight::Latest);
        raw::become_again(before);
        Keys::of_result(rows, columns)
    }
}

/// One table's children; new work goes behind `last`.
///
/// Safety: connected; `work` is in a list whose last is `last`, and is of the table of `own`.
unsafe fn children(deletion: *mut Deletion, own: &Own, work: *mut Work, mut last: *mut Work) -> *mut Work {
    // SAFETY: the list is in the connection's memory; `lock` takes the three parameters and the primary key; programs
    // live until the transaction ends.
    unsafe {
        if own.children.is_empty() {
            return last;
        }
        let keys = &(*work).keys;
        // Whoever inserts a row that references one of these holds it FOR KEY SHARE until he commits: wait for him, and
        // look at what he has inserted.
        let values = parameters(deletion, own.primary);
        keys.primary(own, values.add(3));
        let before = raw::become_owner(own.relid, pg_sys::RowShareLock);
        raw::run_theirs(&own.lock, values, null(), Sight::Latest);
        raw::become_again(before);
        refuse_all(own, keys, true);
        let mut i = 0;
        while i < own.children.len() {
            let child = &*own.children.as_ptr().add(i);
            match &child.action {
                Action::Cascade { child: relid, statement, keys: columns } => {
                    let gone = cascade(deletion, child, *relid, statement, keys, columns);
                    if gone.rows > 0 {
                        count(deletion, *relid, gone.rows, false);
                        let more: *mut Work = raw::allocate(1);
                        *more = Work { next: null_mut(), relid: *relid, keys: gone };
                        (*last).next = more;
                        last = more;
                    }
                }
                Action::Clear { .. } | Action::Refuse { .. } | Action::Nothing => {}
            }
            i += 1;
        }
        last
    }
}

/// Parameters with the keys that this foreign key references.
///
/// Safety: connected; `deletion` is null or lives as long as the values.
unsafe fn parameters_for(deletion: *const Deletion, child: &Child, keys: &Keys) -> *mut Datum {
    // SAFETY: room for the three parameters and the keys of the child.
    unsafe {
        let values = parameters(deletion, child.keys.len());
        let mut i = 0;
        while i < child.keys.len() {
            *values.add(3 + i) = keys.of(*child.keys.as_ptr().add(i));
            i += 1;
        }
        values
    }
}

/// Safety: connected; it is the statement of that child, and returns these columns.
unsafe fn cascade(
    deletion: *mut Deletion,
    child: &Child,
    relid: Oid,
    statement: &Planned,
    keys: &Keys,
    columns: &[KeyColumn],
) -> Keys {
    // SAFETY: its parameters are those of the child. What an error leaves of the user the abort puts right.
    unsafe {
        let values = parameters_for(deletion, child, keys);
        let before = raw::become_owner(child.relid, pg_sys::RowExclusiveLock);
        let rows = run_own(relid, deletion, statement, values, null(), Sight::Latest);
        raw::become_again(before);
        Keys::of_result(rows, columns)
    }
}

/// Safety: connected; `deletion` lives as long as the transaction.
unsafe fn clear_all(deletion: *mut Deletion, own: &Own, keys: &Keys) {
    // SAFETY: below the number of children.
    unsafe {
        let mut i = 0;
        while i < own.children.len() {
            let child = &*own.children.as_ptr().add(i);
            if let Action::Clear { child: relid, clearing } = &child.action {
                clear(deletion, child, *relid, clearing, keys);
            }
            i += 1;
        }
    }
}

/// Safety: connected; it is the clearing of that child; `deletion` lives as long as the transaction.
unsafe fn clear(deletion: *mut Deletion, child: &Child, relid: Oid, clearing: &Clearing, keys: &Keys) {
    // SAFETY: the statement's parameters are those of the child, and what it returns becomes as many texts as
    // `remember` takes behind the three.
    unsafe {
        let values = parameters_for(deletion, child, keys);
        let before = raw::become_owner(child.relid, pg_sys::RowExclusiveLock);
        let rows = run_own(relid, deletion, &clearing.clear, values, null(), Sight::Latest);
        let texts = written(rows, clearing.keys, clearing.columns);
        raw::become_again(before);
        if rows > 0 {
            write(deletion);
            let count = clearing.keys + 2 * clearing.columns;
            let values = parameters(deletion, count);
            std::ptr::copy_nonoverlapping(texts, values.add(3), count);
            keep_books(&clearing.remember, values, null());
        }
    }
}

/// What a statement has returned of cleared references, as arrays of text from which the same values come back: the keys, the
/// values that were there, those that are there now.
///
/// Safety: connected; the last result has so many rows of `keys` and three times `columns`.
unsafe fn written(rows: u64, keys: usize, columns: usize) -> *mut Datum {
    // SAFETY: room for `count` arrays; rows and columns are within the result, which stays while its values are
    // written, which run no statement.
    unsafe {
        let count = keys + 2 * columns;
        let texts: *mut Datum = raw::allocate(count);
        let result = raw::result();
        let pinned = raw::pin(&door::EXACT);
        let mut i = 0;
        while i < count {
            let mut array = raw::Array::new(pg_sys::TEXTOID);
            let mut row = 0;
            while row < rows as usize {
                // Of the values that were there the row's own, else the deleted row's; behind them those of now.
                let text = if i < keys + columns { value_text(result, row, i) } else { null_mut() };
                let text = if text.is_null() && i >= keys { value_text(result, row, i + columns) } else { text };
                array.add(if text.is_null() { Datum::null() } else { raw::text(text) }, text.is_null());
                row += 1;
            }
            *texts.add(i) = array.finish();
            i += 1;
        }
        raw::unpin(pinned);
        texts
    }
}

/// Safety: within the result.
unsafe fn value_text(result: *mut pg_sys::SPITupleTable, row: usize, column: usize) -> *mut c_char {
    // SAFETY: as the caller promises; the value is of the column's type.
    unsafe {
        match raw::attribute(*(*result).vals.add(row), (*result).tupdesc, column as i16 + 1) {
            Some(found) => value::write(raw::column_type(result, column), found),
            None => null_mut(),
        }
    }
}

/// Safety: connected; the keys are those of `own`.
unsafe fn refuse_all(own: &Own, keys: &Keys, immediately: bool) {
    // SAFETY: the statement takes the three parameters, which are null here, and the keys of its child; there is room
    // for as many nulls.
    unsafe {
        let mut i = 0;
        while i < own.children.len() {
            let child = &*own.children.as_ptr().add(i);
            if let Action::Refuse { now, statement, refusal, .. } = &child.action
                && *now == immediately
            {
                let values = parameters_for(null(), child, keys);
                let nulls: *mut c_char = raw::allocate(statement.arguments());
                std::ptr::write_bytes(nulls, b' ', statement.arguments());
                std::ptr::write_bytes(nulls, b'n', 3);
                let before = raw::become_owner(child.relid, pg_sys::AccessShareLock);
                let found = raw::run_theirs(statement, values, nulls, Sight::Latest);
                raw::become_again(before);
                if found > 0 {
                    refuse(refusal, raw::value(1), own.relid);
                }
            }
            i += 1;
        }
    }
}

/// Raises it; the key's values only for who may read the table that holds them.
///
/// Safety: `detail` is a text, of the last result at the latest.
pub unsafe fn refuse(refusal: &Refusal, detail: Option<Datum>, table_of_key: Oid) -> ! {
    // SAFETY: as the caller promises; what is raised is copied by the server.
    unsafe {
        let visible = pg_class_aclcheck(table_of_key, GetUserId(), pg_sys::ACL_SELECT as pg_sys::AclMode) == 0;
        raise_refusal(
            refusal,
            if visible { detail.map_or(null(), |detail| raw::to_c(detail).cast_const()) } else { null() },
        )
    }
}

/// Safety: `detail` is null or ends in a zero; nothing above has anything to drop.
unsafe fn raise_refusal(refusal: &Refusal, detail: *const c_char) -> ! {
    // SAFETY: texts of a program end in a zero, and it lives until the transaction ends.
    unsafe {
        raw::raise(&Report {
            detail,
            hint: refusal.hint.as_ref().map_or(null(), |hint| hint.as_ptr()),
            schema: refusal.schema.as_ptr(),
            table: refusal.table.as_ptr(),
            constraint: refusal.constraint.as_ptr(),
            ..Report::with(refusal.sqlstate, refusal.message.as_ptr())
        })
    }
}

struct Books {
    write: Planned,
    count: Planned,
}

// SAFETY: a backend has one thread, and forks none that would have it.
unsafe impl Sync for Books {}
// SAFETY: as above.
unsafe impl Send for Books {}

static BOOKS: OnceLock<Books> = OnceLock::new();

fn books() -> &'static Books {
    BOOKS.get_or_init(|| {
        let types = |more: &[Oid]| {
            let mut types = vec![pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID];
            types.extend_from_slice(more);
            types
        };
        Books {
            write: Planned::new(
                "INSERT INTO upkeep._deletion (id, relid, deleted_at, deleted_by, role_name, reason)
                 VALUES ($1, $4, $2, $3, $5, $6)"
                    .to_owned(),
                types(&[pg_sys::OIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID]),
            ),
            count: Planned::new(
                "INSERT INTO upkeep._deletion_table AS t (deletion, relid, rows, direct) VALUES ($1, $4, $5, $6)
                 ON CONFLICT (deletion, relid) DO UPDATE
                 SET rows = t.rows OPERATOR(pg_catalog.+) EXCLUDED.rows, direct = t.direct OR EXCLUDED.direct"
                    .to_owned(),
                types(&[pg_sys::OIDOID, pg_sys::INT8OID, pg_sys::BOOLOID]),
            ),
        }
    })
}

/// A static statement of ours on the private tables (LAW 1).
///
/// Safety: connected; `values` and `nulls` are as many as the statement takes, which is a static one of ours.
pub unsafe fn keep_books(statement: &Planned, values: *mut Datum, nulls: *const c_char) -> u64 {
    // SAFETY: as the caller promises. What an error leaves of the user the abort puts right.
    unsafe {
        let before = raw::become_user(Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), 0);
        let rows = raw::run_ours(statement, values, nulls, Sight::Transaction);
        raw::become_again(before);
        rows
    }
}

static mut FIRST_TABLE: Oid = Oid::INVALID;

/// Writes the deletion's own row, once.
///
/// Safety: connected; it lives as long as the transaction.
unsafe fn write(deletion: *mut Deletion) {
    // SAFETY: `write` takes the three parameters and three more, for each of which there is a null.
    unsafe {
        if (*deletion).written != 0 {
            return;
        }
        let values = parameters(deletion, 3);
        *values.add(3) = Datum::from(FIRST_TABLE);
        *values.add(4) = raw::text((*deletion).role);
        let mut nulls = *b"      ";
        if (*deletion).reason.is_null() {
            nulls[5] = b'n';
        } else {
            *values.add(5) = raw::text((*deletion).reason);
        }
        keep_books(&books().write, values, nulls.as_ptr().cast());
        (*deletion).written = pg_sys::GetCurrentSubTransactionId();
    }
}

/// Safety: connected; `deletion` lives as long as the transaction.
unsafe fn count(deletion: *mut Deletion, relid: Oid, rows: u64, direct: bool) {
    // SAFETY: `count` takes the three parameters and three more.
    unsafe {
        if rows == 0 {
            return;
        }
        FIRST_TABLE = relid;
        write(deletion);
        let values = parameters(deletion, 3);
        *values.add(3) = Datum::from(relid);
        *values.add(4) = Datum::from(rows as i64);
        *values.add(5) = Datum::from(direct);
        keep_books(&books().count, values, null());
    }
}
