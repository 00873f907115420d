//! The executor's seat in the launcher's segment: what others see of it, and how it learns that somebody else waits
//! for its worker. Looks cost a read of shared memory.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::Uuid;

use super::assignment::Assignment;
use super::{activity, registry, retry, room, shares, store};
use crate::error::Result;
use crate::jobs::raw::segment::{self, Seat, Segment};
use crate::server::catch::transaction;
use crate::server::system::{self, micros};
use crate::server::{catalog, spi, worker};
use crate::settings;

thread_local! {
    static MINE: Cell<Option<(&'static Segment, &'static Seat)>> = const { Cell::new(None) };
}

/// Takes a seat for a job of this kind, which has begun already or not. `false`: there is no room for it beside its like.
pub fn take(assignment: &Assignment, job_kind: &str, begun: bool) -> bool {
    if MINE.get().is_some() {
        return true;
    }
    // Without a launcher nobody shares anything out.
    let Some(segment) = segment::attach_for_good(assignment.segment) else { return true };
    let who = (catalog::my_database(), assignment.owner);
    let number = room::job_number(assignment.job);
    let Some(seat) = segment.sit_down(worker::my_pid(), who, number, system::monotonic()) else { return true };
    MINE.set(Some((segment, seat)));
    let nature = registry::nature(job_kind);
    if !nature.in_one_piece || begun && !nature.resumable {
        return true;
    }
    seat.long.store(1, Ordering::Release);
    let stays = !room::is_one_too_many(segment, seat);
    if !stays {
        give_back();
    }
    stays
}

/// This process leaves.
pub fn give_back() {
    if let Some((_, seat)) = MINE.take() {
        seat.stand_up();
    }
}

/// From here on it only waits.
pub fn rests() {
    rests_for(false);
}

/// The same. `pace`: for its own pace.
pub fn rests_for(pace: bool) {
    let Some((_, seat)) = MINE.get() else { return };
    seat.paced.store(pace.into(), Ordering::Relaxed);
    seat.busy.store(0, Ordering::Release);
    if seat.resting.load(Ordering::Relaxed) == 0 {
        seat.resting.store(micros(system::monotonic()), Ordering::Release);
    }
}

/// It has got something done.
pub fn works() {
    if let Some((_, seat)) = MINE.get() {
        seat.resting.store(0, Ordering::Release);
    }
}

/// Since when it has been at a portion of its work.
pub fn busy() -> Option<&'static AtomicU64> {
    MINE.get().map(|(_, seat)| &seat.busy)
}

/// Set when this worker is asked to leave; `None`: what it does is its job's only step, and is counted as long.
pub fn request_to_leave() -> Option<&'static AtomicU64> {
    let (_, seat) = MINE.get()?;
    (seat.long.load(Ordering::Relaxed) == 0).then_some(&seat.asked)
}

/// Has this worker been asked to leave, for somebody who still waits?
pub fn is_asked() -> bool {
    let Some((segment, seat)) = MINE.get() else { return false };
    if seat.asked.load(Ordering::Acquire) == 0 {
        return false;
    }
    let waits = room::somebody_waits(segment);
    if !waits {
        seat.asked.store(0, Ordering::Release);
    }
    waits
}

/// For a worker that waits to write something down: is it to leave, whatever its job is at? Outside a transaction.
pub fn is_unwanted() -> bool {
    let has_no_place = || transaction(|| Ok(without_place()?.is_some()));
    is_asked() || !settings::enabled() || has_no_place().unwrap_or(false)
}

/// Why the server's settings have no place for this worker, if so. In a transaction.
fn without_place() -> Result<Option<&'static str>> {
    Ok(if !settings::allows_database(&catalog::my_database_name()) {
        Some(store::NOT_LISTED)
    } else if activity::executors_before_me()? >= settings::max_workers().into() {
        Some(store::TOO_FEW_WORKERS)
    } else {
        None
    })
}

/// How this worker leaves, for whoever takes its slot next. Neither waits nor fails.
pub fn note_departure(assignment: &Assignment, end: store::End) {
    if let Some(segment) = segment::attached() {
        segment.note_departure(room::job_number(assignment.job), assignment.slot, worker::my_pid(), end.number());
    }
}

/// How the worker before has left this slot, if it could not write it down.
pub fn departure(assignment: &Assignment, pid: i32) -> Option<store::End> {
    let number = segment::attached()?.departure(room::job_number(assignment.job), assignment.slot, pid)?;
    store::End::numbered(number)
}

/// Is it to leave for somebody who waits for a worker? Its job then goes on as soon as there is another one. Called
/// in a transaction, between two steps.
pub(super) fn gives_way(job: Uuid, slot: i32, throttled: bool) -> Result<bool> {
    let Some((segment, seat)) = MINE.get() else { return Ok(false) };
    if !throttled {
        return Ok(false);
    }
    // The next launcher has seats of its own, and would not see this one.
    if segment.is_abandoned() {
        return Ok(true);
    }
    if !is_asked() {
        return Ok(false);
    }
    let now = micros(system::monotonic());
    let rested = match seat.resting.load(Ordering::Relaxed) {
        0 => false,
        since => now.saturating_sub(since) >= micros(shares::LONGEST_REST),
    };
    spi::bookkeeping(|| wait_for_turn(job, slot, rested, store::WAITS_FOR_TURN))?;
    Ok(true)
}

/// The settings under which a worker was found to have a place: how many there may be, and where.
pub type Place = (i32, String);

/// Do the server's settings have no place for it any more? They are looked at when they have changed: who came
/// before it can only become fewer meanwhile. Called in a transaction, between two steps.
pub(super) fn has_no_place(job: Uuid, slot: i32, placed: &RefCell<Option<Place>>) -> Result<bool> {
    let now = (settings::max_workers(), settings::databases());
    if placed.borrow().as_ref() == Some(&now) {
        return Ok(false);
    }
    let Some(reason) = without_place()? else {
        placed.replace(Some(now));
        return Ok(false);
    };
    spi::bookkeeping(|| wait_for_turn(job, slot, false, reason))?;
    Ok(true)
}

/// Leaves the slot. Whoever keeps rows of the job locked does not keep its worker: the job then goes on saying that it runs, and gets
/// a worker again as one that does.
fn wait_for_turn(job: Uuid, slot: i32, rested: bool, reason: &str) -> Result<()> {
    retry::unless_in_the_way(|| say_that_it_waits(job, slot, rested, reason))?;
    retry::unless_in_the_way(|| store::release_slot(job, slot, worker::my_pid(), store::End::Orderly))
}

/// The job waits for a worker again, if this was its last. One that was only waiting comes back after a while; it says
/// for what.
fn say_that_it_waits(job: Uuid, slot: i32, rested: bool, reason: &str) -> Result<()> {
    // Of two that leave at once one is the last: the second looks when the first has left its slot.
    spi::execute_returning(
        "SELECT FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
        &[job.into()],
        |_| Ok(()),
    )?;
    spi::execute(
        "UPDATE upkeep._job j SET state = 'queued',
                reason = coalesce((SELECT s.wait_reason FROM upkeep._job_slot s
                                   WHERE s.job OPERATOR(pg_catalog.=) j.id AND s.slot OPERATOR(pg_catalog.=) $2 AND $3), $4),
                reason_detail = (SELECT s.wait_detail FROM upkeep._job_slot s
                                 WHERE s.job OPERATOR(pg_catalog.=) j.id AND s.slot OPERATOR(pg_catalog.=) $2 AND $3
                                   AND s.wait_reason IS NOT NULL),
                parked = CASE WHEN $3 THEN 'clock' WHEN parked IS NOT NULL THEN 'woken' END,
                not_before = CASE WHEN $3 THEN pg_catalog.clock_timestamp()
                                                   OPERATOR(pg_catalog.+) '10 s'::pg_catalog.interval END
         WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.state OPERATOR(pg_catalog.=) 'running'
           AND NOT EXISTS (SELECT 1 FROM upkeep._job_slot s
                           WHERE s.job OPERATOR(pg_catalog.=) j.id AND s.slot OPERATOR(pg_catalog.<>) $2
                             AND s.pid IS NOT NULL AND upkeep._is_executor(s.pid, s.backend_start))",
        &[job.into(), slot.into(), rested.into(), reason.into()],
    )?;
    Ok(())
}
