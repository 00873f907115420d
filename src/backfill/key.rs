//! The key that finds rows again: a unique index whose order the server's
//! default comparison of its columns gives.

use std::collections::HashMap;

use pgrx::pg_sys::Oid;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::server::{heap, spi};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// As it is named, not quoted.
    pub name: String,
    pub type_oid: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub columns: Vec<Column>,
    /// Where the comparison operators of its types live: `pg_catalog` but for types like citext.
    pub operator_schema: String,
    /// How far the first column's order follows the order on disk, 0..1; `None`: not known.
    pub correlation: Option<f32>,
}

impl Key {
    pub fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub fn types(&self) -> impl Iterator<Item = Oid> {
        self.columns.iter().map(|column| Oid::from(column.type_oid))
    }

    /// A whole number, which strides can be taken from directly.
    pub fn is_integer(&self) -> bool {
        const INTEGERS: [u32; 3] = [20, 21, 23];
        matches!(self.columns.as_slice(), [column] if INTEGERS.contains(&column.type_oid))
    }
}

/// Unique, immediate, complete, plain columns, all of them truly not null (18 knows NOT NULL
/// constraints that are not validated), default operator classes and the columns' own
/// collations: then `(a, b) > (x, y)` and `ORDER BY a, b` are this index's order. Arrays and
/// composite types are left out because their jsonb form cannot be read back.
const KEYS: &str = "
    SELECT k.columns, k.types, k.operator_schema, pg_catalog.abs(s.correlation), k.indrelid
    FROM (
        SELECT i.indrelid, i.indexrelid, i.indisprimary,
               pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY n.ordinality) AS columns,
               pg_catalog.array_agg(a.atttypid ORDER BY n.ordinality) AS types,
               pg_catalog.min(os.nspname::pg_catalog.text) AS operator_schema,
               pg_catalog.count(DISTINCT os.nspname) AS schemas,
               pg_catalog.bool_and(a.attnum OPERATOR(pg_catalog.>) 0 AND a.attnotnull
                   AND oc.opcdefault
                   AND i.indcollation[n.ordinality::pg_catalog.int4 OPERATOR(pg_catalog.-) 1]
                       OPERATOR(pg_catalog.=) a.attcollation
                   AND ty.typcategory OPERATOR(pg_catalog.<>) 'A'
                   AND ty.typtype OPERATOR(pg_catalog.<>) 'c'
                   AND NOT EXISTS (
                       SELECT FROM pg_catalog.pg_constraint v
                       WHERE v.conrelid OPERATOR(pg_catalog.=) i.indrelid
                         AND v.contype OPERATOR(pg_catalog.=) 'n' AND NOT v.convalidated
                         AND a.attnum OPERATOR(pg_catalog.=) ANY (v.conkey))) AS usable
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
        JOIN pg_catalog.pg_am am
             ON am.oid OPERATOR(pg_catalog.=) c.relam AND am.amname OPERATOR(pg_catalog.=) 'btree'
        CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])
             WITH ORDINALITY n(attnum, ordinality)
        LEFT JOIN pg_catalog.pg_attribute a
             ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
            AND a.attnum OPERATOR(pg_catalog.=) n.attnum
        LEFT JOIN pg_catalog.pg_type ty ON ty.oid OPERATOR(pg_catalog.=) a.atttypid
        LEFT JOIN pg_catalog.pg_opclass oc
             ON oc.oid OPERATOR(pg_catalog.=)
                i.indclass[n.ordinality::pg_catalog.int4 OPERATOR(pg_catalog.-) 1]
        LEFT JOIN pg_catalog.pg_amop ao
             ON ao.amopfamily OPERATOR(pg_catalog.=) oc.opcfamily
            AND ao.amoplefttype OPERATOR(pg_catalog.=) oc.opcintype
            AND ao.amoprighttype OPERATOR(pg_catalog.=) oc.opcintype
            AND ao.amopstrategy OPERATOR(pg_catalog.=) 3
        LEFT JOIN pg_catalog.pg_operator op ON op.oid OPERATOR(pg_catalog.=) ao.amopopr
        LEFT JOIN pg_catalog.pg_namespace os ON os.oid OPERATOR(pg_catalog.=) op.oprnamespace
        WHERE i.indrelid OPERATOR(pg_catalog.=) ANY ($1)
          AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indislive
          AND i.indpred IS NULL AND i.indexprs IS NULL
          AND n.ordinality OPERATOR(pg_catalog.<=) i.indnkeyatts
        GROUP BY i.indrelid, i.indexrelid, i.indisprimary
    ) k
    LEFT JOIN pg_catalog.pg_stats s
         ON s.schemaname OPERATOR(pg_catalog.=) $2::pg_catalog.name
        AND s.tablename OPERATOR(pg_catalog.=) $3::pg_catalog.name
        AND s.attname::pg_catalog.text OPERATOR(pg_catalog.=) k.columns[1] AND NOT s.inherited
    WHERE k.usable AND k.schemas OPERATOR(pg_catalog.=) 1
    ORDER BY k.indisprimary DESC, pg_catalog.cardinality(k.columns), k.indexrelid";

/// The table's keys, the best first: the primary key, then those of the fewest columns.
pub fn keys(relid: Oid) -> Result<Vec<Key>> {
    // By its name as a constant: joined to it, the view of the statistics would be read for all tables.
    let name = heap::name(relid).unzip();
    let found = select(&[relid], name)?;
    Ok(found.into_iter().map(|(_, key)| key).collect())
}

/// The keys of many tables at once, without what the statistics say of them.
pub fn keys_of(relids: &[Oid]) -> Result<HashMap<Oid, Vec<Key>>> {
    let mut keys: HashMap<Oid, Vec<Key>> = HashMap::new();
    for (relid, key) in select(relids, (None, None))? {
        keys.entry(relid).or_default().push(key);
    }
    Ok(keys)
}

fn select(relids: &[Oid], (schema, name): (Option<String>, Option<String>)) -> Result<Vec<(Oid, Key)>> {
    spi::query(KEYS, &[relids.to_vec().into(), schema.into(), name.into()], |row| {
        let names: Vec<String> = row.require(1)?;
        let types: Vec<Oid> = row.require(2)?;
        let key = Key {
            columns: names
                .into_iter()
                .zip(types)
                .map(|(name, type_oid)| Column { name, type_oid: type_oid.to_u32() })
                .collect(),
            operator_schema: row.require(3)?,
            correlation: row.get(4)?,
        };
        Ok((row.require(5)?, key))
    })
}

/// The best key that the assignments leave alone.
pub fn choose(keys: &[Key], assigned: &[String]) -> Option<Key> {
    keys.iter().find(|key| !key.columns.iter().any(|column| assigned.contains(&column.name))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(names: &[&str], type_oid: u32) -> Key {
        Key {
            columns: names.iter().map(|name| Column { name: (*name).to_owned(), type_oid }).collect(),
            operator_schema: "pg_catalog".into(),
            correlation: None,
        }
    }

    #[test]
    fn an_assigned_key_is_passed_over() {
        let keys = [key(&["id"], 20), key(&["a", "b"], 25)];
        assert_eq!(choose(&keys, &["n".into()]), Some(keys[0].clone()));
        assert_eq!(choose(&keys, &["id".into()]), Some(keys[1].clone()));
        assert_eq!(choose(&keys, &["id".into(), "b".into()]), None);
    }

    #[test]
    fn only_a_single_integer_is_an_integer_key() {
        assert!(key(&["id"], 20).is_integer());
        assert!(!key(&["id"], 25).is_integer());
        assert!(!key(&["a", "b"], 20).is_integer());
    }
}
