//! A kind whose jobs are sequences, of steps that do what a test wants of them, and the same steps alone. What is done is a row of the
//! owner's table (`what text`): it shows whether each was done once, and in order.

use std::time::Duration;

use pgrx::{Uuid, pg_extern};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Numbers;
use crate::error::{Error, INTERNAL_ERROR, QUERY_CANCELED, RAISE_EXCEPTION, Result};
use crate::jobs::kind::{Completion, Context, Job, Kind, Nature, Outcome, Plan, Until, Work};
use crate::jobs::queue::{self, NewJob};
use crate::jobs::sequence::{Part, Parts, Planned, Sequence};
use crate::server::json::JsonB;
use crate::server::raise::answer;
use crate::server::{Oid, spi};
use crate::sql::quote;

/// A step: what it is to do, and how its rows are called.
#[derive(Clone, Deserialize)]
struct Act {
    what: What,
    label: String,
    #[serde(default)]
    table: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Writes three rows, one in each step.
    Write,
    /// Makes as many steps as its label says, of which nothing is seen: what a step costs.
    Count,
    /// Writes a row, then waits for a moment or parks, then writes another one.
    Wait,
    Park,
    /// Waits for a person.
    Tell,
    /// Writes a row at top level.
    Top,
    /// Fails, before and after a row, until the table has a row `allow LABEL`; or raises an error; or wants all before it undone.
    Fail,
    Raise,
    Undo,
    Skip,
    /// Has a child that writes numbers, the seventh of which is put aside.
    Child,
}

pub struct Nested;
pub struct Alone;

impl Kind for Nested {
    fn name(&self) -> &'static str {
        "nested"
    }

    fn nature(&self) -> Nature {
        Nature { noun: "a nested job", most_workers: 1, ..Nature::default() }
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(Sequence::open(job, &Nested)))
    }
}

impl Kind for Alone {
    fn name(&self) -> &'static str {
        "alone"
    }

    fn nature(&self) -> Nature {
        Nature { noun: "a step alone", most_workers: 1, ..Nature::default() }
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Ok(Box::new(serde_json::from_value::<Act>(job.params.clone())?))
    }
}

impl Parts for Nested {
    fn plan(&self, job: &Job) -> Result<Vec<Part>> {
        let steps = job.params.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(steps.iter().map(|step| part(step, job)).collect())
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        Alone.open(job)
    }
}

/// An array is a sequence, `["what", "label"]` a step.
fn part(value: &Value, job: &Job) -> Part {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(what), Value::String(label)]) => Part::Step(Planned {
            action: what.clone(),
            command: (what == "top").then(|| format!("INSERT .. {label}")),
            relid: job.relid,
            lock_mode: Some("RowExclusiveLock"),
            reversible: what == "write" || what == "top",
            params: json!({ "what": what, "label": label, "table": job.target }),
        }),
        Some(parts) => Part::Sequence(parts.iter().map(|value| part(value, job)).collect()),
        None => Part::Sequence(Vec::new()),
    }
}

impl Act {
    fn insert(&self, what: &str) -> String {
        let what = quote::literal(what);
        format!(
            "INSERT INTO {0} (what) SELECT {what} FROM pg_catalog.pg_sleep(0.02)
             WHERE NOT EXISTS (SELECT FROM {0} t WHERE t.what OPERATOR(pg_catalog.=) {what} AND {1})",
            self.table,
            // In a transaction of the step's nothing is done twice by itself: a row that comes twice is seen.
            self.what == What::Top
        )
    }

    fn write(&self, what: &str) -> Result<()> {
        spi::theirs::execute(&self.insert(what), &[&self.table]).map(drop)
    }

    fn is_there(&self, what: &str) -> Result<bool> {
        let sql =
            format!("SELECT t.what FROM {} t WHERE t.what OPERATOR(pg_catalog.=) {}", self.table, quote::literal(what));
        Ok(!spi::execute_returning(&sql, &[], |_| Ok(()))?.is_empty())
    }

    fn failure(&self) -> Error {
        Error::new(RAISE_EXCEPTION, format!("{} fails", self.label))
    }

    /// Fails for as long as the table does not allow it.
    fn failing(&self, failed: impl FnOnce(Error) -> Result<Outcome>) -> Result<Outcome> {
        if self.is_there(&format!("allow {}", self.label))? {
            self.write(&self.label)?;
            return Ok(Outcome::Done { rows_left: 0 });
        }
        failed(self.failure())
    }

    /// A row, a pause, a row.
    fn around(&self, context: &mut Context, pause: Outcome) -> Result<Outcome> {
        if context.cursor::<i32>()?.is_some() {
            self.write(&format!("{} after", self.label))?;
            return Ok(Outcome::Done { rows_left: 0 });
        }
        self.write(&format!("{} before", self.label))?;
        context.set_cursor(&1)?;
        Ok(pause)
    }
}

impl Work for Act {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        let reason = || format!("{} waits", self.label);
        match self.what {
            What::Write => {
                let number: i32 = context.cursor()?.unwrap_or(0);
                context.set_plan(Plan { strategy: "three rows".into(), rows_estimate: 3, units_total: 3.0 });
                if number == 3 {
                    return Ok(Outcome::Done { rows_left: 0 });
                }
                self.write(&format!("{} {number}", self.label))?;
                context.set_cursor(&(number + 1))?;
                context.made(1, 1.0);
                Ok(Outcome::Continue)
            }
            What::Count => {
                let number: i32 = context.cursor()?.unwrap_or(0);
                let last: i32 = self.label.parse().unwrap_or(0);
                context.set_plan(Plan { strategy: "steps".into(), rows_estimate: 0, units_total: f64::from(last) });
                context.set_cursor(&(number + 1))?;
                context.made(0, 1.0);
                Ok(if number < last { Outcome::Continue } else { Outcome::Done { rows_left: 0 } })
            }
            What::Wait => self.around(context, Outcome::Wait { reason: reason(), time: Duration::from_millis(50) }),
            What::Park => self
                .around(context, Outcome::Park { reason: reason(), until: Until::After(Duration::from_millis(300)) }),
            What::Tell if context.answered() => {
                self.write(&self.label)?;
                Ok(Outcome::Done { rows_left: 0 })
            }
            What::Tell => Ok(Outcome::Park { reason: format!("{} asks", self.label), until: Until::Told }),
            What::Top if self.is_there(&self.label)? => Ok(Outcome::Done { rows_left: 0 }),
            What::Top => {
                context.keep_for_good();
                Ok(Outcome::TopLevel(self.insert(&self.label)))
            }
            What::Fail => self.failing(|error| Ok(Outcome::Fail(error))),
            What::Raise => self.failing(Err),
            What::Undo => self.failing(|error| Ok(Outcome::Undo(error))),
            What::Skip => {
                context.skipped("there is nothing to do");
                Ok(Outcome::Done { rows_left: 0 })
            }
            What::Child => {
                let (relid, table) = (context.job().relid, self.table.clone());
                let child = context.child(&self.label, 0.5, move || {
                    Ok(NewJob { relid, ..NewJob::plain(&Numbers, table, json!({ "last": 7 })) })
                })?;
                if let Some(failure) = child.failure() {
                    return Ok(Outcome::Fail(failure));
                }
                if !child.has_ended() {
                    return Ok(Outcome::Park { reason: format!("{} has a child", self.label), until: Until::Children });
                }
                self.write(&self.label)?;
                Ok(Outcome::Done { rows_left: child.rows_left })
            }
        }
    }

    fn top_level_done(&mut self, _context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        match answer {
            Ok(_) => Ok(Outcome::Continue),
            Err(error) if error.sqlstate == QUERY_CANCELED => Ok(Outcome::Continue),
            Err(error) => Ok(Outcome::Fail(error)),
        }
    }

    /// Not if the table has a row `keep LABEL`.
    fn undo(&mut self, _context: &mut Context) -> Result<Outcome> {
        if self.is_there(&format!("keep {}", self.label))? {
            return Ok(Outcome::Fail(Error::new(RAISE_EXCEPTION, format!("{} is kept", self.label))));
        }
        let mine = quote::literal(&format!("{}%", self.label));
        spi::theirs::execute(
            &format!("DELETE FROM {} t WHERE t.what OPERATOR(pg_catalog.~~) {mine}", self.table),
            &[&self.table],
        )?;
        Ok(Outcome::Done { rows_left: 0 })
    }
}

/// A sequence of such steps.
#[pg_extern]
fn outside_nested(target: Oid, steps: JsonB) -> Uuid {
    answer(create(target, &Nested, |_| json!({ "steps": steps.0 })))
}

/// One step alone.
#[pg_extern]
fn outside_alone(target: Oid, what: &str, label: &str) -> Uuid {
    answer(create(target, &Alone, |table| json!({ "what": what, "label": label, "table": table })))
}

fn create(target: Oid, kind: &'static dyn Kind, params: impl FnOnce(&str) -> Value) -> Result<Uuid> {
    let (schema, name) = crate::server::heap::name(target).ok_or_else(|| Error::new(INTERNAL_ERROR, "no table"))?;
    let table = pgrx::spi::quote_qualified_identifier(schema, name);
    let params = params(&table);
    queue::create(NewJob { relid: Some(target), ..NewJob::plain(kind, table, params) })
}
