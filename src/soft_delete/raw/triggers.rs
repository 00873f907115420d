//! The triggers on tables and views with soft delete, and on tables that reference them.

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use pgrx::pg_sys::{self, Datum};

use super::attached::{self, Made};
use super::engine::{self, Keys};
use super::pending::{self, What};
use super::{changed, programs, state, statements, upserts};
use crate::server::raw::unguarded::{
    DirectFunctionCall1Coll, ExecDropSingleTupleTableSlot, datum_image_eq, heap_modify_tuple_by_cols,
    table_slot_create, timestamptz_timestamp,
};
use crate::server::raw::{self, Sight, trigger};
use crate::soft_delete::program::Own;

raw::version_1!(
    pg_finfo_upkeep_soft_delete_updated_row,
    pg_finfo_upkeep_soft_delete_updated,
    pg_finfo_upkeep_soft_delete_flag,
    pg_finfo_upkeep_soft_delete_live_parent,
    pg_finfo_upkeep_is_by_hand,
);

pub const NOTHING: Datum = Datum::null();

pub(super) const UPDATED_ROW: [Made; 1] = [Made::on_table(c"upkeep_soft_delete_row", trigger::ROW | trigger::UPDATE)];
pub(super) const UPDATED: [Made; 1] = [Made::on_table(c"upkeep_soft_delete", trigger::UPDATE)];
pub(super) const FLAG: [Made; 1] =
    [Made::on_table(c"zz_upkeep_soft_delete_flag", trigger::ROW | trigger::BEFORE | trigger::INSERT | trigger::UPDATE)];
pub(super) const LIVE_PARENT: [Made; 4] = [
    Made::constraint(c"upkeep_live_parent_insert", trigger::ROW | trigger::INSERT, false),
    Made::constraint(c"upkeep_live_parent_update", trigger::ROW | trigger::UPDATE, false),
    Made::constraint(c"upkeep_live_parent_insert_deferred", trigger::ROW | trigger::INSERT, true),
    Made::constraint(c"upkeep_live_parent_update_deferred", trigger::ROW | trigger::UPDATE, true),
];

/// Safety: what the server calls a trigger for.
pub unsafe fn own(trigger: *mut pg_sys::TriggerData) -> Option<&'static Own> {
    // SAFETY: the relation stays open while the trigger runs; a program lives until the transaction ends.
    unsafe { programs::of((*(*trigger).tg_relation).rd_id).own.as_ref() }
}

/// `upkeep._is_by_hand(table, deletion id)`: in the WHEN of triggers, called for rows of anyone's statements.
///
/// # Safety
/// Called by the server with two arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_is_by_hand(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the server passes two arguments; a uuid is passed by reference, and stays while we are called.
    unsafe {
        // A condition is evaluated in a context for one row, as triggers are called.
        let query = statements::query();
        let arguments = (*call).args.as_ptr();
        let relid = pg_sys::Oid::from((*arguments).value.value() as u32);
        let id = &*arguments.add(1);
        let id = if id.isnull { null() } else { id.value.cast_mut_ptr::<[u8; 16]>().cast_const() };
        Datum::from(state::is_by_hand(query, relid, id))
    }
}

/// AFTER UPDATE, each row whose deletion was set or cleared by hand.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_updated_row(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours: after an UPDATE, of a row, so there are both tuples, of the
    // relation's descriptor. The program lives until the transaction ends.
    unsafe {
        let query = statements::query();
        let trigger = attached::data(call, &UPDATED_ROW);
        // What was done elsewhere is done, and who replicates it fires no trigger at the end of a statement.
        if pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 {
            return NOTHING;
        }
        let Some(own) = own(trigger) else { return NOTHING };
        let (old, new) = ((*trigger).tg_trigtuple, (*trigger).tg_newtuple);
        let desc = (*(*trigger).tg_relation).rd_att;
        let live = raw::attribute(new, desc, own.deleted_at).is_none();
        // As the trigger's condition says, which its table's owner may have left out.
        let id = raw::typed(new, desc, own.deletion_id, pg_sys::UUIDOID);
        let id = id.map_or(null(), |id| id.cast_mut_ptr::<[u8; 16]>().cast_const());
        if live != raw::attribute(old, desc, own.deleted_at).is_none() && state::is_by_hand(query, own.relid, id) {
            if live && upserts::is_through_view(query, own) {
                changed::note_once(query, own.relid);
            }
            pending::note(query, own, if live { What::UndeletedByHand } else { What::DeletedByHand }, new, desc);
        }
        NOTHING
    }
}

/// AFTER UPDATE, the statement.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_updated(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours. Keys live in the connection's memory until `finish`, the
    // deletion as long as the transaction.
    unsafe {
        let query = statements::query();
        let trigger = attached::data(call, &UPDATED);
        if statements::none() {
            return NOTHING;
        }
        let Some(own) = own(trigger) else { return NOTHING };
        raw::connect();
        if let Some(noted) = pending::take(query, own) {
            if let Some(keys) = noted.deleted {
                let deletion = state::current();
                stamp(own, deletion, &keys, false);
                engine::carry_on(deletion, own, keys, true);
            }
            if let Some(keys) = noted.undeleted {
                stamp(own, state::current(), &keys, true);
            }
        }
        raw::finish();
        NOTHING
    }
}

/// What belongs to a deletion, or to its end, and the UPDATE has not said.
///
/// Safety: connected; `deletion` lives as long as the transaction, and the keys are those of `own`.
unsafe fn stamp(own: &Own, deletion: *mut state::Deletion, keys: &Keys, undeletes: bool) {
    // SAFETY: both statements take the three parameters and the primary key. What an error leaves of user and frame
    // the abort puts right.
    unsafe {
        let values = engine::parameters(deletion, own.primary);
        keys.primary(own, values.add(3));
        let before = raw::become_owner(own.relid, pg_sys::RowExclusiveLock);
        state::enter(own.relid, deletion, undeletes);
        state::complete();
        let statement = if undeletes { &own.unstamp } else { &own.stamp };
        raw::run_theirs(statement, values, null(), Sight::Latest);
        state::leave();
        raw::become_again(before);
    }
}

/// BEFORE INSERT OR UPDATE, each row: the flag and the time say the same. If both were changed, the time counts.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_flag(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours: before INSERT or UPDATE of a row, so the tuples that are read
    // are there. What is given back is in the memory of the row, where the server takes it.
    unsafe {
        let trigger = attached::data(call, &FLAG);
        let update = trigger::is_update(trigger);
        let new = if update { (*trigger).tg_newtuple } else { (*trigger).tg_trigtuple };
        let desc = (*(*trigger).tg_relation).rd_att;
        let own = match own(trigger) {
            Some(own) if own.flag > 0 => own,
            _ => return Datum::from(new),
        };
        let at_type = if own.has_timezone { pg_sys::TIMESTAMPTZOID } else { pg_sys::TIMESTAMPOID };
        let read = |tuple| {
            let flag = raw::typed(tuple, desc, own.flag, pg_sys::BOOLOID).is_some_and(|flag| flag.value() as u8 != 0);
            (raw::typed(tuple, desc, own.deleted_at, at_type).is_some(), flag)
        };
        let (at_before, flag_before) = if update { read((*trigger).tg_trigtuple) } else { (false, false) };
        let (at, flag) = read(new);
        if at == flag {
            return Datum::from(new);
        }
        let (column, value, is_null): (i32, Datum, bool) = if at != at_before || flag == flag_before {
            (own.flag.into(), Datum::from(at), false)
        } else if flag {
            let now = Datum::from((*state::current()).at);
            let now = if own.has_timezone {
                now
            } else {
                DirectFunctionCall1Coll(timestamptz_timestamp, pg_sys::Oid::INVALID, now)
            };
            (own.deleted_at.into(), now, false)
        } else {
            (own.deleted_at.into(), NOTHING, true)
        };
        Datum::from(heap_modify_tuple_by_cols(new, desc, 1, &column, &value, &is_null))
    }
}

/// A deferred check is of the row as it is by then, not of each version that the transaction has made of it: a later one has no
/// event of its own if it leaves the references as they are. Null: the row is gone, or has moved to another partition, which
/// checks it. As the server's own foreign keys look.
///
/// Safety: a trigger of ours after INSERT or UPDATE of a row: `update` says which.
unsafe fn newest(trigger: *mut pg_sys::TriggerData, update: bool) -> pg_sys::HeapTuple {
    /// Beyond it the offset says something else: the row is in another partition.
    const LAST_OFFSET: u16 = 0xFFFC;
    // SAFETY: slots and tuples are the server's; the table's own functions are called with a slot of it, unguarded as
    // the server does. The slot goes before it returns; an error leaves it to the memory of the query.
    unsafe {
        let (mut slot, tuple) = match update {
            true => ((*trigger).tg_newslot, (*trigger).tg_newtuple),
            false => ((*trigger).tg_trigslot, (*trigger).tg_trigtuple),
        };
        let relation = (*trigger).tg_relation;
        if slot.is_null() || (*(*relation).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
            return tuple;
        }
        let access = &*(*relation).rd_tableam;
        let (Some(satisfies), Some(fetch)) = (access.tuple_satisfies_snapshot, access.tuple_fetch_row_version) else {
            return tuple;
        };
        if satisfies(relation, slot, &raw mut pg_sys::SnapshotSelfData) {
            return tuple;
        }
        slot = table_slot_create(relation, null_mut());
        let (mut at, mut next) = ((*tuple).t_self, (*(*tuple).t_data).t_ctid);
        let mut found: pg_sys::HeapTuple = null_mut();
        while found.is_null() && next.ip_posid <= LAST_OFFSET && !is_same(&at, &next) {
            at = next;
            if !fetch(relation, &mut at, &raw mut pg_sys::SnapshotAnyData, slot) {
                break;
            }
            let Some(copy) = (*(*slot).tts_ops).copy_heap_tuple else { break };
            let version = copy(slot);
            next = (*(*version).t_data).t_ctid;
            if satisfies(relation, slot, &raw mut pg_sys::SnapshotSelfData) {
                found = version;
            }
        }
        ExecDropSingleTupleTableSlot(slot);
        found
    }
}

fn is_same(one: &pg_sys::ItemPointerData, other: &pg_sys::ItemPointerData) -> bool {
    one.ip_posid == other.ip_posid
        && one.ip_blkid.bi_hi == other.ip_blkid.bi_hi
        && one.ip_blkid.bi_lo == other.ip_blkid.bi_lo
}

/// AFTER INSERT OR UPDATE on a table that references one with soft delete: locks the referenced row, as the foreign key
/// does, and looks whether it is deleted. The argument is `deferred` in the trigger that stands for deferrable keys.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_live_parent(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours: of a row, so the tuples that are read are there. Values and
    // nulls have room for the three parameters and each column; the program lives until the transaction ends.
    unsafe {
        let trigger = attached::data(call, &LIVE_PARENT);
        let update = trigger::is_update(trigger);
        let new = if update { (*trigger).tg_newtuple } else { (*trigger).tg_trigtuple };
        let desc = (*(*trigger).tg_relation).rd_att;
        let deferred = (*(*trigger).tg_trigger).tgdeferrable;
        let new = if deferred { newest(trigger, update) } else { new };
        if new.is_null() {
            return NOTHING;
        }
        let program = programs::of((*(*trigger).tg_relation).rd_id);
        // A live row is looked at by the keys that change: while a deletion clears one, another may wait for its turn.
        let all = !update
            || program
                .own
                .as_ref()
                .is_some_and(|own| raw::attribute((*trigger).tg_trigtuple, desc, own.deleted_at).is_some());
        raw::connect();
        let mut i = 0;
        while i < program.parents.len() {
            let parent = &*program.parents.as_ptr().add(i);
            i += 1;
            if parent.deferrable != deferred {
                continue;
            }
            let count = parent.columns.len();
            let values: *mut Datum = raw::allocate(3 + count);
            let nulls: *mut c_char = raw::allocate(3 + count);
            std::ptr::write_bytes(nulls, b' ', 3 + count);
            std::ptr::write_bytes(nulls, b'n', 3);
            let (mut complete, mut changed) = (true, all);
            let mut k = 0;
            while k < count {
                let key = &*parent.columns.as_ptr().add(k);
                let value = raw::typed(new, desc, key.number, key.type_oid);
                match value {
                    Some(value) => *values.add(3 + k) = value,
                    None => complete = false,
                }
                if !changed {
                    changed = match (value, raw::attribute((*trigger).tg_trigtuple, desc, key.number)) {
                        (Some(value), Some(before)) => !datum_image_eq(value, before, key.by_value, key.length.into()),
                        (value, before) => value.is_some() != before.is_some(),
                    };
                }
                k += 1;
            }
            if !complete || !changed {
                continue;
            }
            let before = raw::become_owner(parent.relid, pg_sys::RowShareLock);
            // KEY SHARE waits for who deletes the row, and then gives the version that it had found before. An INSERT has
            // waited in the foreign key's own check.
            if update {
                raw::run_theirs(&parent.look, values, nulls, Sight::Transaction);
            }
            raw::run_theirs(&parent.look, values, nulls, Sight::Latest);
            raw::become_again(before);
            if raw::value(1).is_some() {
                engine::refuse(&parent.refusal, raw::value(1), parent.relid);
            }
        }
        raw::finish();
        NOTHING
    }
}
