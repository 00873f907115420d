//! The sweep: every block is looked at once more, in ranges as short as the batches. It
//! proves that nothing is left, and does what was locked, moved or written meanwhile.

use std::time::Instant;

use serde_json::Value;

use super::Run;
use super::careful::{Candidate, Tally, candidates, tid_array};
use super::cursor::{EXAMPLES, Portion, Sweep};
use super::pace::next_size;
use super::session::{Session, Which};
use super::start::{ALL_UNITS, FILL_UNITS};
use crate::backfill::store;
use crate::error::Result;
use crate::jobs::kind::{Context, Outcome};
use crate::server::repeated::{Arg, TextRow, Tid};

/// The first range of a worker, and the largest.
pub const FIRST_BLOCKS: u32 = 256;
const MOST_BLOCKS: u32 = 8192;
/// Rows that match in one step; more than fit on one page.
const MOST_ROWS: i32 = 2000;

/// A row that still matches.
struct Match {
    row: Candidate,
    xmin: u32,
}

impl Run {
    pub(super) fn sweep(&mut self, context: &mut Context, session: &Session, mut sweep: Sweep) -> Result<Outcome> {
        let started = Instant::now();
        let from = sweep.next;
        let to = from.saturating_add(self.sweep_blocks).min(sweep.last);
        let rows = session.statement(Which::VerifyBlocks).rows(&[
            Arg::Tid(Tid { block: from, offset: 0 }),
            Arg::Tid(Tid { block: to, offset: 0 }),
            Arg::Int(MOST_ROWS),
        ])?;
        if rows.len() >= MOST_ROWS as usize && to - from > 1 {
            self.sweep_blocks = ((to - from) / 4).max(1);
            return Ok(Outcome::Continue);
        }
        let matches: Vec<Match> = rows.iter().map(read_match).collect::<Result<_>>()?;
        let tally = self.do_matches(context, session, &mut sweep, matches)?;
        sweep.next = to;
        context.units = (ALL_UNITS - FILL_UNITS) * f64::from(to - from) / self.blocks;
        context.cursor = Portion::Sweep(sweep).write()?;
        self.sweep_blocks = next_size(self.sweep_blocks, started.elapsed(), context.batch_time, (1, MOST_BLOCKS));
        Ok(self.conclude(context, &tally)?.unwrap_or(Outcome::Continue))
    }

    fn do_matches(
        &mut self,
        context: &mut Context,
        session: &Session,
        sweep: &mut Sweep,
        matches: Vec<Match>,
    ) -> Result<Tally> {
        if matches.is_empty() {
            return Ok(Tally::default());
        }
        // Read after the rows: whoever wrote one of them noted it in the same transaction.
        self.still_matching.extend(store::still_matching(self.job)?);
        let keys: Vec<Value> = matches.iter().map(|found| found.row.row_key.clone()).collect();
        let remembered = store::remembered_among(self.job, &keys)?;
        let mut unknown = Vec::new();
        for Match { row, xmin } in matches {
            if remembered.contains(&row.row_key) {
                continue; // counted where they are remembered
            }
            if self.still_matching.contains(&xmin) {
                sweep.left += 1;
                if sweep.examples.len() < EXAMPLES {
                    sweep.examples.push(row.row_key);
                }
            } else {
                unknown.push(row);
            }
        }
        if unknown.is_empty() {
            return Ok(Tally::default());
        }
        sweep.found += unknown.len() as i64;
        self.do_unknown(context, session, sweep, &unknown)
    }

    fn do_unknown(
        &mut self,
        context: &mut Context,
        session: &Session,
        sweep: &mut Sweep,
        unknown: &[Candidate],
    ) -> Result<Tally> {
        let places = tid_array(unknown);
        let free = candidates(&session.statement(Which::LockPlaces).rows(&[Arg::Text(&places)])?)?;
        let mut tally = self.update_candidates(session, &free)?;
        let is_free = |row: &&Candidate| !free.iter().any(|free| free.tid == row.tid);
        tally.locked.extend(unknown.iter().filter(is_free).map(|row| row.row_key.clone()));
        store::remember_locked(self.job, self.relid, &tally.locked)?;
        self.tell_of_locks(context, tally.locked.len());
        // Those that moved are seen again later in this sweep or in the next one.
        sweep.left += tally.flagged as i64;
        Ok(tally)
    }
}

fn read_match(row: &TextRow) -> Result<Match> {
    let xmin = row.get(2).and_then(|text| text.as_deref()?.parse().ok()).unwrap_or(0);
    Ok(Match { row: Candidate::read(row)?, xmin })
}
