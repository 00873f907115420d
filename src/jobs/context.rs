//! What a step is given to work with: the job, where this slot is, and a place for what the step has done. It is stored in the step's
//! own transaction.
//!
//! Work that is a part of other work ([`super::sequence`]) gets a context of its own, one level down: the same services, its own
//! parameters, its own place.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::portions::{Portion, Portions};
use super::store;
use super::work::{Event, Job, Outcome, Plan};
use crate::ddl::{Blocked, Rest, Tries};
use crate::error::Result;

/// The state of one worker slot, handed to each step.
#[derive(Clone, Debug)]
pub struct Context {
    job: Rc<Job>,
    slot: i32,
    /// Of nested work: its number on each level. Empty: the job's own.
    place: Vec<usize>,
    workers: i32,
    batch_time: Duration,
    usual_batch_time: Duration,
    portions: Rc<Portions>,
    cursor: Option<Value>,
    overran: bool,
    answered: bool,
    /// The attempts at locks that were in vain, since the last one that was not.
    locks: Tries,
    step: Done,
}

/// What a step has done, beside moving its cursor.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub rows: i64,
    pub units: f64,
    /// Rows of a typical batch now, for people to look at.
    pub batch_rows: Option<i64>,
    pub plan: Option<Plan>,
    /// Of a part of a sequence that does not say how much there is of it.
    pub progressed: bool,
    pub events: Vec<Event>,
    pub for_good: bool,
    /// Of a part of a sequence: why there was nothing to do.
    pub skipped: Option<String>,
}

impl Context {
    pub(super) fn new(job: Job, slot: i32, cursor: Option<Value>, batch_time: Duration) -> Self {
        Context {
            job: Rc::new(job),
            slot,
            place: Vec::new(),
            workers: 1,
            batch_time,
            usual_batch_time: batch_time,
            portions: Rc::default(),
            cursor,
            overran: false,
            answered: false,
            locks: Tries::default(),
            step: Done::default(),
        }
    }

    /// What was before this executor: the last one was ended at a limit; a person has let the job go on; it was locked out so often.
    pub(super) fn after(self, overran: bool, answered: bool, locks: Tries) -> Self {
        Context { overran, answered, locks, ..self }
    }

    pub fn job(&self) -> &Job {
        &self.job
    }

    pub fn slot(&self) -> i32 {
        self.slot
    }

    /// How many workers the job may have now.
    pub fn workers(&self) -> i32 {
        self.workers
    }

    /// How long a transaction of this job should take.
    pub fn batch_time(&self) -> Duration {
        self.batch_time
    }

    /// How large a portion of a step may be: a statement that writes rows.
    pub fn portion(&self) -> Portion {
        self.portions.size()
    }

    /// Is anybody to be given way to?
    pub fn is_beside_others(&self) -> bool {
        self.portions.is_beside_others()
    }

    /// Between two portions of a step: rests as the job's pace wants it. `false`: the step is to end with what it has.
    pub fn rest(&self) -> bool {
        self.portions.rest()
    }

    /// The same when nobody is in the way: what a step may never take long beyond.
    pub fn usual_batch_time(&self) -> Duration {
        self.usual_batch_time
    }

    /// The executor before this one was ended because it went on beyond a limit.
    pub fn overran(&self) -> bool {
        self.overran
    }

    /// The work waited for a person ([`Until::Told`](super::kind::Until)), who has let it go on. True until a step is committed.
    #[cfg_attr(not(feature = "pg_test"), expect(dead_code, reason = "for kinds to come; src/outside/ proves it"))]
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Where this slot is; `None`: it has nothing in hand.
    pub fn cursor<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Ok(self.cursor.as_ref().map(T::deserialize).transpose()?)
    }

    pub fn set_cursor(&mut self, cursor: &impl Serialize) -> Result<()> {
        self.cursor = Some(serde_json::to_value(cursor)?);
        Ok(())
    }

    pub fn clear_cursor(&mut self) {
        self.cursor = None;
    }

    pub(super) fn has_cursor(&self) -> bool {
        self.cursor.is_some()
    }

    /// As it is stored.
    pub(super) fn written_cursor(&self) -> Option<&Value> {
        self.cursor.as_ref()
    }

    pub(super) fn take_cursor(&mut self) -> Option<Value> {
        self.cursor.take()
    }

    pub(super) fn put_cursor(&mut self, cursor: Option<Value>) {
        self.cursor = cursor;
    }

    /// This step has processed so many rows, and come so far in the units of [`Plan::units_total`].
    pub fn made(&mut self, rows: i64, units: f64) {
        self.step.rows += rows;
        self.step.units += units;
    }

    /// What it has made counts for so much more, or less.
    pub fn scale_units(&mut self, factor: f64) {
        self.step.units *= factor;
    }

    pub fn set_batch_rows(&mut self, rows: i64) {
        self.step.batch_rows = Some(rows);
    }

    /// Facts about the job that this step found out, for people to look at.
    pub fn set_plan(&mut self, plan: Plan) {
        self.step.plan = Some(plan);
    }

    /// A line of the job's history.
    pub fn event(&mut self, event: &'static str, detail: impl Into<String>) {
        self.step.events.push(Event { event, detail: detail.into() });
    }

    /// What was before all that this step has done.
    pub(super) fn event_before(&mut self, event: &'static str, detail: String) {
        self.step.events.insert(0, Event { event, detail });
    }

    /// For the next attempt at the locks of a change.
    pub fn lock_tries(&self) -> &Tries {
        &self.locks
    }

    /// It had its locks.
    pub fn has_had_locks(&mut self) {
        self.locks = Tries::default();
    }

    /// An attempt at locks was in vain: says so, once for each who is in the way, and rests.
    pub fn locked_out(&mut self, blocked: Blocked, purpose: &str) -> Outcome {
        match blocked.rest(&mut self.locks, purpose) {
            Ok(Rest { reason, time, news }) => {
                if let Some((event, detail)) = news {
                    self.event(event, detail);
                }
                Outcome::Wait { reason, time }
            }
            Err(error) => Outcome::Fail(error),
        }
    }

    /// A crash must not forget this step: it took something for itself, or announced what it will do.
    pub fn keep_for_good(&mut self) {
        self.step.for_good = true;
    }

    /// There was nothing to do, and why: a step of a sequence is shown as skipped when it is done.
    pub fn skipped(&mut self, why: impl Into<String>) {
        self.step.skipped = Some(why.into());
    }

    /// Reads and replaces what all slots of the job share, under a row lock that lasts until this step commits: use it in steps that do
    /// nothing else. `change` gets the shared value and the cursors of the other slots that have something in hand; a part of a
    /// sequence has none beside it.
    pub fn with_shared<T>(
        &mut self,
        change: impl FnOnce(&mut Context, Value, Vec<Value>) -> Result<(Value, T)>,
    ) -> Result<T> {
        let (mut whole, others) = store::lock_shared(self.job.id, self.slot)?;
        let others = if self.place.is_empty() { others } else { Vec::new() };
        let place = self.place.clone();
        let mine = at_place(&mut whole, &place).take();
        let mine = if mine.is_null() { Value::Object(Map::new()) } else { mine };
        let (changed, result) = change(self, mine, others)?;
        *at_place(&mut whole, &place) = changed;
        store::write_shared(self.job.id, whole)?;
        self.keep_for_good();
        Ok(result)
    }

    pub(super) fn begin_step(&mut self, events: Vec<Event>) {
        self.step = Done { events, ..Done::default() };
    }

    pub(super) fn portions(&self) -> &Portions {
        &self.portions
    }

    pub(super) fn set_pace(&mut self, workers: i32, usual_batch_time: Duration, batch_time: Duration) {
        self.workers = workers;
        self.usual_batch_time = usual_batch_time;
        self.batch_time = batch_time;
    }

    pub(super) fn answer_is_taken(&mut self) {
        self.answered = false;
    }

    pub(super) fn step_done(&self) -> &Done {
        &self.step
    }

    /// Has this step got something done?
    pub(super) fn has_progressed(&self) -> bool {
        self.step.rows > 0 || self.step.units > 0.0 || self.step.progressed
    }

    pub(super) fn note_progress(&mut self) {
        self.step.progressed = true;
    }

    pub(super) fn take_locks(&mut self, part: &Context) {
        self.locks = part.locks.clone();
    }

    pub(super) fn take_step(&mut self) -> Done {
        std::mem::take(&mut self.step)
    }

    pub(super) fn put_step(&mut self, step: Done) {
        self.step = step;
    }

    /// The context of work one level down: `number` of its siblings, which is to do `params` with `relid`, and is at `cursor`.
    pub(super) fn part(&self, number: usize, job: Rc<Job>, cursor: Option<Value>) -> Context {
        let mut place = self.place.clone();
        place.push(number);
        Context {
            job,
            place,
            cursor,
            locks: self.locks.clone(),
            portions: Rc::clone(&self.portions),
            step: Done::default(),
            ..*self
        }
    }
}

/// What nested work shares lies in that of the whole, by number.
fn at_place<'a>(whole: &'a mut Value, place: &[usize]) -> &'a mut Value {
    place.iter().fold(whole, |value, number| {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        let parts = &mut value["parts"];
        if !parts.is_object() {
            *parts = Value::Object(Map::new());
        }
        &mut parts[&number.to_string()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_parts_share_does_not_meet() {
        let mut whole = json!({"mine": 1});
        *at_place(&mut whole, &[0]) = json!({"a": 1});
        *at_place(&mut whole, &[1, 2]) = json!({"b": 2});
        assert_eq!(at_place(&mut whole, &[0]), &json!({"a": 1}));
        assert_eq!(at_place(&mut whole, &[1, 2]), &json!({"b": 2}));
        assert_eq!(at_place(&mut whole, &[1, 3]), &Value::Null);
        assert_eq!(whole["mine"], json!(1));
        let before = whole.clone();
        assert_eq!(at_place(&mut whole, &[]), &before);
    }
}
