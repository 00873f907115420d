//! The job kind `command`: one SQL command of the caller's, run by a worker as the caller.
//!
//! It is never repeated by itself once started (LAW 17): nobody can know how far
//! a VACUUM or a procedure that commits had come.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::{Completion, Context, Job, Kind, Outcome, Plan};
use super::queue::{self, NewJob};
use super::store;
use crate::calls::arguments;
use crate::error::{Error, INVALID_PARAMETER_VALUE, QUERY_CANCELED, Result, SqlState};
use crate::server::{notices, raise, statement};

pub const KIND: &str = "command";

#[derive(Serialize, Deserialize)]
struct Params {
    command: String,
    /// Of a run of a schedule: which, and how that wants its runs.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    run: Option<ScheduledRun>,
}

#[derive(Serialize, Deserialize)]
struct ScheduledRun {
    schedule: String,
    /// ms
    timeout: Option<u64>,
    retries: i32,
    /// ms
    retry_backoff: u64,
}

/// Pauses between retries are doubled up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

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
    let params = serde_json::to_value(Params { command: command.to_owned(), run: None })?;
    queue::create(NewJob { name, retries, ..NewJob::plain(KIND, tag, params) })
}

/// Of a job's parameters: what it runs.
pub fn text(params: &Value) -> &str {
    params.get("command").and_then(Value::as_str).unwrap_or_default()
}

/// What a retry starts from: as if it had never run.
pub fn retry_shared() -> Value {
    json!({})
}

/// How far the run of a command has come.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Progress {
    Started,
    /// It has ended, which could not be recorded at once.
    Answered(Answer),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Completed { tag: String, rows: u64 },
    Failed { sqlstate: String, message: String, detail: Option<String>, hint: Option<String>, timed_out: bool },
}

/// In the job's shared cursor: its run was ended by its schedule's timeout.
const TIMED_OUT: &str = "timed_out";

pub struct Command {
    params: Params,
    started: Option<Instant>,
    /// Its run was seen to be ended by its timeout.
    timed_out: bool,
}

impl Command {
    pub fn open(job: &Job) -> Result<Self> {
        Ok(Command { params: serde_json::from_value(job.params.clone())?, started: None, timed_out: false })
    }
}

impl Kind for Command {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if let Some(cursor) = &context.cursor {
            if let Progress::Answered(answer) = serde_json::from_value(cursor.clone())? {
                let answer = self.recall(answer);
                return self.top_level_done(context, answer);
            }
            if let (true, Some(limit)) = (context.overran, self.time_limit()) {
                store::write_shared(context.job.id, json!({ TIMED_OUT: true }))?;
                context.cursor = None;
                return Ok(Outcome::Fail(timed_out(limit).detail(
                    "It caught the cancel and went on, so that its worker had to be ended; it may be done in part.",
                )));
            }
            return Ok(Outcome::Fail(
                Error::new(QUERY_CANCELED, "the command was interrupted and may be done in part")
                    .detail("The worker or the server ended while the command ran.")
                    .hint(format!("Look at what it did, then repeat it: {}", self.how_to_repeat(context))),
            ));
        }
        context.cursor = Some(serde_json::to_value(Progress::Started)?);
        context.plan = Some(Plan { strategy: "top level".into(), rows_estimate: 0, units_total: 1.0 });
        self.started = Some(Instant::now());
        Ok(Outcome::TopLevel(self.params.command.clone()))
    }

    /// Once started it cannot be held back, and before that it does nothing.
    fn is_throttled(&self) -> bool {
        false
    }

    fn top_level_done(&mut self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        // Of this process: what a worker before this one was told is gone.
        if let Some(said) = notices::kept() {
            context.event("messages", said);
        }
        match answer {
            Ok(Completion { tag, rows }) => {
                context.rows = rows as i64;
                context.units = 1.0;
                context.event("completed", format!("{tag}, {rows} rows"));
                Ok(Outcome::Done { rows_left: 0 })
            }
            Err(error) => {
                context.cursor = None;
                match self.time_limit().filter(|limit| self.timed_out || self.was_timed_out(&error, *limit)) {
                    Some(limit) => {
                        store::write_shared(context.job.id, json!({ TIMED_OUT: true }))?;
                        Ok(Outcome::Fail(timed_out(limit)))
                    }
                    None => Ok(Outcome::Fail(error)),
                }
            }
        }
    }

    fn keep_answer(&self, answer: &Result<Completion>) -> Option<Value> {
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

    fn time_limit(&self) -> Option<Duration> {
        self.params.run.as_ref()?.timeout.map(Duration::from_millis)
    }

    fn retry_delay(&self, retries: i32) -> Duration {
        match &self.params.run {
            None => Duration::from_secs(1),
            Some(run) => backoff(run.retry_backoff, run.retries - retries),
        }
    }
}

/// The pause before the first, second, .. retry (counted from 0).
fn backoff(first: u64, nth: i32) -> Duration {
    let factor = 1u32.checked_shl(nth.max(0) as u32).unwrap_or(u32::MAX);
    Duration::from_millis(first).checked_mul(factor).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

fn timed_out(limit: Duration) -> Error {
    Error::new(QUERY_CANCELED, format!("the command was canceled after its timeout of {} s", limit.as_secs_f64()))
        .hint("SELECT upkeep.alter_schedule(.., timeout => ..) gives it more time.")
}

impl Command {
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

    fn how_to_repeat(&self, context: &Context) -> String {
        match &self.params.run {
            None => format!("SELECT upkeep.retry('{}');", context.job.id),
            Some(run) => format!("SELECT upkeep.run_now('{}');", run.schedule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_day() {
        let seconds: Vec<u64> = (0..4).map(|nth| backoff(60_000, nth).as_secs()).collect();
        assert_eq!(seconds, [60, 120, 240, 480]);
        assert_eq!(backoff(60_000, 31), LONGEST_PAUSE);
        assert_eq!(backoff(u64::MAX, 99), LONGEST_PAUSE);
        assert_eq!(backoff(0, 3), Duration::ZERO);
    }

    #[test]
    fn an_answer_survives_the_cursor() {
        let params = Params { command: "VACUUM".into(), run: None };
        let mut command = Command { params, started: None, timed_out: false };
        let recalled = |command: &mut Command, answer: &Result<Completion>| {
            let cursor = command.keep_answer(answer).unwrap();
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

    #[test]
    fn parameters_of_a_schedules_run_are_optional() {
        let plain: Params = serde_json::from_value(json!({ "command": "VACUUM" })).unwrap();
        assert!(plain.run.is_none());
        assert_eq!(serde_json::to_value(plain).unwrap(), json!({ "command": "VACUUM" }));
        let run = json!({ "command": "VACUUM", "schedule": "x", "timeout": null, "retries": 2, "retry_backoff": 5 });
        let run: Params = serde_json::from_value(run).unwrap();
        assert_eq!(run.run.map(|run| (run.timeout, run.retries)), Some((None, 2)));
    }
}
