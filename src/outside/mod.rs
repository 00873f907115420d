//! A kind of job and a chore from outside: what it takes to add one is in this file, and nothing of it in the engine. The harness
//! runs jobs of it, kills their workers, and looks at what the chore says.

use pgrx::{Uuid, pg_extern};
use serde_json::{Value, json};

use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::jobs::chore::{Chore, Memory, Visit};
use crate::jobs::claims::{Claim, What};
use crate::jobs::kind::{Context, Job, Kind, Nature, Outcome, Plan, Restart, Work};
use crate::jobs::queue::{self, NewJob};
use crate::jobs::registry;
use crate::jobs::slowdown::Clients;
use crate::quarantine;
use crate::server::Oid;
use crate::server::raise::answer;
use crate::server::spi;

mod nested;

/// What `src/lib.rs` registers, and these.
pub fn register(kinds: &[&'static dyn Kind], chores: &[&'static dyn Chore], clients: &'static dyn Clients) {
    let ours: [&dyn Kind; 3] = [&Numbers, &nested::Nested, &nested::Alone];
    let kinds = [kinds, &ours].concat();
    let chores = [&[&Erring as &dyn Chore], chores].concat();
    registry::register(kinds.leak(), chores.leak(), clients);
}

/// Writes the numbers up to a last one into a table, one in each step. Those that seven divides are put aside at first.
struct Numbers;

impl Kind for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }

    fn nature(&self) -> Nature {
        Nature { noun: "a row of numbers", most_workers: 1, ..Nature::default() }
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        let last = job.params.get("last").and_then(Value::as_i64).unwrap_or_default();
        let relid = job.relid.ok_or_else(|| Error::new(INTERNAL_ERROR, "no table"))?;
        Ok(Box::new(Writing { job: job.id, relid, table: job.target.clone(), last }))
    }

    fn claims(&self, relid: Option<Oid>, _params: &Value) -> Result<Vec<Claim>> {
        Ok(relid.map(|relid| Claim { relid, what: What::Rows }).into_iter().collect())
    }

    fn restart(&self, _shared: Value, was_done: bool) -> Restart {
        Restart { shared: json!({ "again": was_done }), keep_cursors: !was_done }
    }
}

struct Writing {
    job: Uuid,
    relid: Oid,
    table: String,
    last: i64,
}

impl Writing {
    fn write(&self, number: i64) -> Result<()> {
        // As the job's owner: it is his table.
        let insert = format!("INSERT INTO {} SELECT {number} FROM pg_catalog.pg_sleep(0.005)", self.table);
        spi::theirs::execute(&insert, &[&self.table]).map(drop)
    }
}

impl Work for Writing {
    fn step(&mut self, context: &mut Context) -> Result<Outcome> {
        let again = context.with_shared(|_, shared, _| {
            let again = shared.get("again") == Some(&json!(true));
            Ok((shared, again))
        })?;
        if again {
            spi::bookkeeping(|| quarantine::come_back_to(self.job))?;
            for row in quarantine::locked_after(self.job, self.relid, 0, 1000)? {
                self.write(row.row_key.as_i64().unwrap_or_default())?;
                quarantine::forget(self.job, self.relid, &row.row_key)?;
            }
            return Ok(Outcome::Done { rows_left: 0 });
        }
        let number: i64 = context.cursor()?.unwrap_or(1);
        context.set_plan(Plan { strategy: "one by one".into(), units_total: self.last as f64, ..Plan::default() });
        if number > self.last {
            return Ok(Outcome::Done { rows_left: quarantine::count(self.job)? });
        }
        if number % 7 == 0 {
            quarantine::put_aside(
                self.job,
                self.relid,
                &json!(number),
                &Error::new(INTERNAL_ERROR, "seven divides it"),
            )?;
        } else {
            self.write(number)?;
        }
        context.set_cursor(&(number + 1))?;
        context.made(1, 1.0);
        Ok(Outcome::Continue)
    }

    fn relid(&self) -> Option<Oid> {
        Some(self.relid)
    }
}

/// A job of it.
#[pg_extern]
fn outside_numbers(target: Oid, name: &str, last: i64) -> Uuid {
    let new = NewJob::plain(&Numbers, name.to_owned(), json!({ "last": last }));
    answer(queue::create(NewJob { relid: Some(target), ..new }))
}

/// Fails each time: the chores after it, and jobs, do not notice.
struct Erring;

impl Chore for Erring {
    fn name(&self) -> &'static str {
        "a chore from outside"
    }

    fn visit(&self, _memory: &Memory) -> Result<Visit> {
        Err(Error::new(INTERNAL_ERROR, "it fails each time"))
    }
}
