//! DELETE on a live view. Its first rows are deleted one at a time, which tells the count apart from what others delete at
//! the same time; what follows is gathered and deleted many at a time, at a third of the cost. The rows that a statement has
//! seen to are known to its level: other people's triggers can begin another statement on the same view in the middle of it.

use std::ffi::c_int;
use std::ptr::{null, null_mut};

use pgrx::pg_sys::{self, Datum, Oid};

use super::attached::{self, Made};
use super::engine::{self, Keys};
use super::state;
use super::statements::{self, Begun, Kind};
use super::triggers::{NOTHING, own};
use crate::server::raw::unguarded::{
    MemoryContextDelete, hash_bytes_extended, hash_create, hash_search, heap_copy_tuple_as_datum,
};
use crate::server::raw::{self, Array, Report, Sight, trigger};
use crate::soft_delete::program::{KeyColumn, Own};

raw::version_1!(pg_finfo_upkeep_soft_delete_view_row, pg_finfo_upkeep_soft_delete_view);

pub(super) const EACH: [Made; 1] =
    [Made::on_view(c"upkeep_soft_delete_row", trigger::ROW | trigger::INSTEAD | trigger::DELETE)];
pub(super) const BEGIN_AND_END: [Made; 2] = [
    Made::on_view(c"upkeep_soft_delete_begin", trigger::BEFORE | trigger::DELETE),
    Made::on_view(c"upkeep_soft_delete", trigger::DELETE),
];

/// A statement for each row, up to here.
const ONE_BY_ONE: u64 = 100;
/// Rows that are gathered at most, and the bytes of their images.
const BATCH: u64 = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// A DELETE on a live view that is being run. Its rows are unfinished until its end has carried their deletion on.
#[repr(C)]
struct Level {
    begun: Begun,
    /// Digests of the rows that it has deleted or gathered: a join may show it a row again.
    seen: *mut pg_sys::HTAB,
    /// What was gathered, in a context that goes with it.
    batch: Batch,
    /// Keys of rows that are deleted or gathered, for what references them: an array each, of so many rows.
    keys: *mut Array,
    columns: *mut KeyColumn,
    width: usize,
    noted: u64,
}

#[derive(Clone, Copy)]
struct Batch {
    context: pg_sys::MemoryContext,
    rows: u64,
    bytes: usize,
    /// The row as the statement saw it, then its primary key: an array each.
    columns: *mut Array,
    row_type: Oid,
    primary: *mut KeyColumn,
    width: usize,
}

const NO_BATCH: Batch = Batch {
    context: null_mut(),
    rows: 0,
    bytes: 0,
    columns: null_mut(),
    row_type: Oid::INVALID,
    primary: null_mut(),
    width: 0,
};

/// Safety: in the trigger that begins the DELETE of that execution.
unsafe fn begin(query: pg_sys::MemoryContext, view: Oid) {
    // SAFETY: the level is written before anybody else sees it, and all that it points at is in its own context.
    unsafe {
        statements::refuse_unfinished(0);
        // One query may delete from a view in several places: the server begins it once, and ends it once.
        if !statements::find::<Level>(Kind::Delete, query, view).is_null() {
            return;
        }
        let level: *mut Level = statements::begin(Kind::Delete, query, view);
        let context = (*level).begun.context;
        let mut info = pg_sys::HASHCTL { keysize: 8, entrysize: 8, hcxt: context, ..Default::default() };
        let flags = pg_sys::HASH_ELEM | pg_sys::HASH_BLOBS | pg_sys::HASH_CONTEXT;
        (*level).seen = hash_create(c"rows of a DELETE".as_ptr(), 256, &raw mut info, flags as c_int);
        (*level).batch = NO_BATCH;
        (*level).keys = null_mut();
        (*level).columns = null_mut();
        (*level).width = 0;
        (*level).noted = 0;
    }
}

/// The statement on that view that is being run. One query may delete from several views.
///
/// Safety: in a trigger of that execution.
unsafe fn level_of(query: pg_sys::MemoryContext, view: Oid) -> *mut Level {
    // SAFETY: what has begun as a DELETE is a `Level`.
    unsafe {
        let level: *mut Level = statements::find(Kind::Delete, query, view);
        if level.is_null() {
            raw::raise(&Report {
                hint: c"SELECT * FROM upkeep.soft_delete_drift; shows what is missing, and how to repair it.".as_ptr(),
                ..Report::new(c"55000", c"a trigger of this view is missing")
            });
        }
        // Nobody calls us twice at a time for the same execution; what would follow is memory that is gone.
        if (*level).begun.busy {
            raw::raise(&Report::new(c"55000", c"this DELETE is being carried out already"));
        }
        level
    }
}

/// Has the statement seen this row before? If not, it has now.
///
/// Safety: the level has begun; a row of a trigger.
unsafe fn is_known(level: *mut Level, row: pg_sys::HeapTuple) -> bool {
    // SAFETY: the digest is of the row's bytes behind its header; the table has keys of eight bytes, which are their
    // own entries.
    unsafe {
        let header = (*row).t_data;
        let start = usize::from((*header).t_hoff);
        let digest = hash_bytes_extended(header.cast::<u8>().add(start), (*row).t_len as c_int - start as c_int, 0);
        let mut found = false;
        let entry: *mut u64 =
            hash_search((*level).seen, (&raw const digest).cast(), pg_sys::HASHACTION::HASH_ENTER, &mut found).cast();
        *entry = digest;
        found
    }
}

/// Safety: `own` has that many keys.
unsafe fn arrays(context: pg_sys::MemoryContext, first: Option<Oid>, own: &Own, keys: usize) -> *mut Array {
    // SAFETY: room for all of them; `write` drops nothing that was there.
    unsafe {
        let more = usize::from(first.is_some());
        let arrays: *mut Array = raw::allocate_in(context, more + keys);
        let mut i = 0;
        while i < more + keys {
            let element =
                if i < more { first.unwrap_or(Oid::INVALID) } else { (*own.keys.as_ptr().add(i - more)).type_oid };
            arrays.add(i).write(Array::new_in(element, context));
            i += 1;
        }
        arrays
    }
}

/// Notes the keys by which other rows may reference this one.
///
/// Safety: the level has begun; the row has that descriptor, and `own` is of its table.
unsafe fn note(level: *mut Level, own: &Own, row: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) {
    // SAFETY: the arrays are as many as the level's columns, which are those of `own`, or it is an error.
    unsafe {
        if own.children.is_empty() {
            return;
        }
        if (*level).keys.is_null() {
            (*level).keys = arrays((*level).begun.context, None, own, own.keys.len());
            (*level).columns = engine::columns_in((*level).begun.context, own, own.keys.len());
            (*level).width = own.keys.len();
        }
        engine::require_columns((*level).columns, (*level).width, own, own.keys.len());
        (*level).noted += 1;
        let mut i = 0;
        while i < own.keys.len() {
            let key = &*own.keys.as_ptr().add(i);
            let value = raw::typed(row, desc, key.number, key.type_oid);
            (*(*level).keys.add(i)).add(value.unwrap_or(NOTHING), value.is_none());
            i += 1;
        }
    }
}

/// Safety: as [`note`].
unsafe fn gather(level: *mut Level, own: &Own, row: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) {
    // SAFETY: the arrays are one for the rows and one for each column of the primary key, which is that of `own`, or
    // it is an error.
    unsafe {
        if (*level).batch.rows == 0 {
            let context = raw::new_context((*level).begun.context);
            (*level).batch = Batch {
                context,
                columns: arrays(context, Some(own.row_type), own, own.primary),
                row_type: own.row_type,
                primary: engine::columns_in(context, own, own.primary),
                width: own.primary,
                ..NO_BATCH
            };
        }
        let batch = &mut (*level).batch;
        require_same(batch, own);
        (*batch.columns).add(heap_copy_tuple_as_datum(row, desc), false);
        let mut i = 0;
        while i < own.primary {
            let key = &*own.keys.as_ptr().add(i);
            let value = raw::typed(row, desc, key.number, key.type_oid);
            (*batch.columns.add(1 + i)).add(value.unwrap_or(NOTHING), false);
            i += 1;
        }
        batch.rows += 1;
        batch.bytes += (*row).t_len as usize;
    }
}

/// Safety: of a level that has begun.
unsafe fn require_same(batch: &Batch, own: &Own) {
    // SAFETY: it has `width` columns.
    unsafe {
        if batch.row_type != own.row_type {
            engine::other_keys();
        }
        engine::require_columns(batch.primary, batch.width, own, own.primary);
    }
}

/// Deletes what was gathered. Between connect and finish.
///
/// Safety: connected; the level has begun, and is marked as busy or at its end.
unsafe fn flush(level: *mut Level, own: &Own) {
    // SAFETY: the batch is ours alone once it is taken off the level, so each array is read once; values have room
    // for the three parameters, the rows and the primary key. Its context goes when the statement has run.
    unsafe {
        // Others' triggers run in here, but none that would gather on this level.
        let batch = (*level).batch;
        (*level).batch = NO_BATCH;
        if batch.rows == 0 {
            return;
        }
        require_same(&batch, own);
        let deletion = state::current();
        let values = engine::parameters(deletion, 1 + own.primary);
        let mut i = 0;
        while i <= own.primary {
            *values.add(3 + i) = batch.columns.add(i).read().finish();
            i += 1;
        }
        let gone = engine::run_own(own.relid, deletion, &own.delete_many, values, null(), Sight::Transaction);
        if gone < batch.rows {
            explain_fewer(own, values, batch.rows);
        }
        MemoryContextDelete(batch.context);
    }
}

/// Somebody was faster: a trigger on the rows themselves, which is as good, or another session. Or the table itself keeps a row
/// from being updated, which a DELETE passes over; but the gathered rows are counted already.
///
/// Safety: connected; `values` are those of `delete_many`.
unsafe fn explain_fewer(own: &Own, values: *mut Datum, wanted: u64) {
    // SAFETY: `look_many` takes the same.
    unsafe {
        raw::run_theirs(&own.look_many, values, null(), Sight::Latest);
        let count = |number| raw::value(number).map_or(0, |rows| rows.value() as u64);
        if count(1) >= wanted {
            return;
        }
        if count(2) == 0 {
            changed();
        }
        raw::raise(&Report {
            detail: c"A trigger of the table, or a policy for UPDATE, passes it over.".as_ptr(),
            hint: c"Leave such rows out of the condition, or use upkeep.soft_delete().".as_ptr(),
            ..Report::new(c"55000", c"a row of many cannot be deleted")
        });
    }
}

/// Safety: nothing above has anything to drop.
unsafe fn changed() -> ! {
    // SAFETY: texts of ours end in a zero.
    unsafe {
        raw::raise(&Report {
            detail: c"A row has changed since the statement looked at it.".as_ptr(),
            hint: c"Try the transaction again.".as_ptr(),
            ..Report::new(c"40001", c"could not serialize access due to concurrent update")
        })
    }
}

/// The row is locked, and deleted if it still is as the statement saw it; false: somebody else has deleted it, or the table
/// passes it over. `known`: the statement has met such a row before, which went, or was looked at, with that one.
///
/// Safety: connected; the row has that descriptor, and `own` is of its table.
unsafe fn delete_one(own: &Own, row: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, known: bool) -> bool {
    // SAFETY: both statements take the three parameters, the row and the primary key.
    unsafe {
        let deletion = state::current();
        let values = engine::parameters(deletion, 1 + own.primary);
        *values.add(3) = heap_copy_tuple_as_datum(row, desc);
        let mut i = 0;
        while i < own.primary {
            let key = &*own.keys.as_ptr().add(i);
            // Never null: they are the primary key's.
            *values.add(4 + i) = raw::typed(row, desc, key.number, key.type_oid).unwrap_or(NOTHING);
            i += 1;
        }
        let gone = engine::run_own(own.relid, deletion, &own.delete_one, values, null(), Sight::Transaction) > 0;
        if !gone
            && !known
            && raw::run_theirs(&own.look_one, values, null(), Sight::Latest) > 0
            && raw::value(1).is_none_or(|unchanged| unchanged.value() as u8 == 0)
        {
            changed();
        }
        gone
    }
}

/// INSTEAD OF DELETE on the live view.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_view_row(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours: of a row of a view, so there is its tuple. The level lives
    // until its statement ends, and nobody ends it while it is busy; the program lives until the transaction ends.
    unsafe {
        let query = statements::query();
        let trigger = attached::data(call, &EACH);
        let (row, desc) = ((*trigger).tg_trigtuple, (*(*trigger).tg_relation).rd_att);
        let own = match own(trigger) {
            Some(own) if !own.view_fits => raw::raise(&Report {
                detail: c"The columns of the primary key, and those that foreign keys reference, say which row is \
                    meant and what belongs to it."
                    .as_ptr(),
                hint: c"SELECT * FROM upkeep.soft_delete_drift; shows what is wrong with it. \
                    Or delete with upkeep.soft_delete(table, condition)."
                    .as_ptr(),
                ..Report::new(c"55000", c"this view does not show the key columns of its table as they are")
            }),
            Some(own) if own.primary > 0 => own,
            Some(_) => raw::raise(&Report {
                hint: c"SELECT * FROM upkeep.soft_delete_drift; shows what is missing.".as_ptr(),
                ..Report::new(c"55000", c"the table of this view has no primary key any more")
            }),
            None => not_enabled(),
        };
        let level = level_of(query, (*(*trigger).tg_relation).rd_id);
        (*level).begun.unfinished += 1;
        let known = is_known(level, row);
        if !known && (*level).begun.unfinished > ONE_BY_ONE {
            gather(level, own, row, desc);
            note(level, own, row, desc);
            if (*level).batch.rows == BATCH || (*level).batch.bytes > BATCH_BYTES {
                (*level).begun.busy = true;
                raw::connect();
                flush(level, own);
                raw::finish();
                (*level).begun.busy = false;
            }
            return Datum::from(row);
        }
        (*level).begun.busy = true;
        raw::connect();
        if known {
            flush(level, own);
        }
        let gone = delete_one(own, row, desc, known);
        raw::finish();
        (*level).begun.busy = false;
        if !gone {
            (*level).begun.unfinished -= 1;
            return NOTHING;
        }
        note(level, own, row, desc);
        Datum::from(row)
    }
}

/// BEFORE and AFTER DELETE on the live view, the statement.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_view(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours. The level is not used after `end`; keys live in the
    // connection's memory until `finish`.
    unsafe {
        let query = statements::query();
        let trigger = attached::data(call, &BEGIN_AND_END);
        let view = (*(*trigger).tg_relation).rd_id;
        if trigger::is_before(trigger) {
            begin(query, view);
            return NOTHING;
        }
        let level = level_of(query, view);
        if (*level).begun.unfinished > 0 {
            let Some(own) = own(trigger) else { not_enabled() };
            (*level).begun.busy = true;
            raw::connect();
            flush(level, own);
            let keys = keys(level, own);
            engine::carry_on(state::current(), own, keys, true);
            raw::finish();
        }
        statements::end(level.cast());
        NOTHING
    }
}

/// Safety: at the end of the level's statement: the arrays are not used again.
unsafe fn keys(level: *mut Level, own: &Own) -> Keys {
    // SAFETY: if `own` has children, the level has an array for each of its keys, or it is an error; each is read
    // once.
    unsafe {
        let rows = (*level).begun.unfinished;
        if own.children.is_empty() {
            return Keys::none(rows);
        }
        engine::require_columns((*level).columns, (*level).width, own, own.keys.len());
        if (*level).noted != rows {
            engine::other_keys();
        }
        let keys =
            Keys::new(rows, engine::columns_in(pg_sys::CurrentMemoryContext, own, own.keys.len()), own.keys.len());
        let mut i = 0;
        while i < own.keys.len() {
            keys.set(i, (*level).keys.add(i).read().finish());
            i += 1;
        }
        keys
    }
}

/// Safety: nothing above has anything to drop.
unsafe fn not_enabled() -> ! {
    // SAFETY: texts of ours end in a zero.
    unsafe { raw::raise(&Report::new(c"55000", c"soft delete is not enabled on the table of this view")) }
}
