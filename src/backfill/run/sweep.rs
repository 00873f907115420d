//! The sweep: every block is looked at once more, in ranges as short as the batches. It
//! proves that nothing is left, and does what was locked, moved or written meanwhile.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Run;
use super::careful::{Candidate, Patience, Tally, candidates, tid_array};
use super::cursor::{EXAMPLES, Portion, Sweep};
use super::limit::Limit;
use super::session::{Session, Which};
use super::units::{ALL_UNITS, FILL_UNITS};
use crate::backfill::key::Key;
use crate::backfill::store;
use crate::error::Result;
use crate::jobs::kind::{Context, Outcome};
use crate::jobs::pace::next_size;
use crate::quarantine;
use crate::server::catch::subtransaction;
use crate::server::repeated::{Arg, TextRow, Tid};
use crate::server::timeout::limited;

/// Blocks of the largest step.
const MOST_BLOCKS: u32 = 8192;
/// Rows that match in one step; more than fit on one page.
const MOST_ROWS: i32 = 2000;

/// A look writes nothing: it may take as long as so many portions.
const LOOK_PORTIONS: u32 = 10;

/// Rows done at once at first; twice as many each time, while there is time.
const FIRST_CHUNK: usize = 50;

/// A row that still matches.
struct Match {
    row: Candidate,
    xmin: u32,
}

impl Run {
    pub(super) fn sweep(&mut self, context: &mut Context, session: &Session, mut sweep: Sweep) -> Result<Outcome> {
        let started = Instant::now();
        let from = sweep.next;
        let to = from.saturating_add(self.sizes.sweep_blocks).min(sweep.last);
        let verify = session.statement(Which::VerifyBlocks);
        let args =
            [Arg::Tid(Tid { block: from, offset: 0 }), Arg::Tid(Tid { block: to, offset: 0 }), Arg::Int(MOST_ROWS)];
        let limit = Limit::of_look(context, to - from > 1);
        let rows = match limited(limit.time, || subtransaction(|| verify.rows(&args))) {
            Ok(rows) if rows.len() < MOST_ROWS as usize || to - from == 1 => rows,
            Err(error) if !limit.is_over(&error, started) => return Err(error),
            // Too many, or a condition that takes long.
            _ => {
                self.sizes.sweep_blocks = ((to - from) / 4).max(1);
                return Ok(Outcome::Continue);
            }
        };
        let matches: Vec<Match> =
            rows.iter().map(|row| read_match(row, session.parts.key.as_ref())).collect::<Result<_>>()?;
        let (unknown, left) = self.sort_out(matches)?;
        let mut tally = Tally::default();
        let mut done = 0;
        let mut chunk = FIRST_CHUNK;
        while done < unknown.len() && (done == 0 || started.elapsed() < context.batch_time() / 2 && context.rest()) {
            let part = &unknown[done..(done + chunk).min(unknown.len())];
            self.do_unknown(context, session, part, &mut tally)?;
            done += part.len();
            // Who gives way to nobody may lock them all at once.
            if !context.is_beside_others() {
                chunk *= 2;
            }
        }
        sweep.found += done as i64;
        // With time up the range is looked at again; unless nothing in it can be done.
        if done == unknown.len() || tally.rows == 0 {
            let remembered = (tally.locked.len() + tally.slow.len()) as i64;
            let undone = unknown.len() as i64 - tally.rows as i64 - tally.quarantined - remembered;
            sweep.left += left.len() as i64 + tally.flagged as i64 + undone.max(0);
            sweep.examples.extend(left);
            sweep.examples.truncate(EXAMPLES);
            sweep.next = to;
            context.made(0, (ALL_UNITS - FILL_UNITS) * f64::from(to - from) / self.blocks);
        }
        self.hold(context, Portion::Sweep(sweep))?;
        let time = context.batch_time().min(context.portion().time * LOOK_PORTIONS);
        self.sizes.sweep_blocks = next_size(self.sizes.sweep_blocks, started.elapsed(), time, (1, MOST_BLOCKS));
        Ok(self.conclude(context, &tally)?.unwrap_or(Outcome::Continue))
    }

    /// Rows that nobody has done yet, and the keys of those that still match after their update.
    fn sort_out(&mut self, matches: Vec<Match>) -> Result<(Vec<Candidate>, Vec<Value>)> {
        let mut unknown = Vec::new();
        let mut left = Vec::new();
        if matches.is_empty() {
            return Ok((unknown, left));
        }
        // Read after the rows: whoever wrote one of them noted it in the same transaction.
        self.still_matching.extend(store::still_matching(self.job)?);
        let keys: Vec<Value> = matches.iter().map(|found| found.row.row_key.clone()).collect();
        let remembered = quarantine::remembered_among(self.job, self.relid, &keys)?;
        for Match { row, xmin } in matches {
            if remembered.contains(&row.row_key) {
                continue; // counted where they are remembered
            }
            if self.still_matching.contains(&xmin) {
                left.push(row.row_key);
            } else {
                unknown.push(row);
            }
        }
        Ok((unknown, left))
    }

    fn do_unknown(
        &mut self,
        context: &mut Context,
        session: &Session,
        unknown: &[Candidate],
        tally: &mut Tally,
    ) -> Result<()> {
        let places = tid_array(unknown);
        let free =
            candidates(&session.statement(Which::LockPlaces).rows(&[Arg::Text(&places)])?, session.parts.key.as_ref())?;
        let mut done = self.update_candidates(context, session, &free, Patience::after(Duration::ZERO))?;
        // By key: a row that somebody changed between the two looks has moved.
        let taken: HashSet<String> = free.iter().map(|row| row.row_key.to_string()).collect();
        let keys = unknown.iter().map(|row| &row.row_key);
        done.locked.extend(keys.filter(|key| !taken.contains(&key.to_string())).cloned());
        quarantine::remember_locked(self.job, self.relid, &done.locked)?;
        self.tell_of_locks(context, done.locked.len());
        self.leave_slow(context, &done)?;
        tally.add(done);
        Ok(())
    }
}

/// Behind its key comes the transaction that wrote it.
fn read_match(row: &TextRow, key: Option<&Key>) -> Result<Match> {
    let xmin = row.last().and_then(|text| text.as_deref()?.parse().ok()).unwrap_or(0);
    Ok(Match { row: Candidate::read(row, key)?, xmin })
}
