//! What clients feel: the latencies of their statements and of their commits from one look to the next, whether or not they were drained
//! meanwhile. Nothing is moved, nobody is waited for; what cannot be read this time is seen by the next look.

use super::databases::{GIVEN_UP, Presence};
use super::moves::mover;
use super::{BY_JOB, DATABASES, Me, Memory, SHARDS, Slot, TOPLEVEL};
use crate::histogram::{BUCKETS, Histogram, index_of};
use crate::sync::{AtomicU32, Ordering};

/// Of all clients of the server, what no statement's own time contains: how long commits take, and whole transactions with theirs.
#[repr(C, align(64))]
pub struct Commits(pub(super) [[[AtomicU32; BUCKETS]; SHARDS]; 2]);

/// What a look has seen, for the next one.
#[derive(Default)]
pub struct Eye {
    entries: Vec<Seen>,
    commits: [Option<[u32; BUCKETS]>; 2],
}

#[derive(Default)]
struct Seen {
    generation: u32,
    /// Nanoseconds in all: what has not changed need not be read further.
    ns: u64,
    counts: Option<Box<[u64; BUCKETS]>>,
}

/// Whose latencies these are: an entry for as long as it does not change hands, a database without the extension, or commits, or
/// transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    number: u32,
    generation: u32,
    /// OID; 0: of all.
    pub role: u32,
}

pub const COMMITS: Whose = Whose::of(u32::MAX, 0, 0);
/// Their time is that of their statements and commits once more, and of what the client does between.
pub const TRANSACTIONS: Whose = Whose::of(u32::MAX, 1, 0);

impl Whose {
    pub const fn of(number: u32, generation: u32, role: u32) -> Self {
        Whose { number, generation, role }
    }
}

impl Memory {
    /// A client's transaction has been committed, which took this long, and all of it together with that.
    #[inline]
    pub fn count_commit(&self, me: Me, commit_us: u64, transaction_us: u64) {
        for (of, us) in self.commits().0.iter().zip([commit_us, transaction_us]) {
            if let Some(bucket) = of[me.number as usize % SHARDS].get(index_of(us)) {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many statements clients have executed: the difference of two is what has come in between, in the arithmetic that wraps round.
    pub fn calls_of_clients(&self) -> u32 {
        let of = |process| self.writing(process).map_or(0, |writing| writing.calls.load(Ordering::Relaxed));
        (0..self.header().writers).fold(0_u32, |sum, process| sum.wrapping_add(of(process)))
    }

    /// Gives what clients have executed since the last look, entry by entry. The first look at an entry gives nothing: it may have been
    /// there for long.
    pub fn look_at_clients(&self, eye: &mut Eye, mut see: impl FnMut(Whose, &Histogram)) {
        let numbers = 0..self.header().fresh.load(Ordering::Acquire).min(self.header().slots);
        eye.entries.resize_with(numbers.len(), Seen::default);
        for (number, seen) in numbers.zip(&mut eye.entries) {
            let slot = self.slot(number);
            let generation = slot.generation.load(Ordering::SeqCst);
            let Some(whose) = self.whose(number, generation) else {
                *seen = Seen::default();
                continue;
            };
            if seen.generation != whose.generation {
                *seen = Seen { generation: whose.generation, ..Seen::default() };
            }
            let Some((ns, counts)) = slot.latencies(generation, seen.ns, seen.counts.is_none()) else { continue };
            // Of a statement that has just come everything is new, but a first look may be at an old one.
            let before = seen.counts.replace(counts);
            seen.ns = ns;
            if let (Some(before), Some(counts)) = (before, &seen.counts) {
                see_difference(whose, counts, &before, &mut see);
            }
        }
        for ((whose, of), before) in [COMMITS, TRANSACTIONS].into_iter().zip(&self.commits().0).zip(&mut eye.commits) {
            let mut counts = [0_u32; BUCKETS];
            for shard in of {
                for (sum, count) in counts.iter_mut().zip(shard) {
                    *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
                }
            }
            let Some(before) = before.replace(counts) else { continue };
            let mut new = Histogram::default();
            for (to, (now, before)) in new.0.iter_mut().zip(counts.iter().zip(before)) {
                *to = now.wrapping_sub(before).into();
            }
            if !new.is_empty() {
                see(whose, &new);
            }
        }
    }

    /// Whose calls a slot has in this generation. `None`: nobody's, or not clients' alone. Where the extension is not, nobody works for
    /// a job: all statements of such a database are looked at as one.
    fn whose(&self, number: u32, generation: u32) -> Option<Whose> {
        if number <= DATABASES as u32 {
            let database = self.database_at(number);
            let oid = database.oid.load(Ordering::SeqCst);
            let is_one = oid != 0 && oid != GIVEN_UP && database.presence() == Presence::Absent;
            return is_one.then_some(Whose::of(number, oid, 0));
        }
        let slot = self.slot(number);
        let traits = slot.traits.load(Ordering::Relaxed);
        let is_clients = !generation.is_multiple_of(2) && traits & BY_JOB == 0 && traits & TOPLEVEL != 0;
        is_clients.then(|| Whose::of(number, generation, slot.who.load(Ordering::Relaxed) as u32))
    }
}

fn see_difference(
    whose: Whose,
    now: &[u64; BUCKETS],
    before: &[u64; BUCKETS],
    see: &mut impl FnMut(Whose, &Histogram),
) {
    let mut new = Histogram::default();
    for (to, (now, before)) in new.0.iter_mut().zip(now.iter().zip(before)) {
        // Somebody has let them begin anew.
        let Some(count) = now.checked_sub(*before) else { return };
        *to = count;
    }
    if !new.is_empty() {
        see(whose, &new);
    }
}

impl Slot {
    /// Nanoseconds and counts, drained or not. `None`: nothing has come since there were so many, or somebody is moving them.
    fn latencies(&self, generation: u32, before: u64, always: bool) -> Option<(u64, Box<[u64; BUCKETS]>)> {
        let moving = self.moving.load(Ordering::SeqCst);
        let of_shards = self.shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.ns.load(Ordering::SeqCst)));
        let ns = self.total.ns.load(Ordering::SeqCst).wrapping_add(of_shards);
        if mover(moving) != 0 || (ns == before && !always) {
            return None;
        }
        let mut counts = Box::new([0_u64; BUCKETS]);
        for (to, count) in counts.iter_mut().zip(&self.total.buckets) {
            *to = count.load(Ordering::SeqCst);
        }
        for shard in &self.shards {
            for (to, count) in counts.iter_mut().zip(&shard.buckets) {
                *to = to.wrapping_add(count.load(Ordering::SeqCst).into());
            }
        }
        let undisturbed =
            self.moving.load(Ordering::SeqCst) == moving && self.generation.load(Ordering::SeqCst) == generation;
        undisturbed.then_some((ns, counts))
    }
}
