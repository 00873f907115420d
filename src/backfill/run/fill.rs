//! The fill: one UPDATE of a range and stride per step, and the slow way for ranges where
//! it fails.

use std::time::{Duration, Instant};

use super::Run;
use super::careful::{Patience, Range, Tally};
use super::claim::boundaries_inside;
use super::cursor::{Blocks, KeyText, Keys, Portion};
use super::limit::Limit;
use super::portions::Pace;
use super::session::{Session, Which};
use super::units::SHORTEST_ROWS;
use crate::backfill::statements::{Begin, Read, Take};
use crate::backfill::store;
use crate::error::{Error, LOCK_NOT_AVAILABLE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, SERIALIZATION_FAILURE};
use crate::jobs::kind::{Context, Outcome};
use crate::jobs::pace::next_size;
use crate::jobs::retry::is_row_error;
use crate::server::catch::subtransaction;
use crate::server::repeated::{Arg, Tid};
use crate::server::timeout::limited;
use crate::server::{heap, spi};

/// Slack for transactions that begin between our look at the counter and our snapshot.
const SPAN_SLACK: u64 = 1 << 20;

/// What became of a range.
enum Filled {
    /// So many of its portions; all, unless somebody waited for one of its rows or the time was up.
    Done(Tally, Pace),
    /// It took too long and was rolled back: in smaller ranges, please.
    TooLong,
}

impl Run {
    pub(super) fn fill_blocks(
        &mut self,
        context: &mut Context,
        session: &Session,
        mut blocks: Blocks,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let from = blocks.next;
        let full = self.sizes.range_blocks.min(blocks.most);
        let to = from.saturating_add(full).min(blocks.last);
        let cuts = self.cuts(context, from, to);
        self.proved |= blocks.proved;
        let first = cuts[1] - from;
        let limit = Limit::of(context, first > 1);
        let portion = |run: &Run, number: usize| {
            // Rows that still match may have moved to any of the places: from then on they are told by their age.
            let take = match (run.filtering, blocks.strides) {
                (true, _) => Take::OldStride,
                (false, 1) => Take::All,
                (false, _) => Take::Stride,
            };
            let bounds = [cuts[number], cuts[number + 1]].map(|block| Arg::Tid(start_of(block)));
            Range {
                update: session.statement(Which::UpdateBlocks(take)),
                look: session.statement(Which::ReadBlocks(take, Read::Look)),
                lock: session.statement(Which::ReadBlocks(take, Read::Lock)),
                args: bounds.into_iter().chain(run.take_args(take, blocks.strides, blocks.stride)).collect(),
            }
        };
        let filled = self.fill_range(context, session, cuts.len() - 1, portion, limit)?;
        let Filled::Done(tally, pace) = filled else {
            self.sizes.range_blocks = ((to - from) / 4).max(1);
            self.sizes.portion_blocks = (first / 4).max(1);
            return Ok(Outcome::Continue);
        };
        let whole = to - from == full;
        let to = cuts[pace.portions];
        self.note_pace(context, to - from, pace);
        let took = started.elapsed();
        context.made(0, self.fill_units() * f64::from(to - from) / self.blocks / f64::from(blocks.strides));
        let verdict = self.conclude(context, &tally)?;
        blocks.proved = self.proved;
        blocks.advance(to);
        self.hold(context, Portion::Blocks(blocks))?;
        self.horizon.note_time(took);
        // The last range of a window may be short, and says little, as does one that was ended before its time.
        if whole && to - from == full {
            self.sizes.range_blocks = next_size(full, took, context.batch_time(), (1, self.sizes.max_range.0));
        }
        Ok(verdict.unwrap_or(Outcome::Continue))
    }

    pub(super) fn fill_keys(&mut self, context: &mut Context, session: &Session, mut keys: Keys) -> Result<Outcome> {
        let started = Instant::now();
        self.proved |= keys.proved;
        if !keys.exact {
            let modern = |bound: &KeyText| session.modern(bound);
            keys.bounds = keys.bounds.iter().map(modern).collect::<Result<_>>()?;
            keys.exact = true;
        }
        let span = if context.is_beside_others() { 1 } else { self.sizes.span.min(keys.widest_span()) };
        let Some((after, upto)) = keys.range(span).map(|(after, upto)| (after.cloned(), upto.clone())) else {
            // A window without a range: nothing between its bounds.
            keys.stride = keys.strides;
            self.hold(context, Portion::Keys(keys))?;
            return Ok(Outcome::Continue);
        };
        let take = if keys.strides > 1 { Take::Stride } else { Take::All };
        let cuts = self.key_cuts(context, session, &keys, span)?;
        let stride = self.take_args(take, keys.strides, keys.stride);
        let portion =
            |_: &Run, number: usize| portion_of_keys(session, take, (&cuts[number], &cuts[number + 1]), &stride);
        let limit = Limit::of(context, self.sizes.indivisible.as_ref() != Some(&upto));
        let filled = self.fill_range(context, session, cuts.len() - 1, portion, limit)?;
        let Filled::Done(tally, pace) = filled else {
            if span > 1 {
                self.sizes.span = 1;
                return Ok(Outcome::Continue);
            }
            self.split_range(session, &mut keys, after.as_ref(), upto)?;
            self.sizes.portion_rows = keys.rows;
            self.hold(context, Portion::Keys(keys))?;
            return Ok(Outcome::Continue);
        };
        let took = started.elapsed();
        let whole = pace.portions + 1 == cuts.len();
        let resumed = keys.done.is_some();
        let rows = self.rows_of_keys(&keys, span, cuts.len() - 1, pace.portions);
        self.note_key_pace(context, rows, pace);
        context.made(0, self.fill_units() * f64::from(rows) / self.rows / f64::from(keys.strides));
        let verdict = self.conclude(context, &tally)?;
        keys.proved = self.proved;
        self.horizon.note_time(took);
        if !whole {
            keys.advance_to(&cuts[pace.portions]);
            self.hold(context, Portion::Keys(keys))?;
            return Ok(verdict.unwrap_or(Outcome::Continue));
        }
        keys.advance(span);
        // The end of a range says little about a whole one.
        if !resumed {
            self.sizes.range_rows =
                next_size(rows, took, context.batch_time(), (SHORTEST_ROWS, self.sizes.max_range.1));
            let widest = u32::try_from(keys.widest_span()).unwrap_or(u32::MAX);
            self.sizes.span = next_size(span as u32, took, context.batch_time(), (1, widest)) as usize;
        }
        self.hold(context, Portion::Keys(keys))?;
        Ok(verdict.unwrap_or(Outcome::Continue))
    }

    /// How many rows were in the portions that were done: of ranges that are cut nowhere, as many as the ranges have.
    fn rows_of_keys(&self, keys: &Keys, span: usize, portions: usize, done: usize) -> u32 {
        let all = keys.rows.saturating_mul(span as u32);
        let resumed = keys.done.is_some();
        if done == portions && !resumed {
            return all;
        }
        let each = if portions <= span && !resumed { keys.rows } else { self.sizes.portion_rows };
        each.saturating_mul(done as u32).min(all)
    }

    /// Smaller ranges instead of the one at hand; as it is once more, if it has too few rows.
    fn split_range(
        &mut self,
        session: &Session,
        keys: &mut Keys,
        after: Option<&KeyText>,
        upto: KeyText,
    ) -> Result<()> {
        const PIECES: u32 = 64;
        let inside = |rows| boundaries_inside(session, after, &upto, (PIECES, rows));
        let mut rows = (keys.rows / 4).max(SHORTEST_ROWS);
        let mut between = inside(rows)?;
        if between.is_empty() {
            rows = SHORTEST_ROWS;
            between = inside(rows)?;
        }
        if between.is_empty() {
            self.sizes.indivisible = Some(upto);
        }
        keys.split(between);
        keys.rows = rows;
        self.sizes.range_rows = rows;
        Ok(())
    }

    fn take_args(&self, take: Take, strides: u32, stride: u32) -> Vec<Arg<'static>> {
        let mut args = Vec::with_capacity(4);
        if take != Take::All {
            args.extend([Arg::Int(strides as i32), Arg::Int(stride as i32)]);
        }
        if take == Take::OldStride {
            let next = heap::next_full_xid() as u32;
            let span = u64::from(next.wrapping_sub(self.since)) + SPAN_SLACK;
            args.extend([Arg::Xid(self.since), Arg::Int(i32::try_from(span).unwrap_or(i32::MAX))]);
        }
        args
    }

    /// So many portions of a range, one after the other, as far as the step goes.
    fn fill_range<'a>(
        &mut self,
        context: &mut Context,
        session: &Session,
        count: usize,
        portion: impl Fn(&Run, usize) -> Range<'a>,
        limit: Limit,
    ) -> Result<Filled> {
        let mut tally = Tally::default();
        let mut pace = Pace::default();
        while pace.portions < count {
            let has_begun = pace.portions > 0;
            if has_begun && !context.rest() {
                break;
            }
            let started = Instant::now();
            let filled = loop {
                let range = portion(self, pace.portions);
                if let Some(filled) = self.fill_portion(context, session, &range, limit)? {
                    break filled;
                }
            };
            match filled {
                Filled::Done(more, _) => tally.add(more),
                // What is done is done; the next step begins with this one.
                Filled::TooLong if has_begun => break,
                Filled::TooLong => return Ok(Filled::TooLong),
            }
            pace.work += started.elapsed();
            pace.portions += 1;
        }
        if pace.portions == count || tally.rows >= ENOUGH_TO_JUDGE {
            self.refuse_hopeless(&tally)?;
        }
        Ok(Filled::Done(tally, pace))
    }

    /// A portion by one UPDATE, or carefully if that fails. `None`: once more, without rows that still match after an update.
    fn fill_portion(
        &mut self,
        context: &mut Context,
        session: &Session,
        portion: &Range<'_>,
        limit: Limit,
    ) -> Result<Option<Filled>> {
        let started = Instant::now();
        let mut must_filter = false;
        let fast = || {
            let done = portion.update.count(&portion.args)?;
            spi::theirs::run_deferred()?;
            // Another worker's row that still matches may have moved here just before our
            // snapshot was taken. Looked at afterwards, the note about it cannot be missed.
            if !self.filtering && store::any_still_matching(self.job)? {
                must_filter = true;
                return Err(Error::new(SERIALIZATION_FAILURE, "once more, filtered"));
            }
            if done.flagged > 0 {
                store::note_still_matching(self.job, heap::current_xid())?;
            }
            Ok((done, heap::current_xid()))
        };
        let filled = |tally| Ok(Some(Filled::Done(tally, Pace::default())));
        match limited(limit.time, || subtransaction(fast)) {
            Ok((done, xid)) => {
                self.filtering |= done.flagged > 0;
                filled(Tally { xid: Some(xid), ..Tally::of(done) })
            }
            Err(error) if limit.is_over(&error, started) && limit.divisible => Ok(Some(Filled::TooLong)),
            // It cannot be made smaller: some row of it takes long, and is looked for.
            Err(error) if limit.is_over(&error, started) => {
                filled(self.fill_carefully(context, session, portion, Patience::after(Duration::ZERO))?)
            }
            Err(_) if must_filter => {
                self.filtering = true;
                Ok(None)
            }
            Err(error) if error.sqlstate == LOCK_NOT_AVAILABLE || is_row_error(error.sqlstate) => {
                let waited = error.sqlstate == LOCK_NOT_AVAILABLE;
                let waited = if waited { started.elapsed() } else { Duration::ZERO };
                filled(self.fill_carefully(context, session, portion, Patience::after(waited))?)
            }
            Err(error) => Err(error),
        }
    }

    /// All of the first rows still match after their update: the assignments do not do what
    /// the condition asks, and would be repeated for ever.
    fn refuse_hopeless(&self, done: &Tally) -> Result<()> {
        if self.proved || done.flagged < done.rows || done.rows == 0 {
            return Ok(());
        }
        Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, HOPELESS)
            .detail(format!(
                "All {} rows of the first batch still match the condition after their update; it was rolled back.",
                done.rows
            ))
            .hint("Assign a value that ends the condition, for example SET n = 0 where the condition is n IS NULL."))
    }

    /// Counts, and decides whether the run may go on.
    pub(super) fn conclude(&mut self, context: &mut Context, tally: &Tally) -> Result<Option<Outcome>> {
        context.made(tally.rows as i64, 0.0);
        context.set_batch_rows(tally.rows as i64);
        self.proved |= tally.rows > tally.flagged;
        if let Some(xid) = tally.xid {
            self.horizon.note_step(xid);
        }
        if tally.quarantined == 0 {
            return Ok(None);
        }
        self.judge_quarantine(context)
    }
}

/// Of a step that was ended early so many rows tell whether the assignments do what the condition asks.
const ENOUGH_TO_JUDGE: u64 = 100;

const HOPELESS: &str = "the assignments do not make rows stop matching the condition";

/// No key is the beginning.
fn portion_of_keys<'a>(
    session: &Session,
    take: Take,
    (after, upto): (&'a KeyText, &'a KeyText),
    stride: &[Arg<'static>],
) -> Range<'a> {
    let begin = if after.is_empty() { Begin::Start } else { Begin::AfterKey };
    let bounds = after.iter().chain(upto).map(|text| Arg::Text(text));
    Range {
        update: session.statement(Which::UpdateKeys(begin, take)),
        look: session.statement(Which::ReadKeys(begin, take, Read::Look)),
        lock: session.statement(Which::ReadKeys(begin, take, Read::Lock)),
        args: bounds.chain(stride.iter().cloned()).collect(),
    }
}

fn start_of(block: u32) -> Tid {
    Tid { block, offset: 0 }
}
