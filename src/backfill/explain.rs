//! `upkeep.explain_backfill`: what a backfill would do, and what speaks against it.

use std::collections::BTreeMap;

use super::definition::Checked;
use super::options::Walk;
use super::strategy::{self, Choice, Facts};
use super::tree::Leaf;
use super::{forecast, key, policies, rights, survey};
use crate::error::Result;
use crate::server::{Oid, heap, spi};
use crate::sql::quote::identifier;

/// Tables of a tree that are looked at, the largest; the others are judged by their size.
const SURVEYED: usize = 20;

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
    let mut warnings = Warnings::default();
    if let Some(refused) = rights::permitted(checked)? {
        warnings.add("publication", format!("{}: {}", refused.message, refused.hint.unwrap_or_default()));
    }
    let leaves = largest_first(&checked.leaves);
    let mut all = Sum::default();
    let mut blocks = (0.0, 0.0);
    for (i, (leaf, size)) in leaves.iter().enumerate() {
        blocks.1 += f64::from(*size);
        if i < SURVEYED {
            blocks.0 += f64::from(*size);
            all.add(checked, leaf, workers, &mut warnings)?;
        }
    }
    warn_of_the_whole(checked, &mut warnings)?;
    let scale = if blocks.0 > 0.0 { blocks.1 / blocks.0 } else { 1.0 };
    for (cause, text) in forecast::warnings(all.seconds * scale, all.wal_bytes * scale)? {
        warnings.add(cause, text);
    }
    let surveyed = leaves.len().min(SURVEYED);
    let several = leaves.len() > 1;
    let mut reason =
        all.reasons.into_iter().max_by_key(|(_, count)| *count).map_or(String::new(), |(reason, _)| reason);
    if several && surveyed < leaves.len() {
        reason = format!("{reason} (judged by the {surveyed} largest tables)");
    }
    Ok(Explanation {
        strategy: in_words(leaves.len(), &all.strategies),
        reason,
        batches: (all.batches as f64 * scale) as i64,
        rows_estimate: (all.rows * scale) as i64,
        seconds: all.seconds * scale,
        wal_bytes: (all.wal_bytes * scale) as i64,
        locks: locks(checked, several),
        warnings: warnings.in_words(),
    })
}

fn locks(checked: &Checked, several: bool) -> String {
    let table = &checked.table;
    let what = match (several, table.row_security) {
        (false, _) => table.sql.clone(),
        (true, false) => "one of the tables".to_owned(),
        (true, true) => format!("{} and one of its tables", table.sql),
    };
    format!(
        "ROW EXCLUSIVE on {what} and the rows of one batch, for one batch at a time; \
         waits at most 100 ms for a lock that somebody else holds"
    )
}

/// With their sizes in blocks, without waiting for any lock.
fn largest_first(leaves: &[Leaf]) -> Vec<(&Leaf, u32)> {
    let mut sized: Vec<(&Leaf, u32)> = leaves
        .iter()
        .map(|leaf| (leaf, heap::blocks_if_free(leaf.relid).unwrap_or(leaf.pages.max(0) as u32)))
        .collect();
    sized.sort_by_key(|(_, blocks)| std::cmp::Reverse(*blocks));
    sized
}

/// What the tables that are looked at add up to.
#[derive(Default)]
struct Sum {
    strategies: BTreeMap<String, u32>,
    reasons: BTreeMap<String, u32>,
    batches: i64,
    rows: f64,
    seconds: f64,
    wal_bytes: f64,
}

impl Sum {
    fn add(&mut self, checked: &Checked, leaf: &Leaf, workers: i32, warnings: &mut Warnings) -> Result<()> {
        let definition = &checked.definition;
        let key = checked.key_of(&key::keys(leaf.relid)?);
        let facts = survey::facts(leaf.relid, &checked.parts(leaf, key)?, &definition.columns)?;
        let choice = strategy::choose(&facts, &definition.options);
        warn_of(checked, leaf, &facts, &choice, warnings)?;
        let costs = Costs::of(leaf.relid, &facts, &choice, workers)?;
        *self.strategies.entry(choice.describe()).or_default() += 1;
        *self.reasons.entry(choice.reason.clone()).or_default() += 1;
        self.batches += choice.batches(&facts);
        self.rows += facts.rows_to_change();
        self.seconds += costs.seconds;
        self.wal_bytes += costs.wal_bytes;
        Ok(())
    }
}

/// Each cause once, with the first table's words and how many tables it concerns.
#[derive(Default)]
struct Warnings(Vec<(String, String, usize)>);

impl Warnings {
    fn add(&mut self, cause: &str, text: String) {
        match self.0.iter_mut().find(|(known, ..)| known == cause) {
            Some((_, _, count)) => *count += 1,
            None => self.0.push((cause.to_owned(), text, 1)),
        }
    }

    fn in_words(self) -> Vec<String> {
        let words = |(_, text, count): (String, String, usize)| match count {
            1 => text,
            _ => format!("{text} (so in {count} tables)"),
        };
        self.0.into_iter().map(words).collect()
    }
}

/// `blocks, 10 strides`; of several tables how many go which way: `200 tables: blocks, 10 strides in 180; keys in 20`.
pub fn in_words(tables: usize, strategies: &BTreeMap<String, u32>) -> String {
    let mut ways: Vec<(&String, &u32)> = strategies.iter().collect();
    ways.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let known: u32 = strategies.values().sum();
    match ways.as_slice() {
        [(way, _)] if tables <= 1 => (*way).clone(),
        [] => format!("{tables} tables"),
        ways => {
            let counted: Vec<String> = ways.iter().map(|(way, count)| format!("{way} in {count}")).collect();
            let looked = if (known as usize) < tables { format!(", {known} looked at") } else { String::new() };
            format!("{tables} tables{looked}: {}", counted.join("; "))
        }
    }
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
    /// Measured on rows of 150 bytes with two indexes, full-page images included: 3.9 us and 370 bytes of WAL a row in
    /// strides, 7 us and 640 bytes without HOT; each further index adds 1.2 us without HOT. `cargo measure backfill`
    /// measures it again. A forecast, not a promise.
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

fn warn_of(checked: &Checked, leaf: &Leaf, facts: &Facts, choice: &Choice, warnings: &mut Warnings) -> Result<()> {
    if let Some(who) = facts.held_by.as_ref().filter(|_| !strategy::finds_room(facts)) {
        // The same session holds back all of them.
        warnings.add(
            "held",
            format!("{who} holds an old snapshot: dead rows cannot be pruned, the table and its indexes will grow"),
        );
    }
    if let Some(index) = &facts.filled_index {
        warnings.add(
            "index",
            format!(
                "index {index} holds a filled column: every row gets new entries in all indexes; \
                 where you can, create that index after the backfill"
            ),
        );
    }
    for name in triggers(leaf.relid)? {
        let text = format!("trigger {name} will fire for every row");
        warnings.add(&text, text.clone());
    }
    if leaf.row_security && !checked.table.row_security {
        warn_of_policies(leaf.relid, warnings)?;
    }
    if checked.definition.options.vacuum && choice.strides > 1 && !choice.held {
        warnings.add(
            "vacuum",
            format!("VACUUM between ranges gains little: {} already make room on the pages", choice.describe()),
        );
    }
    Ok(())
}

fn warn_of_policies(relid: Oid, warnings: &mut Warnings) -> Result<()> {
    warnings.add("row security", policies::APPLIES.to_owned());
    if let Some(text) = policies::lacking(relid)? {
        warnings.add(&text, text.clone());
    }
    Ok(())
}

fn warn_of_the_whole(checked: &Checked, warnings: &mut Warnings) -> Result<()> {
    if checked.table.row_security {
        warn_of_policies(checked.table.relid, warnings)?;
    }
    if checked.definition.condition.is_none() {
        warnings.add(
            "no condition",
            "without a condition, a row whose key others change meanwhile may be missed or done twice".to_owned(),
        );
    }
    if checked.analysis.condition_is_volatile {
        warnings.add(
            "volatile",
            "the condition calls a volatile function: which rows it names changes from one look to the next".to_owned(),
        );
    }
    if let Some(text) = instant_default(checked)? {
        warnings.add("default", text);
    }
    Ok(())
}

/// Row triggers of an UPDATE of these columns; not those that the server itself made for foreign keys, nor ours.
fn triggers(relid: Oid) -> Result<Vec<String>> {
    const ROW_AND_UPDATE: i16 = 1 | 16;
    spi::query(
        "SELECT t.tgname::pg_catalog.text FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
         WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal
           -- Ours rest for backfills, or have a condition of their own.
           AND p.pronamespace OPERATOR(pg_catalog.<>) 'upkeep'::pg_catalog.regnamespace
           AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'
           AND (t.tgtype OPERATOR(pg_catalog.&) $2) OPERATOR(pg_catalog.=) $2
         ORDER BY t.tgname",
        &[relid.into(), ROW_AND_UPDATE.into()],
        |row| row.require(1),
    )
}

/// A value that is the same for every row of an empty column needs no backfill at all.
fn instant_default(checked: &Checked) -> Result<Option<String>> {
    let [target] = checked.analysis.targets.as_slice() else { return Ok(None) };
    let (true, Some(value)) = (target.constant, &target.value) else { return Ok(None) };
    let column = identifier(&target.column);
    let only = if checked.table.is_tree { "" } else { "ONLY " };
    let filled: Option<bool> = spi::theirs::query_one(
        &format!(
            "SELECT EXISTS (SELECT FROM (SELECT {column} AS c FROM {only}{} LIMIT 1000) s
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_in_words() {
        let ways = |counts: &[(&str, u32)]| counts.iter().map(|&(way, count)| (way.to_owned(), count)).collect();
        assert_eq!(in_words(1, &ways(&[("blocks, 10 strides", 1)])), "blocks, 10 strides");
        assert_eq!(
            in_words(200, &ways(&[("blocks, 10 strides", 180), ("keys", 20)])),
            "200 tables: blocks, 10 strides in 180; keys in 20"
        );
        assert_eq!(in_words(30, &ways(&[("blocks", 20)])), "30 tables, 20 looked at: blocks in 20");
        assert_eq!(in_words(0, &ways(&[])), "0 tables");
    }

    #[test]
    fn a_cause_is_told_once() {
        let mut warnings = Warnings::default();
        warnings.add("index", "index a".into());
        warnings.add("held", "process 7".into());
        warnings.add("index", "index b".into());
        assert_eq!(warnings.in_words(), ["index a (so in 2 tables)", "process 7"]);
    }
}
