//! What the catalogs and the statistics say about the database's btree indexes, as the caller may see it.

use std::collections::HashMap;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

use super::facts::{self, Attribute, ColumnStatistics, Equality, IndexFacts};
use crate::error::Result;
use crate::server::spi::{self, Row};
use crate::server::{Oid, catalog as server, index_pages, relation_file};

/// An index, its size now, and what is known about it.
pub struct Found {
    pub indexrelid: Oid,
    pub bytes: i64,
    pub facts: IndexFacts,
    pub last_analyze: Option<TimestampWithTimeZone>,
    /// Rows of the table written since.
    pub changes: i64,
}

/// Tables as the counters of activity see them, which lack what this session has not reported yet: that is added. One
/// row for each table, since each look at its counters costs as much as all the rest.
const TABLES: &str = "
    SELECT t.oid, t.reltuples::pg_catalog.float8, t.relpages, pg_catalog.pg_relation_filepath(t.oid),
           CASE WHEN coalesce(l.analyze_at, l.vacuum_at) IS NOT NULL
                THEN greatest(pg_catalog.pg_stat_get_live_tuples(t.oid)
                     OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_inserted(t.oid)
                     OPERATOR(pg_catalog.-) pg_catalog.pg_stat_get_xact_tuples_deleted(t.oid), 0)::pg_catalog.float8
                END,
           coalesce(greatest(l.analyze_at, l.vacuum_at) OPERATOR(pg_catalog.>)
                    (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '2 minutes'::pg_catalog.interval), false),
           pg_catalog.pg_stat_get_mod_since_analyze(t.oid), l.analyze_at,
           t.relrowsecurity AND pg_catalog.row_security_active(t.oid)
    FROM pg_catalog.pg_class t
    CROSS JOIN LATERAL (
        SELECT greatest(pg_catalog.pg_stat_get_last_analyze_time(t.oid),
                        pg_catalog.pg_stat_get_last_autoanalyze_time(t.oid)) AS analyze_at,
               greatest(pg_catalog.pg_stat_get_last_vacuum_time(t.oid),
                        pg_catalog.pg_stat_get_last_autovacuum_time(t.oid)) AS vacuum_at OFFSET 0) l
    WHERE t.relhasindex AND (t.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'm', 't']::pg_catalog.\"char\"[]))
      AND NOT pg_catalog.pg_is_other_temp_schema(t.relnamespace)";

/// Nothing of this waits for a lock on a table or an index: names and sizes come from the catalogs and the file system.
const INDEXES: &str = "
    SELECT i.indexrelid, i.indrelid, pg_catalog.pg_relation_filepath(i.indexrelid), c.reltuples::pg_catalog.float8,
           i.indisunique, i.indpred IS NOT NULL,
           CASE WHEN pg_catalog.starts_with(i.indpred::pg_catalog.text, '{NULLTEST')
                THEN i.indpred::pg_catalog.text END,
           c.reloptions, i.indnkeyatts::pg_catalog.int4
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    WHERE ";

/// Types with statistics of their own (ranges) keep no values where others do. Statistics of an expression are those of
/// the index's own column. $1 is the caller: who may see what is decided as `pg_stats` does, which itself would join by
/// name and take several times as long; row security is seen to by whoever reads these rows. Runs under the switched
/// user, since nobody else may read pg_statistic.
const COLUMNS: &str = "
    SELECT i.indexrelid, i.indrelid, a.attlen::pg_catalog.int4, a.attalign::pg_catalog.text,
           a.attstorage::pg_catalog.text, coalesce(ta.attname, a.attname)::pg_catalog.text,
           coalesce(ta.attnotnull, false), coalesce(ta.attnum, 0)::pg_catalog.int4,
           i.indclass[a.attnum OPERATOR(pg_catalog.-) 1], i.indcollation[a.attnum OPERATOR(pg_catalog.-) 1],
           s.stanullfrac::pg_catalog.float8, s.stawidth, s.stadistinct::pg_catalog.float8,
           CASE WHEN s.stakind1 OPERATOR(pg_catalog.=) 1 THEN s.stanumbers1
                WHEN s.stakind2 OPERATOR(pg_catalog.=) 1 THEN s.stanumbers2
                WHEN s.stakind3 OPERATOR(pg_catalog.=) 1 THEN s.stanumbers3 END,
           (y.typanalyze::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid)
               AND (s.stakind1 OPERATOR(pg_catalog.=) 0),
           CASE WHEN a.attlen OPERATOR(pg_catalog.=) -2 THEN (
               SELECT (pg_catalog.octet_length(v.v::pg_catalog.text) OPERATOR(pg_catalog.-) 1)::pg_catalog.float8
                      OPERATOR(pg_catalog./) pg_catalog.array_length(v.v, 1)::pg_catalog.float8
               FROM (SELECT CASE WHEN s.stakind1 OPERATOR(pg_catalog.=) ANY (ARRAY[1, 2]) THEN s.stavalues1
                                 WHEN s.stakind2 OPERATOR(pg_catalog.=) ANY (ARRAY[1, 2]) THEN s.stavalues2 END) v(v)) END,
           a.attnum
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) a.atttypid
    LEFT JOIN pg_catalog.pg_attribute ta ON (ta.attrelid OPERATOR(pg_catalog.=) i.indrelid)
         AND (ta.attnum OPERATOR(pg_catalog.=) i.indkey[a.attnum OPERATOR(pg_catalog.-) 1])
    LEFT JOIN pg_catalog.pg_statistic s
         ON (s.starelid OPERATOR(pg_catalog.=) coalesce(ta.attrelid, a.attrelid))
        AND (s.staattnum OPERATOR(pg_catalog.=) coalesce(ta.attnum, a.attnum)) AND NOT s.stainherit
        AND coalesce(pg_catalog.has_column_privilege($1, s.starelid, s.staattnum, 'SELECT'), false)
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
    let tables: HashMap<Oid, Table> =
        spi::query(TABLES, &[], |row| Ok((row.require(1)?, table(&row)?)))?.into_iter().collect();
    let mut attributes = attributes(WHICH, None)?;
    let rows = spi::query(&format!("{INDEXES}{WHICH}"), &[], |row| {
        let Some(bytes) = row.get::<&str>(3)?.and_then(relation_file::size) else { return Ok(None) };
        // One page is the least; less is what a dropped index leaves until the next checkpoint.
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let (relid, indexrelid) = (row.require::<Oid>(2)?, row.require::<Oid>(1)?);
        let Some(table) = tables.get(&relid).filter(|_| bytes >= index_pages::PAGE as i64) else { return Ok(None) };
        let facts = IndexFacts {
            table_tuples: table.tuples,
            live_rows: table.live_rows,
            just_counted: table.just_counted,
            growth: table.growth,
            changes: table.changes as f64,
            ..index(&row)?
        };
        Ok(Some((
            table.row_security,
            Found { indexrelid, bytes, facts, last_analyze: table.last_analyze, changes: table.changes },
        )))
    })?;
    let with_attributes = rows.into_iter().flatten().map(|(row_security, mut found)| {
        found.facts.attributes = attributes.remove(&found.indexrelid).unwrap_or_default();
        if row_security {
            let of_table = found.facts.attributes.iter_mut().filter(|attribute| attribute.table_column != 0);
            of_table.for_each(|attribute| attribute.statistics = None);
        }
        found
    });
    Ok(with_attributes.filter(|found| !found.facts.attributes.is_empty()).collect())
}

/// One index of any schema; `None`: it is gone.
pub fn definition(indexrelid: Oid) -> Result<Option<IndexFacts>> {
    const THIS: &str = "i.indexrelid OPERATOR(pg_catalog.=) ";
    let facts = spi::query_one(&format!("{INDEXES}{THIS} $1"), &[indexrelid.into()], |row| index(&row))?;
    let attributes = attributes(&format!("{THIS} $2"), Some(indexrelid))?.remove(&indexrelid);
    Ok(facts.zip(attributes).map(|(facts, attributes)| IndexFacts { attributes, ..facts }))
}

/// What all indexes of a table share.
struct Table {
    tuples: f64,
    growth: f64,
    live_rows: Option<f64>,
    just_counted: bool,
    changes: i64,
    last_analyze: Option<TimestampWithTimeZone>,
    row_security: bool,
}

fn table(row: &Row<'_>) -> Result<Table> {
    let counted_pages = f64::from(row.require::<i32>(3)?);
    let pages = row.get::<&str>(4)?.and_then(relation_file::size).map(|bytes| bytes as f64 / index_pages::PAGE as f64);
    Ok(Table {
        tuples: row.require(2)?,
        growth: pages.filter(|_| counted_pages > 0.0).map_or(1.0, |pages| pages / counted_pages),
        live_rows: row.get(5)?,
        just_counted: row.require(6)?,
        changes: row.get(7)?.unwrap_or(0),
        last_analyze: row.get(8)?,
        row_security: row.require(9)?,
    })
}

fn attributes(which: &str, indexrelid: Option<Oid>) -> Result<HashMap<Oid, Vec<Attribute>>> {
    let equalities: HashMap<Oid, bool> =
        spi::query(EQUALITIES, &[], |row| Ok((row.require(1)?, row.require(2)?)))?.into_iter().collect();
    let nondeterministic: Vec<Oid> = spi::query(NONDETERMINISTIC, &[], |row| row.require(1))?;
    let equality = |class: Option<Oid>, collation: Option<Oid>| match class.and_then(|class| equalities.get(&class)) {
        Some(true) if collation.is_some_and(|collation| nondeterministic.contains(&collation)) => Equality::Value,
        Some(_) => Equality::Image,
        None => Equality::Value,
    };
    let mut args: Vec<DatumWithOid<'_>> = vec![server::current_user().into()];
    args.extend(indexrelid.map(DatumWithOid::from));
    let rows = spi::bookkeeping(|| {
        spi::query(&format!("{COLUMNS}{which}"), &args, |row| {
            let place = (row.require::<Oid>(1)?, row.require::<i16>(17)?);
            Ok((place, attribute(&row, equality(row.get(9)?, row.get(10)?))?))
        })
    })?;
    // To sort them all in the query would go to disk.
    let mut numbered: HashMap<Oid, Vec<(i16, Attribute)>> = HashMap::new();
    for ((indexrelid, number), attribute) in rows {
        numbered.entry(indexrelid).or_default().push((number, attribute));
    }
    let in_order = |(indexrelid, mut attributes): (Oid, Vec<(i16, Attribute)>)| {
        attributes.sort_by_key(|(number, _)| *number);
        (indexrelid, attributes.into_iter().map(|(_, attribute)| attribute).collect())
    };
    Ok(numbered.into_iter().map(in_order).collect())
}

fn index(row: &Row<'_>) -> Result<IndexFacts> {
    Ok(IndexFacts {
        index_tuples: row.require(4)?,
        unique: row.require(5)?,
        partial: row.require(6)?,
        not_null_column: row.get::<&str>(7)?.and_then(facts::not_null_column),
        options: row.get::<Vec<String>>(8)?.unwrap_or_default(),
        key_columns: usize::try_from(row.require::<i32>(9)?).unwrap_or(0),
        ..IndexFacts::default()
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
