//! Rows that were locked when their range was done: one by one, by key, each forgotten in
//! the transaction that updates it.

use std::time::Instant;

use super::Run;
use super::careful::{Candidate, Tally, candidates, find};
use super::cursor::{Portion, Rows};
use super::limit::longest;
use super::session::Session;
use crate::backfill::statements::Read;
use crate::error::Result;
use crate::jobs::kind::{Context, Outcome};
use crate::quarantine;
use crate::quarantine::Remembered;
use crate::server::catch::subtransaction;
use crate::settings;

/// Rows looked at in one step, if time allows.
const ROWS: i64 = 100;

impl Run {
    pub(super) fn revisit(&mut self, context: &mut Context, session: &Session, mut portion: Rows) -> Result<Outcome> {
        let started = Instant::now();
        let from = portion.after;
        let mut tally = Tally::default();
        let rows = quarantine::locked_after(self.job, self.relid, portion.after, ROWS)?;
        // Past the end of the portion rows belong to another worker.
        let mine: Vec<_> = rows.iter().filter(|row| row.number <= portion.until).collect();
        if mine.is_empty() {
            portion.after = portion.until;
        }
        for row in mine {
            let first = portion.after == from;
            if !self.revisit_row(context, session, row, first, &mut portion, &mut tally)? {
                break;
            }
            portion.after = row.number;
            // What was put aside is judged at the end of the step, one by one.
            if tally.quarantined > 0 || started.elapsed() > context.batch_time() || !context.rest() {
                break;
            }
        }
        self.hold(context, Portion::Rows(portion))?;
        Ok(self.conclude(context, &tally)?.unwrap_or(Outcome::Continue))
    }

    /// A row that takes long is done by itself, so that no others are locked meanwhile: `false` if it is not the first of
    /// its step, which ends before it then.
    fn revisit_row(
        &mut self,
        context: &Context,
        session: &Session,
        row: &Remembered,
        first: bool,
        portion: &mut Rows,
        tally: &mut Tally,
    ) -> Result<bool> {
        if find(session, &row.row_key, row.exact, Read::Look)?.is_empty() {
            // Gone, or somebody else has done it. By its place alone a row that was
            // changed cannot be found: the next sweep does.
            if session.parts.key.is_none() {
                portion.found += 1;
            }
            quarantine::forget(self.job, self.relid, &row.row_key)?;
            return Ok(true);
        }
        let free: Vec<Candidate> =
            candidates(&find(session, &row.row_key, row.exact, Read::Lock)?, session.parts.key.as_ref())?;
        let [found, ..] = &free[..] else { return Ok(true) };
        // Under an equal key that is written otherwise it is remembered once more.
        let renamed = found.row_key != row.row_key;
        let row_time = settings::max_row_time();
        let time = row_time.map(|row_time| if first { row_time } else { row_time.min(longest(context)) });
        let done = self.update_one(session, found, time)?;
        if let (Some(limit), false) = (row_time, done.slow.is_empty()) {
            if !first {
                return Ok(false);
            }
            self.quarantine_slow(&found.row_key, limit)?;
            if renamed {
                quarantine::forget(self.job, self.relid, &row.row_key)?;
            }
            tally.quarantined += 1;
            return Ok(true);
        }
        tally.rows += done.rows;
        tally.flagged += done.flagged;
        tally.quarantined += done.quarantined;
        if renamed {
            quarantine::remember_locked(self.job, self.relid, &done.locked)?;
        }
        if renamed || (done.quarantined == 0 && done.locked.is_empty()) {
            quarantine::forget(self.job, self.relid, &row.row_key)?;
        }
        Ok(true)
    }

    /// Rows that an older version has remembered, under the keys that they have now: else the sweep would not know them.
    pub(super) fn modernize_rows(&self, session: &Session) -> Result<()> {
        let Some(key) = &session.parts.key else { return Ok(()) };
        for row in quarantine::remembered_of_old(self.job, self.relid)? {
            // What was written under other settings may be no value at all.
            let found = subtransaction(|| candidates(&find(session, &row.row_key, row.exact, Read::Look)?, Some(key)));
            if let Ok(found) = found
                && let Some(found) = found.first()
            {
                quarantine::rename(self.job, self.relid, &row, &found.row_key)?;
            }
        }
        Ok(())
    }
}
