//! The job kind `command`: one SQL command of the caller's, run by a worker as the caller.
//!
//! It is never repeated by itself once started (LAW 17): nobody can know how far
//! a VACUUM or a procedure that commits had come.

use pgrx::Uuid;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::{Completion, Context, Job, Kind, Outcome, Plan};
use super::limits::Limits;
use super::queue::{self, NewJob};
use crate::error::{Error, INVALID_PARAMETER_VALUE, QUERY_CANCELED, Result};
use crate::server::{raise, statement};

pub const KIND: &str = "command";

#[derive(Serialize, Deserialize)]
struct Params {
    command: String,
}

/// `upkeep.run_in_background(command, name, retries)`
#[pg_extern(sql = false)]
fn run_in_background(command: Option<&str>, name: Option<&str>, retries: Option<i32>) -> Uuid {
    raise::answer(create(command, name, retries.unwrap_or(0)))
}

fn create(command: Option<&str>, name: Option<&str>, retries: i32) -> Result<Uuid> {
    let command = queue::require(command, "command")?;
    if retries < 0 {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("retries must not be negative, but is {retries}")));
    }
    let tag = statement::background_command(command)?;
    queue::create(NewJob {
        kind: KIND,
        name,
        relid: None,
        target: tag,
        params: serde_json::to_value(Params { command: command.to_owned() })?,
        workers: 1,
        batch_time: None,
        paused: false,
        if_not_exists: false,
        retries,
        limits: Limits::default(),
    })
}

/// What a retry starts from: as if it had never run.
pub fn retry_shared() -> Value {
    json!({})
}

/// How far the run of a command has come.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Progress {
    Started,
}

pub struct Command {
    params: Params,
}

impl Command {
    pub fn open(job: &Job) -> Result<Self> {
        Ok(Command { params: serde_json::from_value(job.params.clone())? })
    }
}

impl Kind for Command {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        if context.cursor.is_some() {
            return Ok(Outcome::Fail(
                Error::new(QUERY_CANCELED, "the command was interrupted and may be done in part")
                    .detail("The worker or the server ended while the command ran.")
                    .hint(format!("Look at what it did, then repeat it: SELECT upkeep.retry('{}');", context.job.id)),
            ));
        }
        context.cursor = Some(serde_json::to_value(Progress::Started)?);
        context.plan = Some(Plan { strategy: "top level".into(), rows_estimate: 0, units_total: 1.0 });
        Ok(Outcome::TopLevel(self.params.command.clone()))
    }

    /// Once started it cannot be held back, and before that it does nothing.
    fn is_throttled(&self) -> bool {
        false
    }

    fn top_level_done(&mut self, context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        match answer {
            Ok(Completion { tag, rows }) => {
                context.rows = rows as i64;
                context.units = 1.0;
                context.event("completed", format!("{tag}, {rows} rows"));
                Ok(Outcome::Done { rows_left: 0 })
            }
            Err(error) => {
                context.cursor = None;
                Ok(Outcome::Fail(error))
            }
        }
    }
}
