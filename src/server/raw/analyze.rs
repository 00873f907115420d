//! What a statement means: its text analysed by the server, as the current user.

use std::ffi::CStr;

use pgrx::{PgList, pg_sys};

use super::catch;
use super::encoding::{self, to_c};
use super::script;
use crate::error::{Error, INTERNAL_ERROR, Result};

/// One column that an UPDATE sets.
#[derive(Clone, Debug)]
pub struct Target {
    pub column: String,
    /// The value as SQL that can be read in another place; `None` where there is no such text.
    pub value: Option<String>,
    /// The same for every row, and computed without volatile functions.
    pub constant: bool,
}

#[derive(Clone, Debug)]
pub struct Meaning {
    /// The analysed tree in the server's own notation.
    pub tree: String,
    pub sub_selects: bool,
    pub volatile: bool,
    pub targets: Vec<Target>,
}

/// Analyses one statement without parameters; `deparse` asks for the values of
/// an UPDATE of `relid` as text. A position in an error is a character of `sql`.
pub fn analyse(sql: &str, deparse: Option<(pg_sys::Oid, &str)>) -> Result<Meaning> {
    // SAFETY: both live as long as the call.
    with_statement(sql, |raw, text| unsafe { meaning(raw, text, deparse) })
}

/// Hands the raw tree of the one statement in `sql` to `f`.
pub(super) fn with_statement<T>(sql: &str, f: impl FnOnce(*mut pg_sys::RawStmt, &CStr) -> Result<T>) -> Result<T> {
    catch::subtransaction(|| {
        let text = to_c(sql)?;
        // SAFETY: trees live in the current memory context; a snapshot is active throughout, as
        // analysis and constant folding expect, and is popped by the abort if there is an error.
        unsafe {
            let raw = script::trees(&text).next().ok_or_else(|| Error::new(INTERNAL_ERROR, "nothing to analyse"))?;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let found = f(raw, &text);
            pg_sys::PopActiveSnapshot();
            found
        }
    })
}

/// Safety: a raw tree of `text`; a snapshot is active.
unsafe fn meaning(raw: *mut pg_sys::RawStmt, text: &CStr, deparse: Option<(pg_sys::Oid, &str)>) -> Result<Meaning> {
    // SAFETY: analysis changes the tree that it gets, so it gets a copy; what comes back lives in the current memory.
    unsafe {
        // Before rewriting: row security policies and view definitions may change without
        // changing what a name in this text means.
        let query = pg_sys::parse_analyze_fixedparams(
            pg_sys::copyObjectImpl(raw.cast()).cast(),
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        let mut meaning = Meaning {
            tree: encoding::text(pg_sys::nodeToString(query.cast())),
            sub_selects: (*query).hasSubLinks,
            volatile: pg_sys::contain_volatile_functions(query.cast()),
            targets: Vec::new(),
        };
        if let Some((relid, name)) = deparse {
            meaning.targets = targets(raw, text, relid, name)?;
        }
        Ok(meaning)
    }
}

/// The values after rewriting, where `DEFAULT` has become the column's own default.
///
/// Safety: as [`meaning`]; the tree is not used afterwards.
unsafe fn targets(raw: *mut pg_sys::RawStmt, text: &CStr, relid: pg_sys::Oid, name: &str) -> Result<Vec<Target>> {
    let name = to_c(name)?;
    // SAFETY: as the caller promises; rewritten queries and their target lists are nodes of these types.
    unsafe {
        let rewritten = PgList::<pg_sys::Query>::from_pg(pg_sys::pg_analyze_and_rewrite_fixedparams(
            raw,
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        ));
        let context = pg_sys::deparse_context_for(name.as_ptr(), relid);
        let Some(query) = rewritten
            .iter_ptr()
            .find(|&query| (*query).commandType == pg_sys::CmdType::CMD_UPDATE && (*query).canSetTag)
        else {
            return Ok(Vec::new());
        };
        let entries = PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList);
        Ok(entries
            .iter_ptr()
            .filter(|&entry| !(*entry).resjunk && !(*entry).resname.is_null())
            .map(|entry| {
                let expression = (*entry).expr.cast::<pg_sys::Node>();
                Target {
                    column: encoding::text((*entry).resname),
                    value: deparse_value(expression, context, false),
                    constant: !pg_sys::contain_var_clause(expression)
                        && !pg_sys::contain_volatile_functions(expression)
                        && !pg_sys::checkExprHasSubLink(expression),
                }
            })
            .collect())
    }
}

/// `prefix`: columns with the name of their table in front, always.
///
/// Safety: an analysed expression, and a context for its table.
pub(super) unsafe fn deparse_value(
    expression: *mut pg_sys::Node,
    context: *mut pg_sys::List,
    prefix: bool,
) -> Option<String> {
    use pg_sys::NodeTag::{T_FieldStore, T_Param, T_SubscriptingRef};
    // SAFETY: a node of the analysed tree. A Param is a column of a multi-column sub-select;
    // the other two are assignments to a part of a column. None of them is an expression in SQL.
    unsafe {
        let bare = pg_sys::strip_implicit_coercions(expression);
        let assignment = match (*bare).type_ {
            T_Param | T_FieldStore => true,
            T_SubscriptingRef => !(*bare.cast::<pg_sys::SubscriptingRef>()).refassgnexpr.is_null(),
            _ => false,
        };
        (!assignment).then(|| encoding::text(pg_sys::deparse_expression(expression, context, prefix, false)))
    }
}
