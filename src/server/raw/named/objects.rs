//! The types, operators and collations that a statement of ours may name: those that its tables are made of.
//!
//! Names of them are looked up anew with every plan, too. Whoever owns a schema can put an operator or a type of his under
//! one of its names, in the middle of somebody's statement, and it would run as the owner of the table.

use std::ffi::c_int;

use pgrx::pg_sys::{self, NodeTag, Oid};

use crate::error::Result;
use crate::server::raw::spi;
use crate::server::raw::unguarded::{GetUserId, ReleaseSysCache, SearchSysCache1, get_func_namespace, superuser_arg};

/// What the server brings is made by a superuser. `FirstNormalObjectId`
const FIRST_NORMAL: u32 = 16384;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    types: Vec<Oid>,
    operators: Vec<Oid>,
    collations: Vec<Oid>,
    /// Functions in it are ours.
    schema: Oid,
}

/// Columns' types, with what they are made of and arrays of them, and the tables' rows.
const TYPES: &str = "
    WITH RECURSIVE t (oid) AS (
        SELECT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) ANY ($1) AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped
        UNION
        SELECT c.reltype FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1)
        UNION
        SELECT o.oid FROM t
        JOIN pg_catalog.pg_type p ON p.oid OPERATOR(pg_catalog.=) t.oid
        CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[p.typarray, p.typbasetype, p.typelem]) o (oid)
        WHERE o.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid)
    SELECT t.oid FROM t WHERE t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

/// Those of the tables' indexes, and of the foreign keys from and to them.
const OPERATORS: &str = "
    SELECT m.amopopr FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL pg_catalog.unnest(i.indclass::pg_catalog.oid[]) k (opclass)
    JOIN pg_catalog.pg_opclass c ON c.oid OPERATOR(pg_catalog.=) k.opclass
    JOIN pg_catalog.pg_amop m ON m.amopfamily OPERATOR(pg_catalog.=) c.opcfamily
    WHERE i.indrelid OPERATOR(pg_catalog.=) ANY ($1) AND m.amopopr OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    UNION
    SELECT k.operator FROM pg_catalog.pg_constraint f
    CROSS JOIN LATERAL pg_catalog.unnest(f.conpfeqop OPERATOR(pg_catalog.||) f.conppeqop OPERATOR(pg_catalog.||) f.conffeqop) k (operator)
    WHERE f.contype OPERATOR(pg_catalog.=) 'f'
      AND (f.conrelid OPERATOR(pg_catalog.=) ANY ($1) OR f.confrelid OPERATOR(pg_catalog.=) ANY ($1))
      AND k.operator OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

const INPUTS: &str = "
    SELECT t.input FROM pg_catalog.pg_operator o
    CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[o.oprleft, o.oprright]) t (input)
    WHERE o.oid OPERATOR(pg_catalog.=) ANY ($1) AND t.input OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

const COLLATIONS: &str = "
    SELECT a.attcollation FROM pg_catalog.pg_attribute a
    WHERE a.attrelid OPERATOR(pg_catalog.=) ANY ($1) AND a.attcollation OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid";

/// May this function run as who is acting now? It was made by him, or by a superuser. A cast is made by whoever owns one of
/// its two types.
///
/// Safety: in a transaction; no frame above has anything to drop.
unsafe fn is_trusted(function: Oid) -> bool {
    // SAFETY: the row is pinned until its owner is copied.
    unsafe {
        if function.to_u32() < FIRST_NORMAL {
            return true;
        }
        let tuple = SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as c_int, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner;
        ReleaseSysCache(tuple);
        owner == GetUserId() || superuser_arg(owner)
    }
}

impl Objects {
    /// Those of these tables, as they are now.
    pub fn of(relations: &[Oid]) -> Result<Self> {
        let look = |sql: &'static str| spi::look_up(sql, &[relations.to_vec().into()], |row| row.require::<Oid>(1));
        spi::bookkeeping(|| {
            let (mut types, operators) = (look(TYPES)?, look(OPERATORS)?);
            // What their sides are cast to.
            types.extend(spi::look_up(INPUTS, &[operators.clone().into()], |row| row.require::<Oid>(1))?);
            Ok(Objects {
                types,
                operators,
                collations: look(COLLATIONS)?,
                // SAFETY: in a transaction.
                schema: unsafe { pg_sys::get_namespace_oid(c"upkeep".as_ptr(), true) },
            })
        })
    }

    /// And the types of its parameters.
    pub fn with_types(mut self, types: &[Oid]) -> Self {
        self.types.extend_from_slice(types);
        self
    }

    fn has(&self, known: &[Oid], oid: Oid) -> bool {
        oid.to_u32() < FIRST_NORMAL || known.contains(&oid)
    }

    fn has_function(&self, oid: Oid) -> bool {
        // Unguarded, as in `raw`.
        // SAFETY: looks up in a transaction; nothing to drop in the walk above.
        oid.to_u32() < FIRST_NORMAL
            || (self.schema != Oid::INVALID && unsafe { get_func_namespace(oid) } == self.schema)
    }

    /// Is what this node names among them? A cast is found by its two types, and its function has to be one that may run
    /// here. So are the operators that an order, a group or a comparison of rows needs: by default operator classes, which
    /// superusers make.
    ///
    /// Safety: a node of an analysed query; no frame above has anything to drop.
    pub(super) unsafe fn has_those_of(&self, node: *const pg_sys::Node) -> bool {
        // SAFETY: a node is cast to what its tag says; lists of an expression hold OIDs or nodes as the server's own
        // walkers read them.
        unsafe {
            match (*node).type_ {
                NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                    self.has(&self.operators, (*node.cast::<pg_sys::OpExpr>()).opno)
                }
                NodeTag::T_ScalarArrayOpExpr => {
                    self.has(&self.operators, (*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno)
                }
                NodeTag::T_FuncExpr => {
                    let call = &*node.cast::<pg_sys::FuncExpr>();
                    match call.funcformat {
                        pg_sys::CoercionForm::COERCE_EXPLICIT_CAST | pg_sys::CoercionForm::COERCE_IMPLICIT_CAST => {
                            self.has(&self.types, call.funcresulttype) && is_trusted(call.funcid)
                        }
                        _ => self.has_function(call.funcid),
                    }
                }
                NodeTag::T_Aggref => self.has_function((*node.cast::<pg_sys::Aggref>()).aggfnoid),
                NodeTag::T_WindowFunc => self.has_function((*node.cast::<pg_sys::WindowFunc>()).winfnoid),
                NodeTag::T_Const => self.has(&self.types, (*node.cast::<pg_sys::Const>()).consttype),
                NodeTag::T_Param => self.has(&self.types, (*node.cast::<pg_sys::Param>()).paramtype),
                NodeTag::T_RelabelType => self.has(&self.types, (*node.cast::<pg_sys::RelabelType>()).resulttype),
                NodeTag::T_CoerceViaIO => self.has(&self.types, (*node.cast::<pg_sys::CoerceViaIO>()).resulttype),
                NodeTag::T_ArrayCoerceExpr => {
                    self.has(&self.types, (*node.cast::<pg_sys::ArrayCoerceExpr>()).resulttype)
                }
                NodeTag::T_ConvertRowtypeExpr => {
                    self.has(&self.types, (*node.cast::<pg_sys::ConvertRowtypeExpr>()).resulttype)
                }
                NodeTag::T_CoerceToDomain => self.has(&self.types, (*node.cast::<pg_sys::CoerceToDomain>()).resulttype),
                NodeTag::T_CollateExpr => self.has(&self.collations, (*node.cast::<pg_sys::CollateExpr>()).collOid),
                NodeTag::T_RangeTblFunction => {
                    let types = (*node.cast::<pg_sys::RangeTblFunction>()).funccoltypes;
                    let mut i: c_int = 0;
                    while i < super::length(types) {
                        if !self.has(&self.types, (*(*types).elements.add(i as usize)).oid_value) {
                            return false;
                        }
                        i += 1;
                    }
                    true
                }
                _ => true,
            }
        }
    }
}
