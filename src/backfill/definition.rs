//! What a backfill is: the caller's words, checked, and what they mean.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{self, Key};
use super::meaning;
use super::options::{Options, Walk};
use super::statements::{Condition, Parts};
use super::target;
use super::target::Table;
use super::tree::{self, Leaf};
use crate::calls::arguments;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::analyze::{self, Target};
use crate::server::{Oid, spi};
use crate::sql::fragments;
use crate::sql::glue::Glue;

/// What happens at a row whose new value is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    Quarantine,
    Stop,
}

impl OnError {
    pub fn read(text: Option<&str>) -> Result<Self> {
        let word = arguments::one_of(text.unwrap_or("quarantine"), "on_error", &["quarantine", "stop"])?;
        Ok(if word == "stop" { OnError::Stop } else { OnError::Quarantine })
    }
}

/// The parameters of the job, as they are stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Definition {
    pub assignments: String,
    pub condition: Option<String>,
    /// The columns that are set.
    pub columns: Vec<String>,
    /// The columns of the key that finds rows again; none where the table has none, or where each
    /// table of a tree has its own.
    pub key: Vec<String>,
    pub on_error: OnError,
    pub options: Options,
    /// What the names meant at creation (LAW 21). `None` after a restore elsewhere, where the
    /// same names have other OIDs: the first step takes their meaning anew.
    pub fingerprint: Option<String>,
    /// Rows that others write meanwhile are filled by a trigger.
    #[serde(default)]
    pub fill_new_rows: bool,
}

/// The caller's words with everything that was found out about them.
pub struct Checked {
    pub table: Table,
    /// The tables that hold its rows, the largest first: an ordinary table itself.
    pub leaves: Vec<Leaf>,
    pub definition: Definition,
    pub key: Option<Key>,
    pub analysis: Analysis,
}

/// What the two fragments mean for a table.
pub struct Analysis {
    pub columns: Vec<String>,
    pub fingerprint: String,
    pub targets: Vec<Target>,
    pub condition_has_sub_selects: bool,
    /// The condition or an assignment has.
    pub has_sub_selects: bool,
    pub condition_is_volatile: bool,
}

/// Checks the caller's words; changes nothing.
pub fn check(
    relid: Option<Oid>,
    assignments: Option<&str>,
    condition: Option<&str>,
    on_error: OnError,
    options: &Value,
) -> Result<Checked> {
    let options = Options::read(options)?;
    let table = target::check(relid)?;
    let assignments = arguments::required(assignments, "assignments")?;
    let analysis = analyse(&table, assignments, condition)?;
    let leaves = tree::check(&table)?;
    tree::refuse_moving(&table, &analysis.columns)?;
    let key = check_keys(&table, &leaves, &analysis.columns, condition.is_some(), &options)?;
    let definition = Definition {
        assignments: assignments.to_owned(),
        condition: condition.map(str::to_owned),
        columns: analysis.columns.clone(),
        key: key.iter().flat_map(|key| &key.columns).map(|column| column.name.clone()).collect(),
        on_error,
        options,
        fingerprint: Some(analysis.fingerprint.clone()),
        fill_new_rows: false,
    };
    Ok(Checked { table, leaves, definition, key, analysis })
}

/// Each fragment alone, then what they mean together.
pub fn analyse(table: &Table, assignments: &str, condition: Option<&str>) -> Result<Analysis> {
    let named = table.named();
    let assigned = fragments::assignments(&named, assignments)?;
    let mut condition_has_sub_selects = false;
    let mut condition_is_volatile = false;
    if let Some(condition) = condition {
        fragments::condition(&named, condition, "Leave the argument out to change every row")?;
        let glue = Glue::new(&format!("SELECT FROM ONLY {named} WHERE (")).theirs(condition).ours(")");
        let meaning = analyze::analyse(glue.text(), None).map_err(|error| glue.blame(error))?;
        condition_has_sub_selects = meaning.sub_selects;
        condition_is_volatile = meaning.volatile;
    }
    let glue = fragments::update(&named, assignments, condition);
    let meaning = analyze::analyse(glue.text(), Some((table.relid, &table.name))).map_err(|error| glue.blame(error))?;
    let mut columns: Vec<String> = assigned.into_iter().map(|item| item.column).collect();
    columns.sort();
    columns.dedup();
    Ok(Analysis {
        columns,
        fingerprint: meaning::fingerprint(&meaning.tree)?,
        targets: meaning.targets,
        condition_has_sub_selects,
        has_sub_selects: meaning.sub_selects,
        condition_is_volatile,
    })
}

/// The key of an ordinary table; in a tree each has its own, which is looked at for what speaks against it.
fn check_keys(
    table: &Table,
    leaves: &[Leaf],
    columns: &[String],
    has_condition: bool,
    options: &Options,
) -> Result<Option<Key>> {
    if !table.is_tree {
        let key = choose_key(&key::keys(table.relid)?, &table.sql, columns, has_condition)?;
        check_walk(options, has_condition, key.as_ref())?;
        return Ok(key);
    }
    let relids: Vec<Oid> = leaves.iter().map(|leaf| leaf.relid).collect();
    let keys = key::keys_of(&relids)?;
    for leaf in leaves {
        let keys = keys.get(&leaf.relid).map_or(&[][..], Vec::as_slice);
        let key = choose_key(keys, &leaf.sql, columns, has_condition)?;
        check_walk(options, has_condition, key.as_ref())?;
    }
    Ok(None)
}

/// The key that a table's rows are found by, or why it cannot be done without one.
pub fn choose_key(keys: &[Key], table: &str, columns: &[String], has_condition: bool) -> Result<Option<Key>> {
    let chosen = key::choose(keys, columns);
    if let (None, Some(assigned)) = (&chosen, keys.first()) {
        return Err(Error::new(
            FEATURE_NOT_SUPPORTED,
            format!("a backfill cannot change the key ({}) that it finds rows by", assigned.names()),
        )
        .detail(format!("{table} has no key that the assignments leave alone."))
        .hint("Fill a new column and make it the key afterwards, or add another unique index on columns that are NOT NULL."));
    }
    if chosen.is_none() && !has_condition {
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{table} has no key that could tell which rows are done"),
        )
        .detail("Without a condition each row is changed exactly once, in the order of a unique, not partial, \
            not deferrable index on columns that are NOT NULL.")
        .hint("Give a condition that names the rows which still need it, for example condition => 'total IS NULL', or add such a key."));
    }
    Ok(chosen)
}

fn check_walk(options: &Options, has_condition: bool, key: Option<&Key>) -> Result<()> {
    match options.strategy {
        Some(Walk::Blocks) if !has_condition => {
            Err(Error::new(INVALID_PARAMETER_VALUE, "the strategy blocks needs a condition")
                .detail("Rows move while they are changed: only a condition tells which ones are done.")
                .hint("Give a condition, or leave the strategy to auto."))
        }
        Some(Walk::Keys) if key.is_none() => Err(Error::new(
            INVALID_PARAMETER_VALUE,
            "the strategy keys needs a unique index on columns that are NOT NULL",
        )),
        _ => Ok(()),
    }
}

/// Does a unique index hold one of these columns? Then an UPDATE locks rows more strongly.
const UNIQUE_COLUMN: &str = "
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_attribute a
             ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
            AND a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])
        WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisunique
          AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2))";

/// How the statements reach a table.
pub struct Reach {
    /// What FROM and UPDATE name.
    pub from: String,
    pub own_rows: Option<String>,
}

impl Reach {
    /// By itself; but through the table that was asked for where that one's row security applies to the
    /// caller: a policy of a parent is not known to its children.
    pub fn of(root: &Table, leaf: Oid, sql: &str) -> Result<Self> {
        if leaf == root.relid {
            return Ok(Reach { from: format!("ONLY {}", root.named()), own_rows: None });
        }
        if root.row_security {
            return Ok(Reach { from: root.named(), own_rows: Some(tree::own_rows(leaf)?) });
        }
        Ok(Reach { from: format!("ONLY {}", root.name_for(sql)), own_rows: None })
    }

    /// For filters: true for the leaf's rows only.
    pub fn filter(&self) -> String {
        self.own_rows.as_ref().map_or(String::new(), |own| format!("{own} AND "))
    }
}

/// What the statements of a backfill on one table are made of.
pub fn parts(reach: Reach, leaf: Oid, definition: &Definition, analysis: &Analysis, key: Option<Key>) -> Result<Parts> {
    let columns = definition.columns.clone();
    let changes_unique_column = spi::query_one(UNIQUE_COLUMN, &[leaf.into(), columns.into()], |row| row.require(1))?;
    Ok(Parts {
        table: reach.from,
        own_rows: reach.own_rows,
        assignments: definition.assignments.clone(),
        condition: definition
            .condition
            .as_ref()
            .map(|text| Condition { text: text.clone(), sub_selects: analysis.condition_has_sub_selects }),
        key,
        changes_unique_column: changes_unique_column.unwrap_or(false),
    })
}

impl Checked {
    /// The statements for one of its leaves, found by `key`.
    pub fn parts(&self, leaf: &Leaf, key: Option<Key>) -> Result<Parts> {
        let reach = Reach::of(&self.table, leaf.relid, &leaf.sql)?;
        parts(reach, leaf.relid, &self.definition, &self.analysis, key)
    }

    /// The best of a leaf's keys.
    pub fn key_of(&self, keys: &[Key]) -> Option<Key> {
        self.key.clone().or_else(|| key::choose(keys, &self.definition.columns))
    }
}
