//! Texts of statements on their way to a table: a fixed area of shared memory in pieces of 1 kB, one for each entry. Who finds no room
//! goes without and tries again at the next occasion; nobody waits.
//!
//! Nobody takes all of it (LAW 35): a database or a role may take so many times what is still free, so that there always is something left
//! for the next one. Where nobody is known to come for the texts, few are taken; where nobody will come, none.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use pg_upkeep_memory::counters::Database;

use super::{Global, memory};

const LEAST_PIECES: usize = 2048;
const PIECE_BYTES: usize = 976;
/// Longest text with its search_path: 31 kB. What is longer is cut and marked.
const LONGEST: usize = 32;
const SEARCH: u32 = 256;
/// A statement's mark is in one of this many places.
const WAYS: usize = 4;

/// A database may have so many times the pieces that are free, ...
const OF_DATABASE: u32 = 8;
/// ... a role in it (or a few that are accounted for together) fewer, so that it leaves something to others there.
const OF_ROLE: u32 = 6;
/// A database of which it is not known whether anybody will fetch them: one in so many pieces.
const WITHOUT_READER: u32 = 32;
const ROLES: usize = 256;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// The first piece of a text that can be read.
const READY: u32 = 2;

#[repr(C, align(64))]
struct Piece {
    state: AtomicU32,
    /// + 1.
    next: AtomicU32,
    queryid: AtomicI64,
    /// Database and role.
    who: AtomicU64,
    text_bytes: AtomicU32,
    path_bytes: AtomicU32,
    truncated: AtomicU32,
    /// Changed whenever the piece is taken.
    version: AtomicU32,
    /// The process that is writing to it; 0: it is written.
    owner: AtomicU32,
    /// Place of the database that it is accounted for, and role.
    share: AtomicU32,
    bytes: UnsafeCell<[u8; PIECE_BYTES]>,
}

#[repr(C, align(64))]
struct Header {
    hand: AtomicU32,
    /// Pieces that are not free.
    used: AtomicU32,
    roles: [AtomicU32; ROLES],
}

pub struct Texts {
    header: *const Header,
    pieces: *const Piece,
    count: u32,
    marks: *const AtomicU64,
    mark_sets: usize,
}

static TEXTS: Global<Texts> =
    Global::new(Texts { header: ptr::null(), pieces: ptr::null(), count: 0, marks: ptr::null(), mark_sets: 0 });

fn mark_sets(entries: u32) -> usize {
    (entries as usize).next_power_of_two()
}

fn pieces(entries: u32) -> usize {
    (entries as usize).max(LEAST_PIECES)
}

pub fn size(entries: u32) -> usize {
    size_of::<Header>() + pieces(entries) * size_of::<Piece>() + mark_sets(entries) * WAYS * size_of::<AtomicU64>()
}

/// # Safety
/// `address` is aligned to 64, and [`size`] bytes of zeros from there on are ours.
pub unsafe fn create(address: *mut u8, entries: u32) {
    // SAFETY: as promised.
    unsafe {
        let first = address.add(size_of::<Header>());
        *TEXTS.get() = Texts {
            header: address.cast(),
            pieces: first.cast(),
            count: pieces(entries) as u32,
            marks: first.add(pieces(entries) * size_of::<Piece>()).cast(),
            mark_sets: mark_sets(entries),
        };
    }
}

pub fn texts() -> Option<&'static Texts> {
    // SAFETY: written once.
    let texts = unsafe { &*TEXTS.get() };
    (!texts.pieces.is_null()).then_some(texts)
}

fn mark_of(queryid: i64, who: u64) -> u64 {
    let mixed = (queryid as u64 ^ who.rotate_left(31)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed ^ (mixed >> 29)) | 1
}

/// A text that waits to be stored.
pub struct Waiting {
    pub queryid: i64,
    pub who: u64,
    pub user: u32,
    pub text: Vec<u8>,
    pub search_path: Vec<u8>,
    pub truncated: bool,
    piece: u32,
    version: u32,
}

/// Who takes pieces.
#[derive(Clone, Copy)]
pub struct Taker {
    pub who: u64,
    pub database: &'static Database,
    pub place: u32,
    /// Somebody will come for the texts.
    pub is_read: bool,
    pub pid: u32,
}

/// The few that account for one taken too many or too few, because a process ended at that moment, do no harm.
fn pieces_of(count: &AtomicU32) -> u32 {
    let count = count.load(Ordering::Relaxed);
    if count > u32::MAX / 2 { 0 } else { count }
}

/// A role in a database.
fn role_of(who: u64) -> usize {
    (who.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % ROLES
}

impl Texts {
    fn header(&self) -> &'static Header {
        // SAFETY: made with the pieces.
        unsafe { &*self.header }
    }

    #[inline]
    fn role(&self, number: usize) -> &'static AtomicU32 {
        // SAFETY: the remainder is within the array.
        unsafe { self.header().roles.get_unchecked(number % ROLES) }
    }

    fn has_room_for(&self, taker: &Taker) -> bool {
        let free = self.count.saturating_sub(pieces_of(&self.header().used));
        let of_database = pieces_of(taker.database.pieces());
        if taker.is_read {
            of_database < free.saturating_mul(OF_DATABASE)
                && pieces_of(self.role(role_of(taker.who))) < free.saturating_mul(OF_ROLE)
        } else {
            of_database < self.count / WITHOUT_READER && of_database < free / OF_DATABASE
        }
    }

    fn piece(&self, number: u32) -> &'static Piece {
        // SAFETY: numbers come from this module.
        unsafe { &*self.pieces.add(number as usize) }
    }

    fn marks(&self, mark: u64) -> &'static [AtomicU64] {
        let set = (mark >> 20) as usize & (self.mark_sets - 1);
        // SAFETY: within the array.
        unsafe { std::slice::from_raw_parts(self.marks.add(set * WAYS), WAYS) }
    }

    /// Is the text of this statement stored, or on its way?
    #[inline]
    pub fn is_known(&self, queryid: i64, who: u64) -> bool {
        let mark = mark_of(queryid, who);
        self.marks(mark).iter().any(|known| known.load(Ordering::Relaxed) == mark)
    }

    fn know(&self, mark: u64) {
        let marks = self.marks(mark);
        let place = marks.iter().find(|known| known.load(Ordering::Relaxed) == 0);
        if let Some(place) = place.or_else(|| marks.get((mark >> 50) as usize % WAYS)) {
            place.store(mark, Ordering::Relaxed);
        }
    }

    /// No text is known any more: they come again.
    pub fn forget_all(&self) {
        // SAFETY: the whole array.
        for mark in unsafe { std::slice::from_raw_parts(self.marks, self.mark_sets * WAYS) } {
            mark.store(0, Ordering::Relaxed);
        }
    }

    /// A statement's text is taken down again when it is next met.
    pub fn forget(&self, queryid: i64, who: u64) {
        let mark = mark_of(queryid, who);
        for known in self.marks(mark) {
            let _ = known.compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn take_piece(&self, taker: &Taker) -> Option<u32> {
        let piece = self.find_piece(taker);
        if piece.is_none() {
            taker.database.note_lack_of_room(true);
        }
        piece
    }

    fn find_piece(&self, taker: &Taker) -> Option<u32> {
        if !self.has_room_for(taker) {
            return None;
        }
        let header = self.header();
        let mut tries = 0;
        while tries < SEARCH {
            let number = header.hand.fetch_add(1, Ordering::Relaxed) % self.count.max(1);
            let piece = self.piece(number);
            if piece.state.load(Ordering::Relaxed) == FREE
                && piece.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                piece.owner.store(taker.pid, Ordering::Relaxed);
                piece.next.store(0, Ordering::Relaxed);
                piece.version.fetch_add(1, Ordering::Relaxed);
                let role = role_of(taker.who);
                piece.share.store(taker.place << 16 | role as u32, Ordering::Relaxed);
                for count in [&header.used, self.role(role), taker.database.pieces()] {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                return Some(number);
            }
            tries += 1;
        }
        None
    }

    fn free_piece(&self, piece: &Piece) {
        let share = piece.share.load(Ordering::Relaxed);
        let role = self.role(share as usize & 0xFFFF);
        for count in [Some(&self.header().used), Some(role), memory::pieces_of(share >> 16)].into_iter().flatten() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        piece.owner.store(0, Ordering::Relaxed);
        piece.state.store(FREE, Ordering::Release);
    }

    fn give_back(&self, first: u32) {
        let mut next = first + 1;
        let mut pieces = 0;
        while next != 0 && pieces < LONGEST {
            let piece = self.piece(next - 1);
            next = piece.next.load(Ordering::Relaxed);
            self.free_piece(piece);
            pieces += 1;
        }
    }

    /// The texts of a database that nobody will fetch. They come again if somebody does.
    pub fn free(&self, database: u32) {
        for number in 0..self.count {
            let first = self.piece(number);
            if first.state.load(Ordering::Acquire) != READY
                || (first.who.load(Ordering::Relaxed) >> 32) as u32 != database
            {
                continue;
            }
            if first.state.compare_exchange(READY, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            // It may have become another one in between.
            let who = first.who.load(Ordering::Relaxed);
            if (who >> 32) as u32 == database {
                self.forget(first.queryid.load(Ordering::Relaxed), who);
                self.give_back(number);
            } else {
                first.state.store(READY, Ordering::Release);
            }
        }
    }

    /// Pieces of processes that ended while they were writing are free again.
    pub fn tend(&self, is_alive: impl Fn(u32) -> bool) {
        for number in 0..self.count {
            let piece = self.piece(number);
            let owner = piece.owner.load(Ordering::Relaxed);
            if piece.state.load(Ordering::Relaxed) == TAKEN
                && owner != 0
                && !is_alive(owner)
                && piece.owner.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.free_piece(piece);
            }
        }
    }

    /// A place to write a text to; `None`: no room now.
    pub fn begin(&'static self, taker: Taker) -> Option<Writer> {
        let first = self.take_piece(&taker)?;
        Some(Writer { texts: self, taker, first, current: first, used: 0, pieces: 1, total: 0, full: false })
    }

    /// The texts of a database that wait to be stored.
    pub fn waiting(&self, database: u32) -> Vec<Waiting> {
        (0..self.count).filter_map(|number| self.read(number, database)).collect()
    }

    fn read(&self, number: u32, database: u32) -> Option<Waiting> {
        let first = self.piece(number);
        if first.state.load(Ordering::Acquire) != READY {
            return None;
        }
        let version = first.version.load(Ordering::Acquire);
        let who = first.who.load(Ordering::Relaxed);
        if (who >> 32) as u32 != database {
            return None;
        }
        let (text, path) = (first.text_bytes.load(Ordering::Relaxed), first.path_bytes.load(Ordering::Relaxed));
        let queryid = first.queryid.load(Ordering::Relaxed);
        let truncated = first.truncated.load(Ordering::Relaxed) != 0;
        let mut bytes = Vec::new();
        let mut next = number + 1;
        let wanted = (text as usize + path as usize).min(LONGEST * PIECE_BYTES);
        while next != 0 && bytes.len() < wanted {
            let piece = self.piece(next - 1);
            let count = PIECE_BYTES.min(wanted - bytes.len());
            // SAFETY: within the piece. If it is written to meanwhile, what was read is thrown away below.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.bytes.get().cast::<u8>(), count) });
            next = piece.next.load(Ordering::Relaxed);
        }
        std::sync::atomic::fence(Ordering::SeqCst);
        let same = first.state.load(Ordering::SeqCst) == READY && first.version.load(Ordering::SeqCst) == version;
        if !same || bytes.len() != wanted || (text as usize) > wanted {
            return None;
        }
        let search_path = bytes.split_off(text as usize);
        Some(Waiting { queryid, who, user: who as u32, text: bytes, search_path, truncated, piece: number, version })
    }

    /// They are stored.
    pub fn done(&self, waiting: &[Waiting]) {
        for text in waiting {
            let first = self.piece(text.piece);
            if first.version.load(Ordering::Acquire) == text.version
                && first.state.compare_exchange(READY, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.give_back(text.piece);
            }
        }
    }
}

/// Writes one text, piece by piece.
pub struct Writer {
    texts: &'static Texts,
    taker: Taker,
    first: u32,
    current: u32,
    used: usize,
    pieces: usize,
    total: usize,
    full: bool,
}

impl Writer {
    /// Appends as much as there is room for; false: not all of it.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.full {
            if self.used == PIECE_BYTES {
                let piece = if self.pieces < LONGEST { self.texts.take_piece(&self.taker) } else { None };
                let Some(piece) = piece else {
                    self.full = true;
                    return false;
                };
                self.texts.piece(self.current).next.store(piece + 1, Ordering::Relaxed);
                self.current = piece;
                self.pieces += 1;
                self.used = 0;
            }
            let count = bytes.len().min(PIECE_BYTES - self.used);
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            // SAFETY: the piece is ours, and `count` bytes fit.
            unsafe {
                let to = self.texts.piece(self.current).bytes.get().cast::<u8>().add(self.used);
                ptr::copy_nonoverlapping(now.as_ptr(), to, now.len());
            }
            self.used += now.len();
            self.total += now.len();
            bytes = later;
        }
        bytes.is_empty()
    }

    pub fn written(&self) -> usize {
        self.total
    }

    /// There was room for all of it: of what was pushed nothing is missing.
    pub fn has_room(&self) -> bool {
        !self.full
    }

    /// Nothing was written.
    pub fn give_up(self) {
        self.texts.give_back(self.first);
    }

    /// The first `text_bytes` bytes are the text, the rest the search_path.
    pub fn publish(self, queryid: i64, text_bytes: usize, truncated: bool) {
        let first = self.texts.piece(self.first);
        first.queryid.store(queryid, Ordering::Relaxed);
        first.who.store(self.taker.who, Ordering::Relaxed);
        first.text_bytes.store(text_bytes as u32, Ordering::Relaxed);
        first.path_bytes.store(self.total.saturating_sub(text_bytes) as u32, Ordering::Relaxed);
        first.truncated.store(truncated.into(), Ordering::Relaxed);
        let mut next = self.first + 1;
        let mut pieces = 0;
        while next != 0 && pieces < LONGEST {
            let piece = self.texts.piece(next - 1);
            piece.owner.store(0, Ordering::Relaxed);
            next = piece.next.load(Ordering::Relaxed);
            pieces += 1;
        }
        first.state.store(READY, Ordering::Release);
        self.texts.know(mark_of(queryid, self.taker.who));
    }
}
