//! What SQL calls.

use super::{definition, explain, kind, new_rows, policies, preview, rights};
use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use serde_json::json;

use super::definition::{Checked, OnError};
use crate::calls::arguments;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};
use crate::jobs::limits::Limits;
use crate::jobs::queue::{self, NewJob};
use crate::server::Oid;
use crate::server::json::{JsonB, Untouched};
use crate::server::raise::{self, Level, answer};

/// What somebody asks for, as it arrives.
struct Request<'a> {
    target: Option<Oid>,
    assignments: Option<&'a str>,
    condition: Option<&'a str>,
    name: Option<&'a str>,
    workers: Option<i32>,
    batch_time: Option<Interval>,
    on_error: Option<&'a str>,
    paused: Option<bool>,
    if_not_exists: Option<bool>,
    options: Option<JsonB>,
    fill_new_rows: bool,
    limits: Limits,
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn upkeep_backfill_0_9(
    target: Option<Oid>,
    assignments: Option<&str>,
    condition: Option<&str>,
    name: Option<&str>,
    workers: Option<i32>,
    batch_time: Option<Interval>,
    on_error: Option<&str>,
    paused: Option<bool>,
    if_not_exists: Option<bool>,
    options: Option<JsonB>,
    fill_new_rows: Option<bool>,
    run_between: Option<&str>,
    timezone: Option<&str>,
    max_replica_lag: Option<Interval>,
    max_replica_lag_bytes: Option<i64>,
    max_wal_rate: Option<i32>,
    throttle_work_ratio: Option<f64>,
    max_slowdown: Option<f64>,
) -> Uuid {
    let limits = Limits::given(
        run_between,
        timezone,
        max_replica_lag,
        max_replica_lag_bytes,
        max_wal_rate,
        throttle_work_ratio,
        max_slowdown,
    );
    answer(limits.and_then(|limits| {
        ask(Request {
            target,
            assignments,
            condition,
            name,
            workers,
            batch_time,
            on_error,
            paused,
            if_not_exists,
            options,
            fill_new_rows: fill_new_rows.unwrap_or(false),
            limits,
        })
    }))
}

fn check_texts(assignments: Option<&str>, condition: Option<&str>) -> Result<()> {
    arguments::check_text("assignments", assignments)?;
    arguments::check_text("condition", condition)
}

fn ask(request: Request<'_>) -> Result<Uuid> {
    check_texts(request.assignments, request.condition)?;
    arguments::check_text("name", request.name)?;
    arguments::check_text("on_error", request.on_error)?;
    let options = request.options.map_or_else(|| json!({}), |options| options.0);
    let on_error = OnError::read(request.on_error)?;
    let mut checked = definition::check(request.target, request.assignments, request.condition, on_error, &options)?;
    checked.definition.fill_new_rows = request.fill_new_rows;
    rights::check(&checked)?;
    if request.fill_new_rows {
        new_rows::check(&checked)?;
    }
    create(
        &checked,
        NewJob {
            kind: &kind::Backfill,
            name: request.name,
            relid: Some(checked.table.relid),
            target: checked.table.sql.clone(),
            params: serde_json::to_value(&checked.definition)?,
            workers: request.workers.unwrap_or(1),
            batch_time: request.batch_time.as_ref().map(milliseconds).transpose()?,
            paused: request.paused.unwrap_or(false),
            if_not_exists: Some(request.if_not_exists.unwrap_or(false)),
            retries: 0,
            limits: request.limits,
            parent: None,
        },
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_explain_backfill(
    target: Option<Oid>,
    assignments: Option<&str>,
    condition: Option<&str>,
    workers: Option<i32>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(strategy, String),
        name!(reason, String),
        name!(batches, i64),
        name!(rows_estimate, i64),
        name!(estimated_duration, Option<Interval>),
        name!(wal_estimate, i64),
        name!(locks, String),
        name!(warnings, Vec<String>),
    ),
> {
    let explanation = answer((|| {
        check_texts(assignments, condition)?;
        let options = options.map_or_else(|| json!({}), |options| options.0);
        let workers = workers.unwrap_or(1);
        queue::check_workers(workers)?;
        let checked = definition::check(target, assignments, condition, OnError::Quarantine, &options)?;
        explain::explain(&checked, workers)
    })());
    TableIterator::once((
        explanation.strategy,
        explanation.reason,
        explanation.batches,
        explanation.rows_estimate,
        Some(Interval::from_seconds(explanation.seconds)),
        explanation.wal_bytes,
        explanation.locks,
        explanation.warnings,
    ))
}

#[pg_extern(sql = false)]
fn upkeep_preview_backfill(
    target: Option<Oid>,
    assignments: Option<&str>,
    condition: Option<&str>,
    max_rows: Option<i32>,
) -> TableIterator<'static, (name!(row_key, Untouched), name!(old_row, Untouched), name!(new_row, Untouched))> {
    let rows = answer((|| {
        check_texts(assignments, condition)?;
        let checked = definition::check(target, assignments, condition, OnError::Quarantine, &json!({}))?;
        preview::preview(&checked, max_rows.unwrap_or(10))
    })());
    TableIterator::new(rows.into_iter().map(|row| (row.row_key, row.old_row, row.new_row)))
}

/// Creates the job, and warns of what its owner may not see coming: policies that hide rows from it.
fn create(checked: &Checked, job: NewJob<'_>) -> Result<Uuid> {
    let table = &checked.table;
    let policies_of = match checked.leaves.iter().find(|leaf| leaf.row_security) {
        _ if table.row_security => Some((table.relid, &table.sql)),
        leaf => leaf.map(|leaf| (leaf.relid, &leaf.sql)),
    };
    if let Some((relid, name)) = policies_of {
        raise::report(Level::Warning, policies::warning(relid, name)?);
    }
    queue::create(job)
}

/// A length of time in whole ms; the queue checks its range.
fn milliseconds(interval: &Interval) -> Result<i32> {
    i32::try_from(interval.as_micros() / 1000).map_err(|_| {
        Error::new(INVALID_PARAMETER_VALUE, "batch_time is out of range").hint("For example: batch_time => '200 ms'")
    })
}
