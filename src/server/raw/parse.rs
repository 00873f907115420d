//! User text through the server's own parser, fragment by fragment (LAW 21).
//!
//! A fragment is parsed at the end of a statement of ours, and the tree is
//! checked to hold that fragment and nothing else. Text that passes can then be
//! placed between other text, as long as a newline ends it (a `--` comment).

use pgrx::{PgList, pg_sys};

use super::catch;
use super::encoding::{self, to_c};
use super::script;
use crate::error::{Error, Result, SYNTAX_ERROR};

// Unguarded: a node that it does not know is an error that passes as it is.
/// How a column gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Expression,
    Default,
    /// A part of the column only: `a[1] = ..`, `a.field = ..`.
    Part,
    /// One of several columns set from one sub-select.
    SubSelect,
}

#[derive(Clone, Debug)]
pub struct Assigned {
    pub column: String,
    pub source: Source,
}

/// A clause that does not belong there, and its byte offset if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    pub what: &'static str,
    pub location: Option<usize>,
}

/// What `UPDATE .. SET ..` holds.
#[derive(Debug)]
pub struct Update {
    pub assigned: Vec<Assigned>,
    pub stray: Option<Stray>,
}

/// Parses one UPDATE. A position in an error is a character of `sql`.
pub fn update(sql: &str) -> Result<Update> {
    catch::subtransaction(|| {
        // SAFETY: the tree lives in the current memory context; tags are checked before casts.
        unsafe {
            let (raw, several) = parse_one(sql)?;
            if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_UpdateStmt {
                return Err(not_one_statement());
            }
            let statement = &*(*raw).stmt.cast::<pg_sys::UpdateStmt>();
            let stray = several
                .or_else(|| node("WHERE", statement.whereClause))
                .or_else(|| list("FROM", statement.fromClause))
                .or_else(|| list("RETURNING", returning_of_update(statement)));
            let targets = PgList::<pg_sys::ResTarget>::from_pg(statement.targetList);
            let assigned = targets.iter_ptr().map(|target| assigned(&*target)).collect();
            Ok(Update { assigned, stray })
        }
    })
}

/// Parses one `DELETE FROM .. WHERE ..`; gives what is there beside the condition.
pub fn delete(sql: &str) -> Result<Option<Stray>> {
    catch::subtransaction(|| {
        // SAFETY: as in `update`.
        unsafe {
            let (raw, several) = parse_one(sql)?;
            if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_DeleteStmt {
                return Err(not_one_statement());
            }
            let statement = &*(*raw).stmt.cast::<pg_sys::DeleteStmt>();
            let current_of =
                !statement.whereClause.is_null() && (*statement.whereClause).type_ == pg_sys::NodeTag::T_CurrentOfExpr;
            Ok(several
                .or(current_of.then_some(Stray { what: "CURRENT OF", location: None }))
                .or_else(|| list("USING", statement.usingClause))
                .or_else(|| list("RETURNING", returning_of_delete(statement))))
        }
    })
}

/// Safety: in a transaction; the trees live in the current memory.
unsafe fn parse_one(sql: &str) -> Result<(*mut pg_sys::RawStmt, Option<Stray>)> {
    let text = to_c(sql)?;
    // SAFETY: as the caller promises.
    let mut statements = unsafe { script::trees(&text) };
    let first = statements.next().ok_or_else(not_one_statement)?;
    // The length is 0 unless a semicolon ended the statement.
    // SAFETY: the first RawStmt of the list.
    let length = unsafe { (*first).stmt_len };
    let several = (length > 0 || statements.next().is_some())
        .then(|| Stray { what: "semicolon", location: usize::try_from(length).ok().filter(|&at| at > 0) });
    Ok((first, several))
}

fn not_one_statement() -> Error {
    Error::new(SYNTAX_ERROR, "this is not one fragment of SQL")
}

unsafe fn assigned(target: &pg_sys::ResTarget) -> Assigned {
    // SAFETY: a ResTarget of SET has a name and a value.
    unsafe {
        let source = match (*target.val).type_ {
            _ if !target.indirection.is_null() => Source::Part,
            pg_sys::NodeTag::T_SetToDefault => Source::Default,
            pg_sys::NodeTag::T_MultiAssignRef => {
                let multi = &*target.val.cast::<pg_sys::MultiAssignRef>();
                match (*multi.source).type_ {
                    pg_sys::NodeTag::T_RowExpr => Source::Expression,
                    _ => Source::SubSelect,
                }
            }
            _ => Source::Expression,
        };
        Assigned { column: encoding::text(target.name), source }
    }
}

/// Safety: a node of a raw tree, or null.
unsafe fn node(what: &'static str, node: *mut pg_sys::Node) -> Option<Stray> {
    (!node.is_null()).then(|| Stray {
        what,
        // SAFETY: any node will do; -1 if it has no place.
        location: usize::try_from(unsafe { pg_sys::exprLocation(node) }).ok(),
    })
}

unsafe fn list(what: &'static str, list: *mut pg_sys::List) -> Option<Stray> {
    // SAFETY: a List is a node.
    unsafe { node(what, list.cast()) }
}

#[cfg(feature = "pg18")]
fn returning_of_update(statement: &pg_sys::UpdateStmt) -> *mut pg_sys::List {
    statement.returningClause.cast()
}
#[cfg(not(feature = "pg18"))]
fn returning_of_update(statement: &pg_sys::UpdateStmt) -> *mut pg_sys::List {
    statement.returningList
}
#[cfg(feature = "pg18")]
fn returning_of_delete(statement: &pg_sys::DeleteStmt) -> *mut pg_sys::List {
    statement.returningClause.cast()
}
#[cfg(not(feature = "pg18"))]
fn returning_of_delete(statement: &pg_sys::DeleteStmt) -> *mut pg_sys::List {
    statement.returningList
}
