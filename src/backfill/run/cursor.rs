//! Where a backfill is in a table: what its workers share, and what each has in hand. Stored as JSON in the transaction
//! of the step that changed it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backfill::strategy::Choice;

/// A key's columns as texts that give back the same values (`server::value`); as an older version wrote them, where what
/// holds them is not `exact`.
pub type KeyText = Vec<String>;

/// The passes of a run, in order. A run without a condition has no sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing is known yet: look at the table and choose the way.
    #[default]
    Start,
    Fill,
    /// Rows that somebody had locked, by key.
    Revisit,
    /// Every block is looked at once more; what still needs it is done, row by row.
    Sweep,
}

/// What the workers share of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shared {
    pub phase: Phase,
    /// The columns of the key that finds its rows again; `None`: those of the definition.
    pub key: Option<Vec<String>>,
    /// What the key's order depends on, column by column; `None`: begun before 0.6.0.
    pub order: Option<Vec<String>>,
    pub choice: Option<Choice>,
    /// Of the table when its blocks were counted: another one means that rows moved.
    pub filenode: u32,
    /// The next block nobody has in hand, and where the pass ends (fill and sweep).
    pub next_block: u32,
    pub end_block: u32,
    /// The greatest key nobody needs to look at any more, and the last of all.
    pub after_key: Option<KeyText>,
    pub last_key: Option<KeyText>,
    /// Both are written by this version.
    pub exact: bool,
    /// Rows of a range of keys; also how many rows the run expects.
    pub range_rows: u32,
    pub rows_estimate: f64,
    pub rows_to_change: i64,
    /// Transactions from here on belong to the run.
    pub since: u64,
    /// Somebody held an old snapshot at the start, and still did at the last look.
    pub held: bool,
    /// Some update made a row stop matching: the assignments do what the condition asks.
    pub proved: bool,
    /// Rounds of the revisit, and the last number looked at in this one.
    pub round: u32,
    pub after_number: i64,
    /// Sweeps begun, what this one found to do, and what it had to leave.
    pub sweep: u32,
    pub found: i64,
    pub left: i64,
    pub examples: Vec<Value>,
    /// The table is done: what was left of it.
    pub rows_left: Option<i64>,
    /// Part of the fill that was handed out, in rows for a walk by keys; tenths that were vacuumed.
    pub claimed_rows: f64,
    pub vacuumed: u32,
}

/// What a worker has in hand, and of which table of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hand {
    pub table: i32,
    #[serde(flatten)]
    pub portion: Portion,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "pass", rename_all = "lowercase")]
pub enum Portion {
    /// Nothing yet: it has only chosen the table.
    Enter,
    Vacuum(Vacuum),
    Blocks(Blocks),
    Keys(Keys),
    Rows(Rows),
    Sweep(Sweep),
}

/// A window of blocks: stride after stride over all of its ranges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    pub first: u32,
    pub last: u32,
    pub next: u32,
    /// Largest range.
    pub most: u32,
    pub strides: u32,
    pub stride: u32,
    pub proved: bool,
}

/// Steps of one stride through a window, if it has as many ranges: what the usual window has.
const LEAST_STEPS: usize = 20;

/// A window of keys: its range `i` is after `bounds[i]` up to `bounds[i + 1]`;
/// an empty first bound is the beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    pub bounds: Vec<KeyText>,
    /// They are written by this version.
    #[serde(default)]
    pub exact: bool,
    pub next: usize,
    /// Of the next range this much is done already: up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<KeyText>,
    /// Rows of one range, about.
    pub rows: u32,
    pub strides: u32,
    pub stride: u32,
    pub proved: bool,
}

/// Remembered rows, by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    pub after: i64,
    pub until: i64,
    pub found: i64,
}

/// Blocks to verify.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    pub next: u32,
    pub last: u32,
    pub found: i64,
    pub left: i64,
    pub examples: Vec<Value>,
}

/// A VACUUM of the table between two ranges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vacuum {
    /// The server's count of them before this one; `None`: it has not been started.
    pub before: Option<i64>,
}

impl Portion {
    /// Nothing of it is left to do; what it found out still has to be shared.
    pub fn is_finished(&self) -> bool {
        match self {
            Portion::Enter => true,
            Portion::Vacuum(_) => false,
            Portion::Blocks(blocks) => blocks.stride >= blocks.strides,
            Portion::Keys(keys) => keys.stride >= keys.strides,
            Portion::Rows(rows) => rows.after >= rows.until,
            Portion::Sweep(sweep) => sweep.next >= sweep.last,
        }
    }
}

impl Blocks {
    pub fn new(first: u32, last: u32, most: u32, strides: u32, proved: bool) -> Self {
        Blocks { first, last, next: first, most, strides, stride: 0, proved }
    }

    /// After the range up to `to`: the next range, else the next stride from the beginning.
    pub fn advance(&mut self, to: u32) {
        self.next = to;
        if self.next >= self.last {
            self.next = self.first;
            self.stride += 1;
        }
    }
}

impl Keys {
    pub fn new(bounds: Vec<KeyText>, rows: u32, strides: u32, proved: bool) -> Self {
        Keys { bounds, exact: true, next: 0, done: None, rows, strides, stride: 0, proved }
    }

    /// Past `span` ranges.
    pub fn advance(&mut self, span: usize) {
        self.done = None;
        self.next += span;
        if self.next + 1 >= self.bounds.len() {
            self.next = 0;
            self.stride += 1;
        }
    }

    /// Puts bounds into the range at hand, which took too long.
    pub fn split(&mut self, between: Vec<KeyText>) {
        let at = self.next + 1;
        self.bounds.splice(at..at, between);
        self.bounds.dedup();
    }

    /// Past what is up to here: the end of a range, or within the next one. It is no bound, for the next stride would go by it, too.
    pub fn advance_to(&mut self, upto: &KeyText) {
        match self.bounds[self.next + 1..].iter().position(|bound| bound == upto) {
            Some(ranges) => self.advance(ranges + 1),
            None => self.done = Some(upto.clone()),
        }
    }

    /// The ranges at hand, `span` of them at most: after, if there is a beginning, and up to.
    pub fn range(&self, span: usize) -> Option<(Option<&KeyText>, &KeyText)> {
        let after = self.done.as_ref().or(self.bounds.get(self.next))?;
        let end = (self.next + span).min(self.bounds.len().checked_sub(1)?);
        Some(((!after.is_empty()).then_some(after), self.bounds.get(end).filter(|_| end > self.next)?))
    }

    /// How many ranges one step may take, so that the window still has as many steps as it needs
    /// between two visits of a range.
    pub fn widest_span(&self) -> usize {
        (self.bounds.len().saturating_sub(1) / LEAST_STEPS).max(1)
    }
}

impl Shared {
    /// Takes over what a finished portion found out.
    pub fn absorb(&mut self, portion: &Portion) {
        match portion {
            Portion::Enter | Portion::Vacuum(_) => {}
            Portion::Blocks(blocks) => self.proved |= blocks.proved,
            Portion::Keys(keys) => self.proved |= keys.proved,
            Portion::Rows(rows) => self.found += rows.found,
            Portion::Sweep(sweep) => {
                self.found += sweep.found;
                self.left += sweep.left;
                self.examples.extend(sweep.examples.iter().cloned());
                self.examples.truncate(EXAMPLES);
            }
        }
    }

    pub fn begin_sweep(&mut self, filenode: u32, blocks: u32) {
        self.phase = Phase::Sweep;
        self.filenode = filenode;
        self.next_block = 0;
        self.end_block = blocks;
        self.found = 0;
        self.left = 0;
        self.examples.clear();
    }
}

/// Keys of rows that are shown as examples.
pub const EXAMPLES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(stored: Value) -> Hand {
        serde_json::from_value(stored).unwrap()
    }

    #[test]
    fn a_new_table_has_an_empty_cursor() {
        assert_eq!(serde_json::from_value::<Shared>(json!({})).unwrap(), Shared::default());
    }

    #[test]
    fn a_portion_of_an_older_version_is_read_with_its_table() {
        let stored = json!({"pass": "rows", "after": 3, "until": 9, "found": 0, "table": 1});
        let hand = read(stored);
        assert_eq!(hand, Hand { table: 1, portion: Portion::Rows(Rows { after: 3, until: 9, found: 0 }) });
        for portion in [Portion::Enter, Portion::Vacuum(Vacuum { before: Some(2) })] {
            let hand = Hand { table: 2, portion };
            assert_eq!(read(serde_json::to_value(&hand).unwrap()), hand);
        }
    }

    #[test]
    fn bounds_of_an_older_version_are_known_for_it() {
        let stored = json!({"pass": "keys", "bounds": [[], ["5"]], "next": 0, "rows": 9, "strides": 1, "stride": 0,
                            "proved": true, "table": 1});
        let Portion::Keys(keys) = read(stored).portion else { panic!("not keys") };
        assert!(!keys.exact && keys.bounds == [vec![], vec!["5".to_owned()]]);
        let shared: Shared =
            serde_json::from_value(json!({"phase": "fill", "after_key": ["5"], "last_key": ["9"]})).unwrap();
        assert!(!shared.exact && shared.order.is_none());
    }

    #[test]
    fn a_window_of_keys_visits_each_range_once_per_stride() {
        let key = |text: &str| vec![text.to_owned()];
        let mut keys = Keys::new(vec![vec![], key("5"), key("9")], 5, 2, false);
        let mut seen = Vec::new();
        while !Portion::Keys(keys.clone()).is_finished() {
            let (after, upto) = keys.range(1).unwrap();
            seen.push((keys.stride, after.cloned(), upto[0].clone()));
            keys.advance(1);
        }
        assert_eq!(
            seen,
            [
                (0, None, "5".to_owned()),
                (0, Some(key("5")), "9".to_owned()),
                (1, None, "5".to_owned()),
                (1, Some(key("5")), "9".to_owned()),
            ]
        );
    }

    #[test]
    fn small_ranges_are_taken_together_but_never_a_whole_window() {
        let bounds: Vec<KeyText> = (0..=100).map(|key| vec![key.to_string()]).collect();
        let mut keys = Keys::new(bounds, 4, 2, false);
        assert_eq!(keys.widest_span(), 5);
        let mut steps = 0;
        while keys.stride < keys.strides {
            assert!(keys.range(3).is_some());
            keys.advance(3);
            steps += 1;
        }
        assert_eq!(steps, 2 * 34);
        assert_eq!(keys.range(3), Some((Some(&vec!["0".to_owned()]), &vec!["3".to_owned()])));
    }

    #[test]
    fn a_range_that_takes_too_long_is_split_in_place() {
        let key = |text: &str| vec![text.to_owned()];
        let mut keys = Keys { next: 1, ..Keys::new(vec![key("1"), key("5"), key("9")], 4, 1, false) };
        keys.split(vec![key("7"), key("9")]);
        assert_eq!(keys.bounds, [key("1"), key("5"), key("7"), key("9")]);
        assert_eq!(keys.range(1), Some((Some(&key("5")), &key("7"))));
    }

    #[test]
    fn a_range_that_is_ended_early_goes_on_behind_its_last_portion() {
        let key = |text: &str| vec![text.to_owned()];
        let bounds = vec![key("1"), key("5"), key("9"), key("12")];
        let mut keys = Keys::new(bounds, 4, 2, false);
        keys.advance_to(&key("3"));
        assert_eq!(keys.range(1), Some((Some(&key("3")), &key("5"))));
        keys.advance_to(&key("9"));
        assert_eq!(keys.range(1), Some((Some(&key("9")), &key("12"))), "of several ranges at once");
        keys.advance_to(&key("12"));
        assert_eq!(keys.range(1), Some((Some(&key("1")), &key("5"))), "the next stride goes by the same ranges");
    }

    proptest! {
        /// Whatever the sizes of the ranges, each stride covers the window exactly once.
        #[test]
        fn strides_cover_the_window(
            first in 0u32..1000, length in 1u32..200, strides in 1u32..12,
            sizes in proptest::collection::vec(1u32..50, 1..50),
        ) {
            let mut blocks = Blocks::new(first, first + length, 50, strides, false);
            let mut covered = vec![0u32; length as usize];
            let mut sizes = sizes.iter().cycle();
            while blocks.stride < blocks.strides {
                let to = (blocks.next + sizes.next().unwrap()).min(blocks.last);
                for block in blocks.next..to {
                    covered[(block - first) as usize] += 1;
                }
                blocks.advance(to);
            }
            prop_assert!(covered.iter().all(|&times| times == strides));
        }

        #[test]
        fn a_portion_survives_storage(first: u32, last: u32, strides: u32, proved: bool) {
            let portion = Portion::Blocks(Blocks::new(first, last, 256, strides, proved));
            let hand = Hand { table: 7, portion };
            prop_assert_eq!(read(serde_json::to_value(&hand).unwrap()), hand);
        }
    }
}
