//! Reading and draining: in functions and in the scheduler, where one may wait and allocate.

use std::sync::atomic::Ordering;

use super::entries::evict;
use super::*;
use crate::queries::figures::{Figures, Key};

fn note_extremes(figures: &mut Figures, inverted_min: u64, max: u64) {
    if inverted_min > 0 {
        let min = u64::MAX - inverted_min;
        figures.min = if figures.min == 0 { min } else { figures.min.min(min) };
    }
    figures.max = figures.max.max(max);
}

/// An entry of a database.
pub struct Entry {
    slot: u32,
    generation: u32,
    pub key: Key,
    pub database: u32,
    /// Microseconds since 2000.
    pub since: i64,
    pub figures: Figures,
}

fn others(memory: &Memory) -> impl Iterator<Item = (u32, u32)> {
    (0..=DATABASES as u32).map(|number| (number, database_at(memory, number).oid.load(Ordering::Acquire)))
}

fn mine(memory: &Memory, number: u32, oid: u32) -> Option<(u32, i64, u64, u32)> {
    let slot = memory.slot(number);
    let generation = slot.generation.load(Ordering::SeqCst);
    let who = slot.who.load(Ordering::Relaxed);
    let key = (generation, slot.queryid.load(Ordering::Relaxed), who, slot.toplevel.load(Ordering::Relaxed));
    let undisturbed = generation % 2 == 1 && slot.generation.load(Ordering::SeqCst) == generation;
    (undisturbed && (who >> 32) as u32 == oid).then_some(key)
}

fn used(memory: &Memory) -> std::ops::Range<u32> {
    DATABASES as u32 + 1..memory.header().fresh.load(Ordering::Acquire)
}

/// Everything since the last reset: of database `oid`, and the others of all databases (`database` 0: of those for which there
/// was no room).
pub fn live(oid: u32) -> Vec<Entry> {
    let Some(memory) = memory() else { return Vec::new() };
    let mut entries = Vec::new();
    for (number, database) in others(memory) {
        if database == 0 && (number as usize) < DATABASES {
            continue;
        }
        if let Some((figures, since)) = read(memory, number, 1)
            && !figures.is_empty()
        {
            let key = Key { toplevel: true, ..Key::default() };
            entries.push(Entry { slot: number, generation: 1, key, database, since, figures });
        }
    }
    for number in used(memory) {
        let Some((generation, queryid, who, toplevel)) = mine(memory, number, oid) else { continue };
        if let Some((figures, since)) = read(memory, number, generation)
            && !figures.is_empty()
        {
            let key = Key { queryid, user: who as u32, toplevel: toplevel != 0 };
            entries.push(Entry { slot: number, generation, key, database: oid, since, figures });
        }
    }
    entries
}

/// Drained and undrained counts together. `None`: the entry has changed hands.
fn read(memory: &Memory, number: u32, generation: u32) -> Option<(Figures, i64)> {
    let slot = memory.slot(number);
    loop {
        let moving = slot.moving.load(Ordering::SeqCst);
        if moving % 2 == 1 {
            std::thread::yield_now();
            continue;
        }
        let mut figures = Figures::default();
        let total = &slot.total;
        figures.total = total.ns.load(Ordering::SeqCst);
        figures.rows = total.rows.load(Ordering::SeqCst);
        note_extremes(&mut figures, total.inverted_min.load(Ordering::SeqCst), total.max.load(Ordering::SeqCst));
        for (sum, count) in figures.failures.iter_mut().zip(&total.failures) {
            *sum = count.load(Ordering::SeqCst);
        }
        for (sum, count) in figures.histogram.0.iter_mut().zip(&total.buckets) {
            *sum = count.load(Ordering::SeqCst);
        }
        for shard in &slot.shards {
            figures.total = figures.total.wrapping_add(shard.ns.load(Ordering::SeqCst));
            figures.rows = figures.rows.wrapping_add(shard.rows.load(Ordering::SeqCst));
            note_extremes(&mut figures, shard.inverted_min.load(Ordering::SeqCst), shard.max.load(Ordering::SeqCst));
            for (sum, count) in figures.failures.iter_mut().zip(&shard.failures) {
                *sum = sum.wrapping_add(count.load(Ordering::SeqCst));
            }
            for (sum, count) in figures.histogram.0.iter_mut().zip(&shard.buckets) {
                *sum = sum.wrapping_add(count.load(Ordering::SeqCst).into());
            }
        }
        let since = slot.since.load(Ordering::SeqCst);
        if slot.generation.load(Ordering::SeqCst) != generation {
            return None;
        }
        if slot.moving.load(Ordering::SeqCst) == moving {
            return Some((figures, since));
        }
    }
}

/// What one database has to give to its history, and since when. It is out of the shared memory's undrained counts: who cannot
/// store it gives it [`Drained::back`].
pub struct Drained {
    pub first_use: i64,
    pub entries: Vec<Entry>,
    number: u32,
}

/// Since when something waits to be drained in a database that, as far as is known, has the extension.
pub fn waiting_since(oid: u32) -> Option<i64> {
    let memory = memory()?;
    let number = others(memory).find(|&(number, database)| (number as usize) < DATABASES && database == oid)?.0;
    let database = database_at(memory, number);
    let present = database.absent.load(Ordering::SeqCst) == 0;
    Some(database.first_use.load(Ordering::SeqCst)).filter(|&at| at != 0 && present)
}

/// What is known of a database. `None`: nothing has been counted there, or too many databases came before.
pub fn database(oid: u32) -> Option<&'static Database> {
    let memory = memory()?;
    let number = number_of(memory, oid);
    ((number as usize) < DATABASES).then(|| database_at(memory, number))
}

impl Database {
    /// Says whether the extension is there. Without it all of the database's entries are given up.
    pub fn set_absent(&self, absent: bool) {
        let before = self.absent.swap(absent.into(), Ordering::SeqCst);
        if absent && before == 0 {
            give_up(self.oid.load(Ordering::Acquire));
        }
    }
}

/// All entries of a database go to its "others". One that is being written to stays until it is evicted.
fn give_up(oid: u32) {
    let Some(memory) = memory() else { return };
    for number in used(memory) {
        if mine(memory, number, oid).is_none() {
            continue;
        }
        while !memory.try_lock() {
            std::thread::yield_now();
        }
        if mine(memory, number, oid).is_some() && evict(memory, number) {
            let free = &memory.header().free;
            memory.slot(number).next.store(free.load(Ordering::Relaxed), Ordering::Relaxed);
            free.store(number + 1, Ordering::Relaxed);
        }
        memory.unlock();
    }
}

/// Makes room for other databases: of those that are gone the sums go to the one for all the rest.
pub fn forget_databases(exists: impl Fn(u32) -> bool) {
    let Some(memory) = memory() else { return };
    let rest = memory.slot(DATABASES as u32);
    for (number, oid) in others(memory).filter(|&(number, _)| (number as usize) < DATABASES) {
        if oid == 0 || exists(oid) {
            continue;
        }
        give_up(oid);
        let slot = memory.slot(number);
        slot.begin_move_patiently();
        slot.give_to(rest);
        slot.touched.store(0, Ordering::SeqCst);
        slot.since.store(now(), Ordering::SeqCst);
        slot.end_move();
        let database = database_at(memory, number);
        for time in [&database.first_use, &database.drained_at, &database.dealloc] {
            time.store(0, Ordering::SeqCst);
        }
        database.absent.store(0, Ordering::SeqCst);
        database.oid.store(0, Ordering::Release);
    }
}

/// Takes what has been counted in a database since it was last drained.
pub fn drain(oid: u32) -> Option<Drained> {
    let memory = memory()?;
    let number = others(memory).find(|&(number, database)| (number as usize) < DATABASES && database == oid)?.0;
    // Before the counts: what is counted from here on says so again.
    let first_use = database_at(memory, number).first_use.swap(0, Ordering::SeqCst);
    let mut entries = Vec::new();
    let mut take = |at: u32, found: (u32, i64, u64, u32)| {
        let slot = memory.slot(at);
        if slot.touched.swap(0, Ordering::SeqCst) == 0 {
            return;
        }
        slot.begin_move_patiently();
        let (generation, queryid, who, toplevel) = found;
        // An entry that has changed hands since has given its counts to others, which come last.
        if slot.generation.load(Ordering::SeqCst) == generation {
            let figures = slot.drain();
            if !figures.is_empty() {
                let since = slot.since.load(Ordering::Relaxed);
                let key = Key { queryid, user: who as u32, toplevel: toplevel != 0 };
                entries.push(Entry { slot: at, generation, key, database: oid, since, figures });
            }
        } else {
            slot.touched.store(1, Ordering::SeqCst);
        }
        slot.end_move();
    };
    for at in used(memory) {
        if let Some(key) = mine(memory, at, oid) {
            take(at, key);
        }
    }
    take(number, (1, 0, 0, 1));
    Some(Drained { first_use, entries, number })
}

impl Drained {
    /// It could not be stored: "others" have it, for the next time. Nothing is lost but which statement it was.
    pub fn back(&self) {
        let Some(memory) = memory() else { return };
        let others = memory.slot(self.number);
        others.begin_move_patiently();
        for Entry { slot, generation, figures, .. } in &self.entries {
            let own = memory.slot(*slot);
            // Live figures have it already: of the statement, or of others if it was evicted meanwhile.
            let counted = if own.generation.load(Ordering::SeqCst) == *generation { own } else { others };
            if !std::ptr::eq(counted, others) {
                counted.begin_move_patiently();
            }
            counted.total.subtract(figures);
            if !std::ptr::eq(counted, others) {
                counted.end_move();
            }
            others.shards[0].put(figures);
        }
        others.touched.store(1, Ordering::SeqCst);
        others.end_move();
        let database = database_at(memory, self.number);
        let _ = database.first_use.compare_exchange(0, self.first_use.max(1), Ordering::SeqCst, Ordering::Relaxed);
    }
}

impl Entry {
    /// What pg_stat_statements said last time, and since when it had been counting; `None` for others.
    pub fn counters(&self) -> Option<([u64; COUNTERS], i64)> {
        let slot = memory()?.slot(self.slot);
        let counters = std::array::from_fn(|i| slot.counters[i].load(Ordering::Relaxed));
        let same = slot.generation.load(Ordering::SeqCst) == self.generation && self.key.queryid != 0;
        same.then(|| (counters, slot.counters_since.load(Ordering::Relaxed)))
    }

    pub fn set_counters(&self, counters: &[u64; COUNTERS], since: i64) {
        let Some(memory) = memory() else { return };
        let slot = memory.slot(self.slot);
        if self.key.queryid != 0 && slot.generation.load(Ordering::SeqCst) == self.generation {
            for (to, &value) in slot.counters.iter().zip(counters) {
                to.store(value, Ordering::Relaxed);
            }
            slot.counters_since.store(since, Ordering::Relaxed);
        }
    }
}

/// Lets the live figures of matching entries of a database begin at `now`; undrained counts stay for the history.
pub fn reset(oid: u32, now: i64, matches: impl Fn(i64, u32) -> bool) {
    let Some(memory) = memory() else { return };
    let own = others(memory).find(|&(number, database)| (number as usize) < DATABASES && database == oid);
    for (number, key) in used(memory)
        .filter_map(|number| Some((number, mine(memory, number, oid)?)))
        .chain(own.map(|(number, _)| (number, (1, 0, 0, 1))))
    {
        let (generation, queryid, who, _) = key;
        if !matches(queryid, who as u32) {
            continue;
        }
        let slot = memory.slot(number);
        slot.begin_move_patiently();
        if slot.generation.load(Ordering::SeqCst) == generation {
            slot.reset(now);
        }
        slot.end_move();
    }
}

impl Slot {
    /// Undrained counts, which the total has from now on.
    fn drain(&self) -> Figures {
        let mut figures = Figures::default();
        for shard in &self.shards {
            let take = |from: &AtomicU64, to: &AtomicU64| {
                let value = from.swap(0, Ordering::SeqCst);
                to.fetch_add(value, Ordering::SeqCst);
                value
            };
            figures.total += take(&shard.ns, &self.total.ns);
            figures.rows += take(&shard.rows, &self.total.rows);
            for i in 0..4 {
                figures.failures[i] += take(&shard.failures[i], &self.total.failures[i]);
            }
            let inverted_min = shard.inverted_min.swap(0, Ordering::SeqCst);
            let max = shard.max.swap(0, Ordering::SeqCst);
            self.total.inverted_min.fetch_max(inverted_min, Ordering::SeqCst);
            self.total.max.fetch_max(max, Ordering::SeqCst);
            note_extremes(&mut figures, inverted_min, max);
            for (i, bucket) in shard.buckets.iter().enumerate() {
                if bucket.load(Ordering::SeqCst) != 0 {
                    let value = u64::from(bucket.swap(0, Ordering::SeqCst));
                    self.total.buckets[i].fetch_add(value, Ordering::SeqCst);
                    figures.histogram.0[i] += value;
                }
            }
        }
        figures
    }

    /// Total and undrained counts add up to zero afterwards, in the arithmetic that wraps round.
    fn reset(&self, now: i64) {
        let undrained = |of: &dyn Fn(&Shard) -> u64| {
            self.shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(of(shard))).wrapping_neg()
        };
        let load = |value: &AtomicU64| value.load(Ordering::SeqCst);
        self.total.ns.store(undrained(&|shard| load(&shard.ns)), Ordering::SeqCst);
        self.total.rows.store(undrained(&|shard| load(&shard.rows)), Ordering::SeqCst);
        for i in 0..4 {
            self.total.failures[i].store(undrained(&|shard| load(&shard.failures[i])), Ordering::SeqCst);
        }
        for i in 0..BUCKETS {
            let counts = undrained(&|shard| shard.buckets[i].load(Ordering::SeqCst).into());
            self.total.buckets[i].store(counts, Ordering::SeqCst);
        }
        // Extremes cannot be taken back from the undrained part: they are of the interval that the reset fell into.
        self.total.inverted_min.store(0, Ordering::SeqCst);
        self.total.max.store(0, Ordering::SeqCst);
        self.since.store(now, Ordering::SeqCst);
    }
}

impl Total {
    fn subtract(&self, figures: &Figures) {
        self.ns.fetch_sub(figures.total, Ordering::SeqCst);
        self.rows.fetch_sub(figures.rows, Ordering::SeqCst);
        for (total, &count) in self.failures.iter().zip(&figures.failures) {
            total.fetch_sub(count, Ordering::SeqCst);
        }
        for (total, &count) in self.buckets.iter().zip(&figures.histogram.0) {
            total.fetch_sub(count, Ordering::SeqCst);
        }
    }
}

impl Shard {
    fn put(&self, figures: &Figures) {
        self.ns.fetch_add(figures.total, Ordering::SeqCst);
        self.rows.fetch_add(figures.rows, Ordering::SeqCst);
        if figures.max > 0 {
            self.inverted_min.fetch_max(u64::MAX - figures.min, Ordering::SeqCst);
            self.max.fetch_max(figures.max, Ordering::SeqCst);
        }
        for (to, &count) in self.failures.iter().zip(&figures.failures) {
            to.fetch_add(count, Ordering::SeqCst);
        }
        for (to, &count) in self.buckets.iter().zip(&figures.histogram.0) {
            to.fetch_add(count as u32, Ordering::SeqCst);
        }
    }
}
