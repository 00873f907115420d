//! Whose rows reference those that are to go: the foreign keys below a table, as they are now.

use std::collections::HashMap;

use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::{Oid, catalog, heap, spi, types};
use crate::soft_delete::managed as tables;
use crate::soft_delete::managed::{Operator, operator};
use crate::soft_delete::program::another_type;
use crate::sql::quote::qualified;

/// What a soft-deleted table calls its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Managed {
    pub relid: Oid,
    pub deleted_at: String,
    pub deletion_id: String,
}

/// A foreign key that points at a table of the graph.
#[derive(Clone, Debug)]
pub struct Edge {
    pub name: String,
    /// The soft-deleted table that it points at, or a partition of which.
    pub parent: Oid,
    /// The table itself that it points at: quoted and qualified.
    pub parent_relid: Oid,
    /// The referencing table: quoted and qualified.
    pub child_relid: Oid,
    pub child_sql: String,
    /// The rows of it that can reference.
    pub child_rows: String,
    /// The soft-deleted table that the referencing rows belong to.
    pub child: Option<Managed>,
    /// Column of the referenced table, operator, column of the referencing one; columns quoted.
    keys: Vec<(String, Operator, String)>,
    /// ON DELETE SET NULL or SET DEFAULT: the server takes the reference away by itself.
    pub lets_go: bool,
    /// A column of it whose type somebody else has made, who can say what it is cast to the type of the key by.
    cast: Option<String>,
}

/// The soft-deleted tables whose rows can go together, and the foreign keys between them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub edges: Vec<Edge>,
}

const EDGES: &str = concat!(
    "WITH RECURSIVE node (relid) AS (
        SELECT $1::pg_catalog.oid
        UNION
        SELECT m.relid::pg_catalog.oid
        FROM node n
        CROSS JOIN LATERAL (SELECT n.relid UNION SELECT t.relid FROM pg_catalog.pg_partition_tree(n.relid) t) p (relid)
        JOIN pg_catalog.pg_constraint f
             ON f.confrelid OPERATOR(pg_catalog.=) p.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
            AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
            AND f.confdeltype OPERATOR(pg_catalog.=) ANY (ARRAY['a', 'r', 'c']::pg_catalog.\"char\"[])
        JOIN upkeep._soft_delete m
             ON m.relid OPERATOR(pg_catalog.=) f.conrelid
             OR m.relid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root(f.conrelid)::pg_catalog.oid
    )
    SELECT f.conname::pg_catalog.text, n.relid, f.confrelid, f.conrelid, cn.nspname::pg_catalog.text, c.relname::pg_catalog.text,
           m.relid::pg_catalog.oid, m.deleted_at::pg_catalog.text, m.deletion_id::pg_catalog.text,
           k.parents, ARRAY(SELECT pg_catalog.unnest(k.operators)), k.children,
           f.confdeltype OPERATOR(pg_catalog.=) ANY (ARRAY['n', 'd']::pg_catalog.\"char\"[]), k.strange
    FROM node n
    CROSS JOIN LATERAL (SELECT n.relid UNION SELECT t.relid FROM pg_catalog.pg_partition_tree(n.relid) t) p (relid)
    JOIN pg_catalog.pg_constraint f
         ON f.confrelid OPERATOR(pg_catalog.=) p.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
        AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.conrelid
    JOIN pg_catalog.pg_namespace cn ON cn.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN upkeep._soft_delete m
         ON m.relid OPERATOR(pg_catalog.=) f.conrelid
         OR m.relid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root(f.conrelid)::pg_catalog.oid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(pg_catalog.quote_ident(pa.attname) ORDER BY u.position) AS parents,
               pg_catalog.array_agg(",
    operator!(),
    " ORDER BY u.position) AS operators,
               pg_catalog.array_agg(pg_catalog.quote_ident(ca.attname) ORDER BY u.position) AS children,
               pg_catalog.min(ca.attname::pg_catalog.text) FILTER (WHERE i.typtype OPERATOR(pg_catalog.<>) 'p' AND EXISTS (
                   WITH RECURSIVE b (oid) AS (
                       SELECT ca.atttypid
                       UNION SELECT d.typbasetype FROM b JOIN pg_catalog.pg_type d ON d.oid OPERATOR(pg_catalog.=) b.oid
                             WHERE d.typtype OPERATOR(pg_catalog.=) 'd')
                   SELECT FROM b JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) b.oid
                   WHERE t.typtype OPERATOR(pg_catalog.<>) 'd' AND t.oid OPERATOR(pg_catalog.<>) i.oid
                     AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
                     AND NOT pg_catalog.pg_has_role(t.typowner, o.oprowner, 'USAGE')
                     AND t.typowner OPERATOR(pg_catalog.<>) $2)) AS strange
        FROM ROWS FROM (pg_catalog.unnest(f.confkey), pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.conpfeqop))
             WITH ORDINALITY u (parent, child, operator, position)
        JOIN pg_catalog.pg_attribute pa ON pa.attrelid OPERATOR(pg_catalog.=) f.confrelid AND pa.attnum OPERATOR(pg_catalog.=) u.parent
        JOIN pg_catalog.pg_attribute ca ON ca.attrelid OPERATOR(pg_catalog.=) f.conrelid AND ca.attnum OPERATOR(pg_catalog.=) u.child
        JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) u.operator
        JOIN pg_catalog.pg_type i ON i.oid OPERATOR(pg_catalog.=) o.oprright) k
    ORDER BY n.relid, f.oid"
);

impl Managed {
    /// Under a lock of the table.
    pub fn check_types(&self) -> Result<()> {
        let columns = tables::columns(self.relid)?;
        for (name, fit) in
            [(&self.deleted_at, &[types::TIMESTAMPTZ, types::TIMESTAMP][..]), (&self.deletion_id, &[types::UUID])]
        {
            if !columns.iter().any(|column| column.name == *name && fit.contains(&column.type_oid)) {
                let (schema, table) = heap::name(self.relid).unwrap_or_default();
                return Err(another_type(&qualified(&schema, &table), name));
            }
        }
        Ok(())
    }
}

impl Edge {
    /// `p.id OPERATOR(pg_catalog.=) c.parent_id`
    pub fn join(&self, parent: &str, child: &str) -> String {
        let equal = |(p, operator, c): &(String, Operator, String)| {
            operator.between((&format!("{parent}.{p}"), ""), (&format!("{child}.{c}"), ""))
        };
        self.keys.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }
}

impl Graph {
    /// What points at rows of this table, and at what would go with them.
    pub fn below(relid: Oid) -> Result<Self> {
        let edges = spi::bookkeeping(|| {
            spi::execute_returning(EDGES, &[relid.into(), catalog::current_user().into()], |row| {
                let child: Option<Oid> = row.get(7)?;
                let child_relid: Oid = row.require(4)?;
                let (schema, name): (String, String) = (row.require(5)?, row.require(6)?);
                Ok(Edge {
                    name: row.require(1)?,
                    parent: row.require(2)?,
                    parent_relid: row.require(3)?,
                    child_relid,
                    child_sql: qualified(&schema, &name),
                    child_rows: tables::own_rows(child_relid, &schema, &name),
                    child: match child {
                        None => None,
                        Some(relid) => {
                            Some(Managed { relid, deleted_at: row.require(8)?, deletion_id: row.require(9)? })
                        }
                    },
                    keys: {
                        let [parents, operators, children]: [Vec<String>; 3] =
                            [row.require(10)?, row.require(11)?, row.require(12)?];
                        parents
                            .into_iter()
                            .zip(Operator::read(&operators))
                            .zip(children)
                            .map(|((p, o), c)| (p, o, c))
                            .collect()
                    },
                    lets_go: row.require(13)?,
                    cast: row.get(14)?,
                })
            })
        })?;
        Ok(Graph { edges })
    }

    /// The graph, with its tables locked until the transaction ends: what is compared is what was looked at. Its statements run
    /// as who purges: with types that somebody else has made they would run what he has made for them.
    pub fn locked(relid: Oid, lock: impl Fn(Oid) -> bool) -> Result<Self> {
        let seen = Graph::below(relid)?;
        // A partition's whole, too: its owner is the one as whom rows are deleted.
        for child in seen.children().into_iter().chain(seen.managed().into_keys()) {
            lock(child);
        }
        // Again, under the locks: what they are called, and what points where.
        let graph = Graph::below(relid)?;
        for edge in &graph.edges {
            if let Some(column) = &edge.cast {
                return Err(Error::new(
                    OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("rows of {} cannot be compared with what they reference", edge.child_sql),
                )
                .detail(format!(
                    "Column {column} of foreign key \"{}\" has a type whose owner says by what function of his it is compared.",
                    edge.name
                ))
                .hint("Purge as the type's owner, or give the column the type of the column that it references."));
            }
            if let Some(child) = &edge.child {
                child.check_types()?;
            }
        }
        Ok(graph)
    }

    /// The foreign keys that point at this table and hold rows of it.
    pub fn holders(&self, parent: Oid) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges.iter().enumerate().filter(move |(_, edge)| edge.parent == parent && !edge.lets_go)
    }

    /// The referencing tables, each once.
    pub fn children(&self) -> Vec<Oid> {
        let mut relids: Vec<Oid> = self.edges.iter().map(|edge| edge.child_relid).collect();
        relids.sort_by_key(|relid| relid.to_u32());
        relids.dedup();
        relids
    }

    /// This table, and all that the graph names.
    pub fn tables(&self, relid: Oid) -> Vec<Oid> {
        let edges = self.edges.iter().flat_map(|edge| {
            [edge.parent, edge.parent_relid, edge.child_relid]
                .into_iter()
                .chain(edge.child.as_ref().map(|child| child.relid))
        });
        let mut relids: Vec<Oid> = edges.chain([relid]).collect();
        relids.sort_by_key(|relid| relid.to_u32());
        relids.dedup();
        relids
    }

    /// The soft-deleted tables below, by OID.
    pub fn managed(&self) -> HashMap<Oid, &Managed> {
        self.edges.iter().filter_map(|edge| edge.child.as_ref()).map(|managed| (managed.relid, managed)).collect()
    }
}

/// How a table is soft-deleted, which goes by its live view too; `None`: it is not (any more).
pub fn managed(relid: Oid) -> Result<Option<Managed>> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT relid::pg_catalog.oid, deleted_at::pg_catalog.text, deletion_id::pg_catalog.text
             FROM upkeep._soft_delete
             WHERE relid OPERATOR(pg_catalog.=) $1 OR live_view OPERATOR(pg_catalog.=) $1",
            &[relid.into()],
            |row| Ok(Managed { relid: row.require(1)?, deleted_at: row.require(2)?, deletion_id: row.require(3)? }),
        )
    })?;
    Ok(found.into_iter().next())
}
