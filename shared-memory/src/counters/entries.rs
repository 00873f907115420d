//! Which entry is whose: found without a lock, entered and evicted under one that nobody waits for.

use super::{DATABASES, Database, Me, Memory, Slot, Statement};
use crate::sync::{AtomicU32, Mistake, Ordering, in_order, made};

/// Most entries that a look for a statement, or for one to evict, passes.
const LONGEST_CHAIN: u32 = 64;
#[cfg(not(loom))]
const LONGEST_SEARCH: u32 = 128;
#[cfg(loom)]
const LONGEST_SEARCH: u32 = 2;
/// An entry used this often since the search last passed it is passed this often.
#[cfg(not(loom))]
pub const MOST_USES: u32 = 4;
#[cfg(loom)]
pub const MOST_USES: u32 = 0;

/// An entry that a process has found before.
#[derive(Clone, Copy)]
struct Known {
    queryid: i64,
    user: u32,
    traits: u32,
    slot: u32,
    generation: u32,
}

#[cfg(not(loom))]
const CACHE: usize = 1024;
#[cfg(loom)]
const CACHE: usize = 1;

/// What one process remembers.
pub struct Own {
    known: [Known; CACHE],
    /// Its database, the place of that, and how often places had become free when there was none.
    database: u32,
    number: u32,
    vacated: u32,
}

impl Own {
    pub const fn new() -> Self {
        let nothing = Known { queryid: 0, user: 0, traits: 0, slot: 0, generation: 0 };
        Own { known: [nothing; CACHE], database: 0, number: 0, vacated: 0 }
    }

    /// The number of this process's database; that of all the rest if there is no place for it.
    #[inline]
    pub fn database(&mut self, memory: &Memory, me: Me) -> u32 {
        if self.database == me.database && memory.database_at(self.number).oid.load(Ordering::Relaxed) == me.database {
            return self.number;
        }
        self.look_for_database(memory, me)
    }

    #[inline(never)]
    fn look_for_database(&mut self, memory: &Memory, me: Me) -> u32 {
        // All places are taken: nothing can have changed before one becomes free.
        let vacated = memory.header().vacated.load(Ordering::Acquire);
        if self.database == me.database && self.number as usize == DATABASES && self.vacated == vacated {
            return self.number;
        }
        match memory.place_of(me.database, me.pid) {
            Some(number) => {
                (self.database, self.number) = (me.database, number);
                number
            }
            None => {
                // It may have got one since the look.
                if memory.is_full() && memory.find_database(me.database).is_none() {
                    (self.database, self.number, self.vacated) = (me.database, DATABASES as u32, vacated);
                }
                DATABASES as u32
            }
        }
    }
}

impl Default for Own {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
pub fn hash_of(queryid: i64, who: u64, traits: u32) -> u64 {
    let mixed = (queryid as u64 ^ who.rotate_left(29) ^ (u64::from(traits) << 61)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

/// What an entry is found by.
#[derive(Clone, Copy)]
struct Wanted {
    hash: u64,
    queryid: i64,
    who: u64,
    traits: u32,
}

impl Wanted {
    #[inline]
    fn is(&self, slot: &Slot) -> bool {
        slot.queryid.load(Ordering::Relaxed) == self.queryid
            && slot.who.load(Ordering::Relaxed) == self.who
            && slot.traits.load(Ordering::Relaxed) == self.traits
    }
}

impl Memory {
    /// Has every place a database?
    fn is_full(&self) -> bool {
        self.header().databases.iter().take(DATABASES).all(|place: &Database| place.oid.load(Ordering::Relaxed) != 0)
    }

    /// The entry of a statement, which cannot change hands until `writing` is cleared.
    #[inline]
    pub(super) fn entry(
        &self,
        own: &mut Own,
        writing: &AtomicU32,
        me: Me,
        statement: Statement,
        now: impl FnOnce() -> i64,
    ) -> Option<&'static Slot> {
        let Statement { queryid, user, .. } = statement;
        let traits = statement.traits();
        let who = u64::from(me.database) << 32 | u64::from(user);
        let hash = hash_of(queryid, who, traits);
        // SAFETY: the remainder is within the array.
        let known = unsafe { own.known.get_unchecked_mut((hash >> 16) as usize % CACHE) };
        if known.queryid == queryid && known.user == user && known.traits == traits {
            let slot = self.slot(known.slot);
            writing.store(known.slot + 1, Ordering::SeqCst);
            in_order();
            if slot.generation.load(Ordering::SeqCst) == known.generation {
                return Some(slot);
            }
        }
        let wanted = Wanted { hash, queryid, who, traits };
        let (number, generation) =
            self.find(writing, wanted).or_else(|| self.enter(writing, me.pid, wanted, now)).or_else(|| {
                writing.store(0, Ordering::Release);
                None
            })?;
        *known = Known { queryid, user, traits, slot: number, generation };
        Some(self.slot(number))
    }

    /// Looks without a lock; may miss an entry while others enter or evict.
    fn find(&self, writing: &AtomicU32, wanted: Wanted) -> Option<(u32, u32)> {
        let mut next = self.head(wanted.hash).load(Ordering::Acquire);
        let mut steps = 0;
        while next != 0 && steps < LONGEST_CHAIN {
            let slot = self.slot(next - 1);
            if wanted.is(slot) {
                writing.store(next, Ordering::SeqCst);
                in_order();
                let generation = slot.generation.load(Ordering::SeqCst);
                // Now it cannot change hands: is it still what it looked like?
                if generation % 2 == 1 && wanted.is(slot) {
                    return Some((next - 1, generation));
                }
            }
            next = slot.next.load(Ordering::Acquire);
            steps += 1;
        }
        None
    }

    fn enter(&self, writing: &AtomicU32, pid: u32, wanted: Wanted, now: impl FnOnce() -> i64) -> Option<(u32, u32)> {
        if !self.try_lock(pid) {
            return None;
        }
        writing.store(0, Ordering::Relaxed);
        let found = self
            .find(writing, wanted)
            .or_else(|| self.take_slot(pid).map(|number| self.fill(writing, number, wanted, now())));
        self.unlock();
        found
    }

    /// Under the lock: gives an empty entry to a statement.
    fn fill(&self, writing: &AtomicU32, number: u32, wanted: Wanted, now: i64) -> (u32, u32) {
        let slot = self.slot(number);
        slot.queryid.store(wanted.queryid, Ordering::Relaxed);
        slot.who.store(wanted.who, Ordering::Relaxed);
        slot.traits.store(wanted.traits, Ordering::Relaxed);
        slot.uses.store(0, Ordering::Relaxed);
        slot.touched.store(0, Ordering::Relaxed);
        slot.since.store(now, Ordering::Relaxed);
        for counter in &slot.counters {
            counter.store(0, Ordering::Relaxed);
        }
        slot.counters_since.store(0, Ordering::Relaxed);
        let head = self.head(wanted.hash);
        slot.next.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
        writing.store(number + 1, Ordering::SeqCst);
        in_order();
        let generation = slot.generation.load(Ordering::Relaxed).wrapping_add(1);
        slot.generation.store(generation, Ordering::SeqCst);
        head.store(number + 1, Ordering::Release);
        (number, generation)
    }

    /// Under the lock: an empty entry, if need be of the statement that was used least.
    fn take_slot(&self, pid: u32) -> Option<u32> {
        let header = self.header();
        let free = header.free.load(Ordering::Relaxed);
        if free != 0 {
            header.free.store(self.slot(free - 1).next.load(Ordering::Relaxed), Ordering::Relaxed);
            return Some(free - 1);
        }
        let fresh = header.fresh.load(Ordering::Relaxed);
        if fresh < header.slots {
            header.fresh.store(fresh + 1, Ordering::Relaxed);
            return Some(fresh);
        }
        let mut hand = header.hand.load(Ordering::Relaxed);
        let mut steps = 0;
        let mut taken = None;
        while taken.is_none() && steps < LONGEST_SEARCH {
            hand = if hand + 1 < header.slots { hand + 1 } else { DATABASES as u32 + 1 };
            steps += 1;
            let slot = self.slot(hand);
            let uses = slot.uses.load(Ordering::Relaxed);
            if uses > 0 {
                slot.uses.store(uses - 1, Ordering::Relaxed);
            } else if self.evict(hand, pid) {
                header.evictions.fetch_add(1, Ordering::Relaxed);
                taken = Some(hand);
            }
        }
        header.hand.store(hand, Ordering::Relaxed);
        taken
    }

    /// Under the lock: what an entry holds goes to "others" of its database, the entry is in no chain any more.
    pub(super) fn evict(&self, number: u32, pid: u32) -> bool {
        let slot = self.slot(number);
        let generation = slot.generation.load(Ordering::Relaxed);
        if generation.is_multiple_of(2) || !slot.begin_move(pid) {
            return false;
        }
        if made(Mistake::LookBeforeGeneration) && self.is_written_to(number) {
            slot.end_move();
            return false;
        }
        slot.generation.store(generation.wrapping_add(1), Ordering::SeqCst);
        in_order();
        if !made(Mistake::LookBeforeGeneration) && self.is_written_to(number) {
            slot.generation.store(generation, Ordering::SeqCst);
            slot.end_move();
            return false;
        }
        self.unlink(number);
        slot.give_to(self.others_of(slot));
        slot.end_move();
        true
    }

    pub(super) fn is_written_to(&self, number: u32) -> bool {
        let writers = self.header().writers as usize;
        let mut i = 0;
        while i < writers {
            // SAFETY: within the array.
            if unsafe { &(*self.writing.add(i)).entry }.load(Ordering::SeqCst) == number + 1 {
                return true;
            }
            i += 1;
        }
        false
    }

    pub(super) fn unlink(&self, number: u32) {
        let slot = self.slot(number);
        let hash = hash_of(
            slot.queryid.load(Ordering::Relaxed),
            slot.who.load(Ordering::Relaxed),
            slot.traits.load(Ordering::Relaxed),
        );
        let mut link = self.head(hash);
        // No chain is longer, even if a process that is gone has left it so.
        let mut steps = 0;
        while steps < self.header().slots {
            let next = link.load(Ordering::Relaxed);
            if next == 0 {
                return;
            }
            if next == number + 1 {
                link.store(slot.next.load(Ordering::Relaxed), Ordering::Release);
                return;
            }
            link = &self.slot(next - 1).next;
            steps += 1;
        }
    }
}
