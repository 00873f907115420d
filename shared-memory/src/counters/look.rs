//! Reading and draining: in functions and in the scheduler, where one may wait and allocate.

use super::databases::GIVEN_UP;
use super::moves::mover;
use super::{DATABASES, Database, Memory, Presence, Shard, Slot, Total, key_of};
use crate::figures::{COUNTERS, FAILURES, Figures, Key};
use crate::histogram::BUCKETS;
use crate::sync::{AtomicU32, AtomicU64, Mistake, Ordering, in_order, made};
use crate::{Host, TURNS};

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

/// What one database has to give to its history, and since when. It is out of the shared memory's undrained counts: who cannot
/// store it gives it back ([`Memory::give_back`]).
pub struct Drained {
    pub first_use: i64,
    pub entries: Vec<Entry>,
    database: u32,
}

/// What is in an entry: generation, queryid, database and role, traits.
type Holder = (u32, i64, u64, u32);

impl Memory {
    fn held_by(&self, number: u32, oid: u32) -> Option<Holder> {
        let slot = self.slot(number);
        let generation = slot.generation.load(Ordering::SeqCst);
        let who = slot.who.load(Ordering::Relaxed);
        let holder = (generation, slot.queryid.load(Ordering::Relaxed), who, slot.traits.load(Ordering::Relaxed));
        let undisturbed = generation % 2 == 1 && slot.generation.load(Ordering::SeqCst) == generation;
        (undisturbed && (who >> 32) as u32 == oid).then_some(holder)
    }

    /// What is in the entry of a database's "others", at the place that it has.
    fn others_held_by(&self, number: u32, oid: u32) -> Option<Holder> {
        let generation = self.slot(number).generation.load(Ordering::SeqCst);
        (self.database_at(number).oid.load(Ordering::SeqCst) == oid).then_some((generation, 0, 0, 1))
    }

    fn used(&self) -> std::ops::Range<u32> {
        DATABASES as u32 + 1..self.header().fresh.load(Ordering::Acquire)
    }

    /// Everything since the last reset: of database `oid`, and the others of all databases (`database` 0: of those for which
    /// there was no room).
    pub fn live(&self, host: &impl Host, oid: u32) -> Vec<Entry> {
        self.tend(host);
        let mut entries = Vec::new();
        for (number, database) in self.others() {
            if database == 0 && (number as usize) < DATABASES {
                continue;
            }
            let Some((generation, ..)) = self.others_held_by(number, database) else { continue };
            if let Some((figures, since)) = self.read(host, number, generation)
                && !figures.is_empty()
            {
                let key = Key { toplevel: true, ..Key::default() };
                let database = if database == GIVEN_UP { 0 } else { database };
                entries.push(Entry { slot: number, generation, key, database, since, figures });
            }
        }
        for number in self.used() {
            let Some((generation, queryid, who, traits)) = self.held_by(number, oid) else { continue };
            if let Some((figures, since)) = self.read(host, number, generation)
                && !figures.is_empty()
            {
                let key = key_of(queryid, who, traits);
                entries.push(Entry { slot: number, generation, key, database: oid, since, figures });
            }
        }
        entries
    }

    /// Drained and undrained counts together. `None`: the entry has changed hands.
    fn read(&self, host: &impl Host, number: u32, generation: u32) -> Option<(Figures, i64)> {
        let slot = self.slot(number);
        let mut turn = 0;
        loop {
            let moving = slot.moving.load(Ordering::SeqCst);
            // Somebody is at it, neither ends it nor is gone: some counts may be missing for now.
            let gives_up = turn >= TURNS && !made(Mistake::WaitForTheGone);
            if mover(moving) != 0 && !gives_up {
                if slot.take_over(host, turn) {
                    slot.end_move();
                }
                host.wait(turn);
                turn += 1;
                continue;
            }
            let figures = slot.figures();
            let since = slot.since.load(Ordering::SeqCst);
            if slot.generation.load(Ordering::SeqCst) != generation {
                return None;
            }
            if gives_up || slot.moving.load(Ordering::SeqCst) == moving {
                return Some((figures, since));
            }
            turn += 1;
        }
    }

    /// Since when something waits to be drained in a database that, as far as is known, has the extension.
    pub fn waiting_since(&self, oid: u32) -> Option<i64> {
        let database = self.database_at(self.find_database(oid)?);
        let since = database.first_use.load(Ordering::SeqCst);
        (since != 0 && database.presence() != Presence::Absent).then_some(since)
    }

    /// Says whether the extension is in a database. Without it all of the database's entries are given up; with it, it has a place if any
    /// other has one without it: `forget` is told which has lost its own. Gives what was known before.
    pub fn set_presence(
        &self,
        host: &impl Host,
        oid: u32,
        presence: Presence,
        mut forget: impl FnMut(u32),
    ) -> Option<Presence> {
        if self.find_database(oid).is_some_and(|number| self.database_at(number).presence() == presence) {
            return Some(presence);
        }
        // What is said of a place must not be said of the next database that has it.
        let locks = presence == Presence::Present || !made(Mistake::SayWithoutLock);
        if locks && !self.lock_patiently(host) {
            return None;
        }
        let mut lost = None;
        let number = self.place_under_lock(host, oid, presence, &mut lost);
        let before = number.map(|number| self.database_at(number).set_presence(presence));
        if locks {
            self.unlock();
        }
        if let Some(other) = lost {
            forget(other);
        }
        if presence == Presence::Absent && before.is_some() {
            // Those that cannot be had now leave when others need their room.
            let _all = self.give_up(host, oid);
        }
        before
    }

    /// All entries of a database go to its "others". One that is being written to stays until it is evicted. False: the lock could
    /// not be had.
    #[must_use]
    pub(super) fn give_up(&self, host: &impl Host, oid: u32) -> bool {
        for number in self.used() {
            if self.held_by(number, oid).is_none() {
                continue;
            }
            if !self.lock_patiently(host) {
                return false;
            }
            self.free_if_of(number, oid, host.pid());
            self.unlock();
        }
        true
    }

    /// The same at once, under the lock.
    pub(super) fn evict_all(&self, host: &impl Host, oid: u32) {
        for number in self.used() {
            self.free_if_of(number, oid, host.pid());
        }
    }

    fn free_if_of(&self, number: u32, oid: u32, pid: u32) {
        if self.held_by(number, oid).is_some() && self.evict(number, pid) {
            let free = &self.header().free;
            self.slot(number).next.store(free.load(Ordering::Relaxed), Ordering::Relaxed);
            free.store(number + 1, Ordering::Relaxed);
        }
    }

    /// Takes what has been counted in a database since it was last drained. Of what cannot be had now it is said that it is there.
    pub fn drain(&self, host: &impl Host, oid: u32) -> Option<Drained> {
        let number = self.find_database(oid)?;
        let others = self.others_held_by(number, oid)?;
        let database = self.database_at(number);
        // Before the counts: what is counted from here on says so again.
        let first_use = database.first_use.swap(0, Ordering::SeqCst);
        in_order();
        let mut entries = Vec::new();
        let mut whole = true;
        for at in self.used() {
            if let Some(holder) = self.held_by(at, oid) {
                whole &= self.take(host, at, holder, oid, &mut entries);
            }
        }
        // Last: an entry that has changed hands meanwhile has given its counts to them.
        whole &= self.take(host, number, others, oid, &mut entries);
        if !whole {
            database.want_drain(first_use);
        }
        Some(Drained { first_use, entries, database: oid })
    }

    fn take(&self, host: &impl Host, at: u32, holder: Holder, oid: u32, entries: &mut Vec<Entry>) -> bool {
        let slot = self.slot(at);
        if slot.touched.swap(0, Ordering::SeqCst) == 0 {
            return true;
        }
        in_order();
        if !slot.begin_move_patiently(host) {
            slot.touched.store(1, Ordering::SeqCst);
            return false;
        }
        let (generation, queryid, who, traits) = holder;
        if slot.generation.load(Ordering::SeqCst) == generation {
            let figures = slot.drain();
            if !figures.is_empty() {
                let since = slot.since.load(Ordering::Relaxed);
                let key = key_of(queryid, who, traits);
                entries.push(Entry { slot: at, generation, key, database: oid, since, figures });
            }
        } else {
            slot.touched.store(1, Ordering::SeqCst);
        }
        slot.end_move();
        true
    }

    /// It could not be stored: it waits for the next time, where it was, or among the others if the entry has changed hands.
    /// `process`: the caller's number.
    pub fn give_back(&self, host: &impl Host, process: u32, drained: &Drained) {
        for entry in &drained.entries {
            let figures = &entry.figures;
            let writing = self.writing(process).map(|writing| &writing.entry);
            let counted = match writing {
                Some(writing) => self.announce_its(writing, entry, drained.database),
                None => self.slot(DATABASES as u32),
            };
            // Live figures have it already. Without the right to move counts a reader may see some of it twice, for a moment.
            let moves = counted.begin_move_patiently(host);
            counted.total.subtract(figures);
            counted.shards[0].put(figures);
            counted.touched.store(1, Ordering::SeqCst);
            if moves {
                counted.end_move();
            }
            if let Some(writing) = writing {
                writing.store(0, Ordering::Release);
            }
        }
        if !drained.entries.is_empty()
            && let Some(number) = self.find_database(drained.database)
        {
            in_order();
            let database = self.database_at(number);
            database.want_drain(drained.first_use);
            database.waits_since(drained.first_use);
        }
    }

    /// Where an entry's counts belong now. Like somebody who counts: it cannot change hands until `writing` is cleared.
    fn announce_its(&self, writing: &AtomicU32, entry: &Entry, database: u32) -> &'static Slot {
        let own = self.slot(entry.slot);
        writing.store(entry.slot + 1, Ordering::SeqCst);
        in_order();
        if own.generation.load(Ordering::SeqCst) == entry.generation {
            return own;
        }
        self.announce_others(writing, self.find_database(database).unwrap_or(DATABASES as u32), database)
    }

    /// What pg_stat_statements said of an entry last time, and since when it had been counting; `None` for others.
    pub fn counters(&self, entry: &Entry) -> Option<([u64; COUNTERS], i64)> {
        let slot = self.slot(entry.slot);
        let counters = std::array::from_fn(|i| slot.counters[i].load(Ordering::Relaxed));
        let same = slot.generation.load(Ordering::SeqCst) == entry.generation && entry.key.queryid != 0;
        same.then(|| (counters, slot.counters_since.load(Ordering::Relaxed)))
    }

    pub fn set_counters(&self, entry: &Entry, counters: &[u64; COUNTERS], since: i64) {
        let slot = self.slot(entry.slot);
        if entry.key.queryid != 0 && slot.generation.load(Ordering::SeqCst) == entry.generation {
            for (to, &value) in slot.counters.iter().zip(counters) {
                to.store(value, Ordering::Relaxed);
            }
            slot.counters_since.store(since, Ordering::Relaxed);
        }
    }

    /// Lets the live figures of matching entries of a database begin at `now`; undrained counts stay for the history. False:
    /// somebody was at one of them all the time.
    #[must_use]
    pub fn reset(&self, host: &impl Host, oid: u32, now: i64, matches: impl Fn(i64, u32) -> bool) -> bool {
        let own = self.find_database(oid).and_then(|number| Some((number, self.others_held_by(number, oid)?)));
        let entries = self.used().filter_map(|number| Some((number, self.held_by(number, oid)?)));
        let mut whole = true;
        for (number, (generation, queryid, who, _)) in entries.chain(own) {
            if !matches(queryid, who as u32) {
                continue;
            }
            let slot = self.slot(number);
            if !slot.begin_move_patiently(host) {
                whole = false;
                continue;
            }
            if slot.generation.load(Ordering::SeqCst) == generation {
                slot.reset(now);
            }
            slot.end_move();
        }
        whole
    }
}

impl Database {
    fn want_drain(&self, since: i64) {
        let _ = self.first_use.compare_exchange(0, since.max(1), Ordering::SeqCst, Ordering::Relaxed);
    }

    /// What waits does so for longer than whoever counted meanwhile has noted.
    fn waits_since(&self, since: i64) {
        let earlier = |noted| (since > 0 && noted > since).then_some(since);
        let _ = self.first_use.fetch_update(Ordering::SeqCst, Ordering::Relaxed, earlier);
    }
}

impl Slot {
    fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        let total = &self.total;
        figures.total = total.ns.load(Ordering::SeqCst);
        figures.rows = total.rows.load(Ordering::SeqCst);
        note_extremes(&mut figures, total.inverted_min.load(Ordering::SeqCst), total.max.load(Ordering::SeqCst));
        for (sum, count) in figures.failures.iter_mut().zip(&total.failures) {
            *sum = count.load(Ordering::SeqCst);
        }
        for (sum, count) in figures.histogram.0.iter_mut().zip(&total.buckets) {
            *sum = count.load(Ordering::SeqCst);
        }
        for shard in &self.shards {
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
        figures
    }

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
            for i in 0..FAILURES {
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
        for i in 0..FAILURES {
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
