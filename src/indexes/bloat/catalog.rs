//! What the catalogs and the statistics say about the database's btree indexes, as the caller may see it.

use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::Oid;

use super::facts::{Attribute, ColumnStatistics, Equality, IndexFacts};
use crate::error::Result;
use crate::server::spi::{self, Row};
use crate::server::{index_pages, relation_file};

/// An index, its size now, and what is known about it.
pub struct Found {
    pub indexrelid: Oid,
    pub bytes: i64,
    pub facts: IndexFacts,
}

/// Counters of activity lack what this session has not reported yet: that is added.
/// Nothing of this waits for a lock on a table or an index: names and sizes come from the catalogs and the file system.
const INDEXES: &str = r"
    SELECT i.indexrelid, pg_catalog.pg_relation_filepath(i.indexrelid),
           c.reltuples::pg_catalog.float8, t.reltuples::pg_catalog.float8,
           i.indisunique, i.indpred IS NOT NULL,
           pg_catalog.regexp_replace(i.indpred::pg_catalog.text,
               '^\{NULLTEST :arg \{VAR :varno 1 :varattno ([0-9]+) .*:nulltesttype 1 .*$|^.*$', '\1'),
           c.reloptions,
           CASE WHEN l.at IS NOT NULL
                THEN greatest(pg_catalog.pg_stat_get_live_tuples(i.indrelid)
                     OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_inserted(i.indrelid)
                     OPERATOR(pg_catalog.-) pg_catalog.pg_stat_get_xact_tuples_deleted(i.indrelid), 0)::pg_catalog.float8
                END,
           pg_catalog.pg_stat_get_mod_since_analyze(i.indrelid)::pg_catalog.float8,
           i.indnkeyatts::pg_catalog.int4, t.relpages, pg_catalog.pg_relation_filepath(i.indrelid),
           coalesce(l.at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp()
                    OPERATOR(pg_catalog.-) '2 minutes'::pg_catalog.interval), false)
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
    CROSS JOIN LATERAL (SELECT greatest(pg_catalog.pg_stat_get_last_vacuum_time(t.oid),
                                        pg_catalog.pg_stat_get_last_autovacuum_time(t.oid),
                                        pg_catalog.pg_stat_get_last_analyze_time(t.oid),
                                        pg_catalog.pg_stat_get_last_autoanalyze_time(t.oid)) AS at OFFSET 0) l
    WHERE ";

/// Types with statistics of their own (ranges) keep no values where others do.
/// Statistics of an expression are those of the index's own column, visible to its owner; `pg_stats` decides.
const COLUMNS: &str = "
    SELECT i.indexrelid, a.attnum::pg_catalog.int4, a.attlen::pg_catalog.int4, a.attalign::pg_catalog.text,
           a.attstorage::pg_catalog.text, coalesce(ta.attname, a.attname)::pg_catalog.text,
           coalesce(ta.attnotnull, false), coalesce(ta.attnum, 0)::pg_catalog.int4,
           i.indclass[a.attnum OPERATOR(pg_catalog.-) 1], i.indcollation[a.attnum OPERATOR(pg_catalog.-) 1],
           s.null_frac::pg_catalog.float8, s.avg_width, s.n_distinct::pg_catalog.float8, s.most_common_freqs,
           (y.typanalyze::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid)
               AND s.correlation IS NULL AND s.most_common_vals IS NULL AND s.histogram_bounds IS NULL,
           CASE WHEN a.attlen OPERATOR(pg_catalog.=) -2 THEN
               (pg_catalog.octet_length(coalesce(s.histogram_bounds, s.most_common_vals)::pg_catalog.text)
                OPERATOR(pg_catalog.-) 1)::pg_catalog.float8 OPERATOR(pg_catalog./)
               pg_catalog.array_length(coalesce(s.histogram_bounds, s.most_common_vals), 1)::pg_catalog.float8 END
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) a.atttypid
    LEFT JOIN pg_catalog.pg_attribute ta ON (ta.attrelid OPERATOR(pg_catalog.=) i.indrelid)
         AND (ta.attnum OPERATOR(pg_catalog.=) i.indkey[a.attnum OPERATOR(pg_catalog.-) 1])
    LEFT JOIN pg_catalog.pg_stats s ON (s.schemaname OPERATOR(pg_catalog.=) n.nspname)
         AND (s.tablename OPERATOR(pg_catalog.=) CASE WHEN ta.attnum IS NULL THEN c.relname ELSE t.relname END)
         AND (s.attname OPERATOR(pg_catalog.=) coalesce(ta.attname, a.attname)) AND NOT s.inherited
    WHERE ";

/// Operator classes whose equal keys are equal byte by byte: support function 4 says so. Those that are not listed
/// have none or one of their own, which is not asked.
const EQUALITIES: &str = "
    SELECT o.oid, p.amproc OPERATOR(pg_catalog.=) 'pg_catalog.btvarstrequalimage'::pg_catalog.regproc
    FROM pg_catalog.pg_opclass o
    JOIN pg_catalog.pg_amproc p ON (p.amprocfamily OPERATOR(pg_catalog.=) o.opcfamily)
         AND (p.amproclefttype OPERATOR(pg_catalog.=) o.opcintype)
         AND (p.amprocrighttype OPERATOR(pg_catalog.=) o.opcintype)
         AND (p.amprocnum OPERATOR(pg_catalog.=) 4)
    WHERE (o.opcmethod OPERATOR(pg_catalog.=) 403::pg_catalog.oid)
      AND (p.amproc OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.btequalimage'::pg_catalog.regproc,
                                                      'pg_catalog.btvarstrequalimage'::pg_catalog.regproc]))";

const NONDETERMINISTIC: &str = "SELECT oid FROM pg_catalog.pg_collation WHERE NOT collisdeterministic";

/// Valid btree indexes of this session's and of permanent tables, of users' schemas as `pg_stat_user_indexes` has them.
const WHICH: &str = "
        (c.relam OPERATOR(pg_catalog.=) 403::pg_catalog.oid) AND (c.relkind OPERATOR(pg_catalog.=) 'i')
        AND i.indisvalid AND i.indislive
        AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)
        AND c.relnamespace OPERATOR(pg_catalog.<>) ALL (ARRAY(
            SELECT h.oid FROM pg_catalog.pg_namespace h
            WHERE (h.nspname OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[]))
               OR (h.nspname OPERATOR(pg_catalog.~) '^pg_toast')))";

/// Every index that an estimate may be made of.
pub fn indexes() -> Result<Vec<Found>> {
    let mut attributes = attributes(WHICH, &[])?;
    let rows = spi::query(&format!("{INDEXES}{WHICH}"), &[], |row| {
        let Some(bytes) = row.get::<&str>(2)?.and_then(relation_file::size) else { return Ok(None) };
        // One page is the least; less is what a dropped index leaves until the next checkpoint.
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes < index_pages::PAGE as i64 {
            return Ok(None);
        }
        Ok(Some(Found { indexrelid: row.require(1)?, bytes, facts: index(&row)? }))
    })?;
    let with_attributes = rows.into_iter().flatten().map(|mut found| {
        found.facts.attributes = attributes.remove(&found.indexrelid).unwrap_or_default();
        found
    });
    Ok(with_attributes.filter(|found| !found.facts.attributes.is_empty()).collect())
}

/// One index of any schema; `None`: it is gone.
pub fn definition(indexrelid: Oid) -> Result<Option<IndexFacts>> {
    const THIS: &str = "i.indexrelid OPERATOR(pg_catalog.=) $1";
    let facts = spi::query_one(&format!("{INDEXES}{THIS}"), &[indexrelid.into()], |row| index(&row))?;
    let attributes = attributes(THIS, &[indexrelid.into()])?.remove(&indexrelid);
    Ok(facts.zip(attributes).map(|(facts, attributes)| IndexFacts { attributes, ..facts }))
}

fn attributes(which: &str, args: &[DatumWithOid<'_>]) -> Result<HashMap<Oid, Vec<Attribute>>> {
    let equalities: HashMap<Oid, bool> =
        spi::query(EQUALITIES, &[], |row| Ok((row.require(1)?, row.require(2)?)))?.into_iter().collect();
    let nondeterministic: Vec<Oid> = spi::query(NONDETERMINISTIC, &[], |row| row.require(1))?;
    let equality = |class: Option<Oid>, collation: Option<Oid>| match class.and_then(|class| equalities.get(&class)) {
        Some(true) if collation.is_some_and(|collation| nondeterministic.contains(&collation)) => Equality::Value,
        Some(_) => Equality::Image,
        None => Equality::Value,
    };
    let rows = spi::query(&format!("{COLUMNS}{which} ORDER BY i.indexrelid, a.attnum"), args, |row| {
        Ok((row.require::<Oid>(1)?, attribute(&row, equality(row.get(9)?, row.get(10)?))?))
    })?;
    let mut attributes: HashMap<Oid, Vec<Attribute>> = HashMap::new();
    for (indexrelid, attribute) in rows {
        attributes.entry(indexrelid).or_default().push(attribute);
    }
    Ok(attributes)
}

fn index(row: &Row<'_>) -> Result<IndexFacts> {
    let counted_pages = f64::from(row.require::<i32>(12)?);
    let pages = row.get::<&str>(13)?.and_then(relation_file::size).map(|bytes| bytes as f64 / index_pages::PAGE as f64);
    Ok(IndexFacts {
        index_tuples: row.require(3)?,
        table_tuples: row.require(4)?,
        unique: row.require(5)?,
        partial: row.require(6)?,
        not_null_column: row.get::<&str>(7)?.and_then(|column| column.parse().ok()),
        options: row.get::<Vec<String>>(8)?.unwrap_or_default(),
        live_rows: row.get(9)?,
        growth: pages.filter(|_| counted_pages > 0.0).map_or(1.0, |pages| pages / counted_pages),
        just_counted: row.require(14)?,
        changes: row.get(10)?.unwrap_or(0.0),
        key_columns: usize::try_from(row.require::<i32>(11)?).unwrap_or(0),
        attributes: Vec::new(),
    })
}

fn attribute(row: &Row<'_>, equality: Equality) -> Result<Attribute> {
    let character =
        |ordinal| -> Result<char> { Ok(row.get::<&str>(ordinal)?.and_then(|text| text.chars().next()).unwrap_or('c')) };
    let statistics = match row.get::<f64>(11)? {
        None => None,
        Some(null_fraction) => Some(ColumnStatistics {
            null_fraction,
            width: f64::from(row.get::<i32>(12)?.unwrap_or(0)),
            distinct: row.get(13)?.unwrap_or(0.0),
            common: row.get::<Vec<f32>>(14)?.unwrap_or_default().into_iter().map(f64::from).collect(),
            no_values: row.get(15)?.unwrap_or(true),
            text_width: row.get(16)?,
        }),
    };
    Ok(Attribute {
        name: row.require(6)?,
        table_column: row.require(8)?,
        length: row.require(3)?,
        alignment: character(4)?,
        storage: character(5)?,
        not_null: row.require(7)?,
        equality,
        statistics,
    })
}
