//! `upkeep.measure_index_bloat`: a sample of an index's pages.

use super::catalog;
use super::facts::IndexFacts;
use super::page;
use super::sample::{self, Measured, Random};
use crate::calls::arguments;
use crate::error::{
    Error, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE,
    Result, SqlState, UNDEFINED_TABLE, WRONG_OBJECT_TYPE,
};
use crate::server::index_pages::{OpenIndex, PAGE};
use crate::server::{Oid, catalog as server, spi, worker};
use crate::sql::quote::literal;

const INDEX_CORRUPTED: SqlState = SqlState::new(b"XX002");
const SAMPLE_PAGES: i32 = 1000;
/// Between a guess and the whole of 8 GB.
const SAMPLE_LIMITS: std::ops::RangeInclusive<i32> = 10..=1_000_000;

/// The answer, in bytes and counts.
pub struct Answer {
    pub bytes: i64,
    pub tree_level: i32,
    pub deduplicates: bool,
    pub measured: Measured,
}

pub fn measure(index: Option<Oid>, sample_pages: Option<i32>) -> Result<Answer> {
    let index = arguments::required(index, "index")?;
    let sample_pages = sample_pages.unwrap_or(SAMPLE_PAGES);
    if !SAMPLE_LIMITS.contains(&sample_pages) {
        let (least, most) = (SAMPLE_LIMITS.start(), SAMPLE_LIMITS.end());
        return Err(Error::new(
            INVALID_PARAMETER_VALUE,
            format!("sample_pages must be between {least} and {most}, not {sample_pages}"),
        ));
    }
    let target = look_up(index)?;
    check(&target)?;
    let Some(definition) = catalog::definition(index)? else { return Err(gone(&target.name)) };
    read(&target.name, index, &definition, sample_pages as u32)
}

/// What an index must be, and be to the caller.
struct Target {
    name: String,
    kind: String,
    method: Option<String>,
    valid: bool,
    others_temporary: bool,
    permitted: bool,
    table: Option<String>,
    partitions: Vec<String>,
    unlogged: bool,
    caller: String,
}

fn look_up(index: Oid) -> Result<Target> {
    let found = spi::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::pg_catalog.text, m.amname::pg_catalog.text,
                coalesce(i.indisvalid AND i.indislive, true), pg_catalog.pg_is_other_temp_schema(c.relnamespace),
                pg_catalog.pg_has_role(coalesce(t.relowner, c.relowner), 'USAGE')
                OR coalesce(pg_catalog.has_table_privilege(t.oid, 'SELECT'), false)
                OR pg_catalog.pg_has_role('pg_stat_scan_tables', 'USAGE'),
                (SELECT pg_catalog.format('%I.%I', tn.nspname, t.relname) FROM pg_catalog.pg_namespace tn
                 WHERE tn.oid OPERATOR(pg_catalog.=) t.relnamespace),
                ARRAY(SELECT pg_catalog.format('%I.%I', pn.nspname, p.relname)
                      FROM pg_catalog.pg_inherits h
                      JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) h.inhrelid
                      JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) p.relnamespace
                      WHERE h.inhparent OPERATOR(pg_catalog.=) c.oid ORDER BY 1 LIMIT 5),
                c.relpersistence OPERATOR(pg_catalog.=) 'u', pg_catalog.quote_ident(CURRENT_USER)
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         LEFT JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
         LEFT JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) c.oid
         LEFT JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
         WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[index.into()],
        |row| {
            Ok(Target {
                name: row.next()?,
                kind: row.next()?,
                method: row.next_or_null()?,
                valid: row.next()?,
                others_temporary: row.next()?,
                permitted: row.next()?,
                table: row.next_or_null()?,
                partitions: row.next_or_null()?.unwrap_or_default(),
                unlogged: row.next()?,
                caller: row.next()?,
            })
        },
    )?;
    found.ok_or_else(|| Error::new(UNDEFINED_TABLE, format!("there is no index with OID {}", index.to_u32())))
}

fn check(target: &Target) -> Result<()> {
    let name = &target.name;
    match target.kind.as_str() {
        "i" => {}
        "I" => {
            let partitions = match target.partitions.as_slice() {
                [] => "It has no partitions.".to_owned(),
                some => format!("Its partitions' indexes: {}", some.join(", ")),
            };
            let error = Error::new(WRONG_OBJECT_TYPE, format!("{name} is a partitioned index and has no pages"));
            let hint = target
                .partitions
                .first()
                .map(|first| format!("SELECT * FROM upkeep.measure_index_bloat({});", literal(first)));
            let error = error.detail(partitions);
            return Err(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        _ => {
            return Err(Error::new(WRONG_OBJECT_TYPE, format!("{name} is not an index"))
                .hint("SELECT indexrelname FROM pg_stat_user_indexes WHERE relname = '...';"));
        }
    }
    if !target.permitted {
        let table = target.table.as_deref().unwrap_or(name);
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied for index {name}"))
            .detail("This takes SELECT on the table, its ownership, or the role pg_stat_scan_tables.")
            .hint(format!("GRANT SELECT ON {table} TO {};", target.caller)));
    }
    let method = target.method.as_deref().unwrap_or("none");
    if method != "btree" {
        return Err(Error::new(FEATURE_NOT_SUPPORTED, format!("{name} is no btree index"))
            .detail(format!("Its access method is {method}.")));
    }
    if target.others_temporary {
        return Err(Error::new(FEATURE_NOT_SUPPORTED, format!("{name} belongs to another session"))
            .detail("Pages of temporary tables are in the memory of the session that made them."));
    }
    if !target.valid {
        return Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("index {name} is not valid"))
            .detail("It is being built, or its build failed.")
            .hint(format!("REINDEX INDEX CONCURRENTLY {name};")));
    }
    if target.unlogged && worker::in_recovery() {
        return Err(Error::new(FEATURE_NOT_SUPPORTED, format!("{name} is unlogged and has no pages on a standby")));
    }
    Ok(())
}

fn gone(name: &str) -> Error {
    Error::new(UNDEFINED_TABLE, format!("index {name} has just been dropped"))
}

fn read(name: &str, index: Oid, definition: &IndexFacts, sample_pages: u32) -> Result<Answer> {
    let broken = |block: u32| {
        Error::new(INDEX_CORRUPTED, format!("block {block} of index {name} is no page of a btree index"))
            .hint(format!("REINDEX INDEX CONCURRENTLY {name};"))
    };
    let pages = OpenIndex::open(index).ok_or_else(|| gone(name))?;
    let mut page = Box::new([0; PAGE]);
    pages.read(0, &mut page);
    let meta = page::meta(&page).ok_or_else(|| broken(0))?;
    let blocks = pages.blocks();
    let packing = definition.packing();
    let mut contents = Vec::new();
    for block in sample::choose(blocks, sample_pages - 1, Random(server::chance())) {
        pages.read(block, &mut page);
        contents.push(page::content(&page, packing).ok_or_else(|| broken(block))?);
    }
    let measured = sample::extrapolate(&contents, blocks);
    Ok(Answer {
        bytes: i64::from(blocks) * PAGE as i64,
        tree_level: i32::try_from(meta.level).unwrap_or(i32::MAX),
        deduplicates: meta.all_equal_image && definition.wants_merging(),
        measured: Measured { pages_read: measured.pages_read + 1, ..measured },
    })
}
