//! VACUUM between ranges (option `vacuum`): after each tenth of a table one worker runs it, so that the next
//! tenth finds the room of the one before. Where strides work they make that room by themselves.

use super::Run;
use super::cursor::{Portion, Shared, Vacuum};
use crate::backfill::options::Walk;
use crate::backfill::strategy::Choice;
use crate::error::{QUERY_CANCELED, Result};
use crate::jobs::kind::{Completion, Context, Outcome};
use crate::server::spi;

/// A table is vacuumed as often while it is filled.
const PARTS: u32 = 10;

impl Run {
    /// Blocks or rows of the largest portion that does not go far beyond the next VACUUM.
    pub(super) fn between_vacuums(&self, all: f64) -> u32 {
        if self.definition.options.vacuum { ((all / f64::from(PARTS)) as u32).max(1) } else { u32::MAX }
    }

    /// Is it time? Then no other worker will be told so.
    pub(super) fn vacuum_due(&self, shared: &mut Shared, choice: &Choice) -> Option<Vacuum> {
        if !self.definition.options.vacuum {
            return None;
        }
        let done = match choice.walk {
            Walk::Blocks => f64::from(shared.next_block) / f64::from(shared.end_block.max(1)),
            Walk::Keys => shared.claimed_rows / shared.rows_estimate.max(1.0),
        };
        // Not at the end: what the last part leaves is autovacuum's.
        let part = (done * f64::from(PARTS)) as u32;
        (part > shared.vacuumed && part < PARTS).then(|| {
            shared.vacuumed = part;
            Vacuum { before: None }
        })
    }

    /// Looks first, then does: that it was begun is committed before it begins (LAW 17). After an end
    /// without a word it is not repeated; the next one is due a tenth later.
    pub(super) fn vacuum(&self, context: &mut Context, vacuum: Vacuum) -> Result<Outcome> {
        if vacuum.before.is_some() {
            self.hold(context, Portion::Enter)?;
            return Ok(Outcome::Continue);
        }
        self.hold(context, Portion::Vacuum(Vacuum { before: Some(count(self)?) }))?;
        context.keep_for_good();
        let table = self.now_called();
        Ok(Outcome::TopLevel(format!("VACUUM (TRUNCATE false, SKIP_LOCKED) {table}")))
    }

    pub(super) fn vacuumed(&self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        let before = match context.cursor::<super::cursor::Hand>()?.map(|hand| hand.portion) {
            Some(Portion::Vacuum(vacuum)) => vacuum.before,
            _ => None,
        };
        self.hold(context, Portion::Enter)?;
        match answer {
            Ok(_) if before.is_some_and(|before| count(self).is_ok_and(|after| after > before)) => {}
            Ok(_) => {
                self.tell(context, "vacuum skipped", "another session holds a lock of the table".to_owned());
            }
            Err(error) if error.sqlstate == QUERY_CANCELED => {}
            Err(error) => self.tell(context, "vacuum skipped", error.message),
        }
        Ok(Outcome::Continue)
    }
}

/// How often the table was vacuumed, by the server's statistics.
fn count(run: &Run) -> Result<i64> {
    let count: Option<i64> =
        spi::query_one("SELECT pg_catalog.pg_stat_get_vacuum_count($1)", &[run.relid.into()], |row| row.require(1))?;
    Ok(count.unwrap_or(0))
}
