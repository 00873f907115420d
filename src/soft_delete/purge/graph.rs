//! Whose rows reference those that are to go: the foreign keys below a table, as they are now.

use std::collections::HashMap;

use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::{Oid, catalog, spi};
use crate::soft_delete::managed::{self, ForeignKey, Managed};
use crate::sql::quote::{identifier, qualified};

/// A foreign key that points at a table of the graph.
#[derive(Clone, Debug)]
pub struct Edge {
    pub key: ForeignKey,
    /// The soft-deleted table that it points at, or a partition of which.
    pub parent: Oid,
    /// The soft-deleted table that the referencing rows belong to.
    pub child: Option<Managed>,
    /// A column of it whose type somebody else has made, who can say what it is cast to the type of the key by.
    cast: Option<String>,
}

/// The soft-deleted tables whose rows can go together, and the foreign keys between them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub edges: Vec<Edge>,
}

const EDGES: &str = "
    WITH RECURSIVE node (relid) AS (
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
    SELECT n.relid, f.oid, m.relid::pg_catalog.oid, k.strange
    FROM node n
    CROSS JOIN LATERAL (SELECT n.relid UNION SELECT t.relid FROM pg_catalog.pg_partition_tree(n.relid) t) p (relid)
    JOIN pg_catalog.pg_constraint f
         ON f.confrelid OPERATOR(pg_catalog.=) p.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
        AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    LEFT JOIN upkeep._soft_delete m
         ON m.relid OPERATOR(pg_catalog.=) f.conrelid
         OR m.relid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root(f.conrelid)::pg_catalog.oid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.min(ca.attname::pg_catalog.text) FILTER (WHERE i.typtype OPERATOR(pg_catalog.<>) 'p' AND EXISTS (
                   WITH RECURSIVE b (oid) AS (
                       SELECT ca.atttypid
                       UNION SELECT d.typbasetype FROM b JOIN pg_catalog.pg_type d ON d.oid OPERATOR(pg_catalog.=) b.oid
                             WHERE d.typtype OPERATOR(pg_catalog.=) 'd')
                   SELECT FROM b JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) b.oid
                   WHERE t.typtype OPERATOR(pg_catalog.<>) 'd' AND t.oid OPERATOR(pg_catalog.<>) i.oid
                     AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
                     AND NOT pg_catalog.pg_has_role(t.typowner, o.oprowner, 'USAGE')
                     AND t.typowner OPERATOR(pg_catalog.<>) $2)) AS strange
        FROM ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.conpfeqop)) u (child, operator)
        JOIN pg_catalog.pg_attribute ca ON ca.attrelid OPERATOR(pg_catalog.=) f.conrelid AND ca.attnum OPERATOR(pg_catalog.=) u.child
        JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) u.operator
        JOIN pg_catalog.pg_type i ON i.oid OPERATOR(pg_catalog.=) o.oprright) k
    ORDER BY n.relid, f.oid";

impl Edge {
    /// The referencing table: quoted and qualified.
    pub fn child_sql(&self) -> String {
        qualified(&self.key.child_schema, &self.key.child_name)
    }

    /// `p.id OPERATOR(pg_catalog.=) c.parent_id`
    pub fn join(&self, parent: &str, child: &str) -> String {
        let columns = self.key.parent_columns.iter().zip(&self.key.child_columns);
        let equal = |((p, c), operator): ((&String, &String), &managed::Operator)| {
            let (p, c) = (identifier(p), identifier(c));
            operator.between((&format!("{parent}.{p}"), ""), (&format!("{child}.{c}"), ""))
        };
        columns.zip(&self.key.operators).map(equal).collect::<Vec<_>>().join(" AND ")
    }

    /// ON DELETE SET NULL or SET DEFAULT: the server takes the reference away by itself.
    fn lets_go(&self) -> bool {
        matches!(self.key.on_delete, 'n' | 'd')
    }
}

/// A foreign key as the walk has found it.
struct Step {
    parent: Oid,
    key: Oid,
    child: Option<Oid>,
    cast: Option<String>,
}

impl Graph {
    /// What points at rows of this table, and at what would go with them.
    pub fn below(relid: Oid) -> Result<Self> {
        let steps = spi::bookkeeping(|| {
            spi::look_up(EDGES, &[relid.into(), catalog::current_user().into()], |row| {
                Ok(Step {
                    parent: row.next()?,
                    key: row.next()?,
                    child: row.next_or_null()?,
                    cast: row.next_or_null()?,
                })
            })
        })?;
        let keys = managed::foreign_keys_of(steps.iter().map(|step| step.key).collect())?;
        let children = managed::of_tables(steps.iter().filter_map(|step| step.child).collect())?;
        let edges = steps.into_iter().filter_map(|Step { parent, key, child, cast }| {
            let key = keys.iter().find(|known| known.oid == key)?.clone();
            let child = child.and_then(|child| children.iter().find(|known| known.relid == child).cloned());
            Some(Edge { key, parent, child, cast })
        });
        Ok(Graph { edges: edges.collect() })
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
                    format!("rows of {} cannot be compared with what they reference", edge.child_sql()),
                )
                .detail(format!(
                    "Column {column} of foreign key \"{}\" has a type whose owner says by what function of his it is compared.",
                    edge.key.name
                ))
                .hint("Purge as the type's owner, or give the column the type of the column that it references."));
            }
            if let Some(child) = &edge.child {
                child.check_types(&managed::columns(child.relid)?)?;
            }
        }
        Ok(graph)
    }

    /// The foreign keys that point at this table and hold rows of it.
    pub fn holders(&self, parent: Oid) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges.iter().enumerate().filter(move |(_, edge)| edge.parent == parent && !edge.lets_go())
    }

    /// The referencing tables, each once.
    pub fn children(&self) -> Vec<Oid> {
        let mut relids: Vec<Oid> = self.edges.iter().map(|edge| edge.key.child).collect();
        relids.sort_by_key(|relid| relid.to_u32());
        relids.dedup();
        relids
    }

    /// This table, and all that the graph names.
    pub fn tables(&self, relid: Oid) -> Vec<Oid> {
        let edges = self.edges.iter().flat_map(|edge| {
            [edge.parent, edge.key.parent, edge.key.child]
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
