//! A purge at work: reads which rows are due, the oldest first, and deletes them batch by batch.
//!
//! The list that a read gives lives in this process only; what is stored with each batch is how old the last row
//! was. Rows that are gone do not come back by a second read, so that nothing is done twice, and the next read
//! starts where the dead entries of the index end.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::batch::{self, Done, Purge, Statements, oid};
use super::family::Place;
use super::graph::Graph;
use super::subject::{Params, refuse_row_security, require_owner};
use super::{hold, statements};
use crate::error::{Error, INTERNAL_ERROR, Result, UNDEFINED_TABLE};
use crate::jobs::kind::{Context, Job, Outcome, Plan, Work};
use crate::jobs::pace::next_size;
use crate::jobs::retry::is_row_error;
use crate::server::catch::subtransaction;
use crate::server::repeated::Arg;
use crate::server::{Oid, heap, spi, types};
use crate::soft_delete::managed::{self, Managed};

/// Rows of one read, and of one batch.
const READ_ROWS: (u32, u32) = (1_000, 200_000);
const BATCH_ROWS: (u32, u32) = (1, 20_000);
/// Looks at rows that somebody had locked, and the pause before each.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);
/// One cause never skips a hundred rows: so many errors of rows end the job.
const MOST_ERRORS: i64 = 20;

/// Stored with each batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    /// All rows deleted before this have been seen in this round, and some that were deleted at this time.
    after: Option<String>,
    /// Rows that stay: of those before `after`, and of those at it.
    left: i64,
    left_at: i64,
    /// How many of them somebody had locked.
    locked: i64,
    /// Rows whose deletion was an error of their own.
    errors: i64,
    round: u32,
    /// Foreign keys that were told to be in the way.
    told: Vec<String>,
    /// Rows that were seen, in all rounds.
    handled: i64,
}

/// A row that is due, and when it was deleted.
type Due = (Place, Rc<str>);

pub struct Run {
    relid: Oid,
    target: String,
    cutoff: String,
    statements: Statements,
    queue: VecDeque<Due>,
    /// Rows deleted at `Cursor::after` that have been seen: the next read gives them again.
    seen: HashSet<Place>,
    read_rows: u32,
    batch_rows: u32,
    /// How many rows there are to be seen in all, as far as that is known; `None`: not estimated yet.
    total: Option<f64>,
}

impl Run {
    pub fn open(job: &Job) -> Result<Self> {
        let relid = job.relid.ok_or_else(|| gone(&job.target))?;
        let Params { cutoff } = serde_json::from_value(job.params.clone())?;
        Ok(Run {
            relid,
            target: job.target.clone(),
            cutoff,
            statements: Statements::default(),
            queue: VecDeque::new(),
            seen: HashSet::new(),
            read_rows: 20_000,
            batch_rows: 200,
            total: None,
        })
    }

    /// Locks what the step names, and looks at the foreign keys as they are now.
    fn look(&self) -> Result<(Managed, Graph)> {
        if !heap::lock_for_update(self.relid) {
            return Err(gone(&self.target));
        }
        require_owner(self.relid, &self.target)?;
        let managed = managed::find_whole(self.relid)?.ok_or_else(|| managed::not_enabled(&self.target))?;
        managed.check_types(&managed::columns(self.relid)?)?;
        let graph = Graph::locked(self.relid, heap::lock_for_update)?;
        refuse_row_security(self.relid, &graph)?;
        Ok((managed, graph))
    }

    /// What the planner thinks will go.
    fn plan(&mut self, context: &mut Context, managed: &Managed, cursor: &Cursor) -> Result<()> {
        if self.total.is_some() {
            return Ok(());
        }
        let sql = statements::due_estimate(&batch::name(self.relid)?, managed);
        let statement = self.statements.get(sql, &[types::TIMESTAMPTZ]);
        statement.names(&[self.relid]);
        let rows = statement.rows(&[Arg::Text(&self.cutoff)])?;
        let plan = rows.first().and_then(|row| row.first()?.as_deref());
        let plan: serde_json::Value = serde_json::from_str(plan.unwrap_or("null"))?;
        let rows = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        self.expect(context, cursor.handled as f64 + rows.max(1.0));
        Ok(())
    }

    fn expect(&mut self, context: &mut Context, total: f64) {
        self.total = Some(total);
        context.set_plan(Plan { strategy: "oldest first".into(), rows_estimate: total as i64, units_total: total });
    }

    /// The planner knows little of rows that were deleted just now: what has been read is there. Behind a full read there is
    /// more, of which nobody knows how much: as much again.
    fn expect_more(&mut self, context: &mut Context, cursor: &Cursor, is_full: bool) {
        let known = cursor.handled as f64 + self.queue.len() as f64 * if is_full { 2.0 } else { 1.0 };
        if self.total.is_none_or(|total| known > total || !is_full) {
            self.expect(context, known);
        }
    }

    /// Fills the queue; `false`: nothing is due any more.
    fn read(&mut self, context: &mut Context, managed: &Managed, cursor: &Cursor, held: &str) -> Result<bool> {
        let table = batch::name(self.relid)?;
        let more = cursor.after.is_some();
        let mut types = vec![types::TIMESTAMPTZ, types::UUIDARRAY, types::INT4];
        types.extend(more.then_some(types::TIMESTAMPTZ));
        let statement = self.statements.get(statements::due(&table, managed, more), &types);
        statement.names(&[self.relid]);
        // As many as it takes to get beyond those that have been seen.
        let limit = i32::try_from(self.seen.len()).unwrap_or(i32::MAX / 2) + self.read_rows as i32;
        let mut args = vec![Arg::Text(&self.cutoff), Arg::Text(held), Arg::Int(limit)];
        if let Some(after) = &cursor.after {
            args.push(Arg::Text(after));
        }
        let started = Instant::now();
        let rows = statement.rows(&args)?;
        let is_full = rows.len() >= limit as usize;
        self.read_rows = next_size(self.read_rows, started.elapsed(), context.batch_time(), READ_ROWS);
        let mut at: Rc<str> = Rc::from("");
        for row in rows {
            let [Some(leaf), Some(tid), Some(deleted_at)] = &row[..] else {
                return Err(Error::new(INTERNAL_ERROR, "a deleted row without its time"));
            };
            if **deleted_at != *at {
                at = Rc::from(deleted_at.as_str());
            }
            let place = Place { leaf: oid(leaf), tid: tid.parse()? };
            if !self.seen.contains(&place) {
                self.queue.push_back((place, Rc::clone(&at)));
            }
        }
        if cursor.round == 0 {
            self.expect_more(context, cursor, is_full);
        }
        Ok(!self.queue.is_empty())
    }

    fn work(&mut self, context: &mut Context, purge: &Purge<'_>, cursor: &mut Cursor) -> Result<()> {
        let count = (self.batch_rows as usize).min(self.queue.len());
        let due: Vec<Due> = self.queue.drain(..count).collect();
        let started = Instant::now();
        let places: Vec<Place> = due.iter().map(|(place, _)| *place).collect();
        let mut done = Done::default();
        self.carefully(purge, &places, context, cursor, &mut done)?;
        let took = started.elapsed();
        let handled = self.put_back(&due, &mut done);
        if let Some((_, last)) = handled.last() {
            self.advance(cursor, handled, last);
        }
        cursor.left_at += (done.locked.len() + done.held_by.len()) as i64;
        cursor.locked += done.locked.len() as i64;
        self.tell(context, purge, cursor, &done);
        // Those that are seen once more were counted.
        let first_seen = if cursor.round == 0 { handled.len() } else { 0 };
        cursor.handled += first_seen as i64;
        context.made(done.rows, first_seen as f64);
        context.set_batch_rows(done.rows);
        if count == self.batch_rows as usize {
            self.batch_rows = next_size(self.batch_rows, took, context.portion().time, BATCH_ROWS);
        }
        Ok(())
    }

    /// From the first row on which too much references for one batch, all that are still there come again at once.
    /// Gives the rows before it.
    fn put_back<'a>(&mut self, due: &'a [Due], done: &mut Done) -> &'a [Due] {
        if done.rows == 0 {
            // Whatever keeps them would keep them the next time.
            done.locked.append(&mut done.unfinished);
        }
        let Some(first) = due.iter().position(|(place, _)| done.unfinished.contains(place)) else { return due };
        let (handled, rest) = due.split_at(first);
        let mut again: HashSet<Place> = rest.iter().map(|(place, _)| *place).collect();
        let there: HashSet<Place> = done
            .locked
            .iter()
            .chain(&done.unfinished)
            .copied()
            .chain(done.held_by.iter().map(|(place, _)| *place))
            .collect();
        again.retain(|place| there.contains(place));
        for (place, at) in rest.iter().rev().filter(|(place, _)| again.contains(place)) {
            self.queue.push_front((*place, Rc::clone(at)));
        }
        done.locked.retain(|place| !again.contains(place));
        done.held_by.retain(|(place, _)| !again.contains(place));
        handled
    }

    /// Moves the cursor to the last row of a batch.
    fn advance(&mut self, cursor: &mut Cursor, due: &[Due], last: &Rc<str>) {
        if cursor.after.as_deref() != Some(last) {
            cursor.after = Some(last.to_string());
            cursor.left += std::mem::take(&mut cursor.left_at);
            self.seen.clear();
        }
        self.seen.extend(due.iter().rev().take_while(|(_, at)| at == last).map(|(place, _)| *place));
    }

    /// A batch; if a row of it is an error, in halves, until it is alone.
    fn carefully(
        &self,
        purge: &Purge<'_>,
        places: &[Place],
        context: &mut Context,
        cursor: &mut Cursor,
        done: &mut Done,
    ) -> Result<()> {
        let batch = || {
            let done = purge.batch(places)?;
            spi::theirs::run_deferred()?;
            Ok(done)
        };
        match subtransaction(batch) {
            Ok(more) => {
                done.rows += more.rows;
                done.locked.extend(more.locked);
                done.unfinished.extend(more.unfinished);
                done.held_by.extend(more.held_by);
                done.kept_by_trigger |= more.kept_by_trigger;
                Ok(())
            }
            Err(error) if is_row_error(error.sqlstate) && places.len() > 1 => {
                let (first, second) = places.split_at(places.len() / 2);
                self.carefully(purge, first, context, cursor, done)?;
                self.carefully(purge, second, context, cursor, done)
            }
            Err(error) if is_row_error(error.sqlstate) && cursor.errors < MOST_ERRORS => {
                cursor.errors += 1;
                cursor.left_at += 1;
                context.event("row skipped", format!("{} {}: {}", error.sqlstate, self.target, error.message));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Says once by which foreign key rows stay.
    fn tell(&self, context: &mut Context, purge: &Purge<'_>, cursor: &mut Cursor, done: &Done) {
        for (_, index) in &done.held_by {
            let edge = &purge.graph.edges[*index];
            let what = format!("\"{}\" of {}", edge.key.name, edge.child_sql());
            if !cursor.told.contains(&what) && cursor.told.len() < 100 {
                context.event(
                    "rows stay",
                    format!("rows of {} are referenced ({what}) by rows that are not due", self.target),
                );
                cursor.told.push(what);
            }
        }
        const KEPT: &str = "a trigger";
        if done.kept_by_trigger && !cursor.told.iter().any(|told| told == KEPT) {
            context.event("rows stay", "a trigger of a table's own kept rows from being deleted");
            cursor.told.push(KEPT.to_owned());
        }
    }

    /// Everything has been seen once. Rows that somebody had locked get another look.
    fn end_round(&mut self, context: &mut Context, cursor: Cursor) -> Result<Outcome> {
        let left = cursor.left + cursor.left_at;
        if cursor.locked == 0 || cursor.round >= ROUNDS {
            context.set_cursor(&cursor)?;
            return Ok(Outcome::Done { rows_left: left });
        }
        let next = Cursor { round: cursor.round + 1, told: cursor.told, handled: cursor.handled, ..Cursor::default() };
        context.set_cursor(&next)?;
        self.seen.clear();
        Ok(Outcome::Wait { reason: format!("{} rows are locked by somebody else", cursor.locked), time: PAUSE })
    }
}

fn gone(table: &str) -> Error {
    Error::new(UNDEFINED_TABLE, format!("table {table} does not exist (any more)"))
}

impl Work for Run {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        let (managed, graph) = self.look()?;
        spi::theirs::check_at_once()?;
        let mut cursor: Cursor = context.cursor()?.unwrap_or_default();
        self.plan(context, &managed, &cursor)?;
        let held = hold::held()?;
        if self.queue.is_empty() {
            if self.seen.is_empty() {
                // After an interruption those of this time are seen, and counted, again.
                cursor.left_at = 0;
            }
            if !self.read(context, &managed, &cursor, &held)? {
                return self.end_round(context, cursor);
            }
        }
        let statements = std::mem::take(&mut self.statements);
        let cutoff = self.cutoff.clone();
        let purge = Purge { target: &managed, graph: &graph, cutoff: &cutoff, held: &held, statements: &statements };
        let worked = loop {
            let worked = self.work(context, &purge, &mut cursor);
            if worked.is_err() || self.queue.is_empty() || !context.rest() {
                break worked;
            }
        };
        self.statements = statements;
        worked?;
        context.set_cursor(&cursor)?;
        Ok(Outcome::Continue)
    }

    fn relid(&self) -> Option<Oid> {
        Some(self.relid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_new_purge_has_an_empty_cursor() {
        assert_eq!(serde_json::from_value::<Cursor>(json!({})).unwrap(), Cursor::default());
    }
}
