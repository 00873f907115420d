//! `CALL upkeep.wait(job, timeout)`: progress as notices, no snapshot while it waits.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::datum::Interval;

use super::{registry, retry, store};
use crate::calls::arguments;
use crate::error::*;
use crate::quarantine;
use crate::server::json::JsonB;
use crate::server::procedure::{FunctionCallInfo, NonAtomic};
use crate::server::raise::{self, Level};
use crate::server::{catalog, spi};

/// Looks come often at first, for jobs that take a moment, and once a second later.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

struct Look {
    state: String,
    reason: Option<String>,
    percent: Option<f64>,
    progress: String,
    rows_left: i64,
    error: Option<Error>,
}

#[pgrx::pg_extern(sql = false)]
fn wait(job: Option<Uuid>, timeout: Option<Interval>, fcinfo: FunctionCallInfo) {
    raise::answer(NonAtomic::enter(fcinfo, "upkeep.wait").and_then(|procedure| wait_for(procedure, job, timeout)))
}

/// Waits for a job to end; raises its error.
fn wait_for(procedure: NonAtomic, job: Option<Uuid>, timeout: Option<Interval>) -> Result<()> {
    let job = arguments::required(job, "job")?;
    let deadline = timeout.map(|time| Instant::now() + arguments::positive_duration(time));
    let mut pause = FIRST_LOOK;
    let mut last_notice = String::new();
    let mut last_percent = None;
    loop {
        let Some(look) = procedure.look(|| look(job))? else {
            return Err(super::target::no_such_job(job));
        };
        match look.state.as_str() {
            "done" => {
                if look.rows_left > 0 {
                    let put_aside = procedure.look(|| quarantine::any(job))?;
                    let retry = procedure.look(|| to_retry(job))?;
                    raise::report(Level::Warning, left_over(job, look.rows_left, put_aside, retry));
                }
                procedure.leave();
                return Ok(());
            }
            "failed" => return Err(look.error.unwrap_or_else(|| unknown_failure(job))),
            "canceled" => {
                return Err(Error::new(QUERY_CANCELED, format!("job {job} was canceled")));
            }
            _ => {}
        }
        // At least a percent of progress, or another state, is worth a line.
        let percent = look.percent.map(f64::floor);
        if look.state == "running" && percent != last_percent && pause >= LONGEST_PAUSE {
            last_percent = percent;
            notice(look.progress);
        } else if look.state != "running" {
            let reason = look.reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let text = format!("job {job} is {}{reason}", look.state);
            if text != last_notice && pause >= LONGEST_PAUSE {
                last_notice.clone_from(&text);
                notice(text);
            }
        }
        let left = deadline.map_or(LONGEST_PAUSE, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(Error::new(QUERY_CANCELED, format!("timed out waiting for job {job}"))
                .detail(format!("The job goes on; it is {}.", look.state))
                .hint("SELECT * FROM upkeep.jobs;"));
        }
        procedure.wait(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn look(job: Uuid) -> Result<Option<Look>> {
    let look = spi::query_one(
        "SELECT j.state, j.wait_reason, j.percent,
                CASE WHEN j.kind OPERATOR(pg_catalog.=) ANY ($2)
                     THEN pg_catalog.format('%s: %s for %s', j.target, j.state, pg_catalog.date_trunc('second', coalesce(j.elapsed, '0')))
                     ELSE pg_catalog.format('%s of %s: %s %%, %s rows done, %s rows/s, ETA %s', j.kind, j.target,
                         pg_catalog.round(j.percent::pg_catalog.numeric), j.rows_done,
                         coalesce(pg_catalog.round(j.rows_per_second::pg_catalog.numeric)::pg_catalog.text, '?'),
                         coalesce(pg_catalog.date_trunc('second', j.eta)::pg_catalog.text, '?')) END,
                coalesce(j.rows_left, 0)
         FROM upkeep.jobs j WHERE j.id OPERATOR(pg_catalog.=) $1",
        &[job.into(), registry::names(|nature| !nature.resumable).into()],
        |row| {
            Ok(Look {
                state: row.next()?,
                reason: row.next_or_null()?,
                percent: row.next_or_null()?,
                progress: row.next()?,
                rows_left: row.next()?,
                error: None,
            })
        },
    )?;
    match look {
        Some(look) if look.state == "failed" => Ok(Some(Look { error: error_of(job)?, ..look })),
        other => Ok(other),
    }
}

/// All of a failed job's error, for members of its owner only (LAW 5).
fn error_of(job: Uuid) -> Result<Option<Error>> {
    let user = catalog::current_user();
    let found = spi::bookkeeping(|| store::failure(job))?;
    Ok(found
        .filter(|failure| catalog::has_privileges_of(user, failure.owner))
        .map(|failure| job_error(&failure.sqlstate, failure.message, failure.detail, failure.hint)))
}

/// The job's error as the waiting session sees it: its own SQLSTATE where that is a standard one.
fn job_error(code: &str, message: String, detail: Option<String>, hint: Option<String>) -> Error {
    let sqlstate = SqlState::parse(code);
    let (sqlstate, detail) = if retry::is_standard(&sqlstate.class()) {
        (sqlstate, detail)
    } else {
        let original = format!("The original SQLSTATE is {code}.");
        let detail = detail.map_or_else(|| original.clone(), |detail| format!("{detail}\n{original}"));
        (RAISE_EXCEPTION, Some(detail))
    };
    Error { sqlstate, message, detail, hint, position: None }
}

fn unknown_failure(job: Uuid) -> Error {
    Error::new(RAISE_EXCEPTION, format!("job {job} failed"))
        .hint("Its error is shown to members of the job's owner only.")
}

/// What is to be tried again: the job, or, if that is no job that can be, its part that has left rows.
fn to_retry(job: Uuid) -> Result<Uuid> {
    let left = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT j.kind, j.params,
                    (SELECT c.id FROM upkeep._job c
                     WHERE c.parent OPERATOR(pg_catalog.=) $1 AND c.rows_left OPERATOR(pg_catalog.>) 0 LIMIT 1)
             FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1",
            &[job.into()],
            |row| Ok((row.next::<String>()?, row.next::<JsonB>()?.0, row.next_or_null::<Uuid>()?)),
        )
    })?;
    let Some((kind, params, Some(part))) = left else { return Ok(job) };
    let may_be = registry::kind(&kind, &params).and_then(|kind| kind.check_retry(job)).is_ok();
    Ok(if may_be { job } else { part })
}

fn left_over(job: Uuid, rows: i64, put_aside: bool, retry: Uuid) -> Error {
    let shown = if put_aside { format!("SELECT * FROM {}; ", quarantine::VIEW) } else { String::new() };
    let rows = if rows == 1 { "1 row is".to_owned() } else { format!("{rows} rows are") };
    Error::new(SqlState::new(b"01000"), format!("job {job} is done, but {rows} left"))
        .hint(format!("{shown}SELECT * FROM upkeep.job_events; then SELECT upkeep.retry('{retry}');"))
}

fn notice(text: String) {
    raise::report(Level::Notice, Error::new(SqlState(0), text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_the_users_own_moves_into_the_detail() {
        let error = job_error("ABC01", "no".into(), Some("why".into()), None);
        assert_eq!(error.sqlstate, RAISE_EXCEPTION);
        assert_eq!(error.detail.as_deref(), Some("why\nThe original SQLSTATE is ABC01."));
        let error = job_error("23505", "no".into(), None, None);
        assert_eq!(error.sqlstate.to_string(), "23505");
    }
}
