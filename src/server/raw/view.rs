//! What a view's columns and its query are, by its own parse tree; whose it is; and what an ALTER TABLE or a CREATE TRIGGER is
//! about.

use std::ffi::CString;

use pgrx::PgList;
use pgrx::pg_sys::{self, NodeTag, Oid};

use super::catch::subtransaction;
use super::encoding::{self, to_c};
use super::script;
use super::spi;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, Result, SYNTAX_ERROR};

/// A column of a view on one table, and the table's column that it shows; 0: it is something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub name: String,
    pub number: i16,
}

/// The columns of a view in their order. Empty: it is no view (any more).
pub fn columns(view: Oid) -> Result<Vec<Shown>> {
    subtransaction(|| {
        // SAFETY: opened under a lock and closed here, or by the abort; the query belongs to the relation's cache entry.
        unsafe {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let relation = pg_sys::try_relation_open(view, lock);
            if relation.is_null() {
                return Ok(Vec::new());
            }
            let mut shown = Vec::new();
            if (*(*relation).rd_rel).relkind == pg_sys::RELKIND_VIEW as std::ffi::c_char {
                let query = pg_sys::get_view_query(relation);
                let entries = pgrx::PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList);
                for entry in entries.iter_ptr().filter(|entry| !(**entry).resjunk) {
                    let name = pg_sys::get_attname(view, (*entry).resno, true);
                    if name.is_null() {
                        continue;
                    }
                    let name = encoding::text(name);
                    let expression = (*entry).expr.cast::<pg_sys::Node>();
                    let number = match (*expression).type_ {
                        NodeTag::T_Var => (*expression.cast::<pg_sys::Var>()).varattno,
                        _ => 0,
                    };
                    shown.push(Shown { name, number });
                }
            }
            pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            Ok(shown)
        }
    })
}

/// For each column of a view, in their order, which of that table's it shows; 0: it is something else. The view is one that
/// the statement has locked.
pub fn shown(view: Oid, table: Oid) -> Result<Vec<i16>> {
    // SAFETY: opened and closed here, or by the abort; the query belongs to the relation's cache entry.
    unsafe {
        let relation = pg_sys::try_relation_open(view, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        if relation.is_null() {
            return Ok(Vec::new());
        }
        let mut shown = Vec::new();
        if (*(*relation).rd_rel).relkind == pg_sys::RELKIND_VIEW as std::ffi::c_char {
            let query = pg_sys::get_view_query(relation);
            let tables = PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
            for entry in PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList).iter_ptr() {
                if (*entry).resjunk {
                    continue;
                }
                let expression = (*entry).expr.cast::<pg_sys::Node>();
                let mut number = 0;
                if (*expression).type_ == NodeTag::T_Var {
                    let var = &*expression.cast::<pg_sys::Var>();
                    let of = usize::try_from(var.varno - 1).ok().and_then(|at| tables.get_ptr(at));
                    if var.varlevelsup == 0 && of.is_some_and(|of| (*of).relid == table) {
                        number = var.varattno.max(0);
                    }
                }
                shown.push(number);
            }
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        Ok(shown)
    }
}

/// A query that is nothing but `SELECT columns FROM table AS .. WHERE column IS [NOT] NULL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub table: Oid,
    /// The column of the condition.
    pub tested: i16,
    pub is_null: bool,
    pub columns: Vec<i16>,
}

/// Reads `pg_rewrite.ev_action` of a view, in the server's encoding. `None`: its query is anything else. Needs no lock: every
/// node is compared with the one that the server would have made, so that what nobody has thought of differs.
pub fn shape(action: &[u8], view: Oid) -> Option<Shape> {
    let action = CString::new(action).ok()?;
    // SAFETY: the server's own notation of a list of queries, read into the current memory context; tags are checked before casts.
    unsafe { shape_of(pg_sys::stringToNode(action.as_ptr()).cast(), view) }
}

/// A node with every field at its default.
///
/// # Safety
/// `T` is a node of this tag.
unsafe fn node<T>(tag: NodeTag) -> *mut T {
    // SAFETY: zeroed, and with its tag it is such a node.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>()).cast::<T>();
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node
    }
}

/// Safety: the actions of a rule, or null.
unsafe fn shape_of(actions: *mut pg_sys::List, view: Oid) -> Option<Shape> {
    // SAFETY: a rule's action is a Query; nodes are cast to what their tags say, and those that we make live in the
    // current memory.
    unsafe {
        if actions.is_null() || (*actions).length != 1 {
            return None;
        }
        let query = pg_sys::list_nth(actions, 0).cast::<pg_sys::Query>();
        let (index, table) = only_relation(query, view)?;
        // But for what is looked at below, it is the plainest query that there is.
        let plain = node::<pg_sys::Query>(NodeTag::T_Query);
        (*plain).commandType = pg_sys::CmdType::CMD_SELECT;
        (*plain).canSetTag = true;
        (*plain).queryId = (*query).queryId;
        (*plain).stmt_location = (*query).stmt_location;
        (*plain).stmt_len = (*query).stmt_len;
        (*plain).rtable = (*query).rtable;
        #[cfg(not(feature = "pg15"))]
        {
            (*plain).rteperminfos = (*query).rteperminfos;
        }
        (*plain).jointree = (*query).jointree;
        (*plain).targetList = (*query).targetList;
        let from = (*query).jointree;
        if !pg_sys::equal(plain.cast(), query.cast()) || from.is_null() || (*from).quals.is_null() {
            return None;
        }
        let tables = PgList::<pg_sys::RangeTblRef>::from_pg((*from).fromlist);
        let [reference] = tables.iter_ptr().collect::<Vec<_>>()[..] else { return None };
        if (*reference).type_ != NodeTag::T_RangeTblRef || (*reference).rtindex != index {
            return None;
        }
        let quals = (*from).quals;
        if (*quals).type_ != NodeTag::T_NullTest {
            return None;
        }
        let test = quals.cast::<pg_sys::NullTest>();
        let tested = column((*test).arg.cast(), index)?;
        if (*test).argisrow {
            return None;
        }
        let mut columns = Vec::new();
        for entry in PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList).iter_ptr() {
            let number = column((*entry).expr.cast(), index)?;
            let plain = node::<pg_sys::TargetEntry>(NodeTag::T_TargetEntry);
            (*plain).expr = (*entry).expr;
            (*plain).resno = i16::try_from(columns.len() + 1).ok()?;
            (*plain).resname = (*entry).resname;
            (*plain).resorigtbl = table;
            (*plain).resorigcol = number;
            if columns.contains(&number) || !pg_sys::equal(plain.cast(), entry.cast()) {
                return None;
            }
            columns.push(number);
        }
        Some(Shape { table, tested, is_null: (*test).nulltesttype == pg_sys::NullTestType::IS_NULL, columns })
    }
}

/// The number of the column of the only table that this node is.
///
/// Safety: an analysed expression, or null.
unsafe fn column(expression: *mut pg_sys::Node, index: i32) -> Option<i16> {
    // SAFETY: as the caller promises; equal() reads both to their ends.
    unsafe {
        if expression.is_null() || (*expression).type_ != NodeTag::T_Var {
            return None;
        }
        let var = &*expression.cast::<pg_sys::Var>();
        let plain = pg_sys::makeVar(index, var.varattno, var.vartype, var.vartypmod, var.varcollid, 0);
        (var.varattno > 0 && pg_sys::equal(plain.cast(), expression.cast())).then_some(var.varattno)
    }
}

/// Where the one table is that a query reads, and which. Before 16 the stored query of a view has the view itself in front,
/// twice, for rules.
///
/// Safety: an analysed query.
unsafe fn only_relation(query: *mut pg_sys::Query, view: Oid) -> Option<(i32, Oid)> {
    // SAFETY: lists of a Query hold what their fields say.
    unsafe {
        if (*query).type_ != NodeTag::T_Query {
            return None;
        }
        let entries: Vec<_> = PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable).iter_ptr().collect();
        let (in_front, [entry]) = entries.split_at_checked(if cfg!(feature = "pg15") { 2 } else { 0 })? else {
            return None;
        };
        if in_front.iter().any(|&own| (*own).relid != view || (*own).rtekind != pg_sys::RTEKind::RTE_RELATION) {
            return None;
        }
        let entry = *entry;
        let plain = node::<pg_sys::RangeTblEntry>(NodeTag::T_RangeTblEntry);
        (*plain).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*plain).relid = (*entry).relid;
        (*plain).relkind = (*entry).relkind;
        (*plain).rellockmode = pg_sys::AccessShareLock as i32;
        (*plain).alias = (*entry).alias;
        (*plain).eref = (*entry).eref;
        (*plain).inh = true;
        (*plain).inFromCl = true;
        #[cfg(feature = "pg15")]
        {
            (*plain).requiredPerms = pg_sys::ACL_SELECT;
            (*plain).selectedCols = (*entry).selectedCols;
        }
        #[cfg(not(feature = "pg15"))]
        {
            (*plain).perminfoindex = 1;
            let rights = PgList::<pg_sys::RTEPermissionInfo>::from_pg((*query).rteperminfos);
            let [right] = rights.iter_ptr().collect::<Vec<_>>()[..] else { return None };
            let select = node::<pg_sys::RTEPermissionInfo>(NodeTag::T_RTEPermissionInfo);
            (*select).relid = (*entry).relid;
            (*select).inh = true;
            (*select).requiredPerms = pg_sys::ACL_SELECT.into();
            (*select).selectedCols = (*right).selectedCols;
            if !pg_sys::equal(select.cast(), right.cast()) {
                return None;
            }
        }
        let is_plain = pg_sys::equal(plain.cast(), entry.cast());
        is_plain.then_some((in_front.len() as i32 + 1, (*entry).relid))
    }
}

/// Gives a view to another owner, by its OID: whatever it is called meanwhile. The caller holds its lock and knows what it is.
pub fn hand_over(view: Oid, owner: Oid) -> Result<()> {
    spi::bookkeeping(|| {
        // SAFETY: in a transaction; an error is its end, or the end of the subtransaction around us.
        unsafe {
            pg_sys::ATExecChangeOwner(view, owner, false, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE);
            pg_sys::CommandCounterIncrement();
        }
        Ok(())
    })
}

/// A CREATE TRIGGER that is about to run.
pub struct TriggerToBe {
    pub name: String,
    pub function: String,
    relation: *mut pg_sys::RangeVar,
}

impl TriggerToBe {
    /// The table that it is for, by the caller's search_path. An error is the statement's own to raise.
    pub fn table(&self) -> Result<Oid> {
        subtransaction(|| {
            // SAFETY: the statement's tree lives until it has run.
            Ok(unsafe {
                pg_sys::RangeVarGetRelidExtended(
                    self.relation,
                    pg_sys::NoLock as pg_sys::LOCKMODE,
                    pg_sys::RVROption::RVR_MISSING_OK,
                    None,
                    std::ptr::null_mut(),
                )
            })
        })
    }
}

/// What the event trigger `ddl_command_start` was called for, if it is a CREATE TRIGGER (not OR REPLACE) of a function of ours.
///
/// # Safety
/// The argument is that of the call.
pub unsafe fn trigger_to_be(fcinfo: pg_sys::FunctionCallInfo) -> Option<TriggerToBe> {
    // SAFETY: the event trigger's data and the statement's tree last as long as the call; a node is cast to what its
    // tag says.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != NodeTag::T_EventTriggerData {
            return None;
        }
        let statement = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if statement.is_null() || (*statement).type_ != NodeTag::T_CreateTrigStmt {
            return None;
        }
        let statement = &*statement.cast::<pg_sys::CreateTrigStmt>();
        if statement.replace || statement.funcname.is_null() || (*statement.funcname).length != 2 {
            return None;
        }
        let name = |index| encoding::text((*pg_sys::list_nth(statement.funcname, index).cast::<pg_sys::String>()).sval);
        (name(0) == "upkeep").then(|| TriggerToBe {
            name: encoding::text(statement.trigname),
            function: name(1),
            relation: statement.relation,
        })
    }
}

/// Parses one ALTER TABLE and finds the table it is about, by the caller's search_path.
pub fn altered_table(ddl: &str) -> Result<Oid> {
    subtransaction(|| {
        let text = to_c(ddl)?;
        // SAFETY: the tree lives in the current memory context; tags are checked before casts.
        unsafe {
            let statements: Vec<_> = script::trees(&text).collect();
            let [statement] = statements[..] else {
                let count = statements.len();
                return Err(Error::new(SYNTAX_ERROR, format!("ddl must be exactly one statement, but it has {count}")));
            };
            let statement = (*statement).stmt;
            let table = pg_sys::ObjectType::OBJECT_TABLE;
            let relation = match (*statement).type_ {
                NodeTag::T_AlterTableStmt => {
                    let alter = &*statement.cast::<pg_sys::AlterTableStmt>();
                    (alter.objtype == table).then_some(alter.relation)
                }
                NodeTag::T_RenameStmt => {
                    let rename = &*statement.cast::<pg_sys::RenameStmt>();
                    let column = rename.renameType == pg_sys::ObjectType::OBJECT_COLUMN && rename.relationType == table;
                    let constraint = rename.renameType == pg_sys::ObjectType::OBJECT_TABCONSTRAINT;
                    (column || constraint).then_some(rename.relation)
                }
                _ => None,
            };
            let Some(relation) = relation else {
                let tag = script::tag(statement);
                return Err(Error::new(FEATURE_NOT_SUPPORTED, format!("alter_soft_deleted does not run this {tag}"))
                .detail(
                    "It runs ALTER TABLE of columns, constraints and options; nothing else is in the way of the views.",
                )
                .hint("Run it by itself."));
            };
            Ok(pg_sys::RangeVarGetRelidExtended(
                relation,
                pg_sys::NoLock as pg_sys::LOCKMODE,
                0,
                None,
                std::ptr::null_mut(),
            ))
        }
    })
    .map_err(|mut error| {
        if let Some(position) = &mut error.position
            && position.query.is_empty()
        {
            position.query = ddl.to_owned();
        }
        error
    })
}
