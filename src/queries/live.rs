//! `upkeep.query_stats`: what shared memory knows now.

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use super::figures::Figures;
use super::histogram::Histogram;
use crate::calls::arguments;
use crate::error::*;
use crate::queries::raw::{memory, texts};
use crate::server::raise::answer;
use crate::server::{Oid, catalog};

/// Whose statements the caller may see (LAW 5).
pub struct Sight {
    user: Oid,
    all: bool,
    roles: HashMap<u32, bool>,
}

impl Sight {
    pub fn of_caller() -> Self {
        let user = catalog::current_user();
        Sight { user, all: catalog::may_see_statistics(user), roles: HashMap::new() }
    }

    pub fn reaches_all(&self) -> bool {
        self.all
    }

    pub fn reaches(&mut self, role: u32) -> bool {
        let user = self.user;
        self.all || *self.roles.entry(role).or_insert_with(|| catalog::has_privileges_of(user, Oid::from(role)))
    }
}

pub fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

pub fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Counters are read while they are written: a first call may be in the histogram and not yet in the extremes.
fn percentile(histogram: &Histogram, fraction: f64, figures: &Figures) -> Option<f64> {
    let (min, max) = (milliseconds(figures.min), milliseconds(figures.max));
    let (min, max) = if min <= max && max > 0.0 { (min, max) } else { (0.0, f64::MAX) };
    super::percentile::below_the_last(histogram, fraction, min, max)
}

pub fn require_memory() -> Result<()> {
    if memory::is_available() {
        return Ok(());
    }
    Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "statements are not counted on this server")
        .detail("pg_upkeep is not in shared_preload_libraries.")
        .hint("Add pg_upkeep to shared_preload_libraries in postgresql.conf and restart the server."))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_query_live() -> TableIterator<
    'static,
    (
        name!(datid, Option<Oid>),
        name!(queryid, Option<i64>),
        name!(userid, Option<Oid>),
        name!(toplevel, bool),
        name!(calls, i64),
        name!(rows, i64),
        name!(total_time, f64),
        name!(min_time, Option<f64>),
        name!(max_time, Option<f64>),
        name!(p50_time, Option<f64>),
        name!(p95_time, Option<f64>),
        name!(p99_time, Option<f64>),
        name!(errors, i64),
        name!(cancellations, i64),
        name!(timeouts, i64),
        name!(unknown_errors, i64),
        name!(histogram, Vec<u8>),
        name!(stats_since, Option<TimestampWithTimeZone>),
        // A text, whose bytes are those of the database's encoding and need not be UTF-8.
        name!(query, Option<Vec<u8>>),
        name!(may_see, bool),
        name!(by_job, bool),
    ),
> {
    answer(require_memory());
    let here = catalog::my_database().to_u32();
    let mut sight = Sight::of_caller();
    let texts: HashMap<(i64, u32), Vec<u8>> = texts::texts()
        .map(|texts| texts.waiting(here))
        .unwrap_or_default()
        .into_iter()
        .filter(|text| catalog::is_text_here(&text.text))
        .map(|text| ((text.queryid, text.user), text.text))
        .collect();
    let entries: Vec<memory::Entry> =
        memory::live(here).into_iter().filter(|entry| entry.database == here || sight.reaches_all()).collect();
    TableIterator::new(entries.into_iter().map(move |entry| {
        let memory::Entry { key, database, since, figures, .. } = entry;
        let others = key.queryid == 0;
        let may_see = others || sight.reaches(key.user);
        let succeeded = !figures.histogram.is_empty();
        let time = |fraction| percentile(&figures.histogram, fraction, &figures);
        let [errors, cancellations, timeouts, unknown] = figures.failures.map(count);
        (
            (database != 0).then(|| Oid::from(database)),
            may_see.then_some(key.queryid),
            (!others).then(|| Oid::from(key.user)),
            key.toplevel,
            count(figures.histogram.count()),
            count(figures.rows),
            milliseconds(figures.total),
            (succeeded && figures.min > 0).then(|| milliseconds(figures.min)),
            (succeeded && figures.max > 0).then(|| milliseconds(figures.max)),
            time(0.5),
            time(0.95),
            time(0.99),
            errors,
            cancellations,
            timeouts,
            unknown,
            figures.histogram.encode(),
            TimestampWithTimeZone::try_from(since).ok(),
            texts.get(&(key.queryid, key.user)).filter(|_| may_see).cloned(),
            may_see,
            key.by_job,
        )
    }))
}

#[pg_extern(sql = false)]
fn upkeep_reset_query_stats(userid: Option<Oid>, queryid: Option<i64>, history: Option<bool>) {
    answer(reset(userid.map(Oid::to_u32), queryid, history));
}

fn reset(user: Option<u32>, queryid: Option<i64>, history: Option<bool>) -> Result<()> {
    let history = arguments::required(history, "history")?;
    if history && (user.is_some() || queryid.is_some()) {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "the history can only be removed as a whole")
            .hint("SELECT upkeep.reset_query_stats(history => true);"));
    }
    require_memory()?;
    if history {
        super::store::forget_history()?;
    }
    let whole = memory::reset(catalog::my_database().to_u32(), catalog::now(), |id, role| {
        user.is_none_or(|user| user == role) && queryid.is_none_or(|queryid| queryid == id)
    });
    if whole {
        return Ok(());
    }
    Err(Error::new(LOCK_NOT_AVAILABLE, "not all figures begin anew: another process is at some of them")
        .hint("Call upkeep.reset_query_stats() again."))
}
