//! Which tables can have stamps, and who may say so.

use std::cell::Cell;

use crate::calls::{arguments, relation};
use crate::ddl::{Wanted, in_callers_transaction, keep_schema};
use crate::error::{
    Error, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, UNDEFINED_TABLE,
    WRONG_OBJECT_TYPE,
};
use crate::server::catalog::FIRST_NORMAL_OID;
use crate::server::table_lock::Mode;
use crate::server::{Oid, heap, spi};
use crate::soft_delete::ddl::first;
use crate::sql::quote::identifier;

#[derive(Clone, Debug)]
pub struct Table {
    pub relid: Oid,
    /// Quoted and qualified.
    pub sql: String,
    is_partitioned: bool,
}

struct Class {
    table: Table,
    schema: String,
    kind: String,
    owner: String,
    is_owned: bool,
    /// The table whose partition this is and whose trigger it has.
    stamped_root: Option<String>,
}

const CLASS: &str = "
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname::pg_catalog.text, c.relkind::pg_catalog.text,
           pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text, pg_catalog.pg_has_role(c.relowner, 'USAGE'),
           (SELECT pg_catalog.format('%I.%I', rn.nspname, r.relname)
            FROM pg_catalog.pg_partition_ancestors(c.oid) a (relid)
            JOIN upkeep.row_stamps s ON s.relid OPERATOR(pg_catalog.=) a.relid
            JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) a.relid
            JOIN pg_catalog.pg_namespace rn ON rn.oid OPERATOR(pg_catalog.=) r.relnamespace
            WHERE a.relid OPERATOR(pg_catalog.<>) c.oid LIMIT 1)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) $1";

/// The table, or why it cannot be stamped by the caller.
pub fn check(relid: Option<Oid>) -> Result<Table> {
    let relid = arguments::required(relid, "target")?;
    let class = spi::query_one(CLASS, &[relid.into()], |row| {
        let kind: String = row.require(3)?;
        Ok(Class {
            table: Table { relid, sql: row.require(1)?, is_partitioned: kind == "p" },
            schema: row.require(2)?,
            kind,
            owner: row.require(4)?,
            is_owned: row.require(5)?,
            stamped_root: row.get(6)?,
        })
    })?
    .ok_or_else(|| relation::missing(relid))?;
    match refusal(&class) {
        Some(error) => Err(error),
        None => Ok(class.table),
    }
}

fn refusal(class: &Class) -> Option<Error> {
    let name = &class.table.sql;
    let error = |sqlstate, what: &str, hint: &str| Some(Error::new(sqlstate, format!("{name} {what}")).hint(hint));
    match class.kind.as_str() {
        "r" | "p" => {}
        "v" | "m" => return error(WRONG_OBJECT_TYPE, "is a view", "Name the table that the view reads."),
        "f" => {
            return error(FEATURE_NOT_SUPPORTED, "is a foreign table", "Stamp the table on the server where it is.");
        }
        _ => return error(WRONG_OBJECT_TYPE, "is not a table", "Name an ordinary or a partitioned table."),
    }
    if class.table.relid.to_u32() < FIRST_NORMAL_OID {
        return error(INSUFFICIENT_PRIVILEGE, "is a system catalog", "Name an ordinary table.");
    }
    if class.schema == "upkeep" {
        return error(INSUFFICIENT_PRIVILEGE, "belongs to pg_upkeep itself", "Name an ordinary table.");
    }
    if !class.is_owned {
        return Some(
            Error::new(INSUFFICIENT_PRIVILEGE, format!("must be owner of table {name}"))
                .hint(format!("SET ROLE {}; if you are a member.", identifier(&class.owner))),
        );
    }
    class.stamped_root.as_ref().map(|root| {
        Error::new(WRONG_OBJECT_TYPE, format!("{name} is a partition, and has the row stamps of {root}"))
            .hint("Name the partitioned table.")
    })
}

impl Table {
    /// Runs `f` with this table, and what is below it, locked until the end of the transaction: exclusively if columns are to be added
    /// or the trigger is to go, together with the views that show the columns; else as CREATE TRIGGER does.
    pub fn while_locked(
        &self,
        exclusively: impl Fn() -> Result<bool>,
        f: impl Fn(&Table, bool) -> Result<()>,
    ) -> Result<()> {
        let exclusive = Cell::new(false);
        let wanted = || {
            exclusive.set(exclusively()?);
            let mode = if exclusive.get() { Mode::AccessExclusive } else { Mode::ShareRowExclusive };
            let views = if exclusive.get() { first::views_of(self.relid)? } else { Vec::new() };
            let views = views.into_iter().map(|relid| Wanted { relid, mode, with_children: false });
            Ok(views.chain([Wanted { relid: self.relid, mode, with_children: true }]).collect())
        };
        in_callers_transaction(&self.sql, wanted, || f(&self.named()?, exclusive.get()))
    }

    /// With the name that it keeps from here on, under its lock: while that was waited for, another table may have got the one that
    /// it had.
    pub fn named(&self) -> Result<Table> {
        let gone = || Error::new(UNDEFINED_TABLE, format!("{} does not exist any more", self.sql));
        keep_schema(self.relid)?;
        let (schema, name) = heap::name(self.relid).ok_or_else(gone)?;
        Ok(Table { sql: pgrx::spi::quote_qualified_identifier(schema, name), ..self.clone() })
    }

    /// This table and, as a trigger does not go down to them by itself, the children that inherit from it. Partitions
    /// get theirs from the server, unless they have one already.
    pub fn with_children(&self) -> Result<Vec<Table>> {
        if self.is_partitioned {
            self.refuse_stamped_partitions()?;
            return Ok(vec![self.clone()]);
        }
        let mut tables = vec![self.clone()];
        tables.extend(spi::execute_returning(CHILDREN, &[self.relid.into()], |row| {
            Ok(Table { relid: row.require(1)?, sql: row.require(2)?, is_partitioned: false })
        })?);
        Ok(tables)
    }

    fn refuse_stamped_partitions(&self) -> Result<()> {
        let stamped: Vec<String> =
            spi::execute_returning(STAMPED_PARTITIONS, &[self.relid.into()], |row| row.require(1))?;
        if stamped.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("partitions of {} have row stamps of their own", self.sql),
        )
        .detail(format!("They are: {}.", stamped.join(", ")))
        .hint("Take them off first: upkeep.disable_timestamps(), disable_userstamps(), disable_row_version()."))
    }
}

const CHILDREN: &str = "
    WITH RECURSIVE child (relid) AS (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) $1
        UNION
        SELECT i.inhrelid FROM child p JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) p.relid)
    SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)
    FROM child
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) child.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) 'r'
    ORDER BY c.oid";

const STAMPED_PARTITIONS: &str = "
    SELECT pg_catalog.format('%I.%I', s.schemaname, s.relname)
    FROM pg_catalog.pg_partition_tree($1) p
    JOIN upkeep.row_stamps s ON s.relid OPERATOR(pg_catalog.=) p.relid
    WHERE p.relid OPERATOR(pg_catalog.<>) $1::pg_catalog.regclass
    ORDER BY 1";
