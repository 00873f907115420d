//! Rows that were locked when their range was done: one by one, by key, each forgotten in
//! the transaction that updates it.

use std::time::Instant;

use serde_json::Value;

use super::Run;
use super::careful::{Candidate, Tally, candidates};
use super::cursor::{Portion, Rows};
use super::fill::longest;
use super::session::{Session, Which};
use crate::backfill::statements::Read;
use crate::backfill::store;
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::jobs::kind::{Context, Outcome};
use crate::server::repeated::{Arg, TextRow};
use crate::settings;

/// Rows looked at in one step, if time allows.
const ROWS: i64 = 100;

impl Run {
    pub(super) fn revisit(&mut self, context: &mut Context, session: &Session, mut portion: Rows) -> Result<Outcome> {
        let started = Instant::now();
        let from = portion.after;
        let mut tally = Tally::default();
        let rows = store::locked_after(self.job, self.relid, portion.after, ROWS)?;
        // Past the end of the portion rows belong to another worker.
        let mine: Vec<_> = rows.iter().filter(|(number, _)| *number <= portion.until).collect();
        if mine.is_empty() {
            portion.after = portion.until;
        }
        for (number, row_key) in mine {
            let first = portion.after == from;
            if !self.revisit_row(context, session, row_key, first, &mut portion, &mut tally)? {
                break;
            }
            portion.after = *number;
            // What was put aside is judged at the end of the step, one by one.
            if tally.quarantined > 0 || started.elapsed() > context.batch_time {
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
        row_key: &Value,
        first: bool,
        portion: &mut Rows,
        tally: &mut Tally,
    ) -> Result<bool> {
        if find(session, row_key, Read::Look)?.is_empty() {
            // Gone, or somebody else has done it. By its place alone a row that was
            // changed cannot be found: the next sweep does.
            if session.parts.key.is_none() {
                portion.found += 1;
            }
            store::forget(self.job, self.relid, row_key)?;
            return Ok(true);
        }
        let free: Vec<Candidate> = candidates(&find(session, row_key, Read::Lock)?)?;
        let [row, ..] = &free[..] else { return Ok(true) };
        let row_time = settings::max_row_time();
        let time = row_time.map(|row_time| if first { row_time } else { row_time.min(longest(context)) });
        let done = self.update_one(session, row, time)?;
        if let (Some(limit), false) = (row_time, done.slow.is_empty()) {
            if !first {
                return Ok(false);
            }
            self.quarantine_slow(row_key, limit)?;
            tally.quarantined += 1;
            return Ok(true);
        }
        tally.rows += done.rows;
        tally.flagged += done.flagged;
        tally.quarantined += done.quarantined;
        if done.quarantined == 0 && done.locked.is_empty() {
            store::forget(self.job, self.relid, row_key)?;
        }
        Ok(true)
    }
}

fn find(session: &Session, row_key: &Value, read: Read) -> Result<Vec<TextRow>> {
    let Some(key) = &session.parts.key else {
        let place = text(row_key, "ctid")?;
        return session.statement(Which::ReadByPlace(read)).rows(&[Arg::Text(&place)]);
    };
    let values: Vec<String> = key.columns.iter().map(|column| text(row_key, &column.name)).collect::<Result<_>>()?;
    let args: Vec<Arg<'_>> = values.iter().map(|value| Arg::Text(value)).collect();
    session.statement(Which::ReadByKey(read)).rows(&args)
}

/// A column of a stored key in the form that its type's input function reads.
fn text(row_key: &Value, column: &str) -> Result<String> {
    match row_key.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) | None => {
            Err(Error::new(INTERNAL_ERROR, format!("a stored key without {column}: {row_key}")))
        }
        Some(other) => Ok(other.to_string()),
    }
}
