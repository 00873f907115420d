//! An UPDATE's expressions as SQL over a row called `new`, deparsed by the server: every name in it is resolved
//! already and comes out qualified, so that it means the same in a trigger, whatever the search_path there.

use std::ffi::CStr;

use pgrx::{PgList, pg_sys};

use super::analyze::{deparse_value, with_statement};
use super::encoding;
use super::spi;
use crate::error::{Error, INTERNAL_ERROR, Result};

/// One column that the UPDATE sets.
#[derive(Clone, Debug)]
pub struct Value {
    pub column: String,
    /// `None`: a part of the column, or one of several columns of a sub-select; not an expression in SQL.
    pub sql: Option<String>,
    /// Numbers of the columns that it reads; 0 is the whole row, negative ones are the server's.
    pub reads: Vec<i16>,
}

#[derive(Clone, Debug)]
pub struct Filling {
    pub values: Vec<Value>,
    pub condition: String,
    pub condition_reads: Vec<i16>,
    /// In the server's own notation.
    pub condition_tree: String,
    pub condition_is_volatile: bool,
}

/// Deparses `UPDATE ONLY relation SET .. WHERE ..` of this relation.
pub fn filling(sql: &str, relid: pg_sys::Oid) -> Result<Filling> {
    // SAFETY: both live as long as the call.
    with_statement(sql, |raw, text| unsafe { read(raw, text, relid) })
}

fn nothing() -> Error {
    Error::new(INTERNAL_ERROR, "nothing to deparse")
}

/// Safety: a raw tree of `text`; a snapshot is active.
unsafe fn read(raw: *mut pg_sys::RawStmt, text: &CStr, relid: pg_sys::Oid) -> Result<Filling> {
    // SAFETY: analysis changes the tree that it gets, so it gets a copy; nodes are what the lists of a Query hold.
    unsafe {
        // Not rewritten: a view that is expanded would be read with other rights.
        let query = pg_sys::parse_analyze_fixedparams(
            pg_sys::copyObjectImpl(raw.cast()).cast(),
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        let condition = (*(*query).jointree).quals;
        if condition.is_null() {
            return Err(nothing());
        }
        let entries = PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList);
        let mut targets: Vec<_> = entries
            .iter_ptr()
            .filter(|&entry| !(*entry).resjunk && !(*entry).resname.is_null())
            .map(|entry| ((*entry).resno, encoding::text((*entry).resname), (*entry).expr.cast::<pg_sys::Node>()))
            .collect();
        if targets.iter().any(|(_, _, value)| is_default(*value)) {
            let defaults = rewritten(raw, text)?;
            for (number, _, value) in &mut targets {
                // A generated column has no value of its own.
                if is_default(*value)
                    && let Some(default) = defaults.iter_ptr().find(|&entry| (*entry).resno == *number)
                {
                    *value = (*default).expr.cast();
                }
            }
        }
        spi::unambiguous(|| {
            let context = pg_sys::deparse_context_for(c"new".as_ptr(), relid);
            Ok(Filling {
                values: targets
                    .into_iter()
                    .map(|(_, column, value)| Value {
                        column,
                        sql: deparse_value(value, context, true),
                        reads: columns_in(value),
                    })
                    .collect(),
                condition: encoding::text(pg_sys::deparse_expression(condition, context, true, false)),
                condition_reads: columns_in(condition),
                condition_tree: encoding::text(pg_sys::nodeToString(condition.cast())),
                condition_is_volatile: pg_sys::contain_volatile_functions(condition),
            })
        })
    }
}

/// Safety: a node.
unsafe fn is_default(value: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    unsafe { (*value).type_ == pg_sys::NodeTag::T_SetToDefault }
}

/// The columns of the statement after rewriting, where `DEFAULT` has become the column's own default.
///
/// Safety: as [`read`]; the tree is not used afterwards.
unsafe fn rewritten(raw: *mut pg_sys::RawStmt, text: &CStr) -> Result<PgList<pg_sys::TargetEntry>> {
    // SAFETY: as the caller promises; the list lives in the current memory, as long as what it is read for.
    unsafe {
        let queries = PgList::<pg_sys::Query>::from_pg(pg_sys::pg_analyze_and_rewrite_fixedparams(
            raw,
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        ));
        let query = queries
            .iter_ptr()
            .find(|&query| (*query).commandType == pg_sys::CmdType::CMD_UPDATE && (*query).canSetTag)
            .ok_or_else(nothing)?;
        Ok(PgList::from_pg((*query).targetList))
    }
}

/// Columns of the table that is updated, wherever in the expression.
///
/// Safety: an analysed expression.
unsafe fn columns_in(node: *mut pg_sys::Node) -> Vec<i16> {
    // SAFETY: the server gives a list of Var, in the current memory.
    unsafe {
        let variables = PgList::<pg_sys::Var>::from_pg(pg_sys::pull_vars_of_level(node, 0));
        let mut columns: Vec<i16> = variables.iter_ptr().map(|variable| (*variable).varattno).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}
