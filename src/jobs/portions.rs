//! A step does its work in portions, and rests between them: what others pay for it (WAL that their commits flush, rows, the processor)
//! comes in pieces so small that nobody notices one (LAW 38).
//!
//! The unit of account is time at work. A portion that writes much WAL in little time, as the first touch of pages since a checkpoint
//! does, costs as much time as the disk is busy with it. What is not rested for within a step is owed after it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::slowdown::control::LEAST;
use super::slowdown::pace::{May, View};
use crate::server::{lock, system, worker};

/// How large a portion may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Portion {
    pub time: Duration,
    /// Bytes of WAL.
    pub wal: u64,
}

/// With nobody to give way to: long enough to cost nothing, short enough that whoever comes is seen soon.
const ALONE: Portion = Portion { time: Duration::from_millis(20), wal: u64::MAX };
/// A commit that meets it in the log is no later than beside another commit of some size.
const BESIDE_OTHERS: Portion = Portion { time: Duration::from_millis(2), wal: 128 << 10 };
/// Beside others a transaction is no longer than this, rests included: so long its rows are locked, unless somebody waits for one.
const LONGEST_STEP: Duration = Duration::from_millis(40);
/// But it does so much work: its beginning and end cost two milliseconds.
const WORK_IN_STEP: Duration = Duration::from_millis(12);
/// Each may be a subtransaction. With more than 64 of them everybody's looks at rows become slow.
const MOST_IN_STEP: u32 = 50;
/// What a disk is taken to write in a second.
const WAL_RATE: f64 = 100e6;
/// The server's clock for waiting has no finer steps.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// What others feel changes: for a step that could not be divided no longer than this is rested at the pace of that time.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// So much WAL that is not on disk is left to those who commit; a disk is as long at it as at a page.
const UNFLUSHED: u64 = 128 << 10;
/// In a rest within a step, how often to look whether somebody waits for one of its rows.
const LOOK: Duration = Duration::from_millis(2);

/// The account of one worker.
#[derive(Debug)]
pub struct Portions {
    /// What it may do, by what the application feels.
    pub(super) view: View,
    /// Where others read since when it has been at the portion in hand, if its pace can be set.
    pub(super) busy: Cell<Option<&'static AtomicU64>>,
    granted: Cell<f64>,
    /// Part of the time that is spent at work.
    share: Cell<f64>,
    /// There is somebody to give way to.
    careful: Cell<bool>,
    step: Cell<Duration>,
    began: Cell<Duration>,
    /// Up to here everything is in the account.
    at: Cell<Duration>,
    wal: Cell<u64>,
    owed: Cell<Duration>,
    /// Portions of this step.
    count: Cell<u32>,
    /// The WAL segment at which it was last seen to that the next ones are there.
    segment: Cell<u64>,
}

impl Default for Portions {
    fn default() -> Self {
        let zero = || Cell::new(Duration::ZERO);
        Portions {
            view: View::default(),
            busy: Cell::default(),
            granted: Cell::new(1.0),
            share: Cell::new(1.0),
            careful: Cell::new(false),
            step: zero(),
            began: zero(),
            at: zero(),
            wal: Cell::new(0),
            owed: zero(),
            count: Cell::new(0),
            segment: Cell::new(0),
        }
    }
}

impl Portions {
    /// A step begins: which share of the time is it at work? `most`: what the job's limits leave.
    pub(super) fn grant(&self, most: f64) -> f64 {
        self.granted.set(match self.view.may() {
            May::Work(share) => share,
            May::RestUntil(_) => LEAST,
        });
        most.min(self.granted.get())
    }

    /// It is to take so long; with a limit on WAL its portions are small whatever its share.
    pub(super) fn begin(&self, share: f64, batch_time: Duration, has_wal_limit: bool) {
        self.share.set(share);
        self.careful.set(share < 1.0 || has_wal_limit || self.view.has_company());
        self.step.set(batch_time);
        self.began.set(system::monotonic());
        self.at.set(self.began.get());
        self.wal.set(system::own_wal_bytes());
        self.count.set(0);
        self.is_busy_since(self.began.get());
    }

    /// How long a transaction should be, at this share of the time.
    pub(super) fn longest_step(share: f64, usual: Duration) -> Duration {
        if share < 1.0 { usual.min(LONGEST_STEP.max(WORK_IN_STEP.div_f64(share))) } else { usual }
    }

    pub fn is_beside_others(&self) -> bool {
        self.careful.get()
    }

    /// For the next one.
    pub fn size(&self) -> Portion {
        if self.is_beside_others() { BESIDE_OTHERS } else { ALONE }
    }

    /// Between two portions: rests. `false`: the step is to end here, because its time is up or somebody waits for one of its rows.
    pub fn rest(&self) -> bool {
        self.note();
        self.count.set(self.count.get() + 1);
        if lock::somebody_waits() || self.count.get() >= MOST_IN_STEP || self.view.has_changed(self.granted.get()) {
            return false;
        }
        if self.is_beside_others() {
            system::flush_wal(UNFLUSHED);
        }
        let end = self.began.get() + self.step.get();
        if self.at.get() + self.owed.get() >= end {
            return false;
        }
        while self.owed.get() >= SHORTEST_REST {
            self.is_busy_since(Duration::ZERO);
            let from = system::monotonic();
            worker::rest_in_step(self.owed.get().min(LOOK));
            let now = system::monotonic();
            self.at.set(now);
            self.owed.set(self.owed.get().saturating_sub(now.saturating_sub(from)));
            if lock::somebody_waits() || self.view.has_changed(self.granted.get()) {
                return false;
            }
        }
        self.is_busy_since(self.at.get());
        true
    }

    /// Between two steps: is a WAL segment to be made, so that nobody else has to? Not while what others take without us is looked at; and
    /// not where one is so large that it is a burst of its own.
    pub(super) fn wants_segment(&self) -> bool {
        const LARGEST: u64 = 64 << 20;
        let bytes = system::wal_segment_bytes();
        self.is_beside_others()
            && bytes <= LARGEST
            && self.segment.get() != system::wal_insert_position() / bytes
            && !matches!(self.view.may(), May::RestUntil(_))
    }

    /// The next ones are there, as of now.
    pub(super) fn has_segments(&self, all: bool) {
        if all {
            self.segment.set(system::wal_insert_position() / system::wal_segment_bytes());
        }
    }

    /// The step has ended: the rest that it still owes.
    pub(super) fn end(&self) -> Duration {
        self.note();
        self.is_busy_since(Duration::ZERO);
        let owed = self.owed.take();
        if self.granted.get() <= self.share.get() { owed.min(LONGEST_REST) } else { owed }
    }

    /// With work that is on no account yet. Zero: it is at none, or rests for nobody.
    pub(super) fn is_busy_since(&self, time: Duration) {
        if let Some(busy) = self.busy.get() {
            busy.store(if self.view.is_limited() { system::micros(time) } else { 0 }, Ordering::Release);
        }
    }

    /// Enters what was done since the last time.
    fn note(&self) {
        let (now, wal) = (system::monotonic(), system::own_wal_bytes());
        let took = now.saturating_sub(self.at.replace(now));
        let written = wal.wrapping_sub(self.wal.replace(wal));
        let cost = cost(took, written);
        self.view.worked(cost);
        self.is_busy_since(now);
        self.owed.set(self.owed.get() + debt(took, cost, self.share.get()));
    }
}

/// Of work, in time.
fn cost(took: Duration, wal: u64) -> Duration {
    took.max(Duration::from_secs_f64(wal as f64 / WAL_RATE))
}

/// The rest that it is to be followed by.
fn debt(took: Duration, cost: Duration, share: f64) -> Duration {
    if share < 1.0 { cost.mul_f64(1.0 / share) - took } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn work_is_followed_by_rest() {
        assert_eq!(debt(MS, cost(MS, 0), 0.25), 3 * MS);
        assert_eq!(debt(10 * MS, 10 * MS, 1.0), Duration::ZERO);
        // A megabyte in a millisecond keeps the disk busy for ten.
        assert_eq!(debt(MS, cost(MS, 1_000_000), 0.5), 19 * MS);
    }

    #[test]
    fn beside_others_transactions_are_short() {
        let usual = 200 * MS;
        assert_eq!(Portions::longest_step(1.0, usual), usual);
        assert_eq!(Portions::longest_step(0.9, usual), LONGEST_STEP);
        assert_eq!(Portions::longest_step(0.9, 10 * MS), 10 * MS);
        assert_eq!(Portions::longest_step(0.1, usual), 120 * MS);
        assert_eq!(Portions::longest_step(0.01, usual), usual);
    }
}
