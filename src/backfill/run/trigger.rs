//! The trigger that fills rows which others write: it comes before the end of the table is fixed, and goes when
//! nothing is left to do. Each in a step of its own, which holds no other lock on the table.

use super::Run;
use super::session::check_meaning;
use crate::backfill::new_rows::{self, Installed, Removed};
use crate::error::Result;
use crate::jobs::clean_up;
use crate::jobs::kind::{Context, Outcome};
use crate::server::{Oid, spi};

/// How far the run is with its trigger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Trigger {
    /// Not looked at by this worker.
    #[default]
    Unknown,
    There,
    /// Everything else is done.
    Leaving {
        rows_left: i64,
    },
}

impl Run {
    /// What comes before the step's own work, if there is any.
    pub(super) fn see_to_trigger(&mut self, context: &mut Context) -> Result<Option<Outcome>> {
        // After a restore the names' meaning is settled first.
        if !self.definition.fill_new_rows || self.definition.fingerprint.is_none() {
            return Ok(None);
        }
        match self.trigger {
            Trigger::There => Ok(None),
            Trigger::Leaving { rows_left } => self.take_down(context, rows_left).map(Some),
            Trigger::Unknown => self.put_up(context),
        }
    }

    pub(super) fn look_for_trigger(&mut self) {
        self.trigger = Trigger::Unknown;
    }

    /// The end of the run, which is the trigger's first.
    pub(super) fn end(&mut self, rows_left: i64) -> Outcome {
        if !self.definition.fill_new_rows {
            return Outcome::Done { rows_left };
        }
        self.trigger = Trigger::Leaving { rows_left };
        Outcome::Continue
    }

    fn put_up(&mut self, context: &mut Context) -> Result<Option<Outcome>> {
        check_meaning(&self.meaning()?.0, &self.definition)?;
        match new_rows::install(self.job, &members(self.root)?, &self.definition, context.lock_tries())? {
            Installed::Already => {
                self.trigger = Trigger::There;
                Ok(None)
            }
            Installed::Now(tables) => {
                self.trigger = Trigger::There;
                context.has_had_locks();
                // Whoever finds the trigger must find the mark that it has to go.
                context.keep_for_good();
                context.event("trigger created", tables.join(", "));
                Ok(Some(Outcome::Continue))
            }
            Installed::Blocked(blocked) => Ok(Some(context.locked_out(blocked, "create its trigger"))),
            // The next step finds out why.
            Installed::Unwanted => Ok(Some(Outcome::Continue)),
        }
    }

    fn take_down(&mut self, context: &mut Context, rows_left: i64) -> Result<Outcome> {
        match new_rows::remove(self.job, context.lock_tries())? {
            Removed::Gone => {
                // Else another worker was first.
                let was_there = spi::bookkeeping(|| clean_up::needs_cleanup(self.job))?;
                spi::bookkeeping(|| clean_up::cleaned_up(self.job))?;
                if was_there {
                    context.event("trigger dropped", "");
                }
                Ok(Outcome::Done { rows_left })
            }
            Removed::Blocked(blocked) => Ok(context.locked_out(blocked, "drop its trigger")),
        }
    }
}

/// The tables that need a trigger of their own: partitions get the one of their parent, children do not.
fn members(relid: Oid) -> Result<Vec<Oid>> {
    let mut children: Vec<Oid> = spi::execute_returning(
        "WITH RECURSIVE tree (relid) AS (
             SELECT i.inhrelid FROM pg_catalog.pg_inherits i
             WHERE i.inhparent OPERATOR(pg_catalog.=) $1
               AND (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1)
                   OPERATOR(pg_catalog.=) 'r'
             UNION
             SELECT i.inhrelid FROM pg_catalog.pg_inherits i
             JOIN tree ON i.inhparent OPERATOR(pg_catalog.=) tree.relid
         )
         SELECT tree.relid FROM tree ORDER BY tree.relid",
        &[relid.into()],
        |row| row.require(1),
    )?;
    children.insert(0, relid);
    Ok(children)
}
