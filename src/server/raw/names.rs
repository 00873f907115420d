//! Which names in a text of SQL are left to somebody's search_path? Read by the server's own parser, for builds that prove it:
//! of what was put together, by the door ([`super::proof`]); of what is written in the sources, by `cargo verify --only sql`.

use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys::{self, A_Expr_Kind, Node, NodeTag};

use super::unguarded::raw_expression_tree_walker;
use super::{encoding, script};

#[cfg(feature = "pg_test")]
mod sources;

pub struct Names {
    /// Operators that the grammar implies (`IN`, `IS DISTINCT FROM`, `USING`) count: they cannot be written with a schema.
    implied: bool,
    /// Bytes of the text that are the user's.
    fragments: Vec<(usize, usize)>,
    ctes: Vec<String>,
    relations: Vec<String>,
    found: Vec<String>,
}

/// Safety: as [`script::trees`].
pub unsafe fn parse(text: &CStr) -> impl Iterator<Item = *mut Node> {
    // SAFETY: each RawStmt has its statement.
    unsafe { script::trees(text).map(|statement| (*statement).stmt) }
}

/// Safety: a node.
pub unsafe fn is_query(statement: *mut Node) -> bool {
    // SAFETY: as the caller promises.
    let tag = unsafe { (*statement).type_ };
    matches!(
        tag,
        NodeTag::T_SelectStmt
            | NodeTag::T_InsertStmt
            | NodeTag::T_UpdateStmt
            | NodeTag::T_DeleteStmt
            | NodeTag::T_MergeStmt
    )
}

impl Names {
    pub fn new(implied: bool, fragments: Vec<(usize, usize)>) -> Self {
        Names { implied, fragments, ctes: Vec::new(), relations: Vec::new(), found: Vec::new() }
    }

    /// Reads a query, or the one in an EXPLAIN; other statements of ours run under the pins.
    ///
    /// Safety: a raw statement.
    pub unsafe fn read(&mut self, statement: *mut Node) {
        // SAFETY: an EXPLAIN has the statement that it explains.
        unsafe {
            let query = match (*statement).type_ {
                NodeTag::T_ExplainStmt => (*statement.cast::<pg_sys::ExplainStmt>()).query,
                _ => statement,
            };
            if is_query(query) {
                self.walk(query);
            }
        }
    }

    /// Safety: a raw tree, or null.
    pub unsafe fn walk(&mut self, node: *mut Node) {
        // SAFETY: the walk is over before the borrow is.
        unsafe { look(node, (self as *mut Names).cast()) };
    }

    /// What was found: what it is, and its name.
    pub fn found(self) -> Vec<String> {
        let Names { relations, ctes, mut found, .. } = self;
        // The transition table of our guard is called `deleted`, which it makes sure of.
        let unknown = relations.into_iter().filter(|name| !ctes.contains(name) && name != "deleted");
        found.extend(unknown.map(|name| format!("relation {name}")));
        found
    }

    fn is_theirs(&self, location: c_int) -> bool {
        usize::try_from(location).is_ok_and(|at| self.fragments.iter().any(|&(from, to)| from <= at && at < to))
    }

    /// A name in a list of its parts.
    ///
    /// Safety: a list of String nodes, or null.
    unsafe fn list(&mut self, what: &str, name: *mut pg_sys::List, location: c_int) {
        // SAFETY: the only element is there.
        unsafe {
            if !name.is_null() && (*name).length == 1 && !self.is_theirs(location) {
                let name = (*pg_sys::list_nth(name, 0).cast::<pg_sys::String>()).sval;
                self.found.push(format!("{what} {}", encoding::text(name)));
            }
        }
    }

    /// Safety: a name of a raw tree, or null.
    unsafe fn relation(&mut self, relation: *const pg_sys::RangeVar) {
        // SAFETY: as the caller promises; its texts end in a zero.
        unsafe {
            if !relation.is_null() && (*relation).schemaname.is_null() && !self.is_theirs((*relation).location) {
                self.relations.push(encoding::text((*relation).relname));
            }
        }
    }

    fn implied(&mut self, what: &str, location: c_int) {
        if self.implied && !self.is_theirs(location) {
            self.found.push(format!("operator of {what}"));
        }
    }
}

unsafe extern "C-unwind" fn look(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: the walker gives nodes of a raw tree and hands through the `Names` that it was begun with, which nobody
    // else has meanwhile.
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
            NodeTag::T_RangeVar => names.relation(node.cast()),
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
