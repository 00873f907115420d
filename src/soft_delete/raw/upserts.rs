//! Statements that are being run and may change a row in place of inserting one: which they are only their plan says. Told by
//! the hook of preloaded libraries; where there is none, every statement that inserts counts as one.

use std::ffi::c_int;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, MemoryContext, NodeTag, Oid};

use super::noted::Noted;
use super::programs;
use crate::server::raw::unguarded::{bms_is_member, pull_varattnos, standard_ExecutorStart};
use crate::soft_delete::program::Own;

/// Their plans.
static mut UPSERTS: Noted<*mut pg_sys::PlannedStmt> = Noted::nothing();
static mut TOLD: bool = false;

static mut NEXT: pg_sys::ExecutorStart_hook_type = None;

/// Only while `shared_preload_libraries` are loaded, so that it is there in all sessions.
pub fn install() {
    // SAFETY: one thread, before anything runs.
    unsafe {
        TOLD = true;
        NEXT = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
    }
}

/// Nothing to drop, and the next hook is called directly: a foreign error passes as it is (LAW 12).
///
/// Safety: called by the server.
unsafe extern "C-unwind" fn executor_start(desc: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: as we were called; afterwards the execution has begun, so there is its state.
    unsafe {
        match NEXT {
            Some(next) => next(desc, flags),
            None => standard_ExecutorStart(desc, flags),
        }
        begun(desc);
    }
}

/// An execution begins.
///
/// Safety: the execution has begun.
unsafe fn begun(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: a plan and its execution's memory are there; the note goes with that memory, and the plan not before.
    unsafe {
        let statement = (*desc).plannedstmt;
        let operation = (*desc).operation;
        let inserts = operation == pg_sys::CmdType::CMD_INSERT || operation == pg_sys::CmdType::CMD_MERGE;
        if !inserts && !(*statement).hasModifyingCTE {
            return;
        }
        let mut is_one = false;
        each(statement, |modify| is_one |= changes_instead(modify));
        if !is_one {
            return;
        }
        Noted::add(&raw mut UPSERTS, (*(*desc).estate).es_query_cxt, statement);
    }
}

/// Safety: a node of a plan.
unsafe fn changes_instead(modify: *mut pg_sys::ModifyTable) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        (*modify).operation == pg_sys::CmdType::CMD_MERGE
            || (*modify).onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_UPDATE
    }
}

/// Safety: null (empty) or a list.
unsafe fn length(list: *const pg_sys::List) -> usize {
    // SAFETY: not null.
    unsafe { if list.is_null() { 0 } else { (*list).length as usize } }
}

/// Safety: the list has more than `i` pointers, to `T`s.
unsafe fn nth<T>(list: *const pg_sys::List, i: usize) -> *mut T {
    // SAFETY: as the caller promises.
    unsafe { (*(*list).elements.add(i)).ptr_value.cast() }
}

/// Those that change tables: the plan itself, and each WITH.
///
/// Safety: a plan.
unsafe fn each(statement: *mut pg_sys::PlannedStmt, mut f: impl FnMut(*mut pg_sys::ModifyTable)) {
    // SAFETY: subplans are a list of plans, of which some are null; a node is what its tag says.
    unsafe {
        let mut plan = (*statement).planTree;
        let mut i = 0;
        loop {
            if !plan.is_null() && (*plan).type_ == NodeTag::T_ModifyTable {
                f(plan.cast());
            }
            if i == length((*statement).subplans) {
                return;
            }
            plan = nth((*statement).subplans, i);
            i += 1;
        }
    }
}

fn find(query: MemoryContext) -> Option<*mut pg_sys::PlannedStmt> {
    // SAFETY: the list is a static of this process.
    unsafe { Noted::find(&raw const UPSERTS, query, |_| true) }
}

/// Is it a statement that inserts into the live view, and changes rows that it meets?
///
/// Safety: in a trigger of that execution.
pub unsafe fn is_through_view(query: MemoryContext, own: &Own) -> bool {
    // SAFETY: what was noted of an execution that is under way is its plan.
    unsafe {
        own.live_view != Oid::INVALID && find(query).is_some_and(|statement| inserts_into(statement, own.live_view))
    }
}

/// A view that somebody inserts into has no part in the plan; rights on it are looked at.
///
/// Safety: a plan.
#[cfg(not(feature = "pg15"))]
unsafe fn inserts_into(statement: *mut pg_sys::PlannedStmt, view: Oid) -> bool {
    // SAFETY: a list of such nodes, within its length.
    unsafe {
        let mut i = 0;
        while i < length((*statement).permInfos) {
            let rights: *mut pg_sys::RTEPermissionInfo = nth((*statement).permInfos, i);
            if (*rights).relid == view && (*rights).requiredPerms & u64::from(pg_sys::ACL_INSERT) != 0 {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// The same, where rights are looked up with the tables.
///
/// Safety: a plan.
#[cfg(feature = "pg15")]
unsafe fn inserts_into(statement: *mut pg_sys::PlannedStmt, view: Oid) -> bool {
    // SAFETY: a list of such nodes, within its length.
    unsafe {
        let mut i = 0;
        while i < length((*statement).rtable) {
            let entry: *mut pg_sys::RangeTblEntry = nth((*statement).rtable, i);
            if (*entry).relid == view && u64::from((*entry).requiredPerms) & u64::from(pg_sys::ACL_INSERT) != 0 {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// Does the statement change rows of this table that it meets, and not say of them that they are deleted?
///
/// Safety: in a trigger of that execution; nothing above has anything to drop.
pub unsafe fn is_blind(query: MemoryContext, own: &Own) -> bool {
    // SAFETY: result relations are numbers of the range table, counted from 1; a program lives until the transaction
    // ends.
    unsafe {
        if !TOLD {
            return true;
        }
        let Some(statement) = find(query) else { return false };
        let through_view = is_through_view(query, own);
        let mut is_blind = false;
        each(statement, |modify| {
            let mut i = 0;
            while changes_instead(modify) && i < length((*modify).resultRelations) {
                let relation = (*(*(*modify).resultRelations).elements.add(i)).int_value;
                let entry: *mut pg_sys::RangeTblEntry = nth((*statement).rtable, relation as usize - 1);
                if let Some(of_entry) = &programs::of((*entry).relid).own
                    && of_entry.relid == own.relid
                {
                    is_blind |= through_view || is_blind_of(modify, i, relation, of_entry);
                }
                i += 1;
            }
        });
        is_blind
    }
}

/// Safety: a node of a plan, which has a result relation of that number.
unsafe fn is_blind_of(modify: *mut pg_sys::ModifyTable, number: usize, relation: i32, own: &Own) -> bool {
    // SAFETY: MERGE has a list of actions for each result relation.
    unsafe {
        if (*modify).operation != pg_sys::CmdType::CMD_MERGE {
            return !names((*modify).onConflictWhere, relation, own);
        }
        let actions: *mut pg_sys::List = nth((*modify).mergeActionLists, number);
        let mut i = 0;
        while i < length(actions) {
            let action: *mut pg_sys::MergeAction = nth(actions, i);
            if (*action).commandType == pg_sys::CmdType::CMD_UPDATE && !names((*action).qual, relation, own) {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// Does the condition ask whether the row is deleted?
///
/// Safety: null or an expression of a plan.
unsafe fn names(condition: *mut pg_sys::Node, relation: i32, own: &Own) -> bool {
    // SAFETY: the set is in the current memory, and null if it is empty.
    unsafe {
        let mut columns = null_mut();
        pull_varattnos(condition, relation as pg_sys::Index, &raw mut columns);
        let has = |column: i16| {
            column > 0 && bms_is_member(i32::from(column) - pg_sys::FirstLowInvalidHeapAttributeNumber, columns)
        };
        has(own.deleted_at) || has(own.flag)
    }
}
