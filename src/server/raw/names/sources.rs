//! The check of our own sources (`cargo verify --only sql`): DDL too, and the bodies of functions.

use pgrx::PgList;
use pgrx::pg_sys::{self, Node, NodeTag};

use super::{Names, is_query, parse};
use crate::server::raw::catch::subtransaction;
use crate::server::raw::encoding;
use crate::server::raw::raise::answer;

/// What may be read between two others.
const BETWEEN: char = '\u{1}';

/// Of several readings of a text the first that is SQL: a line for each name without a schema, what it is and the name. Null if none is.
#[pgrx::pg_extern(sql = false)]
fn names_by_path(readings: &str) -> Option<String> {
    readings.split(BETWEEN).find_map(|sql| {
        let read = subtransaction(|| {
            let mut found = Vec::new();
            // SAFETY: in a transaction; the tree lives in the current memory context.
            unsafe { read(&mut found, sql, false) };
            Ok(found.join("\n"))
        });
        read.ok()
    })
}

/// `implied`: operators that the grammar implies count too. They may stand only where the path is pinned, or where a name is
/// resolved once and for all.
///
/// Safety: in a transaction.
unsafe fn read(found: &mut Vec<String>, sql: &str, implied: bool) {
    // SAFETY: the text outlives its trees.
    unsafe {
        let text = answer(encoding::to_c(sql));
        for statement in parse(&text) {
            let mut names = Names::new(implied, Vec::new());
            top(statement, &mut names);
            found.extend(names.found());
            if (*statement).type_ == NodeTag::T_CreateFunctionStmt {
                body(&*statement.cast::<pg_sys::CreateFunctionStmt>(), found);
            }
        }
    }
}

/// Safety: a raw statement.
unsafe fn top(node: *mut Node, names: &mut Names) {
    // SAFETY: a node is cast to what its tag says.
    unsafe {
        match (*node).type_ {
            NodeTag::T_ViewStmt => {
                let view = &*node.cast::<pg_sys::ViewStmt>();
                names.relation(view.view);
                names.walk(view.query);
            }
            NodeTag::T_CreateTableAsStmt => {
                let create = &*node.cast::<pg_sys::CreateTableAsStmt>();
                names.relation((*create.into).rel);
                top(create.query, names);
            }
            NodeTag::T_ExplainStmt => names.read(node),
            NodeTag::T_LockStmt => names.walk((*node.cast::<pg_sys::LockStmt>()).relations.cast()),
            NodeTag::T_CreateFunctionStmt => {
                let create = &*node.cast::<pg_sys::CreateFunctionStmt>();
                names.list("function", create.funcname, -1);
                if !create.sql_body.is_null() {
                    new_body(create.sql_body, names);
                }
            }
            NodeTag::T_CreateStmt => {
                let create = &*node.cast::<pg_sys::CreateStmt>();
                names.relation(create.relation);
                for element in PgList::<Node>::from_pg(create.tableElts).iter_ptr() {
                    match (*element).type_ {
                        NodeTag::T_ColumnDef => {
                            // Types of columns are looked up by the path of CREATE EXTENSION, which is the server's.
                            for constraint in
                                PgList::<Node>::from_pg((*element.cast::<pg_sys::ColumnDef>()).constraints).iter_ptr()
                            {
                                constraint_of(constraint, names);
                            }
                        }
                        NodeTag::T_Constraint => constraint_of(element, names),
                        _ => {}
                    }
                }
            }
            NodeTag::T_IndexStmt => {
                let index = &*node.cast::<pg_sys::IndexStmt>();
                names.relation(index.relation);
                names.walk(index.whereClause);
                for element in PgList::<pg_sys::IndexElem>::from_pg(index.indexParams).iter_ptr() {
                    names.walk((*element).expr);
                    names.list("collation", (*element).collation, -1);
                    names.list("operator class", (*element).opclass, -1);
                }
            }
            NodeTag::T_CreateTrigStmt => {
                let trigger = &*node.cast::<pg_sys::CreateTrigStmt>();
                names.relation(trigger.relation);
                names.list("function", trigger.funcname, -1);
                names.walk(trigger.whenClause);
            }
            NodeTag::T_AlterTableStmt => {
                let alter = &*node.cast::<pg_sys::AlterTableStmt>();
                names.relation(alter.relation);
                for command in PgList::<pg_sys::AlterTableCmd>::from_pg(alter.cmds).iter_ptr() {
                    if !(*command).def.is_null() && (*(*command).def).type_ == NodeTag::T_Constraint {
                        constraint_of((*command).def, names);
                    }
                }
            }
            NodeTag::T_RenameStmt => names.relation((*node.cast::<pg_sys::RenameStmt>()).relation),
            _ if is_query(node) => names.walk(node),
            _ => {}
        }
    }
}

/// Safety: a Constraint.
unsafe fn constraint_of(node: *mut Node, names: &mut Names) {
    // SAFETY: as the caller promises.
    unsafe {
        let constraint = &*node.cast::<pg_sys::Constraint>();
        names.walk(constraint.raw_expr);
        names.walk(constraint.where_clause);
        names.relation(constraint.pktable);
    }
}

/// The body of a function of SQL is read in every session anew, unless it is of the new kind; others' bodies cannot be read.
///
/// Safety: of a raw tree.
unsafe fn body(create: &pg_sys::CreateFunctionStmt, found: &mut Vec<String>) {
    // SAFETY: the options of CREATE FUNCTION are DefElem; AS has a list of String, LANGUAGE a String.
    unsafe {
        let (mut body, mut language, mut pinned) = (None, String::new(), false);
        for option in PgList::<pg_sys::DefElem>::from_pg(create.options).iter_ptr() {
            match encoding::text((*option).defname).as_str() {
                "as" => {
                    body = PgList::<pg_sys::String>::from_pg((*option).arg.cast())
                        .get_ptr(0)
                        .map(|body| encoding::text((*body).sval));
                }
                "language" => language = encoding::text((*(*option).arg.cast::<pg_sys::String>()).sval),
                "set" => {
                    pinned |= encoding::text((*(*option).arg.cast::<pg_sys::VariableSetStmt>()).name) == "search_path";
                }
                _ => {}
            }
        }
        if let Some(body) = body.filter(|_| language == "sql") {
            read(found, &body, !pinned);
        }
    }
}

/// `RETURN ..`, or the statements of BEGIN ATOMIC, in lists.
///
/// Safety: what a body of the new kind is: statements, or lists of them.
unsafe fn new_body(node: *mut Node, names: &mut Names) {
    // SAFETY: a node is cast to what its tag says.
    unsafe {
        match (*node).type_ {
            NodeTag::T_List => {
                for statement in PgList::<Node>::from_pg(node.cast()).iter_ptr() {
                    new_body(statement, names);
                }
            }
            NodeTag::T_ReturnStmt => names.walk((*node.cast::<pg_sys::ReturnStmt>()).returnval),
            _ => top(node, names),
        }
    }
}
