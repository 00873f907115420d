//! Which number is whose: a place for each of some databases, found without a lock, taken and given up under it.
//!
//! Whoever counts for the others of a place announces that place, then looks whether it is still its database's; who gives a place
//! up takes the database's name off it first, then looks whether anybody has announced it.

use super::{Memory, Slot};
use crate::Host;
use crate::sync::{AtomicI64, AtomicU32, Mistake, Ordering, in_order, made};

/// Databases with "others" of their own; one more for all the rest.
#[cfg(not(loom))]
pub const DATABASES: usize = 64;
#[cfg(loom)]
pub const DATABASES: usize = 2;

/// No database: a place that somebody is giving up, under the lock. What is counted there is of the one that had it.
pub(super) const GIVEN_UP: u32 = u32::MAX;

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
    /// Its history waits for a lock that somebody has, and the log says so.
    held_up: AtomicU32,
    /// A text of it has found no room since they were last stored.
    lacked_room: AtomicU32,
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

    pub fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed) != 0
    }

    /// Says whether anything is in the way of its history. Gives what was said before.
    pub fn note_held_up(&self, is: bool) -> bool {
        self.held_up.swap(is.into(), Ordering::Relaxed) != 0
    }

    pub fn has_lacked_room(&self) -> bool {
        self.lacked_room.load(Ordering::Relaxed) != 0
    }

    pub fn note_lack_of_room(&self, lacks: bool) {
        // Met by every statement whose text does not fit: only news is written.
        if self.has_lacked_room() != lacks {
            self.lacked_room.store(lacks.into(), Ordering::Relaxed);
        }
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
            held_up: AtomicU32::new(0),
            lacked_room: AtomicU32::new(0),
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

    /// Under the lock.
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
        (0..=DATABASES as u32).map(move |number| (number, memory.database_at(number).oid.load(Ordering::SeqCst)))
    }

    /// "Others" of a database whose place may have this number, announced in `writing`: they do not change hands until that is
    /// cleared. Those of all the rest if it is not its place any more.
    #[inline]
    pub(super) fn announce_others(&self, writing: &AtomicU32, number: u32, oid: u32) -> &'static Slot {
        if (number as usize) < DATABASES {
            writing.store(number + 1, Ordering::SeqCst);
            in_order();
            if self.database_at(number).oid.load(Ordering::SeqCst) == oid || made(Mistake::BelieveThePlace) {
                return self.slot(number);
            }
        }
        self.slot(DATABASES as u32)
    }

    /// Makes room for other databases: of those that are gone the sums go to the one for all the rest. A database in which
    /// nobody can be connected any more, as after DROP DATABASE.
    pub fn forget_databases(&self, host: &impl Host, exists: impl Fn(u32) -> bool, mut forget: impl FnMut(u32)) {
        for (number, oid) in self.others().filter(|&(number, _)| (number as usize) < DATABASES) {
            if oid == 0 || oid == GIVEN_UP || exists(oid) {
                continue;
            }
            forget(oid);
            // What cannot be had now is had at the next occasion.
            if !self.give_up(host, oid) || !self.lock_patiently(host) {
                continue;
            }
            // It may be another one's by now.
            let is_its = self.database_at(number).oid.load(Ordering::SeqCst) == oid || made(Mistake::ClearUnseen);
            if is_its && self.give_place_up(host, number, oid) {
                self.database_at(number).pieces.store(0, Ordering::SeqCst);
                self.clear_place(host, number);
            }
            self.unlock();
        }
    }

    /// Under the lock: the place of a database that does not have to have one. If all are taken, a database that has the extension gets
    /// that of one that does not, or of which that is not known; `lost` is who had it. `None`: they all have it.
    pub(super) fn place_under_lock(
        &self,
        host: &impl Host,
        oid: u32,
        presence: Presence,
        lost: &mut Option<u32>,
    ) -> Option<u32> {
        self.find_database(oid).or_else(|| self.claim(oid)).or_else(|| {
            if presence != Presence::Present {
                return None;
            }
            let (number, other) = self.have_one_given_up(host)?;
            *lost = Some(other);
            self.evict_all(host, other);
            self.clear_place(host, number);
            self.claim(oid)
        })
    }

    /// Under the lock: a place whose database has lost it, and that database. First those that are known to be without the extension.
    fn have_one_given_up(&self, host: &impl Host) -> Option<(u32, u32)> {
        for wanted in [Presence::Absent, Presence::Unknown] {
            for (number, oid) in self.others().filter(|&(number, _)| (number as usize) < DATABASES) {
                let fits = self.database_at(number).presence() == wanted;
                if fits && oid != 0 && oid != GIVEN_UP && self.give_place_up(host, number, oid) {
                    return Some((number, oid));
                }
            }
        }
        None
    }

    /// Under the lock: takes a database's name off its place, and moves its counts from here to [`Memory::clear_place`]. False: somebody
    /// is counting there, or moves them.
    fn give_place_up(&self, host: &impl Host, number: u32, oid: u32) -> bool {
        let (slot, place) = (self.slot(number), &self.database_at(number).oid);
        let generation = slot.generation.load(Ordering::Relaxed);
        if (made(Mistake::LookBeforePlace) && self.is_written_to(number)) || !slot.begin_move_at_once(host) {
            return false;
        }
        // What a drain has taken from these others has nothing to do with the next ones.
        slot.generation.store(generation.wrapping_add(2), Ordering::SeqCst);
        place.store(GIVEN_UP, Ordering::SeqCst);
        in_order();
        if !made(Mistake::LookBeforePlace) && self.is_written_to(number) {
            place.store(oid, Ordering::SeqCst);
            slot.generation.store(generation, Ordering::SeqCst);
            slot.end_move();
            return false;
        }
        true
    }

    /// Under the lock: a place that was given up is free, and what was counted there is among the rest. Its texts are freed by themselves.
    fn clear_place(&self, host: &impl Host, number: u32) {
        let (slot, database) = (self.slot(number), self.database_at(number));
        slot.give_to(self.slot(DATABASES as u32));
        slot.touched.store(0, Ordering::SeqCst);
        slot.since.store(host.now(), Ordering::SeqCst);
        for time in [&database.first_use, &database.drained_at, &database.dealloc] {
            time.store(0, Ordering::SeqCst);
        }
        for word in [&database.held_up, &database.lacked_room, &database.presence] {
            word.store(0, Ordering::SeqCst);
        }
        slot.end_move();
        database.oid.store(0, Ordering::SeqCst);
        self.header().vacated.fetch_add(1, Ordering::Release);
    }

    /// Under the lock of somebody who is gone: what he has not cleared.
    pub(super) fn clear_given_up(&self, host: &impl Host) {
        for (number, oid) in self.others() {
            if oid == GIVEN_UP && self.slot(number).begin_move_at_once(host) {
                self.clear_place(host, number);
            }
        }
    }
}
