//! A job, and what its steps answer.

use std::time::Duration;

use pgrx::Uuid;
use serde_json::Value;

use crate::error::Error;
use crate::server::Oid;

/// What a step reports when its transaction may commit.
#[derive(Debug)]
pub enum Outcome {
    /// There is more to do.
    Continue,
    /// There is more to do, but not now. The wait holds no transaction and no snapshot; a long one holds no worker either.
    Wait { reason: String, time: Duration },
    /// There is nothing to do until something happens. No worker is held meanwhile, and what the work remembers is gone when it goes
    /// on: all that it needs is in its cursor.
    Park { reason: String, until: Until },
    /// Run this statement next, as a client would send it: outside a transaction
    /// block. The result arrives in [`Work::top_level_done`](super::kind::Work::top_level_done).
    TopLevel(String),
    /// The job is finished. `rows_left` are rows that still need it.
    Done { rows_left: i64 },
    /// The job cannot go on. What this step wrote is kept.
    Fail(Error),
    /// The same, after the steps of the sequence before this one were undone, as far as they can be. Of work that is no part of one it
    /// is a failure like any other.
    Undo(Error),
}

/// What parked work waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// For so long.
    After(Duration),
    /// Until all children of the job have ended, or one of them has failed or was canceled.
    Children,
    /// Until a person says `upkeep.resume(job)`; [`Context::answered`](super::context::Context::answered) tells that somebody has.
    #[cfg_attr(not(feature = "pg_test"), expect(dead_code, reason = "for kinds to come; src/outside/ proves it"))]
    Told,
}

/// A job as the executor read it when it started.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: Uuid,
    pub kind: String,
    pub owner: Oid,
    pub relid: Option<Oid>,
    pub target: String,
    pub params: Value,
}

/// What is known about the whole of a job; shown in `upkeep.jobs`.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub strategy: String,
    pub rows_estimate: i64,
    /// What the sum of all [`Context::made`](super::context::Context::made) will be at the end.
    pub units_total: f64,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// A short word: `strategy`, `quarantine`, `locked rows`, ..
    pub event: &'static str,
    pub detail: String,
}
