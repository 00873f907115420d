//! The way through the table: facts in, choice and its reason out. No server here.
//!
//! Why strides: the first one moves some rows of each page elsewhere, pruning
//! frees their space, and the later ones are HOT on the same page. So strides
//! need room made by pruning. Where no update can be HOT they still keep the table
//! small: with an index on the filled column 5 strides took 8.3 s instead of 11.7 s for
//! a million rows, and left a table of 178 MB instead of 285 MB.

use serde::{Deserialize, Serialize};

use super::options::{Options, Walk};

/// What is known about a table before its backfill.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub blocks: u32,
    pub rows: f64,
    /// Part of the rows that the condition names, 0..1.
    pub matching: f64,
    /// Bytes of a page that rows use, and bytes that are free, on average.
    pub page_used: f64,
    pub page_free: f64,
    pub has_condition: bool,
    pub key: Option<KeyFacts>,
    /// An index that holds a filled column: no update can be HOT.
    pub filled_index: Option<String>,
    /// Whoever holds back the horizon for long, in words.
    pub held_by: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeyFacts {
    pub names: String,
    pub is_hashable: bool,
    pub correlation: Option<f32>,
}

/// How a backfill goes through its table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub walk: Walk,
    pub strides: u32,
    /// Blocks of one range; of the rows they hold, for a walk by keys.
    pub range_blocks: u32,
    /// Largest range that meeting the batch time may lead to.
    pub most_blocks: u32,
    /// Largest range of a window without strides, where updates cannot be HOT.
    pub plain_blocks: u32,
    pub window_ranges: u32,
    /// Strides have to wait until an old snapshot is gone.
    pub held: bool,
    pub reason: String,
}

/// Of the measured 6 to 15, best all round; above 8 so that the first stride
/// stays within the 10 % that index leaves have free.
const STRIDES: u32 = 10;
/// Where every update is entered in all indexes anyhow, fewer cost less: measured 3 to 10.
const STRIDES_WITHOUT_HOT: u32 = 5;
/// 200 to 500 blocks a range cost least; above nothing is won.
const RANGE_BLOCKS: u32 = 256;
/// Longest strided range: longer transactions hold up each other's pruning.
const MAX_STRIDED_BLOCKS: u32 = 512;
/// Longest range that is done at once, where rows find room: time decides below it.
const MAX_PLAIN_BLOCKS: u32 = 2048;
/// A range is visited again after as many commits: long enough for statements of 20 ms.
const WINDOW_RANGES: u32 = 20;
/// Without HOT small batches are fastest: bottom-up deletion in the indexes keeps up.
const PLAIN_ROWS: f64 = 1000.0;
/// A key that follows the order on disk touches each page once.
const IN_ORDER: f32 = 0.9;

pub fn choose(facts: &Facts, options: &Options) -> Choice {
    let (walk, walk_reason) = walk(facts, options);
    let in_order = walk == Walk::Blocks || follows_disk(facts);
    let hashable = walk == Walk::Blocks || facts.key.as_ref().is_none_or(|key| key.is_hashable);
    let (strides, stride_reason) = match options.strides {
        _ if !hashable => (1, "one stride, since a type of the key has no hash function".to_owned()),
        Some(strides) => (strides, "strides as asked".to_owned()),
        None if !in_order => (1, "one stride, since the key does not follow the order on disk".to_owned()),
        None => strides(facts),
    };
    let held_by = facts.held_by.as_ref().filter(|_| strides > 1);
    let waiting = held_by
        .map_or(String::new(), |who| format!("; only one stride as long as {who} keeps dead rows from being pruned"));
    let rows_per_block = (facts.rows / f64::from(facts.blocks.max(1))).max(1.0);
    let plain_blocks = ((PLAIN_ROWS / rows_per_block).ceil() as u32).clamp(1, RANGE_BLOCKS);
    let range_blocks = options.range_blocks.unwrap_or(if strides > 1 { RANGE_BLOCKS } else { plain_blocks });
    let most_blocks = match strides {
        1 if finds_room(facts) => MAX_PLAIN_BLOCKS,
        1 => plain_blocks,
        _ => MAX_STRIDED_BLOCKS,
    };
    Choice {
        walk,
        strides,
        range_blocks,
        most_blocks: most_blocks.max(range_blocks),
        plain_blocks: options.range_blocks.unwrap_or(plain_blocks),
        window_ranges: options.window_ranges.unwrap_or(WINDOW_RANGES),
        held: held_by.is_some(),
        reason: format!("{walk_reason}; {stride_reason}{waiting}"),
    }
}

fn follows_disk(facts: &Facts) -> bool {
    facts.key.as_ref().and_then(|key| key.correlation).is_some_and(|correlation| correlation >= IN_ORDER)
}

fn walk(facts: &Facts, options: &Options) -> (Walk, String) {
    let key = facts.key.as_ref().map_or("", |key| key.names.as_str());
    if !facts.has_condition {
        let reason = format!(
            "in the order of the key ({key}), since without a condition only the key tells which rows are done"
        );
        return (Walk::Keys, reason);
    }
    if let Some(walk) = options.strategy {
        return (walk, "walk as asked".to_owned());
    }
    (Walk::Blocks, "in ranges of blocks, reading each page in the order on disk".to_owned())
}

/// Room on the pages, as a part of what the new row versions need.
fn room(facts: &Facts) -> f64 {
    facts.page_free / (facts.page_used * facts.matching).max(1.0)
}

/// Do most row versions stay on their pages even without strides?
pub fn finds_room(facts: &Facts) -> bool {
    facts.filled_index.is_none() && (room(facts) >= 1.0 || facts.matching <= 1.0 / f64::from(STRIDES))
}

fn strides(facts: &Facts) -> (u32, String) {
    if facts.matching <= 1.0 / f64::from(STRIDES) {
        let percent = 100.0 * facts.matching;
        return (1, format!("one stride, since only {percent:.1} % of the rows need it"));
    }
    if let Some(index) = &facts.filled_index {
        return (
            STRIDES_WITHOUT_HOT,
            format!(
                "{STRIDES_WITHOUT_HOT} strides, so that pruning makes room on the pages; \
                 no update can be HOT, since index {index} holds a filled column"
            ),
        );
    }
    let room = room(facts);
    if room >= 1.0 {
        return (1, "one stride, since the pages have room for all new row versions".to_owned());
    }
    if room > 1.0 / f64::from(STRIDES) {
        let strides = (1.1 / room).ceil() as u32;
        let strides = strides.clamp(2, STRIDES);
        return (
            strides,
            format!("{strides} strides, since the pages have room for {:.0} % of the new row versions", 100.0 * room),
        );
    }
    let strides = (f64::from(STRIDES) * facts.matching).ceil() as u32;
    let strides = strides.clamp(2, STRIDES);
    (
        strides,
        format!(
            "{strides} strides, so that pruning frees the space of one for the next \
             and row versions stay on their pages"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full_table() -> Facts {
        Facts {
            blocks: 44_000,
            rows: 2e6,
            matching: 1.0,
            page_used: 8000.0,
            page_free: 100.0,
            has_condition: true,
            key: Some(KeyFacts { names: "id".into(), is_hashable: true, correlation: Some(1.0) }),
            filled_index: None,
            held_by: None,
        }
    }

    fn automatic(facts: &Facts) -> Choice {
        choose(facts, &Options::default())
    }

    #[test]
    fn a_full_table_gets_ten_strides_of_blocks() {
        let choice = automatic(&full_table());
        assert_eq!(
            (choice.walk, choice.strides, choice.range_blocks, choice.window_ranges),
            (Walk::Blocks, 10, 256, 20)
        );
    }

    #[test]
    fn an_index_on_the_filled_column_leaves_fewer_strides() {
        let choice = automatic(&Facts { filled_index: Some("i".into()), ..full_table() });
        assert_eq!((choice.walk, choice.strides), (Walk::Blocks, 5));
        assert!(choice.reason.contains("index i"));
    }

    #[test]
    fn a_random_key_is_not_followed_for_its_own_sake() {
        let key = Some(KeyFacts { names: "id".into(), is_hashable: true, correlation: Some(0.01) });
        let facts = Facts { filled_index: Some("i".into()), key, ..full_table() };
        assert_eq!(automatic(&facts).walk, Walk::Blocks);
        let facts = Facts { has_condition: false, filled_index: None, ..facts };
        assert_eq!((automatic(&facts).walk, automatic(&facts).strides), (Walk::Keys, 1));
    }

    #[test]
    fn strides_wait_for_an_old_snapshot() {
        let choice = automatic(&Facts { held_by: Some("pid 7".into()), ..full_table() });
        assert!(choice.held && choice.strides == 10);
        assert!(choice.plain_blocks < 64);
        let roomy = Facts { page_used: 4000.0, page_free: 4100.0, ..full_table() };
        assert!(!automatic(&Facts { held_by: Some("pid 7".into()), ..roomy }).held);
    }

    #[test]
    fn room_on_the_pages_saves_strides() {
        let half = Facts { page_used: 4000.0, page_free: 4100.0, ..full_table() };
        assert_eq!(automatic(&half).strides, 1);
        let fillfactor_70 = Facts { page_used: 5700.0, page_free: 2400.0, ..full_table() };
        assert_eq!(automatic(&fillfactor_70).strides, 3);
    }

    #[test]
    fn few_matching_rows_need_fewer_strides() {
        assert_eq!(automatic(&Facts { matching: 0.05, ..full_table() }).strides, 1);
        assert_eq!(automatic(&Facts { matching: 0.5, ..full_table() }).strides, 5);
    }

    #[test]
    fn what_is_asked_for_is_done() {
        let options = Options {
            strategy: Some(Walk::Keys),
            strides: Some(7),
            range_blocks: Some(33),
            window_ranges: Some(5),
            ..Options::default()
        };
        let choice = choose(&full_table(), &options);
        assert_eq!((choice.walk, choice.strides, choice.range_blocks, choice.window_ranges), (Walk::Keys, 7, 33, 5));
    }

    proptest! {
        /// Nothing in odd statistics makes a choice that cannot be carried out.
        #[test]
        fn every_choice_can_be_carried_out(
            blocks in any::<u32>(), rows in 0.0..1e12f64, matching in 0.0..=1.0f64,
            page_used in 0.0..8192f64, page_free in 0.0..8192f64, has_condition: bool,
            correlation in proptest::option::of(0.0..=1.0f32), held: bool,
        ) {
            let facts = Facts {
                blocks, rows, matching, page_used, page_free, has_condition,
                key: Some(KeyFacts { names: "id".into(), is_hashable: true, correlation }),
                filled_index: None,
                held_by: held.then(|| "pid 1".to_owned()),
            };
            let choice = automatic(&facts);
            prop_assert!((1..=STRIDES).contains(&choice.strides));
            prop_assert!((1..=MAX_STRIDED_BLOCKS).contains(&choice.range_blocks));
            prop_assert!(has_condition || choice.walk == Walk::Keys);
            prop_assert!(held || !choice.held);
            prop_assert!(choice.range_blocks <= choice.most_blocks);
        }
    }
}
