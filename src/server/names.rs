//! For the check of our own SQL (`cargo verify --only sql`): which names in a text are left to somebody's search_path. The
//! server's own parser reads it. Only in builds with the in-server tests.

use std::ffi::{CStr, c_char, c_void};

use pgrx::PgList;
use pgrx::pg_sys::{self, A_Expr_Kind, Node, NodeTag};

use super::encoding::to_c;
use super::raise::answer;

unsafe extern "C-unwind" {
    #[cfg_attr(not(feature = "pg15"), link_name = "raw_expression_tree_walker_impl")]
    fn raw_expression_tree_walker(
        node: *mut Node,
        walker: unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> bool,
        context: *mut c_void,
    ) -> bool;
}

#[derive(Default)]
struct Names {
    /// Names of common table expressions, which no path resolves.
    ctes: Vec<String>,
    /// In the body of a function, which is resolved anew in every session.
    in_body: bool,
    found: Vec<String>,
}

/// A line for each name without a schema: what it is, and the name.
#[pgrx::pg_extern(sql = false)]
fn names_by_path(sql: &str) -> String {
    let mut names = Names::default();
    // SAFETY: in a transaction; the tree lives in the current memory context.
    unsafe { read(&mut names, sql) };
    names.found.join("\n")
}

unsafe fn read(names: &mut Names, sql: &str) {
    unsafe {
        let text = answer(to_c(sql));
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        for statement in statements.iter_ptr() {
            top((*statement).stmt, names);
        }
    }
}

unsafe fn text(text: *const c_char) -> String {
    unsafe { if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() } }
}

/// The last part of a name, if it is the only one.
unsafe fn alone(name: *mut pg_sys::List) -> Option<String> {
    unsafe {
        let parts = PgList::<pg_sys::String>::from_pg(name);
        (parts.len() == 1).then(|| text((*parts.get_ptr(0).unwrap_or(std::ptr::null_mut())).sval))
    }
}

impl Names {
    unsafe fn list(&mut self, what: &str, name: *mut pg_sys::List) {
        if let Some(name) = unsafe { alone(name) } {
            self.found.push(format!("{what} {name}"));
        }
    }

    /// An operator that the grammar implies cannot be written with a schema; only where the path is pinned may it stand.
    fn implied(&mut self, operator: &str, by: &str) {
        if self.in_body {
            self.found.push(format!("operator {operator} of {by}"));
        }
    }

    unsafe fn relation(&mut self, relation: *const pg_sys::RangeVar) {
        unsafe {
            if !relation.is_null() && (*relation).schemaname.is_null() {
                let name = text((*relation).relname);
                if !self.ctes.contains(&name) {
                    self.found.push(format!("relation {name}"));
                }
            }
        }
    }

    unsafe fn walk(&mut self, node: *mut Node) {
        unsafe { walker(node, (self as *mut Names).cast()) };
    }
}

unsafe fn top(node: *mut Node, names: &mut Names) {
    unsafe {
        names.walk_ctes(node);
        match (*node).type_ {
            NodeTag::T_SelectStmt
            | NodeTag::T_InsertStmt
            | NodeTag::T_UpdateStmt
            | NodeTag::T_DeleteStmt
            | NodeTag::T_MergeStmt => names.walk(node),
            NodeTag::T_ViewStmt => {
                let view = &*node.cast::<pg_sys::ViewStmt>();
                names.relation(view.view);
                names.walk_ctes(view.query);
                names.walk(view.query);
            }
            NodeTag::T_CreateTableAsStmt => {
                let create = &*node.cast::<pg_sys::CreateTableAsStmt>();
                names.relation((*create.into).rel);
                top(create.query, names);
            }
            NodeTag::T_ExplainStmt => top((*node.cast::<pg_sys::ExplainStmt>()).query, names),
            NodeTag::T_LockStmt => names.walk((*node.cast::<pg_sys::LockStmt>()).relations.cast()),
            NodeTag::T_CreateFunctionStmt => function(&*node.cast::<pg_sys::CreateFunctionStmt>(), names),
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
                    names.list("collation", (*element).collation);
                    names.list("operator class", (*element).opclass);
                }
            }
            NodeTag::T_CreateTrigStmt => {
                let trigger = &*node.cast::<pg_sys::CreateTrigStmt>();
                names.relation(trigger.relation);
                names.list("function", trigger.funcname);
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
            _ => {}
        }
    }
}

unsafe fn constraint_of(node: *mut Node, names: &mut Names) {
    unsafe {
        let constraint = &*node.cast::<pg_sys::Constraint>();
        names.walk(constraint.raw_expr);
        names.walk(constraint.where_clause);
        names.relation(constraint.pktable);
    }
}

/// The body of a function of SQL is read in every session anew, unless it is of the new kind; others' bodies cannot be read.
unsafe fn function(create: &pg_sys::CreateFunctionStmt, names: &mut Names) {
    unsafe {
        names.list("function", create.funcname);
        let (mut body, mut language, mut pinned) = (None, String::new(), false);
        for option in PgList::<pg_sys::DefElem>::from_pg(create.options).iter_ptr() {
            match text((*option).defname).as_str() {
                "as" => {
                    body = PgList::<pg_sys::String>::from_pg((*option).arg.cast())
                        .get_ptr(0)
                        .map(|body| text((*body).sval));
                }
                "language" => language = text((*(*option).arg.cast::<pg_sys::String>()).sval),
                "set" => {
                    let set = &*(*option).arg.cast::<pg_sys::VariableSetStmt>();
                    pinned |= text(set.name) == "search_path";
                }
                _ => {}
            }
        }
        if let Some(body) = body.filter(|_| language == "sql") {
            let before = std::mem::replace(&mut names.in_body, !pinned);
            read(names, &body);
            names.in_body = before;
        }
        if !create.sql_body.is_null() {
            new_body(create.sql_body, names);
        }
    }
}

/// `RETURN ..`, or the statements of BEGIN ATOMIC, in lists.
unsafe fn new_body(node: *mut Node, names: &mut Names) {
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

impl Names {
    /// The names of common table expressions anywhere in a statement.
    unsafe fn walk_ctes(&mut self, node: *mut Node) {
        unsafe extern "C-unwind" fn collect(node: *mut Node, context: *mut c_void) -> bool {
            unsafe {
                if node.is_null() {
                    return false;
                }
                if (*node).type_ == NodeTag::T_CommonTableExpr {
                    let name = text((*node.cast::<pg_sys::CommonTableExpr>()).ctename);
                    (*context.cast::<Names>()).ctes.push(name);
                }
                raw_expression_tree_walker(node, collect, context)
            }
        }
        unsafe {
            if matches!(
                (*node).type_,
                NodeTag::T_SelectStmt
                    | NodeTag::T_InsertStmt
                    | NodeTag::T_UpdateStmt
                    | NodeTag::T_DeleteStmt
                    | NodeTag::T_MergeStmt
            ) {
                collect(node, (self as *mut Names).cast());
            }
        }
    }
}

unsafe extern "C-unwind" fn walker(node: *mut Node, context: *mut c_void) -> bool {
    unsafe {
        if node.is_null() {
            return false;
        }
        let names = &mut *context.cast::<Names>();
        match (*node).type_ {
            NodeTag::T_FuncCall => names.list("function", (*node.cast::<pg_sys::FuncCall>()).funcname),
            NodeTag::T_TypeName => names.list("type", (*node.cast::<pg_sys::TypeName>()).names),
            NodeTag::T_CollateClause => names.list("collation", (*node.cast::<pg_sys::CollateClause>()).collname),
            NodeTag::T_SortBy => names.list("operator", (*node.cast::<pg_sys::SortBy>()).useOp),
            NodeTag::T_RangeVar => names.relation(node.cast()),
            // FOR UPDATE OF names aliases.
            NodeTag::T_LockingClause => return false,
            NodeTag::T_A_Expr => {
                let expression = &*node.cast::<pg_sys::A_Expr>();
                match expression.kind {
                    A_Expr_Kind::AEXPR_OP | A_Expr_Kind::AEXPR_OP_ANY | A_Expr_Kind::AEXPR_OP_ALL => {
                        names.list("operator", expression.name);
                    }
                    A_Expr_Kind::AEXPR_DISTINCT | A_Expr_Kind::AEXPR_NOT_DISTINCT => {
                        names.implied("=", "IS DISTINCT FROM");
                    }
                    A_Expr_Kind::AEXPR_NULLIF => names.implied("=", "NULLIF"),
                    A_Expr_Kind::AEXPR_IN => names.implied("=", "IN"),
                    A_Expr_Kind::AEXPR_LIKE | A_Expr_Kind::AEXPR_ILIKE | A_Expr_Kind::AEXPR_SIMILAR => {
                        names.implied("~~", "LIKE");
                    }
                    _ => names.implied(">=", "BETWEEN"),
                }
            }
            NodeTag::T_SubLink => {
                let sublink = &*node.cast::<pg_sys::SubLink>();
                if sublink.operName.is_null() {
                    if !sublink.testexpr.is_null() {
                        names.implied("=", "IN");
                    }
                } else {
                    names.list("operator", sublink.operName);
                }
            }
            NodeTag::T_CaseExpr if !(*node.cast::<pg_sys::CaseExpr>()).arg.is_null() => {
                names.implied("=", "CASE .. WHEN");
            }
            NodeTag::T_JoinExpr => {
                let join = &*node.cast::<pg_sys::JoinExpr>();
                if join.isNatural || !join.usingClause.is_null() {
                    names.implied("=", "USING");
                }
            }
            _ => {}
        }
        raw_expression_tree_walker(node, walker, context)
    }
}
