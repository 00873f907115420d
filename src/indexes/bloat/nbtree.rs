//! How a btree index packs its pages when it is built: the arithmetic of `nbtsort.c` and `nbtdedup.c`.

use crate::server::index_pages::PAGE;

const PAGE_HEADER: usize = 24;
pub const SPECIAL: usize = 16;
pub const ITEM_POINTER: usize = 6;
pub const LINE_POINTER: usize = 4;
/// A tuple's header; with a null in it, a bitmap for 32 columns follows.
pub const TUPLE_HEADER: usize = 8;
pub const TUPLE_HEADER_WITH_NULLS: usize = 16;

/// What an empty page offers, less the line pointers of the high key and of the tuple that is about to come.
const ROOM: usize = PAGE - PAGE_HEADER - SPECIAL - 2 * LINE_POINTER;
/// A build makes posting lists of at most a tenth of a page.
const POSTING_LIMIT: usize = align_down(PAGE / 10) - LINE_POINTER;
const INTERNAL_FILLFACTOR: usize = 70;

pub const fn align(size: usize) -> usize {
    (size + 7) & !7
}

const fn align_down(size: usize) -> usize {
    size & !7
}

/// The wishes of an index that decide how many pages its rows take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packing {
    pub fillfactor: u32,
    /// Whether a build merges rows of equal key: never in a unique index, whatever the later life of one does.
    pub deduplicates: bool,
}

impl Packing {
    /// Leaf pages for `rows` rows with one key, whose tuple without posting list takes `key` bytes. Part of a
    /// page counts as a part.
    pub fn leaf_pages(&self, key: usize, rows: usize) -> f64 {
        let capacity = posting_capacity(key);
        if !self.deduplicates || capacity < 2 || rows < 2 {
            return rows as f64 / self.leaf(key, 0).tuples_alike();
        }
        let list = |rows: usize| {
            let size = if rows == 1 { key } else { align(key + rows * ITEM_POINTER) };
            self.leaf(size, size - key)
        };
        let rest = match rows % capacity {
            0 => 0.0,
            rest => 1.0 / list(rest).tuples_in_company(),
        };
        let full = (rows / capacity) as f64;
        if full == 0.0 {
            return rest;
        }
        // Pages within a long run hold nothing but full lists; those at its ends are shared with other keys, whose
        // shorter lists break the even rows for about two thirds of them.
        let list = list(capacity);
        let (alike, in_company) = (list.tuples_alike(), list.tuples_in_company());
        let within = (1.0 - alike / full).max(0.0);
        full * (within / alike + (1.0 - within) * 3.0 / (alike + 2.0 * in_company)) + rest
    }

    /// The same for rows out of the middle of a run that goes on.
    pub fn leaf_pages_within_run(&self, key: usize, rows: usize) -> f64 {
        let capacity = posting_capacity(key);
        if !self.deduplicates || rows < capacity || capacity < 2 {
            return self.leaf_pages(key, rows);
        }
        let size = align(key + capacity * ITEM_POINTER);
        rows as f64 / capacity as f64 / self.leaf(size, size - key).tuples_alike()
    }

    /// The same for a number of rows that is an average.
    pub fn leaf_pages_about(&self, key: usize, rows: f64) -> f64 {
        let (below, share) = (rows.floor(), rows.fract());
        let lower = self.leaf_pages(key, below as usize);
        if share == 0.0 { lower } else { lower + share * (self.leaf_pages(key, below as usize + 1) - lower) }
    }

    /// `cut`: bytes by which a high key made of such a tuple is shorter than it, as posting lists are cut off.
    fn leaf(&self, size: usize, cut: usize) -> Filling {
        let spare = PAGE * (100 - self.fillfactor as usize) / 100;
        Filling::new(size, cut, spare, 8)
    }
}

/// Pages being filled with tuples of some size.
struct Filling {
    /// A tuple and its line pointer.
    step: usize,
    /// A page that holds more than this is finished.
    limit: usize,
}

impl Filling {
    /// A page is finished when the next tuple finds less than `spare` bytes left, or does not fit beside a
    /// tiebreaker in the high key; the last tuple then moves to the next page, and its place becomes the high key's.
    fn new(size: usize, cut: usize, spare: usize, tiebreaker: usize) -> Self {
        let limit = (ROOM + cut).saturating_sub(spare).min(ROOM.saturating_sub(size + tiebreaker));
        Filling { step: size + LINE_POINTER, limit }
    }

    /// Tuples on a page of nothing but these.
    fn tuples_alike(&self) -> f64 {
        (self.limit / self.step).max(1) as f64
    }

    /// Tuples on a page above the leaves, the first of which has no key.
    fn downlinks(&self) -> f64 {
        let first = TUPLE_HEADER + LINE_POINTER;
        (self.limit.saturating_sub(first) / self.step + 1).max(2) as f64
    }

    /// Tuples on a page, the last of which may end anywhere because sizes vary.
    fn tuples_in_company(&self) -> f64 {
        (self.limit as f64 / self.step as f64 - 0.5).max(1.0)
    }
}

/// Rows in the largest posting list that a build makes for a key of this size.
fn posting_capacity(key: usize) -> usize {
    align_down(POSTING_LIMIT).saturating_sub(key) / ITEM_POINTER
}

/// All pages of an index, from its leaves (`pivot`: bytes of a tuple that points to one) up to the meta page.
pub fn total_pages(leaves: f64, pivot: f64) -> f64 {
    if leaves <= 0.0 {
        return 1.0;
    }
    let pivot = align(pivot.ceil() as usize);
    let fan_out = Filling::new(pivot, 0, PAGE * (100 - INTERNAL_FILLFACTOR) / 100, 0).downlinks();
    let mut level = leaves.ceil();
    let mut pages = 1.0 + level;
    while level > 1.0 {
        level = (level / fan_out).ceil();
        pages += level;
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Packing = Packing { fillfactor: 90, deduplicates: false };
    const MERGING: Packing = Packing { fillfactor: 90, deduplicates: true };

    /// A million rows, in pages as PostgreSQL 15 and 18 built the index.
    #[test]
    fn pages_as_the_server_builds_them() {
        let total = |packing: Packing, key, keys: f64, rows| {
            total_pages(keys * packing.leaf_pages_about(key, rows), key as f64)
        };
        // Unique integers, at fillfactor 50 as well; unique text of 32 characters.
        assert_eq!(total(PLAIN, 16, 1.0, 1e6), 2745.0);
        assert_eq!(total(Packing { fillfactor: 50, ..PLAIN }, 16, 1.0, 1e6), 4971.0);
        assert!((total(PLAIN, 48, 1.0, 1e6) - 7210.0).abs() < 2.0);
        // A hundred of the longest texts.
        assert_eq!(total(PLAIN, 2568, 1.0, 100.0), 77.0);
        // Integers with 10, 1000, 100,000 and 500,000 distinct values.
        for (keys, pages) in [(10.0, 850.0), (1e3, 896.0), (1e5, 1157.0), (5e5, 2475.0)] {
            let model = total(MERGING, 16, keys, 1e6 / keys);
            assert!((model / pages - 1.0).abs() < 0.03, "{keys} keys: {model} instead of {pages}");
        }
        // Text of 32 characters with 1000 distinct values.
        let model = total(MERGING, 48, 1e3, 1e3);
        assert!((model / 901.0 - 1.0).abs() < 0.04, "{model}");
    }

    #[test]
    fn long_runs_are_merged() {
        // 132 rows in each posting list, 9 lists on a page.
        assert_eq!(posting_capacity(16), 132);
        assert!((MERGING.leaf_pages(16, 132 * 9 * 100) - 100.0).abs() < 0.1);
        assert!(MERGING.leaf_pages(16, 10_000) < PLAIN.leaf_pages(16, 10_000) / 3.0);
        assert_eq!(MERGING.leaf_pages(16, 1), PLAIN.leaf_pages(16, 1));
        assert_eq!(MERGING.leaf_pages_within_run(16, 132 * 9), 1.0);
        assert_eq!(MERGING.leaf_pages_within_run(16, 5), MERGING.leaf_pages(16, 5));
        assert_eq!(PLAIN.leaf_pages_within_run(16, 5000), PLAIN.leaf_pages(16, 5000));
    }

    #[test]
    fn keys_too_long_for_lists_stay_single() {
        assert_eq!(posting_capacity(800), 1);
        assert_eq!(posting_capacity(2700), 0);
        assert_eq!(MERGING.leaf_pages(2704, 10), PLAIN.leaf_pages(2704, 10));
        // Two of the longest tuples and a high key.
        assert_eq!(PLAIN.leaf_pages(2704, 10), 5.0);
    }

    #[test]
    fn an_empty_index_is_a_meta_page() {
        assert_eq!(total_pages(0.0, 16.0), 1.0);
        assert_eq!(total_pages(0.01, 16.0), 2.0);
        assert_eq!(total_pages(1.5, 16.0), 4.0);
    }

    #[test]
    fn an_average_lies_between_its_neighbours() {
        let (one, two) = (MERGING.leaf_pages(16, 1), MERGING.leaf_pages(16, 2));
        assert_eq!(MERGING.leaf_pages_about(16, 1.5), (one + two) / 2.0);
        assert_eq!(MERGING.leaf_pages_about(16, 2.0), two);
    }

    proptest::proptest! {
        #[test]
        fn more_rows_hardly_take_less(key in 2usize..338, rows in 1usize..5000, fillfactor in 10u32..=100) {
            let key = key * 8;
            for deduplicates in [false, true] {
                let packing = Packing { fillfactor, deduplicates };
                // Where a rest becomes a full list, the company changes.
                let (fewer, more) = (packing.leaf_pages(key, rows), packing.leaf_pages(key, rows + 2));
                proptest::prop_assert!(more > fewer * 0.93 - 0.07, "{fewer} {more}");
            }
        }

        #[test]
        fn merging_never_loses_much(key in 2usize..338, rows in 1usize..5000, fillfactor in 10u32..=100) {
            let plain = Packing { fillfactor, deduplicates: false }.leaf_pages(key * 8, rows);
            let merged = Packing { fillfactor, deduplicates: true }.leaf_pages(key * 8, rows);
            proptest::prop_assert!(merged <= plain * 1.35 + 0.01, "{merged} {plain}");
        }
    }
}
