//! What the private catalog and the server's say about one table with soft delete.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use pgrx::datum::DatumWithOid;

use crate::error::{Error, INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::{Oid, catalog, heap, spi, types};
use crate::sql::quote::{identifier, literal, qualified};

/// A table with soft delete.
#[derive(Clone, Debug)]
pub struct Managed {
    pub relid: Oid,
    pub schema: String,
    pub relname: String,
    pub owner: Oid,
    pub name: String,
    pub hide: String,
    pub deleted_at: String,
    pub deleted_by: String,
    pub deletion_id: String,
    pub flag: Option<String>,
    pub live_view: Option<Oid>,
    pub deleted_view: Option<Oid>,
    pub on_unmanaged: String,
}

/// Those tables with soft delete, `s`, of which this is so.
macro_rules! managed {
    ($condition:literal) => {
        concat!(
            "
    SELECT s.relid::pg_catalog.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relowner,
           s.name::pg_catalog.text, s.hide, s.deleted_at::pg_catalog.text, s.deleted_by::pg_catalog.text,
           s.deletion_id::pg_catalog.text, s.flag::pg_catalog.text, s.live_view::pg_catalog.oid,
           s.deleted_view::pg_catalog.oid, s.on_unmanaged
    FROM upkeep._soft_delete s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE ",
            $condition
        )
    };
}

const OF_RELATION: &str = managed!(
    "s.relid OPERATOR(pg_catalog.=) $1 OR s.live_view OPERATOR(pg_catalog.=) $1
       OR s.relid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root($1)"
);
const OF_TABLES: &str = managed!("s.relid::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1)");

/// Has the extension's script of this version been run? A new library is loaded at once; until somebody says ALTER EXTENSION
/// UPDATE it meets what 0.5.0 has left, and statements of other people, in which triggers of ours run, must not notice.
pub fn is_up_to_date() -> bool {
    catalog::relation_of_ours(c"_soft_delete") != Oid::INVALID
}

/// The statement as it is, or over what 0.5.0 has of tables with soft delete.
fn over_tables_there(sql: &'static str) -> &'static str {
    thread_local! {
        /// Each of the texts here, of which there are a few.
        static OLD: RefCell<HashMap<usize, &'static str>> = RefCell::default();
    }
    if is_up_to_date() {
        return sql;
    }
    let of_old = || -> &'static str {
        Box::leak(sql.replace("upkeep._soft_delete s", "upkeep._soft_delete_table s").into_boxed_str())
    };
    OLD.with_borrow_mut(|old| *old.entry(sql.as_ptr() as usize).or_insert_with(of_old))
}

/// The table itself, the one that a view shows, or the one that a partition belongs to.
pub fn find(relid: Oid) -> Result<Option<Managed>> {
    Ok(read(OF_RELATION, relid.into())?.into_iter().next())
}

/// The table itself, or the one that a live view shows: what is done to all of a table is not done to a partition's.
pub fn find_whole(relid: Oid) -> Result<Option<Managed>> {
    Ok(find(relid)?.filter(|managed| managed.relid == relid || managed.live_view == Some(relid)))
}

/// Those of these tables that have soft delete.
pub fn of_tables(relids: Vec<Oid>) -> Result<Vec<Managed>> {
    if relids.is_empty() { Ok(Vec::new()) } else { read(OF_TABLES, relids.into()) }
}

fn read(sql: &'static str, of: DatumWithOid<'_>) -> Result<Vec<Managed>> {
    spi::bookkeeping(|| {
        spi::look_up(over_tables_there(sql), &[of], |row| {
            Ok(Managed {
                relid: row.next()?,
                schema: row.next()?,
                relname: row.next()?,
                owner: row.next()?,
                name: row.next()?,
                hide: row.next()?,
                deleted_at: row.next()?,
                deleted_by: row.next()?,
                deletion_id: row.next()?,
                flag: row.next_or_null()?,
                live_view: row.next_or_null()?,
                deleted_view: row.next_or_null()?,
                on_unmanaged: row.next()?,
            })
        })
    })
}

/// `table`: quoted and qualified.
pub fn not_enabled(table: &str) -> Error {
    Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("soft delete is not enabled on {table}"))
        .hint(format!("SELECT upkeep.enable_soft_delete({});", literal(table)))
}

pub fn not_enabled_on(relid: Oid) -> Error {
    let (schema, name) = heap::name(relid).unwrap_or_default();
    not_enabled(&qualified(&schema, &name))
}

impl Managed {
    /// Quoted and qualified.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.relname)
    }

    /// What follows SET for a deletion: parameters 1 (its id), 2 (when), 3 (who).
    pub fn set_deleted(&self) -> String {
        let flag = self.flag.as_ref().map_or_else(String::new, |flag| format!(", {} = true", identifier(flag)));
        format!(
            "{} = $2, {} = $3, {} = $1{flag}",
            identifier(&self.deleted_at),
            identifier(&self.deleted_by),
            identifier(&self.deletion_id)
        )
    }

    /// What follows SET for bringing rows back.
    pub fn set_live(&self) -> String {
        let flag = self.flag.as_ref().map_or_else(String::new, |flag| format!(", {} = false", identifier(flag)));
        format!(
            "{} = NULL, {} = NULL, {} = NULL{flag}",
            identifier(&self.deleted_at),
            identifier(&self.deleted_by),
            identifier(&self.deletion_id)
        )
    }

    /// Statements that look at these columns run as superuser, or as whoever purges: with a type of the user's they would call
    /// what he has made for it. Under a lock of the table. Gives the type of `deleted_at`.
    pub fn check_types(&self, columns: &[Column]) -> Result<Oid> {
        let require = |name: &str, fit: &[Oid]| self.require_type(columns, name, fit);
        let at = require(&self.deleted_at, &[types::TIMESTAMPTZ, types::TIMESTAMP])?;
        require(&self.deletion_id, &[types::UUID])?;
        Ok(at)
    }

    /// The type of a column of ours, which is one of those.
    pub fn require_type(&self, columns: &[Column], name: &str, fit: &[Oid]) -> Result<Oid> {
        let found = columns.iter().find(|column| column.name == name).map(|column| column.type_oid);
        found.filter(|found| fit.contains(found)).ok_or_else(|| {
            Error::new(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("column \"{name}\" of {} is gone, or has another type now", self.sql()),
            )
            .detail("Soft delete keeps in it when, or with what, a row was deleted.")
            .hint("Give it its type again, or name and type.")
        })
    }

    /// Is the row of this alias live?
    pub fn live(&self, alias: &str) -> String {
        format!("{alias}.{} IS NULL", identifier(&self.deleted_at))
    }
}

/// A column of a table, as far as keys need it.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// In the relation that was asked about.
    pub number: i16,
    pub type_oid: Oid,
    /// 0: there are no arrays of it.
    pub array_oid: Oid,
    /// An array or a composite type, which unnest() takes apart.
    pub is_compound: bool,
    pub by_value: bool,
    pub length: i16,
    /// Qualified; only where the type has collations.
    pub collation: Option<String>,
    pub type_sql: String,
}

const COLUMNS: &str = "
    SELECT a.attname::pg_catalog.text, a.attnum, a.atttypid, t.typarray, t.typlen, t.typbyval,
           CASE WHEN a.attcollation OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
                THEN pg_catalog.format('%I.%I', n.nspname, l.collname) END,
           (t.typcategory OPERATOR(pg_catalog.=) 'A' OR t.typcategory OPERATOR(pg_catalog.=) 'C'), pg_catalog.format_type(a.atttypid, -1)
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
    LEFT JOIN pg_catalog.pg_collation l ON l.oid OPERATOR(pg_catalog.=) a.attcollation
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) l.collnamespace
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

pub fn columns(relid: Oid) -> Result<Vec<Column>> {
    spi::bookkeeping(|| {
        spi::look_up(COLUMNS, &[relid.into()], |row| {
            Ok(Column {
                name: row.require(1)?,
                number: row.require(2)?,
                type_oid: row.require(3)?,
                array_oid: row.require(4)?,
                length: row.require(5)?,
                by_value: row.require(6)?,
                collation: row.get(7)?,
                is_compound: row.require(8)?,
                type_sql: row.require(9)?,
            })
        })
    })
}

/// The columns of the primary key, in its order, each with its equality; empty: there is none, or it is deferrable.
pub fn primary_key(relid: Oid) -> Result<Vec<(String, Operator)>> {
    spi::bookkeeping(|| {
        spi::look_up(
            concat!(
                "SELECT a.attname::pg_catalog.text, ",
                operator!(),
                " FROM pg_catalog.pg_index i
             CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]),
                                           pg_catalog.unnest(i.indclass::pg_catalog.oid[]))
                 WITH ORDINALITY k (attnum, opclass, ord)
             JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
                                           AND a.attnum OPERATOR(pg_catalog.=) k.attnum
             JOIN pg_catalog.pg_opclass c ON c.oid OPERATOR(pg_catalog.=) k.opclass
             JOIN pg_catalog.pg_amop m ON m.amopfamily OPERATOR(pg_catalog.=) c.opcfamily
                                      AND m.amoplefttype OPERATOR(pg_catalog.=) c.opcintype
                                      AND m.amoprighttype OPERATOR(pg_catalog.=) c.opcintype
                                      AND m.amopstrategy OPERATOR(pg_catalog.=) 3
             JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) m.amopopr
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary AND i.indisvalid AND i.indimmediate
               AND k.ord OPERATOR(pg_catalog.<=) i.indnkeyatts
             ORDER BY k.ord"
            ),
            &[relid.into()],
            |row| {
                let operator = Operator::read(&row.require::<Vec<String>>(2)?).pop();
                let operator = operator.ok_or_else(|| Error::new(INTERNAL_ERROR, "a key's operator has no name"))?;
                Ok((row.require(1)?, operator))
            },
        )
    })
}

/// All partitions of a table, at every level. Locks none of them.
pub fn partitions(relid: Oid) -> Result<Vec<Oid>> {
    spi::bookkeeping(|| {
        spi::look_up(
            "WITH RECURSIVE tree AS (
                 SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) $1
                 UNION
                 SELECT i.inhrelid FROM tree
                 JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) tree.inhrelid)
             SELECT tree.inhrelid FROM tree",
            &[relid.into()],
            |row| row.require(1),
        )
    })
}

/// The type of a relation's rows, and of arrays of them.
pub fn row_type(relid: Oid) -> Result<(Oid, Oid)> {
    let found = spi::look_up(
        "SELECT t.oid, t.typarray FROM pg_catalog.pg_type t WHERE t.typrelid OPERATOR(pg_catalog.=) $1",
        &[relid.into()],
        |row| Ok((row.require(1)?, row.require(2)?)),
    )?;
    Ok(found.into_iter().next().unwrap_or((Oid::INVALID, Oid::INVALID)))
}

/// An equality, and what its sides are cast to: its own types. By its name alone, with the types of columns, the server could
/// find another operator of that name, which fits a domain of somebody's better and is his.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// `OPERATOR(schema.name)`
    name: String,
    /// Quoted and qualified; empty: it takes types of many kinds (`anyenum`).
    left: String,
    right: String,
}

/// For [`Operator::read`], of `o` in pg_operator: its name, and the casts of its sides.
macro_rules! operator {
    () => {
        "ARRAY[(SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
                FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) o.oprnamespace),
               coalesce((SELECT pg_catalog.format('::%I.%I', n.nspname, t.typname) FROM pg_catalog.pg_type t
                         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
                         WHERE t.oid OPERATOR(pg_catalog.=) o.oprleft AND t.typtype OPERATOR(pg_catalog.<>) 'p'), ''),
               coalesce((SELECT pg_catalog.format('::%I.%I', n.nspname, t.typname) FROM pg_catalog.pg_type t
                         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
                         WHERE t.oid OPERATOR(pg_catalog.=) o.oprright AND t.typtype OPERATOR(pg_catalog.<>) 'p'), '')]"
    };
}
pub(crate) use operator;

impl Operator {
    /// From one array, or several behind each other.
    pub fn read(texts: &[String]) -> Vec<Self> {
        let (operators, _) = texts.as_chunks::<3>();
        operators
            .iter()
            .map(|[name, left, right]| Operator { name: name.clone(), left: left.clone(), right: right.clone() })
            .collect()
    }

    /// Each a column or a parameter, and a collation (` COLLATE ..`) to go behind its cast.
    pub fn between(&self, (left, collate): (&str, &str), (right, collate_right): (&str, &str)) -> String {
        format!("{left}{}{collate} {} {right}{}{collate_right}", self.left, self.name, self.right)
    }
}

/// A foreign key, seen from either of its tables.
#[derive(Clone, Debug)]
pub struct ForeignKey {
    pub oid: Oid,
    pub name: String,
    /// `a` NO ACTION, `r` RESTRICT, `c` CASCADE, `n` SET NULL, `d` SET DEFAULT.
    pub on_delete: char,
    pub deferrable: bool,
    pub child: Oid,
    pub child_root: Oid,
    pub child_schema: String,
    pub child_name: String,
    pub child_owner: Oid,
    pub child_managed: bool,
    pub parent: Oid,
    pub parent_schema: String,
    pub parent_name: String,
    pub parent_owner: Oid,
    pub child_columns: Vec<String>,
    pub parent_columns: Vec<String>,
    /// Parent on the left, child on the right.
    pub operators: Vec<Operator>,
    /// Those that SET NULL and SET DEFAULT change.
    pub set_columns: Vec<String>,
    /// May the owner of the referencing table read and change it?
    pub child_owner_may: bool,
}

/// A table's rows as the server's foreign keys count them: those of a partitioned table are its partitions'; rows of tables that inherit
/// from it are not its own.
pub fn own_rows(relid: Oid, schema: &str, name: &str) -> String {
    format!("{}{}", if heap::is_partitioned(relid) { "" } else { "ONLY " }, qualified(schema, name))
}

impl ForeignKey {
    pub fn child_rows(&self) -> String {
        own_rows(self.child, &self.child_schema, &self.child_name)
    }

    pub fn parent_rows(&self) -> String {
        own_rows(self.parent, &self.parent_schema, &self.parent_name)
    }
}

const FOREIGN_KEYS: &str = concat!(
    "SELECT f.conname::pg_catalog.text, f.confdeltype::pg_catalog.text, f.condeferrable,
           f.conrelid, coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid)::pg_catalog.oid,
           cn.nspname::pg_catalog.text, cc.relname::pg_catalog.text, cc.relowner,
           EXISTS (SELECT FROM upkeep._soft_delete s WHERE s.relid OPERATOR(pg_catalog.=)
                       coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid)),
           f.confrelid, pn.nspname::pg_catalog.text, pc.relname::pg_catalog.text, pc.relowner,
           ARRAY(SELECT a.attname::pg_catalog.text
                 FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY k (attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid
                                               AND a.attnum OPERATOR(pg_catalog.=) k.attnum ORDER BY k.ord),
           ARRAY(SELECT a.attname::pg_catalog.text
                 FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY k (attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.confrelid
                                               AND a.attnum OPERATOR(pg_catalog.=) k.attnum ORDER BY k.ord),
           ARRAY(SELECT pg_catalog.unnest(",
    operator!(),
    ")
                 FROM pg_catalog.unnest(f.conpfeqop) WITH ORDINALITY k (op, ord)
                 JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) k.op ORDER BY k.ord),
           ARRAY(SELECT a.attname::pg_catalog.text
                 FROM pg_catalog.unnest(coalesce(f.confdelsetcols, f.conkey)) WITH ORDINALITY k (attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid
                                               AND a.attnum OPERATOR(pg_catalog.=) k.attnum ORDER BY k.ord),
           pg_catalog.has_schema_privilege(cc.relowner, cn.oid, 'USAGE')
               AND pg_catalog.has_table_privilege(cc.relowner, cc.oid, 'SELECT')
               AND pg_catalog.has_table_privilege(cc.relowner, cc.oid, 'UPDATE'), f.oid
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_class cc ON cc.oid OPERATOR(pg_catalog.=) f.conrelid
    JOIN pg_catalog.pg_namespace cn ON cn.oid OPERATOR(pg_catalog.=) cc.relnamespace
    JOIN pg_catalog.pg_class pc ON pc.oid OPERATOR(pg_catalog.=) f.confrelid
    JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) pc.relnamespace
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid"
);

fn with_filter(filter: &str) -> String {
    format!("{FOREIGN_KEYS} {filter} ORDER BY f.conrelid, f.conname, f.oid")
}

/// Those that reference the table, or a partition of it.
pub fn referencing(relid: Oid) -> Result<Vec<ForeignKey>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_filter(
            "AND (f.confrelid OPERATOR(pg_catalog.=) $1
                  OR pg_catalog.pg_partition_root(f.confrelid) OPERATOR(pg_catalog.=) $1)",
        )
    });
    foreign_keys(&SQL, relid.into())
}

/// Those of a table by which it references tables with soft delete.
pub fn referenced(relid: Oid) -> Result<Vec<ForeignKey>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_filter(
            "AND (f.conrelid OPERATOR(pg_catalog.=) $1
                  OR f.conrelid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root($1)
                  OR pg_catalog.pg_partition_root(f.conrelid) OPERATOR(pg_catalog.=) $1)
             AND EXISTS (SELECT FROM upkeep._soft_delete s WHERE s.relid OPERATOR(pg_catalog.=)
                             coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid))",
        )
    });
    foreign_keys(&SQL, relid.into())
}

/// Those of these OIDs that are there.
pub fn foreign_keys_of(oids: Vec<Oid>) -> Result<Vec<ForeignKey>> {
    static SQL: LazyLock<String> = LazyLock::new(|| with_filter("AND f.oid OPERATOR(pg_catalog.=) ANY ($1)"));
    if oids.is_empty() { Ok(Vec::new()) } else { foreign_keys(&SQL, oids.into()) }
}

fn foreign_keys(sql: &'static str, of: DatumWithOid<'_>) -> Result<Vec<ForeignKey>> {
    spi::bookkeeping(|| {
        spi::look_up(over_tables_there(sql), &[of], |row| {
            Ok(ForeignKey {
                name: row.next()?,
                on_delete: row.next::<String>()?.chars().next().unwrap_or('a'),
                deferrable: row.next()?,
                child: row.next()?,
                child_root: row.next()?,
                child_schema: row.next()?,
                child_name: row.next()?,
                child_owner: row.next()?,
                child_managed: row.next()?,
                parent: row.next()?,
                parent_schema: row.next()?,
                parent_name: row.next()?,
                parent_owner: row.next()?,
                child_columns: row.next()?,
                parent_columns: row.next()?,
                operators: Operator::read(&row.next::<Vec<String>>()?),
                set_columns: row.next()?,
                child_owner_may: row.next()?,
                oid: row.next()?,
            })
        })
    })
}
