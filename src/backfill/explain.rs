//! `upkeep.explain_backfill`: what a backfill would do, and what speaks against it.

use pgrx::pg_sys::Oid;

use super::definition::{self, Checked};
use super::options::Walk;
use super::strategy::{self, Choice, Facts};
use super::survey;
use crate::error::Result;
use crate::server::spi;

/// One row of the function's answer.
#[derive(Debug)]
pub struct Explanation {
    pub strategy: String,
    pub reason: String,
    pub batches: i64,
    pub rows_estimate: i64,
    pub seconds: f64,
    pub wal_bytes: i64,
    pub locks: String,
    pub warnings: Vec<String>,
}

pub fn explain(checked: &Checked, workers: i32) -> Result<Explanation> {
    let definition = &checked.definition;
    let mut warnings = Vec::new();
    if let Err(error) = definition::check_rights(checked) {
        match refused_by_publication(checked.table.relid)? {
            Some(warning) => warnings.push(warning),
            None => return Err(error),
        }
    }
    let facts =
        survey::facts(&checked.table, &definition.columns, definition.condition.as_deref(), checked.key.as_ref())?;
    let choice = strategy::choose(&facts, &definition.options);
    warnings.extend(warnings_of(checked, &facts)?);
    let costs = Costs::of(checked.table.relid, &facts, &choice, workers)?;
    Ok(Explanation {
        strategy: choice.describe(),
        reason: choice.reason.clone(),
        batches: choice.batches(&facts),
        rows_estimate: facts.rows_to_change() as i64,
        seconds: costs.seconds,
        wal_bytes: costs.wal_bytes as i64,
        locks: format!(
            "ROW EXCLUSIVE on {} and the rows of one batch, for one batch at a time; \
             waits at most 100 ms for a lock that somebody else holds",
            checked.table.sql
        ),
        warnings,
    })
}

impl Choice {
    /// In the words of `upkeep.jobs.strategy`.
    pub fn describe(&self) -> String {
        let walk = match self.walk {
            Walk::Blocks => "blocks",
            Walk::Keys => "keys",
        };
        match self.strides {
            strides if strides > 1 && !self.held => format!("{walk}, {strides} strides"),
            _ => walk.to_owned(),
        }
    }

    /// Transactions that the fill takes.
    fn batches(&self, facts: &Facts) -> i64 {
        let (range, strides) = if self.held { (self.plain_blocks, 1) } else { (self.range_blocks, self.strides) };
        i64::from(facts.blocks.div_ceil(range.max(1))) * i64::from(strides)
    }
}

impl Facts {
    pub fn rows_to_change(&self) -> f64 {
        self.rows * self.matching
    }
}

struct Costs {
    seconds: f64,
    wal_bytes: f64,
}

impl Costs {
    /// Measured on rows of 150 bytes with two indexes (research: 3.9 us and 370 bytes of
    /// WAL a row in strides, 7 us and 640 bytes without HOT; each further index 1.2 us
    /// without HOT), full-page images included. A forecast, not a promise.
    fn of(relid: Oid, facts: &Facts, choice: &Choice, workers: i32) -> Result<Self> {
        let indexes = index_count(relid)?;
        let row_bytes = facts.page_used * f64::from(facts.blocks) / facts.rows.max(1.0);
        let rows = facts.rows_to_change();
        let strides_work = choice.strides > 1 && !choice.held && facts.filled_index.is_none();
        let hot = if strides_work || strategy::finds_room(facts) { 0.8 } else { 0.0 };
        let microseconds = 2.0 + row_bytes / 100.0 + (1.0 - hot) * (1.2 * indexes + 1.0);
        let wal_row = 120.0 + row_bytes * 0.5 + (1.0 - hot) * (row_bytes + 90.0 * indexes);
        let images = f64::from(facts.blocks) * facts.page_used;
        // A second worker adds 80 % of the first's speed, further ones less.
        let speed = 1.0 + 0.8 * f64::from(workers.clamp(1, 8) - 1);
        Ok(Costs {
            seconds: rows * microseconds / 1e6 / speed,
            wal_bytes: rows * wal_row + if rows > 0.0 { images } else { 0.0 },
        })
    }
}

fn index_count(relid: Oid) -> Result<f64> {
    let count: Option<i64> = spi::query_one(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_index i
         WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indislive",
        &[relid.into()],
        |row| row.require(1),
    )?;
    Ok(count.unwrap_or(0) as f64)
}

fn warnings_of(checked: &Checked, facts: &Facts) -> Result<Vec<String>> {
    let table = &checked.table;
    let mut warnings = Vec::new();
    if let Some(who) = facts.held_by.as_ref().filter(|_| !strategy::finds_room(facts)) {
        warnings.push(format!(
            "{who} holds an old snapshot: dead rows cannot be pruned, the table and its indexes will grow"
        ));
    }
    if let Some(index) = &facts.filled_index {
        warnings.push(format!(
            "index {index} holds a filled column: every row gets new entries in all indexes; \
             where you can, create that index after the backfill"
        ));
    }
    warnings.extend(triggers(table.relid)?.into_iter().map(|name| format!("trigger {name} will fire for every row")));
    if table.row_security {
        warnings.push(
            "row security applies to you: only rows that its policies let you see and change will be filled".to_owned(),
        );
    }
    if checked.definition.condition.is_none() {
        warnings.push(
            "without a condition, a row whose key others change meanwhile may be missed or done twice".to_owned(),
        );
    }
    if checked.analysis.condition_is_volatile {
        warnings.push(
            "the condition calls a volatile function: which rows it names changes from one look to the next".to_owned(),
        );
    }
    warnings.extend(instant_default(checked)?);
    Ok(warnings)
}

/// Row triggers of an UPDATE of these columns; not those that the server itself made for foreign keys.
fn triggers(relid: Oid) -> Result<Vec<String>> {
    const ROW_AND_UPDATE: i16 = 1 | 16;
    spi::query(
        "SELECT t.tgname::pg_catalog.text FROM pg_catalog.pg_trigger t
         WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal
           AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'
           AND (t.tgtype OPERATOR(pg_catalog.&) $2) OPERATOR(pg_catalog.=) $2
         ORDER BY t.tgname",
        &[relid.into(), ROW_AND_UPDATE.into()],
        |row| row.require(1),
    )
}

/// A publication of updates needs a replica identity; without one every UPDATE is refused.
fn refused_by_publication(relid: Oid) -> Result<Option<String>> {
    spi::query_one(
        "SELECT pg_catalog.format('publication %s publishes updates of this table, which has no replica identity: '
                    'every UPDATE is refused; set one with ALTER TABLE .. REPLICA IDENTITY', p.pubname)
         FROM pg_catalog.pg_publication p
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) $1
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE p.pubupdate AND EXISTS (
             SELECT FROM pg_catalog.pg_publication_tables t
             WHERE t.pubname OPERATOR(pg_catalog.=) p.pubname
               AND t.schemaname OPERATOR(pg_catalog.=) n.nspname
               AND t.tablename OPERATOR(pg_catalog.=) c.relname)
           AND NOT EXISTS (
             SELECT FROM pg_catalog.pg_index i
             WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND c.relreplident OPERATOR(pg_catalog.<>) 'n'
               AND (i.indisreplident
                    OR (i.indisprimary AND c.relreplident OPERATOR(pg_catalog.=) 'd')))
           AND c.relreplident OPERATOR(pg_catalog.<>) 'f'
         ORDER BY p.pubname LIMIT 1",
        &[relid.into()],
        |row| row.require(1),
    )
}

/// A value that is the same for every row of an empty column needs no backfill at all.
fn instant_default(checked: &Checked) -> Result<Option<String>> {
    let [target] = checked.analysis.targets.as_slice() else { return Ok(None) };
    let (true, Some(value)) = (target.constant, &target.value) else { return Ok(None) };
    let column = super::statements::identifier(&target.column);
    let filled: Option<bool> = spi::query_one(
        &format!(
            "SELECT EXISTS (SELECT FROM (SELECT {column} AS c FROM ONLY {} LIMIT 1000) s
                            WHERE c IS NOT NULL)",
            checked.table.sql
        ),
        &[],
        |row| row.require(1),
    )?;
    if filled != Some(false) {
        return Ok(None);
    }
    Ok(Some(format!(
        "the value is the same for every row: dropping the empty column and \
         ALTER TABLE {} ADD COLUMN {column} .. DEFAULT {value} sets it in an instant",
        checked.table.sql
    )))
}
