//! Where a backfill is as a whole, across its tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the workers share of the whole: which tables there are is in `upkeep._backfill_table`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tree {
    /// The tables have been listed.
    pub started: bool,
    /// How often tables were found that came after the first look.
    pub rounds: u32,
    /// Only what is left of the tables of the list: no more looking for others.
    pub closed: bool,
    /// A finished run was told to try again: first see to what was put aside.
    pub again: Option<Again>,
    /// How many tables there are, and of those that were looked at how many go which way.
    pub tables: usize,
    pub strategies: BTreeMap<String, u32>,
    /// Units of all tables; of those that were looked at, with the rows to change in them.
    pub weight: f64,
    pub known_weight: f64,
    pub known_rows: f64,
}

impl Tree {
    /// Rows to change in all tables, judged by those that were looked at.
    pub fn rows_estimate(&self) -> i64 {
        (self.known_rows * (self.weight / self.known_weight.max(1.0)).max(1.0)) as i64
    }

    /// A table was looked at.
    pub fn note(&mut self, strategy: String, weight: f64, rows: f64) {
        *self.strategies.entry(strategy).or_default() += 1;
        self.known_weight += weight;
        self.known_rows += rows;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Again {
    /// It had failed or was canceled: from its place, and rows put aside once more.
    Resumed,
    /// It was done: only what it left.
    Leftovers,
}

/// The shared cursor with which a finished job starts again.
pub fn retry(shared: Value, was_done: bool) -> Value {
    // A job that never started, or is to start over, has no place yet.
    let Ok(mut tree) = serde_json::from_value::<Tree>(shared) else {
        return Value::Object(serde_json::Map::new());
    };
    if tree.started {
        tree.again = Some(if was_done { Again::Leftovers } else { Again::Resumed });
    }
    serde_json::to_value(&tree).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_new_job_has_an_empty_cursor() {
        assert_eq!(serde_json::from_value::<Tree>(json!({})).unwrap(), Tree::default());
        assert_eq!(retry(Value::Null, false), json!({}));
    }

    #[test]
    fn a_done_job_is_retried_for_its_leftovers() {
        let tree = Tree { started: true, ..Tree::default() };
        let again = |was_done| {
            let stored = serde_json::to_value(&tree).unwrap();
            serde_json::from_value::<Tree>(retry(stored, was_done)).unwrap().again
        };
        assert_eq!(again(true), Some(Again::Leftovers));
        assert_eq!(again(false), Some(Again::Resumed));
    }

    #[test]
    fn unknown_tables_are_judged_by_the_known_ones() {
        let mut tree = Tree { weight: 100.0, ..Tree::default() };
        assert_eq!(tree.rows_estimate(), 0);
        tree.note("blocks".into(), 25.0, 1000.0);
        assert_eq!(tree.rows_estimate(), 4000);
        tree.note("blocks".into(), 75.0, 0.0);
        assert_eq!((tree.rows_estimate(), tree.strategies["blocks"]), (1000, 2));
    }
}
