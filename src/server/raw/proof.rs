//! In builds for tests the door looks at every statement that it lets through, once a session (LAW 28). What it proves:
//!
//! - [`names`]: as it is written. Nothing outside of the user's fragments leaves a type, function, operator, relation or
//!   collation to the search_path, nor, where that is not pinned, an operator that the grammar implies (`IN`, `IS DISTINCT
//!   FROM`, `USING`). Arguments "any", polymorphic ones and windows are seen like any other, whether or not anybody could
//!   set a trap for them.
//! - [`objects`]: as it was analysed. A statement that runs as superuser on our tables calls no function or operator, and
//!   reads no table, that is neither the server's nor ours.
//! - [`bodies`]: DDL that runs as superuser, whatever it is made of, has no place for an expression, a query or a body: the
//!   server would read it, and reading a literal can call a function of whoever wrote it.
//!
//! It cannot see what a user's operator, type or trigger does inside: that runs as whoever the place wants, under settings
//! that `tests/door.rs` records.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::c_int;

use pgrx::pg_sys::{self, Oid};
use pgrx::{PgList, pg_guard};

use super::encoding;
use super::names::{self, Names};
use super::raise::answer;
use super::script;
use crate::error::{Error, INTERNAL_ERROR, Result};

thread_local! {
    static SEEN: RefCell<HashSet<(String, bool)>> = RefCell::default();
}

/// Has this session met the statement? If not, it has now.
fn is_known(sql: &str, pinned: bool) -> bool {
    !SEEN.with_borrow_mut(|seen| seen.insert((sql.to_owned(), pinned)))
}

/// Which names of ours are left to the search_path? Utility statements are not looked at: they run under the pins.
pub fn names(sql: &str, pinned: bool, fragments: &[&str]) -> Result<()> {
    if fragments.contains(&sql) || is_known(sql, pinned) {
        return Ok(());
    }
    let ranges = fragments
        .iter()
        .filter(|text| !text.is_empty())
        .flat_map(|text| sql.match_indices(text).map(|(at, text)| (at, at + text.len())));
    let text = encoding::to_c(sql)?;
    let mut names = Names::new(!pinned, ranges.collect());
    // SAFETY: in a transaction; the tree lives in the current memory context.
    unsafe {
        for statement in names::parse(&text) {
            names.read(statement);
        }
    }
    let found = names.found();
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(INTERNAL_ERROR, format!("not qualified: {}", found.join(", "))).detail(sql.to_owned()))
}

/// Do the trees of a statement that runs as superuser name anybody's functions, operators or tables?
unsafe fn objects(queries: *mut pg_sys::List, sql: &str) -> Result<()> {
    // SAFETY: analysed trees.
    let trees = unsafe { encoding::text(pg_sys::nodeToString(queries.cast())) };
    // What the superuser has installed, looked at before it is called: `queries::counters`.
    if sql.contains("pg_stat_statements") {
        return Ok(());
    }
    // SAFETY: in a transaction.
    let ours = unsafe { pg_sys::get_namespace_oid(c"upkeep".as_ptr(), true) };
    let mut words = trees.split_ascii_whitespace();
    // A transition table has the OID of the table whose rows it holds.
    let mut in_transition = false;
    while let Some(word) = words.next() {
        in_transition = (in_transition && word != ":rtekind") || word == ":enrname";
        let schema: unsafe fn(Oid) -> Oid = match word {
            ":funcid" | ":opfuncid" | ":aggfnoid" | ":winfnoid" => pg_sys::get_func_namespace,
            ":opno" => |_| Oid::INVALID,
            ":relid" if !in_transition => pg_sys::get_rel_namespace,
            _ => continue,
        };
        let oid = words.next().and_then(|oid| oid.parse::<u32>().ok()).unwrap_or(0);
        // What initdb has made is the server's.
        // SAFETY: in a transaction; an unknown OID has no schema.
        if oid >= super::catalog::FIRST_NORMAL_OID && unsafe { schema(Oid::from(oid)) } != ours {
            let what = format!("not ours, as superuser: {word} {oid}");
            return Err(Error::new(INTERNAL_ERROR, what).detail(sql.to_owned()));
        }
    }
    Ok(())
}

/// Is there anything in the statements that the server would read as an expression?
fn bodies(sql: &str) -> Result<()> {
    let text = encoding::to_c(sql)?;
    // SAFETY: in a transaction; the tree lives in the current memory context.
    for statement in unsafe { names::parse(&text) } {
        // SAFETY: a raw statement of the text, which is still there.
        if unsafe { names::is_query(statement) || has_no_body(statement) } {
            continue;
        }
        return Err(Error::new(INTERNAL_ERROR, "a body, as superuser").detail(sql.to_owned()));
    }
    Ok(())
}

/// Safety: a raw statement.
unsafe fn has_no_body(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: a raw tree of the server's parser.
    unsafe {
        match (*statement).type_ {
            T_DropStmt
            | T_RenameStmt
            | T_AlterOwnerStmt
            | T_AlterObjectSchemaStmt
            | T_GrantStmt
            | T_LockStmt
            | T_NotifyStmt
            | T_TruncateStmt
            | T_CommentStmt
            | T_VariableSetStmt
            | T_AlterFunctionStmt => true,
            T_CreateTrigStmt => (*statement.cast::<pg_sys::CreateTrigStmt>()).whenClause.is_null(),
            _ => false,
        }
    }
}

fn is_superuser() -> bool {
    // SAFETY: plain reads of this process's state.
    unsafe { pg_sys::GetUserId() == Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID) && pg_sys::InLocalUserIdChange() }
}

/// A statement of ours, before it runs.
pub fn ours(sql: &str, types: &[Oid]) -> Result<()> {
    let first = !SEEN.with_borrow(|seen| seen.contains(&(sql.to_owned(), true)));
    names(sql, true, &[])?;
    if super::spi::in_bookkeeping() {
        bodies(sql)?;
    }
    if !first || !is_superuser() {
        return Ok(());
    }
    let text = encoding::to_c(sql)?;
    // SAFETY: in a transaction; a snapshot is active while it is analysed, as the server has it.
    unsafe {
        for statement in script::trees(&text).filter(|&statement| names::is_query((*statement).stmt)) {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(
                statement,
                text.as_ptr(),
                types.as_ptr(),
                types.len() as c_int,
                std::ptr::null_mut(),
            );
            pg_sys::PopActiveSnapshot();
            objects(queries, sql)?;
        }
    }
    Ok(())
}

/// A plan of raw code's.
#[pg_guard]
pub unsafe extern "C-unwind" fn plan(
    plan: pg_sys::SPIPlanPtr,
    statement: *const super::planned::Planned,
    pinned: bool,
) {
    // SAFETY: the caller's own, for as long as the call.
    let statement = unsafe { &*statement };
    let text = encoding::from_server(statement.sql().to_bytes());
    let fragments: Vec<&str> = statement.fragments().iter().map(String::as_str).collect();
    answer(names(&text, pinned, &fragments));
    if pinned && is_superuser() {
        // SAFETY: sources of a plan that is about to be kept; their lists hold analysed queries.
        unsafe {
            let sources = PgList::<pg_sys::CachedPlanSource>::from_pg(pg_sys::SPI_plan_get_plan_sources(plan));
            for source in sources.iter_ptr() {
                answer(objects((*source).query_list, &text));
            }
        }
    }
}
