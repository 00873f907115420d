//! What a kind of job implements, and what the executor gives it to work with.
//!
//! The executor owns transactions, crash safety, pause and cancel, retries and
//! strikes; a kind only says what the next unit of work is and does it.

use std::time::Duration;

use pgrx::Uuid;
use serde_json::Value;

use super::claims::Claim;
pub use super::context::Context;
pub use super::work::{Event, Job, Outcome, Plan, Until};
use crate::calls::arguments;
use crate::error::Result;
use crate::server::Oid;
use crate::server::index_command::Extent;
pub use crate::server::top_level::Completion;
use crate::settings;

/// A kind of job: what may be asked of it without running one. One static each, named in `src/lib.rs`.
pub trait Kind: Sync {
    /// As in `upkeep.jobs`.
    fn name(&self) -> &'static str;

    /// Kinds may share a name. A job of that name belongs to the first one that takes what it is to do.
    fn takes(&self, _params: &Value) -> bool {
        true
    }

    fn nature(&self) -> Nature {
        Nature::default()
    }

    /// May this be written down as what a job is to do?
    fn check_params(&self, params: &Value) -> Result<()> {
        arguments::check_length("what the job is to do", params.to_string().len())
    }

    /// Opens a job of it, in the executor that will run it.
    fn open(&self, job: &Job) -> Result<Box<dyn Work>>;

    /// The tables whose indexes it builds or drops. Jobs that want the same one are all accepted, and take turns when they
    /// are started. `begun`: an executor before this one has started it.
    fn extent(&self, _job: &Job, _begun: bool) -> Result<Extent> {
        Ok(Extent::Tables(Vec::new()))
    }

    /// What a job needs of its table that no other unfinished job may have: it is refused at creation otherwise.
    fn claims(&self, _relid: Option<Oid>, _params: &Value) -> Result<Vec<Claim>> {
        Ok(Vec::new())
    }

    /// Where a finished job starts again: at its place, or, if it was done, for what it left.
    fn restart(&self, shared: Value, was_done: bool) -> Restart {
        Restart { shared, keep_cursors: !was_done }
    }

    /// May it start again now, whatever it claims?
    fn check_retry(&self, _job: Uuid) -> Result<()> {
        Ok(())
    }

    /// Removes what a finished job has made beside our tables (`_job.needs_cleanup`), without waiting for anybody. `Some`: why it
    /// has to be tried again.
    fn clean_up(&self, _job: Uuid) -> Result<Option<String>> {
        Ok(None)
    }

    /// This job of it came with a dump or a copy of the server, and is to go on here: what was known of the old place is
    /// forgotten, and looked up again by name. Its row still says where it came from. Inside `spi::bookkeeping`.
    fn moved_here(&self, _job: Uuid) -> Result<()> {
        Ok(())
    }

    /// The tables in which it writes down more, row by row.
    fn belongings(&self) -> &'static [Belonging] {
        &[]
    }
}

/// What holds for all jobs of a kind.
pub struct Nature {
    /// Can a job stop half way and go on later? What cannot is never repeated by itself either (LAW 17).
    pub resumable: bool,
    /// Do the server's limits hold it back between its steps?
    pub throttled: bool,
    /// Does it work in one piece, without steps after which it could give its worker up?
    pub in_one_piece: bool,
    pub most_workers: i32,
    /// What people call one.
    pub noun: &'static str,
    /// What an unfinished clean-up leaves, for people.
    pub leaves: &'static str,
}

impl Nature {
    /// Can it go slowly, and is it to?
    pub fn is_paced(&self) -> bool {
        self.throttled && !self.in_one_piece
    }
}

impl Default for Nature {
    fn default() -> Self {
        Nature {
            resumable: true,
            throttled: true,
            in_one_piece: false,
            most_workers: settings::MAX_WORKERS_PER_JOB,
            noun: "a job",
            leaves: "something",
        }
    }
}

/// How a finished job starts again.
pub struct Restart {
    /// What its slots share.
    pub shared: Value,
    /// Each slot goes on where it was.
    pub keep_cursors: bool,
}

/// The table of jobs.
pub const JOBS: &str = "upkeep._job";

/// A table whose rows belong to those of another one. There is no foreign key between them: see [`super::forget`].
pub struct Belonging {
    pub table: &'static str,
    /// Names a row of `to` by its id.
    pub column: &'static str,
    pub to: &'static str,
}

impl Belonging {
    pub const fn to_job(table: &'static str) -> Self {
        Belonging { table, column: "job", to: JOBS }
    }
}

/// One job at work in one executor.
pub trait Work {
    /// The next unit of work, in a transaction that the executor commits
    /// together with the cursor. `Err` rolls it back. What may pass is tried again:
    /// serialization failures, deadlocks, lock timeouts, a lack of resources, a cancel (`retry.rs`). Anything else fails
    /// the job.
    fn step(&mut self, context: &mut Context) -> Result<Outcome>;

    /// The table that the next step changes, as far as that is known.
    fn relid(&self) -> Option<Oid> {
        None
    }

    /// Called in a new transaction with the answer to [`Outcome::TopLevel`], and again with the same one until that
    /// transaction has committed.
    fn top_level_done(&mut self, _context: &mut Context, answer: Result<Completion>) -> Result<Outcome> {
        answer.map(|_| Outcome::Continue)
    }

    /// The cursor that tells a later executor of an answer that this one could not record yet. `None`: it will look
    /// for itself what the statement has done.
    fn keep_answer(&self, _context: &Context, _answer: &Result<Completion>) -> Option<Value> {
        None
    }

    /// Did we write the text of its top-level statements? It is then read as it was written, and not under the settings
    /// captured with the job.
    fn writes_its_statements(&self) -> bool {
        false
    }

    /// Takes back what it has done, one unit of it in each step, after all of it was done. Where there is nothing to be taken back, it is
    /// done. Of a statement at top level it is not told the answer: it looks for itself.
    fn undo(&mut self, _context: &mut Context) -> Result<Outcome> {
        Ok(Outcome::Done { rows_left: 0 })
    }

    /// How long a top-level statement may take before it is canceled.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// The pause before a failed job is tried again, with so many retries left.
    fn retry_delay(&self, _retries: i32) -> Duration {
        Duration::from_secs(1)
    }
}
