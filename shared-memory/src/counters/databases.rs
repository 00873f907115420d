//! Which number is whose: a place for each of some databases, found without a lock and taken under it.

use super::{Memory, Slot};
use crate::Host;
use crate::sync::{AtomicI64, AtomicU32, Mistake, Ordering, made};

/// Databases with "others" of their own; one more for all the rest.
#[cfg(not(loom))]
pub const DATABASES: usize = 64;
#[cfg(loom)]
pub const DATABASES: usize = 2;

/// Is the extension in a database?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Presence {
    /// No scheduler has looked. Statements are kept apart.
    Unknown = 0,
    /// It is not: everything is counted for "others".
    Absent = 1,
    Present = 2,
}

/// What is known of a database; the entry with the same number holds its "others".
#[repr(C, align(64))]
pub struct Database {
    pub(super) oid: AtomicU32,
    presence: AtomicU32,
    /// When something was first counted that has not been drained; 0: nothing is waiting.
    pub(super) first_use: AtomicI64,
    /// When this database was last drained; 0: not since the server started.
    drained_at: AtomicI64,
    /// Last value of pg_stat_statements' count of evictions, + 1.
    dealloc: AtomicI64,
    /// Pieces that its texts take.
    pieces: AtomicU32,
}

impl Database {
    #[inline]
    pub fn presence(&self) -> Presence {
        match self.presence.load(Ordering::Relaxed) {
            1 => Presence::Absent,
            2 => Presence::Present,
            _ => Presence::Unknown,
        }
    }

    /// Somebody has just created the extension. If that is undone, the next scheduler says so.
    pub fn note_that_it_is_there(&self) {
        self.set_presence(Presence::Present);
    }

    /// Gives what was known before.
    pub(super) fn set_presence(&self, presence: Presence) -> Presence {
        match self.presence.swap(presence as u32, Ordering::SeqCst) {
            1 => Presence::Absent,
            2 => Presence::Present,
            _ => Presence::Unknown,
        }
    }

    pub fn drained_at(&self) -> i64 {
        self.drained_at.load(Ordering::Relaxed)
    }

    pub fn set_drained_at(&self, at: i64) {
        self.drained_at.store(at, Ordering::Relaxed);
    }

    /// `None`: not known.
    pub fn dealloc(&self) -> Option<i64> {
        Some(self.dealloc.load(Ordering::Relaxed)).filter(|&dealloc| dealloc > 0).map(|dealloc| dealloc - 1)
    }

    pub fn set_dealloc(&self, dealloc: i64) {
        self.dealloc.store(dealloc + 1, Ordering::Relaxed);
    }

    /// Pieces of texts; whoever takes and gives them back counts here.
    pub fn pieces(&self) -> &AtomicU32 {
        &self.pieces
    }

    #[cfg(all(test, loom))]
    pub fn nobodys() -> Self {
        Database {
            oid: AtomicU32::new(0),
            presence: AtomicU32::new(0),
            first_use: AtomicI64::new(0),
            drained_at: AtomicI64::new(0),
            dealloc: AtomicI64::new(0),
            pieces: AtomicU32::new(0),
        }
    }
}

impl Memory {
    #[inline]
    pub(super) fn database_at(&self, number: u32) -> &'static Database {
        // SAFETY: at most DATABASES, where the one for the rest is.
        unsafe { self.header().databases.get_unchecked((number as usize).min(DATABASES)) }
    }

    /// A place by its number.
    #[inline]
    pub fn place(&self, number: u32) -> &'static Database {
        self.database_at(number)
    }

    /// The place that a database has.
    pub fn find_database(&self, oid: u32) -> Option<u32> {
        let places = self.header().databases.iter().take(DATABASES);
        places.zip(0..).find(|(place, _)| place.oid.load(Ordering::Acquire) == oid).map(|(_, number)| number)
    }

    /// The place of a database, taken if it has none and one is free. `None`: there is none for it, now.
    ///
    /// First all places are looked at: the database may have one beyond a place that has become free meanwhile. Whoever takes
    /// one holds the lock from that look on, so that two processes do not take one each.
    pub(super) fn place_of(&self, oid: u32, pid: u32) -> Option<u32> {
        if made(Mistake::FirstFreePlace) {
            return self.first_free_or(oid);
        }
        if let Some(number) = self.find_database(oid) {
            return Some(number);
        }
        if made(Mistake::ClaimWithoutLock) {
            return self.find_database(oid).or_else(|| self.claim(oid));
        }
        if !self.try_lock(pid) {
            return None;
        }
        let number = self.find_database(oid).or_else(|| self.claim(oid));
        self.unlock();
        number
    }

    /// Under the lock, by which places are taken but not given back.
    fn claim(&self, oid: u32) -> Option<u32> {
        let places = self.header().databases.iter().take(DATABASES);
        places
            .zip(0..)
            .find(|(place, _)| place.oid.compare_exchange(0, oid, Ordering::AcqRel, Ordering::Relaxed).is_ok())
            .map(|(_, number)| number)
    }

    fn first_free_or(&self, oid: u32) -> Option<u32> {
        let places = self.header().databases.iter().take(DATABASES);
        places
            .zip(0..)
            .find(|(place, _)| match place.oid.compare_exchange(0, oid, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(taken) => taken == oid,
            })
            .map(|(_, number)| number)
    }

    /// What is known of a database. `None`: too many databases came before.
    pub fn database(&self, oid: u32, pid: u32) -> Option<&'static Database> {
        self.place_of(oid, pid).map(|number| self.database_at(number))
    }

    /// Where what cannot be kept apart in an entry's database goes. Takes no place: its caller holds the lock.
    pub(super) fn others_of(&self, slot: &Slot) -> &'static Slot {
        let oid = (slot.who.load(Ordering::Relaxed) >> 32) as u32;
        self.slot(self.find_database(oid).unwrap_or(DATABASES as u32))
    }

    pub(super) fn others(&self) -> impl Iterator<Item = (u32, u32)> {
        let memory = *self;
        (0..=DATABASES as u32).map(move |number| (number, memory.database_at(number).oid.load(Ordering::Acquire)))
    }

    /// Makes room for other databases: of those that are gone the sums go to the one for all the rest. A database in which
    /// nobody can be connected any more, as after DROP DATABASE.
    pub fn forget_databases(&self, host: &impl Host, exists: impl Fn(u32) -> bool, mut forget: impl FnMut(u32)) {
        let rest = self.slot(DATABASES as u32);
        for (number, oid) in self.others().filter(|&(number, _)| (number as usize) < DATABASES) {
            if oid == 0 || exists(oid) {
                continue;
            }
            forget(oid);
            let slot = self.slot(number);
            // What cannot be had now is had at the next occasion.
            if !self.give_up(host, oid) || !slot.begin_move_patiently(host) {
                continue;
            }
            slot.give_to(rest);
            slot.touched.store(0, Ordering::SeqCst);
            slot.since.store(host.now(), Ordering::SeqCst);
            slot.end_move();
            let database = self.database_at(number);
            for time in [&database.first_use, &database.drained_at, &database.dealloc] {
                time.store(0, Ordering::SeqCst);
            }
            database.pieces.store(0, Ordering::SeqCst);
            database.presence.store(Presence::Unknown as u32, Ordering::SeqCst);
            database.oid.store(0, Ordering::Release);
            self.header().vacated.fetch_add(1, Ordering::Release);
        }
    }
}
