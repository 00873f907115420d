//! Rows that were locked when their range was done: one by one, by key, each forgotten in
//! the transaction that updates it.

use std::time::Instant;

use serde_json::Value;

use super::Run;
use super::careful::{Candidate, Tally, candidates};
use super::cursor::{Portion, Rows};
use super::session::{Session, Which};
use crate::backfill::statements::Read;
use crate::backfill::store;
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::jobs::kind::{Context, Outcome};
use crate::server::repeated::{Arg, TextRow};

/// Rows looked at in one step, if time allows.
const ROWS: i64 = 100;

impl Run {
    pub(super) fn revisit(&mut self, context: &mut Context, session: &Session, mut portion: Rows) -> Result<Outcome> {
        let started = Instant::now();
        let mut tally = Tally::default();
        let rows = store::locked_after(self.job, self.relid, portion.after, ROWS)?;
        // Past the end of the portion rows belong to another worker.
        let mine: Vec<_> = rows.iter().filter(|(number, _)| *number <= portion.until).collect();
        if mine.is_empty() {
            portion.after = portion.until;
        }
        for (number, row_key) in mine {
            portion.after = *number;
            self.revisit_row(session, row_key, &mut portion, &mut tally)?;
            if started.elapsed() > context.batch_time {
                break;
            }
        }
        self.hold(context, Portion::Rows(portion))?;
        Ok(self.conclude(context, &tally)?.unwrap_or(Outcome::Continue))
    }

    fn revisit_row(&mut self, session: &Session, row_key: &Value, portion: &mut Rows, tally: &mut Tally) -> Result<()> {
        if find(session, row_key, Read::Look)?.is_empty() {
            // Gone, or somebody else has done it. By its place alone a row that was
            // changed cannot be found: the next sweep does.
            if session.parts.key.is_none() {
                portion.found += 1;
            }
            return store::forget(self.job, self.relid, row_key);
        }
        let free: Vec<Candidate> = candidates(&find(session, row_key, Read::Lock)?)?;
        if free.is_empty() {
            return Ok(());
        }
        let done = self.update_candidates(session, &free)?;
        tally.rows += done.rows;
        tally.flagged += done.flagged;
        tally.quarantined += done.quarantined;
        if done.quarantined == 0 && done.locked.is_empty() {
            store::forget(self.job, self.relid, row_key)?;
        }
        Ok(())
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
