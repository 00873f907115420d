//! How a step's range is divided into portions: each one UPDATE, small enough that nobody notices it (LAW 38).

use std::time::Duration;

use super::Run;
use super::claim::boundaries_inside;
use super::cursor::{KeyText, Keys};
use super::session::Session;
use super::units::SHORTEST_ROWS;
use crate::error::Result;
use crate::jobs::kind::Context;
use crate::jobs::pace::next_size;
use crate::server::heap;

/// A page that is written to the log as a whole.
const IMAGE: u64 = 8192;
/// Of one range of keys.
const MOST_PORTIONS: u32 = 256;

/// What was done of a range, and how long the statements took: without the rests between them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    pub portions: usize,
    pub work: Duration,
}

impl Run {
    /// Where the portions of a range of blocks begin and end. How many pages the log will get as a whole is known beforehand.
    pub(super) fn cuts(&self, context: &Context, from: u32, to: u32) -> Vec<u32> {
        let most = context.portion().wal / IMAGE;
        let whole = if most < u64::from(to - from) {
            heap::unlogged_since_checkpoint(self.relid, (from, to))
        } else {
            Vec::new()
        };
        cut(from, to, self.sizes.portion_blocks, &whole, most.max(1))
    }

    /// The same of a range of keys, where it has several portions: they are counted off in the index. With nobody to give way to, its
    /// own bounds are enough.
    pub(super) fn key_cuts(
        &self,
        context: &Context,
        session: &Session,
        keys: &Keys,
        span: usize,
    ) -> Result<Vec<KeyText>> {
        let mut cuts = keys.bounds[keys.next..=(keys.next + span).min(keys.bounds.len() - 1)].to_vec();
        if let (Some(first), Some(done)) = (cuts.first_mut(), &keys.done) {
            first.clone_from(done);
        }
        let ([first, .., last], true) = (&cuts[..], context.is_beside_others()) else { return Ok(cuts) };
        if keys.rows > self.sizes.portion_rows {
            let after = (!first.is_empty()).then_some(first);
            let inside = boundaries_inside(session, after, last, (MOST_PORTIONS, self.sizes.portion_rows))?;
            cuts.splice(1..cuts.len() - 1, inside);
        }
        Ok(cuts)
    }

    /// The next portions should take what a portion may.
    pub(super) fn note_key_pace(&mut self, context: &Context, rows: u32, pace: Pace) {
        let limits = (SHORTEST_ROWS, self.sizes.max_range.1.max(SHORTEST_ROWS));
        self.sizes.portion_rows = next_portion(context, rows, pace, limits).unwrap_or(self.sizes.portion_rows);
    }

    pub(super) fn note_pace(&mut self, context: &Context, blocks: u32, pace: Pace) {
        let limits = (1, self.sizes.max_range.0);
        self.sizes.portion_blocks = next_portion(context, blocks, pace, limits).unwrap_or(self.sizes.portion_blocks);
    }
}

/// After portions that were `done` together. `None`: there were none.
fn next_portion(context: &Context, done: u32, pace: Pace, limits: (u32, u32)) -> Option<u32> {
    let portions = u32::try_from(pace.portions).ok().filter(|&portions| portions > 0)?;
    let typical = (done / portions).clamp(limits.0, limits.1);
    Some(next_size(typical, pace.work / portions, context.portion().time, limits))
}

/// Cuts so that no portion has more blocks than `blocks`, nor more of `whole`, which are in order, than `most`.
fn cut(from: u32, to: u32, blocks: u32, whole: &[u32], most: u64) -> Vec<u32> {
    let mut cuts = vec![from];
    let (mut first, mut images) = (from, 0);
    let mut whole = whole.iter().peekable();
    for block in from..to {
        let image = u64::from(whole.next_if_eq(&&block).is_some());
        if block > first && (block - first >= blocks || images + image > most) {
            cuts.push(block);
            (first, images) = (block, 0);
        }
        images += image;
    }
    cuts.push(to);
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_as_small_as_what_they_cost() {
        assert_eq!(cut(0, 100, 40, &[], 8), [0, 40, 80, 100]);
        assert_eq!(cut(5, 6, 40, &[], 8), [5, 6]);
        let all: Vec<u32> = (0..20).collect();
        assert_eq!(cut(0, 20, 40, &all, 8), [0, 8, 16, 20]);
        // Some of its pages were changed since the checkpoint.
        assert_eq!(cut(0, 100, 40, &[3, 50, 51, 52], 2), [0, 40, 52, 92, 100]);
        assert_eq!(cut(0, 4, 1, &all, 8), [0, 1, 2, 3, 4]);
    }
}
