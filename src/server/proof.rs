//! In builds for tests the door looks at every statement that it lets through, once a session (LAW 28). What it proves:
//!
//! - [`names`]: as it is written. Nothing outside of the user's fragments leaves a type, function, operator, relation or
//!   collation to the search_path, nor, where that is not pinned, an operator that the grammar implies (`IN`, `IS DISTINCT
//!   FROM`, `USING`). Arguments "any", polymorphic ones and windows are seen like any other, whether or not anybody could
//!   set a trap for them.
//! - [`objects`]: as it was analysed. A statement that runs as superuser on our tables calls no function or operator, and
//!   reads no table, that is neither the server's nor ours.
//!
//! It cannot see what a user's operator, type or trigger does inside: that runs as whoever the place wants, under settings
//! that `tests/door.rs` records.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{c_int, c_void};

use pgrx::pg_sys::{self, A_Expr_Kind, Node, NodeTag, Oid};
use pgrx::{PgList, pg_guard};

use super::raise::answer;
use super::{encoding, raw};
use crate::error::{Error, INTERNAL_ERROR, Result};

unsafe extern "C-unwind" {
    #[cfg_attr(not(feature = "pg15"), link_name = "raw_expression_tree_walker_impl")]
    fn raw_expression_tree_walker(
        node: *mut Node,
        walker: unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> bool,
        context: *mut c_void,
    ) -> bool;
}

thread_local! {
    static SEEN: RefCell<HashSet<(String, bool)>> = RefCell::default();
}

/// Has this session met the statement? If not, it has now.
fn is_known(sql: &str, pinned: bool) -> bool {
    !SEEN.with_borrow_mut(|seen| seen.insert((sql.to_owned(), pinned)))
}

struct Names {
    pinned: bool,
    /// Bytes of the text that are the user's.
    fragments: Vec<(usize, usize)>,
    ctes: Vec<String>,
    relations: Vec<String>,
    found: Vec<String>,
}

impl Names {
    fn is_theirs(&self, location: c_int) -> bool {
        usize::try_from(location).is_ok_and(|at| self.fragments.iter().any(|&(from, to)| from <= at && at < to))
    }

    /// A name in a list of its parts.
    unsafe fn list(&mut self, what: &str, name: *mut pg_sys::List, location: c_int) {
        unsafe {
            if !name.is_null() && (*name).length == 1 && !self.is_theirs(location) {
                let name = (*pg_sys::list_nth(name, 0).cast::<pg_sys::String>()).sval;
                self.found.push(format!("{what} {}", encoding::text(name)));
            }
        }
    }

    fn implied(&mut self, what: &str, location: c_int) {
        if !self.pinned && !self.is_theirs(location) {
            self.found.push(format!("the operator of {what}"));
        }
    }
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
    let mut names =
        Names { pinned, fragments: ranges.collect(), ctes: Vec::new(), relations: Vec::new(), found: Vec::new() };
    let text = encoding::to_c(sql)?;
    // SAFETY: in a transaction; the tree lives in the current memory context.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        for statement in PgList::<pg_sys::RawStmt>::from_pg(statements).iter_ptr() {
            let mut statement = (*statement).stmt;
            if (*statement).type_ == NodeTag::T_ExplainStmt {
                statement = (*statement.cast::<pg_sys::ExplainStmt>()).query;
            }
            if is_query((*statement).type_) {
                look(statement, (&raw mut names).cast());
            }
        }
    }
    // The transition table of our guard is called `deleted`, which it makes sure of.
    let Names { relations, ctes, mut found, .. } = names;
    found.extend(
        relations
            .into_iter()
            .filter(|name| !ctes.contains(name) && name != "deleted")
            .map(|name| format!("relation {name}")),
    );
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(INTERNAL_ERROR, format!("not qualified: {}", found.join(", "))).detail(sql.to_owned()))
}

fn is_query(kind: NodeTag) -> bool {
    matches!(
        kind,
        NodeTag::T_SelectStmt
            | NodeTag::T_InsertStmt
            | NodeTag::T_UpdateStmt
            | NodeTag::T_DeleteStmt
            | NodeTag::T_MergeStmt
    )
}

unsafe extern "C-unwind" fn look(node: *mut Node, context: *mut c_void) -> bool {
    unsafe {
        if node.is_null() {
            return false;
        }
        let names = &mut *context.cast::<Names>();
        match (*node).type_ {
            NodeTag::T_FuncCall => {
                let call = &*node.cast::<pg_sys::FuncCall>();
                names.list("function", call.funcname, call.location);
            }
            NodeTag::T_TypeName => {
                let kind = &*node.cast::<pg_sys::TypeName>();
                names.list("type", kind.names, kind.location);
            }
            NodeTag::T_CollateClause => {
                let clause = &*node.cast::<pg_sys::CollateClause>();
                names.list("collation", clause.collname, clause.location);
            }
            NodeTag::T_SortBy => {
                let sort = &*node.cast::<pg_sys::SortBy>();
                names.list("operator", sort.useOp, sort.location);
            }
            NodeTag::T_RangeVar => {
                let relation = &*node.cast::<pg_sys::RangeVar>();
                if relation.schemaname.is_null() && !names.is_theirs(relation.location) {
                    names.relations.push(encoding::text(relation.relname));
                }
            }
            NodeTag::T_CommonTableExpr => {
                names.ctes.push(encoding::text((*node.cast::<pg_sys::CommonTableExpr>()).ctename));
            }
            // FOR UPDATE OF names aliases.
            NodeTag::T_LockingClause => return false,
            NodeTag::T_A_Expr => {
                let expression = &*node.cast::<pg_sys::A_Expr>();
                match expression.kind {
                    A_Expr_Kind::AEXPR_OP | A_Expr_Kind::AEXPR_OP_ANY | A_Expr_Kind::AEXPR_OP_ALL => {
                        names.list("operator", expression.name, expression.location);
                    }
                    _ => names.implied("IN, IS DISTINCT FROM, NULLIF, LIKE or BETWEEN", expression.location),
                }
            }
            NodeTag::T_SubLink => {
                let link = &*node.cast::<pg_sys::SubLink>();
                if link.operName.is_null() && !link.testexpr.is_null() {
                    names.implied("IN (SELECT ..)", link.location);
                }
                names.list("operator", link.operName, link.location);
            }
            NodeTag::T_CaseExpr => {
                let case = &*node.cast::<pg_sys::CaseExpr>();
                if !case.arg.is_null() {
                    names.implied("CASE value WHEN", case.location);
                }
            }
            NodeTag::T_JoinExpr => {
                let join = &*node.cast::<pg_sys::JoinExpr>();
                // It does not say where it is written.
                if (join.isNatural || !join.usingClause.is_null()) && names.fragments.is_empty() {
                    names.implied("USING", -1);
                }
            }
            _ => {}
        }
        raw_expression_tree_walker(node, look, context)
    }
}

/// Does the trees of a statement that runs as superuser name anybody's functions, operators or tables?
unsafe fn objects(queries: *mut pg_sys::List, sql: &str) -> Result<()> {
    // SAFETY: analysed trees.
    let trees = unsafe { encoding::text(pg_sys::nodeToString(queries.cast())) };
    // What the superuser has installed, looked at before it is called: `queries::counters`.
    if sql.contains("pg_stat_statements") {
        return Ok(());
    }
    let ours = unsafe { pg_sys::get_namespace_oid(c"upkeep".as_ptr(), true) };
    let mut words = trees.split_ascii_whitespace();
    // A transition table has the OID of the table whose rows it holds.
    let mut in_transition = false;
    while let Some(word) = words.next() {
        in_transition = (in_transition && word != ":rtekind") || word == ":enrname";
        let schema: unsafe fn(Oid) -> Oid = match word {
            ":funcid" | ":opfuncid" | ":aggfnoid" | ":winfnoid" => |oid| unsafe { pg_sys::get_func_namespace(oid) },
            ":opno" => |_| Oid::INVALID,
            ":relid" if !in_transition => |oid| unsafe { pg_sys::get_rel_namespace(oid) },
            _ => continue,
        };
        let oid = words.next().and_then(|oid| oid.parse::<u32>().ok()).unwrap_or(0);
        // What initdb has made is the server's.
        if oid >= crate::backfill::target::FIRST_NORMAL_OID && unsafe { schema(Oid::from(oid)) } != ours {
            let what = format!("not ours, as superuser: {word} {oid}");
            return Err(Error::new(INTERNAL_ERROR, what).detail(sql.to_owned()));
        }
    }
    Ok(())
}

fn is_superuser() -> bool {
    unsafe { pg_sys::GetUserId() == Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID) && pg_sys::InLocalUserIdChange() }
}

/// A statement of ours, before it runs.
pub fn ours(sql: &str, types: &[Oid]) -> Result<()> {
    let first = !SEEN.with_borrow(|seen| seen.contains(&(sql.to_owned(), true)));
    names(sql, true, &[])?;
    if !first || !is_superuser() {
        return Ok(());
    }
    let text = encoding::to_c(sql)?;
    // SAFETY: in a transaction; a snapshot is active while it is analysed, as the server has it.
    unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        for statement in statements.iter_ptr().filter(|&statement| is_query((*(*statement).stmt).type_)) {
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
pub unsafe extern "C-unwind" fn plan(plan: pg_sys::SPIPlanPtr, statement: *const raw::Statement, pinned: bool) {
    let statement = unsafe { &*statement };
    let text = encoding::from_server(statement.sql().to_bytes());
    let fragments: Vec<&str> = statement.fragments().iter().map(String::as_str).collect();
    answer(names(&text, pinned, &fragments));
    if pinned && is_superuser() {
        unsafe {
            let sources = PgList::<pg_sys::CachedPlanSource>::from_pg(pg_sys::SPI_plan_get_plan_sources(plan));
            for source in sources.iter_ptr() {
                answer(objects((*source).query_list, &text));
            }
        }
    }
}
