//! The scheduler's part of sharing out the workers: what it sees of them, and what it says to others ([`shares`]).
//!
//! What other databases have and want is read in the launcher's segment. Without preload each database has a launcher
//! of its own, and they know nothing of each other but how many workers there are.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shares::{self, Holder, Server, Turn, Waiting, Want, Workers};
use super::store::Candidate;
use crate::jobs::raw::segment::{Database, Seat, Segment};
use crate::server::catalog;
use crate::server::system::{self, micros};
use crate::settings;

/// What another database said longer ago than this does not count: its scheduler looks every second while it waits.
const FRESH: Duration = Duration::from_secs(5);
/// Somebody who was asked to leave and has not by then is at a long step: another one is asked as well.
const ANSWER: Duration = Duration::from_secs(3);

/// The workers at one look of the scheduler.
pub struct Room<'a> {
    segment: &'a Segment,
    entry: &'a Database,
    database: u32,
    server: Server,
    free: i64,
    holders: Vec<Holder>,
    others: Vec<Waiting>,
    /// Since when this database waits for workers.
    since: u64,
    now: u64,
    wants: Vec<Want>,
}

impl<'a> Room<'a> {
    /// `at_work`: workers on the whole server; `in_hand`: the slots of this database that have one.
    pub fn look<'b>(
        segment: &'a Segment,
        entry: &'a Database,
        at_work: i64,
        in_hand: impl Iterator<Item = &'b Candidate>,
    ) -> Self {
        let database = catalog::my_database().to_u32();
        let now = micros(system::monotonic());
        let elsewhere = seated(segment, now).filter(|(_, holder)| holder.database != database);
        let mut holders: Vec<Holder> = elsewhere.map(|(_, holder)| holder).collect();
        holders.extend(in_hand.map(|slot| holder(database, slot)));
        let others = waiting(segment, now).filter(|other| other.database != database).collect();
        let waits = entry.wants.load(Ordering::Acquire) > 0;
        Room {
            segment,
            entry,
            database,
            server: server(segment),
            free: i64::from(settings::max_workers()) - at_work,
            holders,
            others,
            since: if waits { entry.wants_since.load(Ordering::Acquire) } else { now },
            now,
            wants: Vec::new(),
        }
    }

    /// Slots in the order in which they get workers; they come in the order of their age.
    pub fn order(&self, candidates: Vec<Candidate>) -> Vec<Candidate> {
        let turn = |slot: &Candidate| Turn { role: slot.owner.to_u32(), last: slot.last_taken };
        let turns: Vec<Turn> = candidates.iter().map(turn).collect();
        let mut candidates: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
        let order = shares::order(&turns, &self.holders);
        order.into_iter().filter_map(|at| candidates[at].take()).collect()
    }

    /// Is there anything to give at all?
    pub fn has_free(&self) -> bool {
        self.free > 0
    }

    /// May this slot have a worker now?
    pub fn admits(&mut self, slot: &Candidate) -> bool {
        let want = Want { database: self.database, role: slot.owner.to_u32(), job: job_number(slot.job) };
        // Not for want of a worker: nobody has to leave, and nothing is kept for it.
        if slot.long && !shares::may_be_long(&self.holders, want, self.server) {
            return false;
        }
        let reserved = shares::reserved(&self.holders, &self.others, self.database, self.since) as i64;
        let admitted = self.free > reserved;
        if !admitted {
            self.wants.push(want);
        }
        admitted
    }

    /// It has got one.
    pub fn started(&mut self, slot: &Candidate) {
        self.free -= 1;
        self.holders.push(holder(self.database, slot));
    }

    /// Tells the others what still waits here, and asks somebody to leave for it.
    pub fn close(self) {
        self.entry.wants_since.store(self.since, Ordering::Release);
        self.entry.wants_at.store(self.now, Ordering::Release);
        self.entry.wants.store(self.wants.len() as u32, Ordering::Release);
        if self.free > 0 || self.wants.is_empty() {
            return;
        }
        let (seats, holders): (Vec<&Seat>, Vec<Holder>) = seated(self.segment, self.now).unzip();
        let asked_at = |seat: &&&Seat| {
            let asked = seat.asked.load(Ordering::Acquire);
            asked > 0 && self.now.saturating_sub(asked) < micros(ANSWER)
        };
        let coming = seats.iter().filter(asked_at).count();
        // One at each look: what comes of it is seen at the next.
        if coming < self.wants.len()
            && let Some(leaves) = self.wants.iter().find_map(|&want| shares::gives_way(&holders, want))
        {
            seats[leaves].asked.store(self.now, Ordering::Release);
        }
    }
}

fn holder(database: u32, slot: &Candidate) -> Holder {
    Holder { database, role: slot.owner.to_u32(), job: job_number(slot.job), long: slot.long, ..Holder::default() }
}

fn server(segment: &Segment) -> Server {
    let with_jobs = segment.databases().filter(|(_, entry)| entry.absent.load(Ordering::Acquire) == 0);
    Server { max_workers: settings::max_workers().max(0) as usize, several_databases: with_jobs.count() > 1 }
}

/// Everybody who is at work, and where he sits.
fn seated(segment: &Segment, now: u64) -> impl Iterator<Item = (&Seat, Holder)> {
    segment.seats.iter().filter_map(move |seat| {
        let database = seat.database.load(Ordering::Acquire);
        let ago = |at: u64| Duration::from_micros(if at > 0 { now.saturating_sub(at) } else { 0 });
        (database != 0).then(|| {
            let holder = Holder {
                database,
                role: seat.role.load(Ordering::Relaxed),
                job: seat.job.load(Ordering::Relaxed),
                long: seat.long.load(Ordering::Relaxed) != 0,
                held: ago(seat.since.load(Ordering::Relaxed)),
                resting: ago(seat.resting.load(Ordering::Relaxed)),
                asked: seat.asked.load(Ordering::Relaxed) > 0,
            };
            (seat, holder)
        })
    })
}

/// The databases in which slots wait for workers.
fn waiting(segment: &Segment, now: u64) -> impl Iterator<Item = Waiting> {
    segment.databases().filter_map(move |(database, entry)| {
        let fresh = now.saturating_sub(entry.wants_at.load(Ordering::Acquire)) < micros(FRESH);
        (entry.wants.load(Ordering::Acquire) > 0 && fresh)
            .then(|| Waiting { database, since: entry.wants_since.load(Ordering::Acquire) })
    })
}

/// Those whose pace can be set. Who is held back by something else than his pace leaves what there is to the others.
pub fn paced(segment: &Segment) -> Workers {
    const HELD_BACK: Duration = Duration::from_secs(1);
    let mut workers = Workers::default();
    let now = system::monotonic();
    for (seat, holder) in seated(segment, micros(now)).filter(|(_, holder)| !holder.long) {
        let shares = holder.resting < HELD_BACK || seat.paced.load(Ordering::Relaxed) != 0;
        workers.sharing += usize::from(shares);
        let busy = Duration::from_micros(seat.busy.load(Ordering::Acquire));
        if !busy.is_zero() {
            workers.unbooked += now.saturating_sub(busy);
            workers.busy_since = Some(workers.busy_since.map_or(busy, |first| first.min(busy)));
        }
    }
    workers
}

/// Does anybody wait for a worker?
pub fn somebody_waits(segment: &Segment) -> bool {
    waiting(segment, micros(system::monotonic())).next().is_some()
}

/// Would this worker, which has sat down, be one more of the kind that has no steps than its role or its database may
/// have? Of two that come at once, the one in front stays.
pub fn is_one_too_many(segment: &Segment, seat: &Seat) -> bool {
    let me = Want {
        database: seat.database.load(Ordering::Relaxed),
        role: seat.role.load(Ordering::Relaxed),
        job: seat.job.load(Ordering::Relaxed),
    };
    let before = seated(segment, 0).take_while(|(other, _)| !std::ptr::eq(*other, seat)).map(|(_, holder)| holder);
    !shares::may_be_long(&before.collect::<Vec<_>>(), me, server(segment))
}

pub fn job_number(job: pgrx::Uuid) -> u64 {
    let mut last = [0; 8];
    last.copy_from_slice(&job.as_bytes()[8..]);
    u64::from_ne_bytes(last)
}
