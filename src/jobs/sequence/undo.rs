//! Backwards: what the parts of a sequence have done is taken back, the last one first.

use std::time::Duration;

use serde_json::Value;

use super::Sequence;
use super::cursor::{Cursor, Reason};
use super::tree::Node;
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::jobs::context::Context;
use crate::jobs::retry;
use crate::jobs::work::Outcome;

/// Statements that were to undo something may be tried so often.
const MOST_IN_VAIN: u32 = 10;

impl Sequence {
    /// All of it, as a part of another one that is undone.
    pub(super) fn undo_all(&mut self, context: &mut Context) -> Result<Outcome> {
        let mut cursor = self.recall(context)?;
        self.read(context, &mut cursor)?;
        let reason = match cursor.undoing.clone() {
            Some(reason) => reason,
            None => {
                let nothing = Error::new(INTERNAL_ERROR, "undone");
                cursor = Cursor { at: self.nodes().len(), plans: cursor.plans, ..Cursor::default() };
                cursor.undoing = Some((&nothing).into());
                Reason::from(&nothing)
            }
        };
        Ok(match self.undo_step(context, cursor, reason)? {
            // All of it is undone.
            Outcome::Undo(_) => Outcome::Done { rows_left: 0 },
            other => other,
        })
    }

    pub(super) fn begin_undoing(&mut self, context: &mut Context, cursor: &mut Cursor, error: &Error) {
        context.event("undoing", error.message.clone());
        *cursor = Cursor { at: cursor.at, plans: cursor.plans, undoing: Some(error.into()), ..Cursor::default() };
        self.open = None;
    }

    /// Backwards: one step of undoing the part before. The part at `at` itself is undone, or was never done.
    pub(super) fn undo_step(&mut self, context: &mut Context, mut cursor: Cursor, error: Reason) -> Result<Outcome> {
        while let Some(before) = cursor.at.checked_sub(1) {
            if self.may_be_undone(before) {
                break;
            }
            cursor.at = before;
        }
        let Some(before) = cursor.at.checked_sub(1) else {
            context.set_cursor(&Cursor { plans: cursor.plans, ..Cursor::default() })?;
            return Ok(match self.is_whole() {
                true => Outcome::Fail(error.into()),
                // Those before this one are undone as well.
                false => Outcome::Undo(error.into()),
            });
        };
        let mut inner = Cursor { at: before, part: cursor.part.take(), ..Cursor::default() };
        let (outcome, _) = self.run_part(context, &mut inner, |work, context| work.undo(context))?;
        context.scale_units(0.0);
        self.settle_undone(context, cursor, before, inner.part, outcome)
    }

    /// What comes of the part that is being undone.
    fn settle_undone(
        &mut self,
        context: &mut Context,
        cursor: Cursor,
        before: usize,
        part: Option<Value>,
        outcome: Outcome,
    ) -> Result<Outcome> {
        let (cursor, outcome) = match outcome {
            Outcome::Done { .. } => {
                self.end_step(before, "undone", None, 0)?;
                self.open = None;
                (Cursor { at: before, part: None, in_vain: 0, ..cursor }, Outcome::Continue)
            }
            // Undone no further than this. If it is tried again, it goes forward from here.
            Outcome::Undo(why) | Outcome::Fail(why) => {
                self.end_step(before, "failed", Some(&format!("it could not be undone: {}", why.message)), 0)?;
                context.event("not undone", why.message.clone());
                (Cursor { at: before, part, plans: cursor.plans, ..Cursor::default() }, Outcome::Fail(why))
            }
            other => (Cursor { part, ..cursor }, other),
        };
        context.set_cursor(&cursor)?;
        Ok(outcome)
    }

    /// A statement that was to undo something has not. The part that asked for it is undone no further, unless it may pass.
    pub(super) fn not_undone(&mut self, context: &mut Context, mut cursor: Cursor, failed: Error) -> Result<Outcome> {
        if retry::is_transient(&failed) && cursor.in_vain < MOST_IN_VAIN {
            cursor.in_vain += 1;
            context.set_cursor(&cursor)?;
            let reason = format!("waits to undo a step after SQLSTATE {}", failed.sqlstate);
            return Ok(Outcome::Wait { reason, time: Duration::from_secs(1) });
        }
        let Some(before) = cursor.at.checked_sub(1) else { return Ok(Outcome::Fail(failed)) };
        let mut inner = Cursor { at: before, part: cursor.part.take(), ..Cursor::default() };
        let outcome = match self.nodes().get(before) {
            Some(Node::Sequence(_)) => {
                self.run_part(context, &mut inner, |work, context| work.top_level_done(context, Err(failed)))?.0
            }
            _ => Outcome::Fail(failed),
        };
        self.settle_undone(context, cursor, before, inner.part, outcome)
    }

    fn may_be_undone(&self, number: usize) -> bool {
        match self.nodes().get(number) {
            Some(Node::Step(step)) => step.reversible,
            Some(Node::Sequence(_)) => true,
            None => false,
        }
    }
}
