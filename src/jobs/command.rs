//! The job kind `command`: one SQL command of the caller's, run by a worker as the caller.
//! Whoever makes such jobs for a purpose of his own ([`Terms`]) has a kind of that name too.
//!
//! It is never repeated by itself once started (LAW 17): nobody can know how far
//! a VACUUM or a procedure that commits had come.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::children::Child;
use super::kind::{Completion, Context, Job, Kind, Nature, Outcome, Plan, Restart, Until, Work};
use super::queue::{self, NewJob};
use super::store;
use crate::calls::arguments;
use crate::error::{Error, INVALID_PARAMETER_VALUE, QUERY_CANCELED, Result, SqlState};
use crate::server::index_command::{self, Extent};
use crate::server::{notices, raise, statement};

pub const KIND: &str = "command";

#[derive(Serialize, Deserialize)]
struct Params {
    command: String,
}

/// What whoever makes the job wants of its run.
pub struct Terms {
    pub time_limit: Option<Duration>,
    /// The pause before the first retry; it is doubled with each. And how many there may be.
    pub backoff: Duration,
    pub retries: i32,
    /// What to type to run it once more, and to give it more time.
    pub repeat: String,
    pub more_time: &'static str,
}

impl Terms {
    fn plain(job: Uuid) -> Self {
        Terms {
            time_limit: None,
            backoff: Duration::from_secs(1),
            retries: 0,
            repeat: format!("SELECT upkeep.retry('{job}');"),
            more_time: "",
        }
    }
}

/// Pauses between retries are doubled up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The kind of what `upkeep.run_in_background()` makes.
pub struct Command;

impl Kind for Command {
    fn name(&self) -> &'static str {
        KIND
    }

    fn nature(&self) -> Nature {
        NATURE
    }

    /// The command was looked at by itself: it takes more room as JSON.
    fn check_params(&self, _params: &Value) -> Result<()> {
        Ok(())
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(Run::open(job, Terms::plain(job.id))?))
    }

    fn extent(&self, job: &Job, begun: bool) -> Result<Extent> {
        extent(job, begun)
    }

    fn restart(&self, _shared: Value, _was_done: bool) -> Restart {
        from_the_start()
    }
}

/// Once started it cannot be held back, and before that it does nothing.
pub const NATURE: Nature = Nature {
    resumable: false,
    throttled: false,
    in_one_piece: true,
    most_workers: 1,
    noun: "a command",
    leaves: "something",
};

/// One that has begun only says that it was interrupted.
pub fn extent(job: &Job, begun: bool) -> Result<Extent> {
    if begun { Ok(Extent::Tables(Vec::new())) } else { index_command::extent(text(&job.params)) }
}

/// As if it had never run.
pub fn from_the_start() -> Restart {
    Restart { shared: json!({}), keep_cursors: false }
}

/// `upkeep.run_in_background(command, name, retries)`
#[pg_extern(sql = false)]
fn run_in_background(command: Option<&str>, name: Option<&str>, retries: Option<i32>) -> Uuid {
    raise::answer(create(command, name, retries.unwrap_or(0)))
}

fn create(command: Option<&str>, name: Option<&str>, retries: i32) -> Result<Uuid> {
    let command = arguments::required(command, "command")?;
    if retries < 0 {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("retries must not be negative, but is {retries}")));
    }
    arguments::check_length("the command", command.len())?;
    arguments::check_text("name", name)?;
    let tag = statement::background_command(command)?;
    let params = serde_json::to_value(Params { command: command.to_owned() })?;
    queue::create(NewJob { name, retries, ..NewJob::plain(&Command, tag, params) })
}

/// Of a job's parameters: what it runs.
fn text(params: &Value) -> &str {
    params.get("command").and_then(Value::as_str).unwrap_or_default()
}

/// How far the run of a command has come.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Progress {
    Started,
    /// It has ended, which could not be recorded at once.
    Answered(Answer),
    /// It has ended, and jobs that it has asked for have not.
    Children,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Completed { tag: String, rows: u64 },
    Failed { sqlstate: String, message: String, detail: Option<String>, hint: Option<String>, timed_out: bool },
}

/// In the job's shared cursor: its run was ended by its time limit.
const TIMED_OUT: &str = "timed_out";

/// A command at work.
pub struct Run {
    command: String,
    terms: Terms,
    started: Option<Instant>,
    /// Its run was seen to be ended by its time limit.
    timed_out: bool,
}

impl Run {
    pub fn open(job: &Job, terms: Terms) -> Result<Self> {
        let Params { command } = serde_json::from_value(job.params.clone())?;
        Ok(Run { command, terms, started: None, timed_out: false })
    }
}

impl Work for Run {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if let Some(progress) = context.cursor::<Progress>()? {
            match progress {
                Progress::Answered(answer) => {
                    let answer = self.recall(answer);
                    return self.top_level_done(context, answer);
                }
                Progress::Children => {
                    let children = context.children()?;
                    return Ok(self.end_with_children(context, &children));
                }
                Progress::Started => {}
            }
            if let (true, Some(limit)) = (context.overran(), self.time_limit()) {
                store::write_shared(context.job().id, json!({ TIMED_OUT: true }))?;
                context.clear_cursor();
                return Ok(Outcome::Fail(self.too_slow(limit).detail(
                    "It caught the cancel and went on, so that its worker had to be ended; it may be done in part.",
                )));
            }
            return Ok(Outcome::Fail(
                Error::new(QUERY_CANCELED, "the command was interrupted and may be done in part")
                    .detail("The worker or the server ended while the command ran.")
                    .hint(format!("Look at what it did, then repeat it: {}", self.terms.repeat)),
            ));
        }
        // Those of a run before are nothing to this one.
        context.release_children()?;
        context.set_cursor(&Progress::Started)?;
        context.set_plan(Plan { strategy: "top level".into(), rows_estimate: 0, units_total: 1.0 });
        self.started = Some(Instant::now());
        Ok(Outcome::TopLevel(self.command.clone()))
    }

    fn top_level_done(&mut self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        // Of this process: what a worker before this one was told is gone.
        if let Some(said) = notices::kept() {
            context.event("messages", said);
        }
        match answer {
            Ok(Completion { tag, rows }) => {
                let children = context.children()?;
                // What they do is what it does.
                context.made(if children.is_empty() { rows as i64 } else { 0 }, 1.0);
                context.event("completed", format!("{tag}, {rows} rows"));
                context.set_cursor(&Progress::Children)?;
                Ok(self.end_with_children(context, &children))
            }
            Err(error) => {
                context.clear_cursor();
                match self.time_limit().filter(|limit| self.timed_out || self.was_timed_out(&error, *limit)) {
                    Some(limit) => {
                        store::write_shared(context.job().id, json!({ TIMED_OUT: true }))?;
                        Ok(Outcome::Fail(self.too_slow(limit)))
                    }
                    None => Ok(Outcome::Fail(error)),
                }
            }
        }
    }

    fn keep_answer(&self, _context: &Context, answer: &Result<Completion>) -> Option<Value> {
        self.kept(answer)
    }

    fn time_limit(&self) -> Option<Duration> {
        self.terms.time_limit
    }

    fn retry_delay(&self, retries: i32) -> Duration {
        backoff(self.terms.backoff, self.terms.retries.saturating_sub(retries))
    }
}

/// The pause before the first, second, .. retry (counted from 0).
fn backoff(first: Duration, nth: i32) -> Duration {
    let factor = 1u32.checked_shl(nth.max(0) as u32).unwrap_or(u32::MAX);
    first.checked_mul(factor).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

impl Run {
    /// What a command has asked for as its own is a part of its run.
    fn end_with_children(&self, context: &mut Context, children: &[(String, Child)]) -> Outcome {
        if let Some((child, failure)) = children.iter().find_map(|(_, child)| Some((child, child.failure()?))) {
            context.clear_cursor();
            let again =
                format!("SELECT upkeep.retry('{}'); tries that again, and {} all of it.", child.id, self.terms.repeat);
            return Outcome::Fail(failure.hint(again));
        }
        match children.iter().find(|(_, child)| !child.has_ended()) {
            Some((_, Child { id, kind, target, .. })) => Outcome::Park {
                reason: format!("waits for its part, {kind} of {target} (job {id})"),
                until: Until::Children,
            },
            None => Outcome::Done { rows_left: children.iter().map(|(_, child)| child.rows_left).sum() },
        }
    }

    /// The cursor that holds an answer.
    fn kept(&self, answer: &Result<Completion>) -> Option<Value> {
        let answer = match answer.clone() {
            Ok(Completion { tag, rows }) => Answer::Completed { tag, rows },
            Err(error) => Answer::Failed {
                timed_out: self.time_limit().is_some_and(|limit| self.was_timed_out(&error, limit)),
                sqlstate: error.sqlstate.to_string(),
                message: error.message,
                detail: error.detail,
                hint: error.hint,
            },
        };
        serde_json::to_value(Progress::Answered(answer)).ok()
    }

    fn too_slow(&self, limit: Duration) -> Error {
        Error::new(QUERY_CANCELED, format!("the command was canceled after its timeout of {} s", limit.as_secs_f64()))
            .hint(self.terms.more_time)
    }

    fn was_timed_out(&self, error: &Error, limit: Duration) -> bool {
        error.sqlstate == QUERY_CANCELED && self.started.is_some_and(|started| started.elapsed() >= limit)
    }

    fn recall(&mut self, answer: Answer) -> Result<Completion> {
        match answer {
            Answer::Completed { tag, rows } => Ok(Completion { tag, rows }),
            Answer::Failed { sqlstate, message, detail, hint, timed_out } => {
                self.timed_out = timed_out;
                Err(Error { sqlstate: SqlState::parse(&sqlstate), message, detail, hint, position: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_day() {
        let minute = Duration::from_secs(60);
        let seconds: Vec<u64> = (0..4).map(|nth| backoff(minute, nth).as_secs()).collect();
        assert_eq!(seconds, [60, 120, 240, 480]);
        assert_eq!(backoff(minute, 31), LONGEST_PAUSE);
        assert_eq!(backoff(Duration::from_millis(u64::MAX), 99), LONGEST_PAUSE);
        assert_eq!(backoff(Duration::ZERO, 3), Duration::ZERO);
    }

    #[test]
    fn an_answer_survives_the_cursor() {
        let terms = Terms::plain(Uuid::from_bytes([0; 16]));
        let mut command = Run { command: "VACUUM".into(), terms, started: None, timed_out: false };
        let recalled = |command: &mut Run, answer: &Result<Completion>| {
            let cursor = command.kept(answer).unwrap();
            let Progress::Answered(answer) = serde_json::from_value(cursor).unwrap() else { panic!("no answer") };
            command.recall(answer)
        };
        let done = recalled(&mut command, &Ok(Completion { tag: "VACUUM".into(), rows: 3 })).unwrap();
        assert_eq!((done.tag.as_str(), done.rows), ("VACUUM", 3));
        let failed = recalled(&mut command, &Err(Error::new(SqlState::new(b"ABC01"), "no").hint("why"))).unwrap_err();
        assert_eq!((failed.sqlstate.to_string().as_str(), failed.hint.as_deref()), ("ABC01", Some("why")));
        // As 0.5.0 wrote it.
        assert!(matches!(serde_json::from_value(json!("started")).unwrap(), Progress::Started));
    }
}
