//! An executor reaches for its slot: is the job still wanted, is it its turn and its time, may it be tried once more?

use pgrx::Uuid;

use super::assignment::Assignment;
use super::claims::{self, Wait};
use super::kind::Job;
use super::limits::Limits;
use super::retry::Tries;
use super::store::{self, End};
use super::throttle::calendar;
use super::{activity, make_way, queue, registry, seat, turn};
use crate::error::{ADMIN_SHUTDOWN, Error, OBJECT_IN_USE, QUERY_CANCELED, Result};
use crate::server::catch::transaction;
use crate::server::{catalog, spi, timeout, worker};
use crate::settings;

/// What came of reaching for a slot.
pub enum Taken {
    Slot(Box<(store::Opened, store::Slot)>),
    /// Another executor has it.
    Busy,
    /// There is nothing to do here (any more).
    Nothing,
}

pub fn take(assignment: &Assignment) -> Result<Taken> {
    let Assignment { job, slot, .. } = *assignment;
    transaction(|| {
        if !catalog::extension_exists()
            || !catalog::extension_is_current()?
            || make_way::is_wanted_alone()
            || activity::executors_before_me()? >= settings::max_workers().into()
        {
            return Ok(Taken::Nothing);
        }
        let Some(opened) = spi::bookkeeping(|| store::open(job))? else { return Ok(Taken::Nothing) };
        queue::restore_session(&opened.session);
        if !turn::take(&opened)? {
            return Ok(Taken::Nothing);
        }
        match claim(&opened.job) {
            Err(refused) if refused.sqlstate == OBJECT_IN_USE => {
                spi::bookkeeping(|| store::fail(job, &refused))?;
                return Ok(Taken::Nothing);
            }
            other => other?,
        }
        spi::bookkeeping(|| {
            if !seat::take(assignment, &opened.job.kind, opened.begun) {
                return Ok(Taken::Nothing);
            }
            if opened.state == "queued" && wait_for_hours(job, &opened.limits)? {
                return Ok(Taken::Nothing);
            }
            let Some(taken) = store::attend_slot(job, slot, |pid| seat::departure(assignment, pid))? else {
                return Ok(Taken::Busy);
            };
            if let Some(reason) = given_up(&opened.job, &taken) {
                store::fail(job, &reason)?;
                store::release_slot(job, slot, worker::my_pid(), End::Orderly)?;
                return Ok(Taken::Nothing);
            }
            let store::Slot { strikes, ends, .. } = taken;
            if taken.begins && !(opened.parked && opened.has_started) {
                store::add_event(job, "started", None)?;
            }
            if strikes > 0 {
                let count = format!("{strikes} of {}: a worker ended without a word", store::MAX_STRIKES);
                store::add_event(job, "strike", Some(&count))?;
            }
            if ends > 0 {
                let count = if taken.tries.caught {
                    format!(
                        "a step went on {} s after it was canceled at its limit; its worker was ended",
                        timeout::GRACE.as_secs()
                    )
                } else {
                    format!("{ends} of {}: the worker was ended in the middle of a step", store::MAX_ENDS)
                };
                store::add_event(job, "interrupted", Some(&count))?;
            }
            Ok(Taken::Slot(Box::new((opened, taken))))
        })
    })
}

/// What it needs for itself is its own, unless the job was written down by a session that had an older library loaded.
fn claim(job: &Job) -> Result<()> {
    // One of a kind that is not known, or that makes no sense, fails when it is opened.
    let wanted = registry::kind(&job.kind, &job.params).and_then(|kind| kind.claims(job.relid, &job.params));
    wanted.map_or(Ok(()), |wanted| claims::keep_or_take(job.id, &wanted, Wait::ForOthers))
}

/// Sends the job to sleep until its hours begin. `false`: it may work now.
pub fn wait_for_hours(job: Uuid, limits: &Limits) -> Result<bool> {
    let Some(hours) = &limits.run_between else { return Ok(false) };
    let Some(closed) = calendar::closed(hours, limits.timezone.as_deref().unwrap_or("UTC"))? else { return Ok(false) };
    store::wait_for_hours(job, closed.until, &closed.reason)?;
    Ok(true)
}

/// Why a slot is not tried once more.
fn given_up(job: &Job, slot: &store::Slot) -> Option<Error> {
    if slot.strikes >= store::MAX_STRIKES {
        return Some(struck_out(slot.strikes));
    }
    // What is not repeated by itself says in its own words how it ended.
    if slot.tries.are_spent() && registry::nature(&job.kind).resumable {
        return Some(never_ending(&slot.tries));
    }
    (slot.ends >= store::MAX_ENDS).then(|| ended_too_often(slot.ends))
}

fn never_ending(tries: &Tries) -> Error {
    let times = tries.slow();
    Error::new(
        QUERY_CANCELED,
        format!(
            "a step of the job did not end when it was canceled, {times} times in a row; its worker had to be ended"
        ),
    )
    .detail(
        "Each time it took longer than upkeep.max_row_time allows. Something in the job's text or in a \
        trigger catches the cancel (EXCEPTION WHEN query_canceled) and goes on.",
    )
    .hint("Correct it, so that it ends or lets the cancel pass; then upkeep.retry().")
}

fn ended_too_often(ends: i32) -> Error {
    Error::new(
        ADMIN_SHUTDOWN,
        format!("the worker was ended {ends} times in a row in the middle of a step, with no progress in between"),
    )
    .detail(
        "Something terminates it each time: pg_terminate_backend(), perhaps in the job's own text or in a \
        trigger below it; or the worker ends with an error of its own.",
    )
    .hint("Look into the server's log for the reason. upkeep.retry() tries again from the same place.")
}

fn struck_out(strikes: i32) -> Error {
    Error::new(
        crate::error::INTERNAL_ERROR,
        format!("the worker ended without a word {strikes} times in a row at the same place"),
    )
    .detail("Each time the process was killed or crashed, and took the server's other sessions with it if it was not an orderly end.")
    .hint("Look into the server's log for the reason. upkeep.retry() tries again from the same place.")
}
