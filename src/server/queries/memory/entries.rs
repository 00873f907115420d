//! Which entry is whose: found without a lock, entered and evicted under one that nobody waits for.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{DATABASES, Global, Memory, Slot, now, number_of};

/// Most entries that a look for a statement, or for one to evict, passes.
const LONGEST_CHAIN: u32 = 64;
const LONGEST_SEARCH: u32 = 128;
/// An entry used this often since the search last passed it is passed this often.
pub const MOST_USES: u32 = 4;
/// What this process has found before.
#[derive(Clone, Copy)]
struct Known {
    queryid: i64,
    user: u32,
    toplevel: u32,
    slot: u32,
    generation: u32,
}
const CACHE: usize = 1024;
static CACHED: Global<[Known; CACHE]> =
    Global::new([Known { queryid: 0, user: 0, toplevel: 0, slot: 0, generation: 0 }; CACHE]);

#[inline]
fn hash_of(queryid: i64, who: u64, toplevel: u32) -> u64 {
    let mixed =
        (queryid as u64 ^ who.rotate_left(29) ^ (u64::from(toplevel) << 61)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

/// The entry of a statement, which cannot change hands until `writing` is cleared.
#[inline]
pub fn entry(memory: &Memory, writing: &AtomicU32, queryid: i64, who: u64, toplevel: u32) -> Option<&'static Slot> {
    let hash = hash_of(queryid, who, toplevel);
    // SAFETY: one thread, and the remainder is within the array.
    let known = unsafe { (*CACHED.get()).get_unchecked_mut((hash >> 16) as usize % CACHE) };
    if known.queryid == queryid && known.user == who as u32 && known.toplevel == toplevel {
        let slot = memory.slot(known.slot);
        writing.store(known.slot + 1, Ordering::SeqCst);
        if slot.generation.load(Ordering::SeqCst) == known.generation {
            return Some(slot);
        }
    }
    let (number, generation) = find(memory, writing, hash, queryid, who, toplevel)
        .or_else(|| enter(memory, writing, hash, queryid, who, toplevel))
        .or_else(|| {
            writing.store(0, Ordering::Release);
            None
        })?;
    *known = Known { queryid, user: who as u32, toplevel, slot: number, generation };
    Some(memory.slot(number))
}

/// Looks without a lock; may miss an entry while others enter or evict.
fn find(memory: &Memory, writing: &AtomicU32, hash: u64, queryid: i64, who: u64, toplevel: u32) -> Option<(u32, u32)> {
    let mut next = memory.head(hash).load(Ordering::Acquire);
    let mut steps = 0;
    while next != 0 && steps < LONGEST_CHAIN {
        let slot = memory.slot(next - 1);
        if slot.queryid.load(Ordering::Relaxed) == queryid
            && slot.who.load(Ordering::Relaxed) == who
            && slot.toplevel.load(Ordering::Relaxed) == toplevel
        {
            writing.store(next, Ordering::SeqCst);
            let generation = slot.generation.load(Ordering::SeqCst);
            // Now it cannot change hands: is it still what it looked like?
            if generation % 2 == 1
                && slot.queryid.load(Ordering::Relaxed) == queryid
                && slot.who.load(Ordering::Relaxed) == who
                && slot.toplevel.load(Ordering::Relaxed) == toplevel
            {
                return Some((next - 1, generation));
            }
        }
        next = slot.next.load(Ordering::Acquire);
        steps += 1;
    }
    None
}

fn enter(memory: &Memory, writing: &AtomicU32, hash: u64, queryid: i64, who: u64, toplevel: u32) -> Option<(u32, u32)> {
    if !memory.try_lock() {
        return None;
    }
    writing.store(0, Ordering::Relaxed);
    let found = find(memory, writing, hash, queryid, who, toplevel)
        .or_else(|| take_slot(memory).map(|number| fill(memory, writing, number, hash, queryid, who, toplevel)));
    memory.unlock();
    found
}

/// Under the lock: gives an empty entry to a statement.
fn fill(
    memory: &Memory,
    writing: &AtomicU32,
    number: u32,
    hash: u64,
    queryid: i64,
    who: u64,
    toplevel: u32,
) -> (u32, u32) {
    let slot = memory.slot(number);
    slot.queryid.store(queryid, Ordering::Relaxed);
    slot.who.store(who, Ordering::Relaxed);
    slot.toplevel.store(toplevel, Ordering::Relaxed);
    slot.uses.store(0, Ordering::Relaxed);
    slot.touched.store(0, Ordering::Relaxed);
    slot.since.store(now(), Ordering::Relaxed);
    for counter in &slot.counters {
        counter.store(0, Ordering::Relaxed);
    }
    slot.counters_since.store(0, Ordering::Relaxed);
    let head = memory.head(hash);
    slot.next.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
    writing.store(number + 1, Ordering::SeqCst);
    let generation = slot.generation.load(Ordering::Relaxed).wrapping_add(1);
    slot.generation.store(generation, Ordering::SeqCst);
    head.store(number + 1, Ordering::Release);
    (number, generation)
}

/// Under the lock: an empty entry, if need be of the statement that was used least.
fn take_slot(memory: &Memory) -> Option<u32> {
    let header = memory.header();
    let free = header.free.load(Ordering::Relaxed);
    if free != 0 {
        header.free.store(memory.slot(free - 1).next.load(Ordering::Relaxed), Ordering::Relaxed);
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
        let slot = memory.slot(hand);
        let uses = slot.uses.load(Ordering::Relaxed);
        if uses > 0 {
            slot.uses.store(uses - 1, Ordering::Relaxed);
        } else if evict(memory, hand) {
            header.evictions.fetch_add(1, Ordering::Relaxed);
            taken = Some(hand);
        }
    }
    header.hand.store(hand, Ordering::Relaxed);
    taken
}

/// Under the lock: what an entry holds goes to "others" of its database, the entry is in no chain any more.
pub fn evict(memory: &Memory, number: u32) -> bool {
    let slot = memory.slot(number);
    let generation = slot.generation.load(Ordering::Relaxed);
    if generation.is_multiple_of(2) || !slot.begin_move() {
        return false;
    }
    slot.generation.store(generation.wrapping_add(1), Ordering::SeqCst);
    let writers = memory.header().writers as usize;
    let mut i = 0;
    while i < writers {
        // SAFETY: within the array.
        if unsafe { &(*memory.writing.add(i)).0 }.load(Ordering::SeqCst) == number + 1 {
            slot.generation.store(generation, Ordering::SeqCst);
            slot.end_move();
            return false;
        }
        i += 1;
    }
    unlink(memory, number);
    let database = number_of(memory, (slot.who.load(Ordering::Relaxed) >> 32) as u32);
    slot.give_to(memory.slot(database));
    slot.end_move();
    true
}

fn unlink(memory: &Memory, number: u32) {
    let slot = memory.slot(number);
    let hash = hash_of(
        slot.queryid.load(Ordering::Relaxed),
        slot.who.load(Ordering::Relaxed),
        slot.toplevel.load(Ordering::Relaxed),
    );
    let mut link = memory.head(hash);
    loop {
        let next = link.load(Ordering::Relaxed);
        if next == 0 {
            return;
        }
        if next == number + 1 {
            link.store(slot.next.load(Ordering::Relaxed), Ordering::Release);
            return;
        }
        link = &memory.slot(next - 1).next;
    }
}
