//! The key that finds rows again: a unique index whose order the server's
//! default comparison of its columns gives.

use std::collections::HashMap;

use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::server::{Oid, heap, spi, value};
use crate::sql::quote::identifier;
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As it is named, not quoted.
    pub name: String,
    pub type_oid: u32,
    /// The type's name, and the name of the column's collation if it has one: quoted and qualified.
    pub type_name: String,
    pub collation: Option<String>,
    pub operators: Operators,
    /// ` ::type`, what both sides of a comparison are cast to: the operators' own type. Their names alone could mean those of
    /// somebody's that fit a domain better. Empty: they take types of many kinds.
    pub cast: String,
}

/// The comparisons of an operator class: what OPERATOR(..) names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operators {
    pub less_or_equal: String,
    pub equal: String,
    pub greater_or_equal: String,
    pub greater: String,
}

impl Column {
    /// What its order depends on: bounds of one order mean nothing in another.
    pub fn order(&self) -> String {
        format!("{} {}", self.type_name, self.collation.as_deref().unwrap_or(""))
    }

    /// The column in a comparison.
    pub fn compared(&self) -> String {
        format!("{}{}", identifier(&self.name), self.cast)
    }

    /// A parameter to compare it with.
    pub fn parameter(&self, number: usize) -> String {
        format!("${number}{}{}", self.cast, self.collate())
    }

    /// ` COLLATE ..`, for a value to compare it with: that of a domain's type may be another than the column's.
    pub fn collate(&self) -> String {
        self.collation.as_ref().map_or_else(String::new, |collation| format!(" COLLATE {collation}"))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub columns: Vec<Column>,
    /// Its values have hashes, which strides can be taken from.
    pub is_hashable: bool,
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

    /// What its order depends on, column by column.
    pub fn order(&self) -> Vec<String> {
        self.columns.iter().map(Column::order).collect()
    }

    /// What finds a row again, and shows it to a person: the texts of its columns, whole numbers and truth values as such.
    pub fn row_key(&self, values: &[Option<String>]) -> Result<Value> {
        let mut pairs = Map::new();
        for (column, value) in self.columns.iter().zip(values) {
            let Some(text) = value else {
                return Err(Error::new(INTERNAL_ERROR, format!("the key column {} is null", column.name)));
            };
            let as_such = match column.type_oid {
                BOOL => Some(Value::Bool(text == "t")),
                oid if INTEGERS.contains(&oid) => text.parse::<i64>().ok().map(Value::from),
                _ => None,
            };
            pairs.insert(column.name.clone(), as_such.unwrap_or_else(|| Value::from(text.as_str())));
        }
        Ok(Value::Object(pairs))
    }

    /// The texts in a key that is stored like that.
    pub fn texts(&self, row_key: &Value) -> Result<Vec<String>> {
        let text = |column: &Column| match row_key.get(&column.name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) | None => {
                Err(Error::new(INTERNAL_ERROR, format!("a stored key without {}: {row_key}", column.name)))
            }
            Some(other) => Ok(other.to_string()),
        };
        self.columns.iter().map(text).collect()
    }

    /// A whole number, which strides can be taken from directly.
    pub fn is_integer(&self) -> bool {
        matches!(self.columns.as_slice(), [column] if INTEGERS.contains(&column.type_oid))
    }
}

const INTEGERS: [u32; 3] = [20, 21, 23];
const BOOL: u32 = 16;

/// Unique, immediate, complete, plain columns, all of them truly not null (18 knows NOT NULL
/// constraints that are not validated), default operator classes and the columns' own
/// collations: then `(a, b) > (x, y)` and `ORDER BY a, b` are this index's order, by the operators
/// that the operator class names, whatever they are called (hstore's are `#<` and so on).
const KEYS: &str = "
    SELECT k.columns, k.types, k.less_or_equal, k.equal, k.greater_or_equal, k.greater, k.type_names, k.collations,
           pg_catalog.abs(s.correlation), k.indrelid, k.casts
    FROM (
        SELECT i.indrelid, i.indexrelid, i.indisprimary,
               pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY n.ordinality) AS columns,
               pg_catalog.array_agg(a.atttypid ORDER BY n.ordinality) AS types,
               pg_catalog.array_agg(op.names[2] ORDER BY n.ordinality) AS less_or_equal,
               pg_catalog.array_agg(op.names[3] ORDER BY n.ordinality) AS equal,
               pg_catalog.array_agg(op.names[4] ORDER BY n.ordinality) AS greater_or_equal,
               pg_catalog.array_agg(op.names[5] ORDER BY n.ordinality) AS greater,
               pg_catalog.array_agg(pg_catalog.format('%I.%I', tn.nspname, ty.typname) ORDER BY n.ordinality)
                   AS type_names,
               pg_catalog.array_agg(CASE WHEN co.oid IS NOT NULL THEN pg_catalog.format('%I.%I', cn.nspname, co.collname)
                                         ELSE '' END ORDER BY n.ordinality) AS collations,
               pg_catalog.array_agg(CASE WHEN it.typtype OPERATOR(pg_catalog.<>) 'p'
                                         THEN pg_catalog.format('::%I.%I', ns.nspname, it.typname) ELSE '' END
                                    ORDER BY n.ordinality) AS casts,
               pg_catalog.bool_and(a.attnum OPERATOR(pg_catalog.>) 0 AND a.attnotnull
                   AND oc.opcdefault
                   AND pg_catalog.cardinality(op.names) OPERATOR(pg_catalog.=) 5
                   AND i.indcollation[n.ordinality::pg_catalog.int4 OPERATOR(pg_catalog.-) 1]
                       OPERATOR(pg_catalog.=) a.attcollation
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
        LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid OPERATOR(pg_catalog.=) ty.typnamespace
        LEFT JOIN pg_catalog.pg_collation co ON co.oid OPERATOR(pg_catalog.=) a.attcollation
        LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid OPERATOR(pg_catalog.=) co.collnamespace
        LEFT JOIN pg_catalog.pg_opclass oc
             ON oc.oid OPERATOR(pg_catalog.=)
                i.indclass[n.ordinality::pg_catalog.int4 OPERATOR(pg_catalog.-) 1]
        LEFT JOIN pg_catalog.pg_type it ON it.oid OPERATOR(pg_catalog.=) oc.opcintype
        LEFT JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) it.typnamespace
        CROSS JOIN LATERAL (
            SELECT pg_catalog.array_agg(pg_catalog.format('%I.%s', os.nspname, o.oprname) ORDER BY ao.amopstrategy)
            FROM pg_catalog.pg_amop ao
            JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) ao.amopopr
            JOIN pg_catalog.pg_namespace os ON os.oid OPERATOR(pg_catalog.=) o.oprnamespace
            WHERE ao.amopfamily OPERATOR(pg_catalog.=) oc.opcfamily
              AND ao.amoplefttype OPERATOR(pg_catalog.=) oc.opcintype
              AND ao.amoprighttype OPERATOR(pg_catalog.=) oc.opcintype
              AND ao.amoppurpose OPERATOR(pg_catalog.=) 's') op (names)
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
    WHERE k.usable
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
        let is_hashable = types.iter().all(|&type_oid| value::is_hashable(type_oid));
        let mut texts = Vec::with_capacity(7);
        for column in 3..=8 {
            texts.push(row.require::<Vec<String>>(column)?);
        }
        texts.push(row.require::<Vec<String>>(11)?);
        let text = |kind: usize, i: usize| texts[kind].get(i).cloned().unwrap_or_default();
        let columns = names.into_iter().zip(types).enumerate().map(|(i, (name, type_oid))| Column {
            name,
            type_oid: type_oid.to_u32(),
            type_name: text(4, i),
            collation: Some(text(5, i)).filter(|collation| !collation.is_empty()),
            operators: Operators {
                less_or_equal: text(0, i),
                equal: text(1, i),
                greater_or_equal: text(2, i),
                greater: text(3, i),
            },
            cast: text(6, i),
        });
        let key = Key { columns: columns.collect(), is_hashable, correlation: row.get(9)? };
        Ok((row.require(10)?, key))
    })
}

/// The best key that the assignments leave alone.
pub fn choose(keys: &[Key], assigned: &[String]) -> Option<Key> {
    keys.iter().find(|key| !key.columns.iter().any(|column| assigned.contains(&column.name))).cloned()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// With operators of `pg_catalog`.
    pub fn key(names: &[&str], type_oid: u32) -> Key {
        let operator = |name: &str| format!("pg_catalog.{name}");
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            type_oid,
            type_name: "pg_catalog.int8".into(),
            collation: None,
            operators: Operators {
                less_or_equal: operator("<="),
                equal: operator("="),
                greater_or_equal: operator(">="),
                greater: operator(">"),
            },
            cast: String::new(),
        };
        Key { columns: names.iter().map(column).collect(), is_hashable: true, correlation: None }
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
