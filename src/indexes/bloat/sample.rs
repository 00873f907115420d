//! Which pages to look at, and what they say about all.

use super::nbtree::total_pages;
use super::page::{Content, Kind};

/// At most `count` of the pages `1..blocks`, in ascending order: one, by chance, from each of `count` equal parts.
pub fn choose(blocks: u32, count: u32, mut random: Random) -> Vec<u32> {
    let pages = u64::from(blocks.saturating_sub(1));
    let count = pages.min(u64::from(count));
    let part = |i: u64| 1 + i * pages / count;
    (0..count).map(|i| (part(i) + random.below(part(i + 1) - part(i))) as u32).collect()
}

/// A small generator of chance (SplitMix64): nobody's secrets depend on it.
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// What a sample says about all pages of an index but the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub pages_read: u32,
    /// After a rebuild, in pages, with all others than leaves.
    pub pages: f64,
    pub lower: f64,
    pub upper: f64,
    pub leaf_pages: f64,
    pub internal_pages: f64,
    pub deleted_pages: f64,
    pub half_dead_pages: f64,
    pub new_pages: f64,
    pub rows: f64,
    pub live_tuples: f64,
    pub posting_tuples: f64,
    pub dead_tuples: f64,
    /// Of all leaves' room, the part that is in use.
    pub leaf_density: Option<f64>,
}

/// Room for line pointers and tuples.
const LEAF_ROOM: f64 = (crate::server::index_pages::PAGE - 24 - super::nbtree::SPECIAL) as f64;
/// Of the arithmetic of packing.
const PACKING_ERROR: f64 = 0.03;
/// 95 of 100 samples lie within so many standard errors.
const STANDARD_ERRORS: f64 = 2.0;

/// `blocks`: all pages, the meta page included.
pub fn extrapolate(contents: &[Content], blocks: u32) -> Measured {
    let (read, all) = (contents.len() as f64, f64::from(blocks.saturating_sub(1)));
    let scale = if read > 0.0 { all / read } else { 0.0 };
    let sum = |figure: fn(&Content) -> f64| contents.iter().map(figure).sum::<f64>();
    let of_kind = |kind| contents.iter().filter(|c| c.kind == kind).count() as f64 * scale;

    let rebuilt = sum(|c| c.rebuilt);
    let tuples = sum(|c| f64::from(c.live_tuples));
    let pivot = sum(|c| c.key_bytes as f64) / tuples.max(1.0);
    let leaves = rebuilt * scale;
    let error = STANDARD_ERRORS * all * standard_error(contents, blocks);
    let total = |leaves: f64| total_pages(leaves.max(0.0), pivot);
    let leaf_pages = of_kind(Kind::Leaf);
    let free = sum(|c| f64::from(c.free_bytes)) * scale;
    Measured {
        pages_read: contents.len() as u32,
        pages: total(leaves),
        lower: (total((leaves - error) * (1.0 - PACKING_ERROR)) - 1.0).max(1.0),
        upper: total((leaves + error) * (1.0 + PACKING_ERROR)) + 1.0,
        leaf_pages,
        internal_pages: of_kind(Kind::Internal),
        deleted_pages: of_kind(Kind::Deleted),
        half_dead_pages: of_kind(Kind::HalfDead),
        new_pages: of_kind(Kind::New),
        rows: sum(|c| f64::from(c.rows)) * scale,
        live_tuples: tuples * scale,
        posting_tuples: sum(|c| f64::from(c.posting_tuples)) * scale,
        dead_tuples: sum(|c| f64::from(c.dead_tuples)) * scale,
        leaf_density: (leaf_pages > 0.0).then(|| 1.0 - free / (leaf_pages * LEAF_ROOM)),
    }
}

/// Of the mean of `rebuilt`: none when every page was read. Choosing one page from each part does better than
/// this formula for choosing anywhere.
fn standard_error(contents: &[Content], blocks: u32) -> f64 {
    let (read, all) = (contents.len() as f64, f64::from(blocks.saturating_sub(1)));
    if read < 2.0 {
        // One page of several says next to nothing.
        return if read < all { 0.5 } else { 0.0 };
    }
    let mean = contents.iter().map(|c| c.rebuilt).sum::<f64>() / read;
    let variance = contents.iter().map(|c| (c.rebuilt - mean).powi(2)).sum::<f64>() / (read - 1.0);
    (variance / read * (1.0 - read / all).max(0.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(rebuilt: f64) -> Content {
        Content {
            kind: Kind::Leaf,
            live_tuples: 100,
            posting_tuples: 10,
            rows: 200,
            dead_tuples: 1,
            free_bytes: 4076,
            rebuilt,
            key_bytes: 1600,
        }
    }

    #[test]
    fn all_pages_leave_no_doubt_but_that_of_the_arithmetic() {
        let contents = vec![leaf(0.5); 1000];
        let measured = extrapolate(&contents, 1001);
        assert_eq!(measured.pages, total_pages(500.0, 16.0));
        assert!(measured.upper / measured.lower < 1.08, "{measured:?}");
        assert_eq!((measured.rows, measured.live_tuples, measured.posting_tuples), (200_000.0, 100_000.0, 10_000.0));
        assert_eq!(measured.leaf_density, Some(0.5));
    }

    #[test]
    fn a_sample_is_scaled_and_doubted() {
        let contents: Vec<_> = (0..100).map(|i| leaf(if i % 2 == 0 { 0.2 } else { 0.8 })).collect();
        let measured = extrapolate(&contents, 100_001);
        assert!((measured.pages / 50_000.0 - 1.0).abs() < 0.01);
        assert!(measured.lower < 45_000.0 && measured.upper > 55_000.0, "{measured:?}");
        assert_eq!(measured.pages_read, 100);
    }

    #[test]
    fn nothing_is_a_meta_page() {
        let measured = extrapolate(&[], 1);
        assert_eq!((measured.pages, measured.lower, measured.leaf_density), (1.0, 1.0, None));
    }

    #[test]
    fn parts_are_visited_by_chance() {
        assert_eq!(choose(1, 10, Random(1)), Vec::<u32>::new());
        assert_eq!(choose(0, 10, Random(1)), Vec::<u32>::new());
        assert_eq!(choose(5, 10, Random(1)), [1, 2, 3, 4]);
        assert_ne!(choose(100_000, 10, Random(1)), choose(100_000, 10, Random(2)));
    }

    proptest::proptest! {
        #[test]
        fn pages_are_chosen_once_and_exist(blocks in 0u32.., count in 1u32..2000, seed: u64) {
            let chosen = choose(blocks, count, Random(seed));
            proptest::prop_assert_eq!(chosen.len() as u32, count.min(blocks.saturating_sub(1)));
            proptest::prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            proptest::prop_assert!(chosen.iter().all(|&block| block >= 1 && block < blocks));
        }
    }
}
