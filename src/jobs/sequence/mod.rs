//! Work that is a sequence of other work: one part after the other, by one slot. A part can be a sequence itself.
//!
//! What the parts are is planned once, in the first step, and stored (`_job_step`): people see it from then on, and a later version of
//! the plan's code finds what an earlier one has begun. The cursor of a sequence says which part is at work, and holds that part's
//! cursor. A sequence of one part is that part: step for step the same, killed wherever it may be.

mod cursor;
mod tree;
mod undo;

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use self::cursor::Cursor;
pub use self::tree::Part;
use self::tree::{Node, tree, write};
use super::context::Context;
use super::kind::{Completion, Job, Outcome, Plan, Work};
use super::store::steps;
pub use super::store::steps::Planned;
use crate::ddl;
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::server::{Oid, spi};

/// What is special about the sequences of a kind. Its `Nature` has one worker: parts are done one after the other.
pub trait Parts: Sync {
    /// What is to be done, seen now.
    fn plan(&self, job: &Job) -> Result<Vec<Part>>;

    /// Opens a part. `job` is about this part: its `relid` and `params` are the step's.
    fn open(&self, job: &Job) -> Result<Box<dyn Work>>;

    /// At its end it is planned once more, for what has come meanwhile.
    fn looks_again(&self) -> bool {
        false
    }
}

/// Plans of one sequence: somebody could go on adding to what is to be done (LAW 23).
const MOST_PLANS: u32 = 10;

pub struct Sequence {
    parts: &'static dyn Parts,
    job: Job,
    /// Its place among the steps of the job.
    path: Vec<i32>,
    /// `None`: not read yet, or not planned.
    nodes: Option<Vec<Node>>,
    open: Option<Open>,
}

/// The part at work.
struct Open {
    number: usize,
    /// What it works on, as its own job.
    job: Rc<Job>,
    work: Box<dyn Work>,
}

impl Sequence {
    pub fn open(job: &Job, parts: &'static dyn Parts) -> Self {
        Sequence { parts, job: job.clone(), path: Vec::new(), nodes: None, open: None }
    }

    fn nested(&self, number: usize, nodes: Vec<Node>) -> Self {
        let mut path = self.path.clone();
        path.push(number as i32);
        Sequence { parts: self.parts, job: self.job.clone(), path, nodes: Some(nodes), open: None }
    }

    fn is_whole(&self) -> bool {
        self.path.is_empty()
    }

    fn nodes(&self) -> &[Node] {
        self.nodes.as_deref().unwrap_or_default()
    }

    /// Reads what is planned, and plans if nothing is. `false`: it has just been planned, which is a step of its own.
    fn read(&mut self, context: &mut Context, cursor: &mut Cursor) -> Result<bool> {
        if self.nodes.is_some() {
            return Ok(true);
        }
        let read = |sequence: &Self| Ok::<_, Error>(tree(&spi::bookkeeping(|| steps::all(sequence.job.id))?, 0));
        let nodes = read(self)?;
        let planned = !nodes.is_empty() || cursor.plans > 0;
        self.nodes = Some(nodes);
        if !planned {
            self.plan(cursor)?;
        }
        self.tell_plan(context);
        Ok(planned)
    }

    /// What a sequence of one is at, its only part says.
    fn tell_plan(&self, context: &mut Context) {
        if !self.is_one_step() {
            let steps = self.nodes().iter().map(Node::steps).sum::<usize>().max(1);
            context.set_plan(Plan { strategy: "step by step".into(), rows_estimate: 0, units_total: steps as f64 });
        }
    }

    fn is_one_step(&self) -> bool {
        self.is_whole() && matches!(self.nodes(), [Node::Step(_)])
    }

    /// Writes down what is to be done after what is planned already.
    fn plan(&mut self, cursor: &mut Cursor) -> Result<()> {
        let more = self.parts.plan(&self.job)?;
        cursor.plans += 1;
        let first = self.nodes().last().map_or(0, |last| last.number(0) + 1);
        spi::bookkeeping(|| {
            for (number, part) in (first..).zip(more.iter().filter(|part| !part.is_empty())) {
                write(self.job.id, &[number], part)?;
            }
            self.nodes = Some(tree(&steps::all(self.job.id)?, 0));
            Ok(())
        })
    }

    /// A part, opened if it is not yet.
    fn opened(&mut self, number: usize) -> Result<&mut Open> {
        if self.open.as_ref().is_none_or(|open| open.number != number) {
            let (job, work): (Job, Box<dyn Work>) = match self.nodes().get(number) {
                Some(Node::Step(step)) => {
                    let job = Job { relid: step.relid, params: step.params.clone(), ..self.job.clone() };
                    let work = self.parts.open(&job)?;
                    (job, work)
                }
                Some(Node::Sequence(nodes)) => (self.job.clone(), Box::new(self.nested(number, nodes.clone()))),
                None => return Err(Error::new(INTERNAL_ERROR, format!("a sequence has no part {number}"))),
            };
            self.open = Some(Open { number, job: Rc::new(job), work });
        }
        self.open.as_mut().ok_or_else(|| Error::new(INTERNAL_ERROR, "a part that was just opened is not there"))
    }

    /// Runs one step of the part at work, in a context of its own, and takes over what that has done.
    fn run_part(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor,
        run: impl FnOnce(&mut Box<dyn Work>, &mut Context) -> Result<Outcome>,
    ) -> Result<(Outcome, Option<String>)> {
        let at = cursor.at;
        let weight = self.nodes().get(at).map_or(0, Node::steps) as f64;
        let open = self.opened(at)?;
        let mut inner = context.part(at, Rc::clone(&open.job), cursor.part.take());
        let outcome = run(&mut open.work, &mut inner)?;
        if let (Some(path), Some(times)) = (self.step_path(at), ddl::times_of_attempts()) {
            spi::bookkeeping(|| steps::note_locks(self.job.id, path, &times))?;
        }
        cursor.part = inner.take_cursor();
        context.take_locks(&inner);
        let has_progressed = inner.has_progressed();
        let done = inner.take_step();
        if let Some(plan) = done.plan {
            cursor.whole = plan.units_total;
            if self.is_one_step() {
                context.set_plan(Plan { units_total: 1.0, ..plan });
            }
        }
        // Of a step that says how far it is: so much of its weight. The rest comes when it is done.
        let made = if cursor.whole > 0.0 { (done.units / cursor.whole).clamp(0.0, 1.0 - cursor.made) } else { 0.0 };
        cursor.made += made;
        context.made(done.rows, made * weight);
        if let Some(rows) = done.batch_rows {
            context.set_batch_rows(rows);
        }
        for event in done.events {
            context.event(event.event, event.detail);
        }
        if done.for_good {
            context.keep_for_good();
        }
        if has_progressed {
            context.note_progress();
        }
        Ok((outcome, done.skipped))
    }

    /// Forwards: what comes of the part's outcome.
    fn advance(
        &mut self,
        context: &mut Context,
        cursor: &mut Cursor,
        outcome: Outcome,
        skipped: Option<String>,
    ) -> Result<Outcome> {
        match outcome {
            Outcome::Done { rows_left } => {
                let state = if skipped.is_some() { "skipped" } else { "done" };
                self.end_step(cursor.at, state, skipped.as_deref(), rows_left)?;
                let weight = self.nodes()[cursor.at].steps() as f64;
                context.made(0, (1.0 - cursor.made) * weight);
                *cursor = Cursor {
                    at: cursor.at + 1,
                    left: cursor.left + rows_left,
                    plans: cursor.plans,
                    ..Cursor::default()
                };
                self.go_on(context, cursor)
            }
            Outcome::Fail(error) => {
                self.end_step(cursor.at, "failed", Some(&error.message), 0)?;
                Ok(Outcome::Fail(error))
            }
            Outcome::Undo(error) => {
                self.end_step(cursor.at, "failed", Some(&error.message), 0)?;
                self.begin_undoing(context, cursor, &error);
                Ok(Outcome::Continue)
            }
            other => Ok(other),
        }
    }

    /// Begins the part that is next, or is done. What is done already, in a run before, is not done again.
    fn go_on(&mut self, context: &mut Context, cursor: &mut Cursor) -> Result<Outcome> {
        while let Some(done) = self.nodes().get(cursor.at).filter(|node| node.is_finished()) {
            cursor.left += done.rows_left();
            cursor.at += 1;
        }
        let ended = cursor.at >= self.nodes().len();
        if ended && self.is_whole() && self.parts.looks_again() && cursor.plans < MOST_PLANS {
            self.plan(cursor)?;
            self.tell_plan(context);
        }
        if cursor.at >= self.nodes().len() {
            return Ok(Outcome::Done { rows_left: cursor.left });
        }
        self.begin_step(cursor.at)?;
        Ok(Outcome::Continue)
    }

    fn step_path(&self, number: usize) -> Option<&[i32]> {
        match self.nodes().get(number) {
            Some(Node::Step(step)) => Some(&step.path),
            _ => None,
        }
    }

    /// A nested sequence has rows for its steps only.
    fn begin_step(&self, number: usize) -> Result<()> {
        let Some(path) = self.step_path(number) else { return Ok(()) };
        spi::bookkeeping(|| steps::begin(self.job.id, path))
    }

    fn end_step(&self, number: usize, state: &str, detail: Option<&str>, rows_left: i64) -> Result<()> {
        let Some(path) = self.step_path(number) else { return Ok(()) };
        spi::bookkeeping(|| steps::end(self.job.id, path, state, detail, rows_left))
    }

    /// The cursor as the last step left it. One that is no sequence's, of a kind that was none yet, says nothing.
    fn recall(&mut self, context: &Context) -> Result<Cursor> {
        match context.cursor::<Cursor>() {
            Ok(cursor) => Ok(cursor.unwrap_or_default()),
            Err(unreadable) => match spi::bookkeeping(|| steps::all(self.job.id))?.is_empty() {
                true => Ok(Cursor::default()),
                false => Err(unreadable),
            },
        }
    }

    fn at_work(&self) -> Option<&dyn Work> {
        self.open.as_ref().map(|open| open.work.as_ref())
    }
}

impl Work for Sequence {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if context.slot() > 0 {
            return Ok(Outcome::Fail(Error::new(INTERNAL_ERROR, "a sequence has one worker")));
        }
        let mut cursor = self.recall(context)?;
        if !self.read(context, &mut cursor)? {
            let outcome = self.go_on(context, &mut cursor)?;
            context.set_cursor(&cursor)?;
            return Ok(outcome);
        }
        if let Some(error) = cursor.undoing.clone() {
            return self.undo_step(context, cursor, error);
        }
        let is_open = self.open.as_ref().is_some_and(|open| open.number == cursor.at);
        if self.nodes().get(cursor.at).is_none_or(|node| !is_open && node.is_finished()) {
            let outcome = self.go_on(context, &mut cursor)?;
            context.set_cursor(&cursor)?;
            return Ok(outcome);
        }
        if !is_open {
            // After a retry, or by a new worker.
            self.begin_step(cursor.at)?;
        }
        let (outcome, skipped) = self.run_part(context, &mut cursor, |work, context| work.step(context))?;
        let outcome = self.advance(context, &mut cursor, outcome, skipped)?;
        context.set_cursor(&cursor)?;
        Ok(outcome)
    }

    fn top_level_done(&mut self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        let mut cursor = self.recall(context)?;
        if cursor.undoing.is_some() {
            self.read(context, &mut cursor)?;
            // The part looks for itself what the statement has done.
            return answer.map_or_else(|failed| self.not_undone(context, cursor, failed), |_| Ok(Outcome::Continue));
        }
        let (outcome, skipped) =
            self.run_part(context, &mut cursor, |work, context| work.top_level_done(context, answer))?;
        let outcome = self.advance(context, &mut cursor, outcome, skipped)?;
        context.set_cursor(&cursor)?;
        Ok(outcome)
    }

    fn undo(&mut self, context: &mut Context) -> Result<Outcome> {
        self.undo_all(context)
    }

    fn relid(&self) -> Option<Oid> {
        match self.at_work() {
            Some(work) => work.relid(),
            None => self.job.relid,
        }
    }

    fn keep_answer(&self, context: &Context, answer: &Result<Completion>) -> Option<Value> {
        let cursor: Cursor = context.cursor().ok().flatten()?;
        // What is undone looks for itself.
        let open = self.open.as_ref().filter(|open| open.number == cursor.at && cursor.undoing.is_none())?;
        let inner = context.part(cursor.at, Rc::clone(&open.job), cursor.part.clone());
        let part = open.work.keep_answer(&inner, answer)?;
        serde_json::to_value(Cursor { part: Some(part), ..cursor }).ok()
    }

    fn writes_its_statements(&self) -> bool {
        self.at_work().is_some_and(Work::writes_its_statements)
    }

    fn time_limit(&self) -> Option<Duration> {
        self.at_work().and_then(Work::time_limit)
    }

    fn retry_delay(&self, retries: i32) -> Duration {
        self.at_work().map_or(Duration::from_secs(1), |work| work.retry_delay(retries))
    }
}
