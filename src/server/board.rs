//! The board in the launcher's shared memory: the last sample of what the server is going through, and where its
//! write-ahead log was in the last minutes.
//!
//! One process writes, any number read; none of them ever waits for another.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// Longest sample, in bytes.
pub const SAMPLE_BYTES: usize = 16 * 1024;
const SAMPLE_WORDS: usize = SAMPLE_BYTES / 8;
/// Positions remembered: more than a quarter of an hour.
const POSITIONS: usize = 4096;
/// Shortest time between two remembered positions.
const POSITION_GAP: Duration = Duration::from_millis(250);

#[repr(C)]
pub struct Board {
    /// Odd while somebody writes the sample.
    sequence: AtomicU64,
    /// When it was taken, in µs of the shared clock; 0: never.
    taken_at: AtomicU64,
    /// Until when the process that takes the samples has the right to, in µs.
    held_until: AtomicU64,
    holder: AtomicU64,
    length: AtomicU64,
    words: [AtomicU64; SAMPLE_WORDS],
    /// How many positions were ever written.
    count: AtomicU64,
    positions: [Position; POSITIONS],
}

#[repr(C)]
struct Position {
    wal: AtomicU64,
    at: AtomicU64,
}

/// The log was at `wal` at the time `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    pub wal: u64,
    pub at: Duration,
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

impl Board {
    /// Takes or keeps the right to write, for this long. `false`: another process has it.
    pub fn hold(&self, pid: i32, now: Duration, lease: Duration) -> bool {
        let until = self.held_until.load(Ordering::Acquire);
        if self.holder.load(Ordering::Acquire) != pid as u64 {
            if until > micros(now) {
                return false;
            }
            let new = micros(now + lease);
            if self.held_until.compare_exchange(until, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                return false;
            }
            self.holder.store(pid as u64, Ordering::Release);
            return true;
        }
        self.held_until.store(micros(now + lease), Ordering::Release);
        true
    }

    /// Gives the right back, so that nobody has to wait for the end of the lease.
    pub fn let_go(&self, pid: i32) {
        if self.holder.compare_exchange(pid as u64, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.held_until.store(0, Ordering::Release);
        }
    }

    /// Puts up a sample; one that does not fit is left out, and the old one becomes stale.
    pub fn publish(&self, sample: &[u8], now: Duration) -> bool {
        if sample.len() > SAMPLE_BYTES {
            return false;
        }
        let sequence = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(sequence, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, bytes) in self.words.iter().zip(sample.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        self.length.store(sample.len() as u64, Ordering::Relaxed);
        self.taken_at.store(micros(now), Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Release);
        true
    }

    /// When the last sample was taken.
    pub fn taken_at(&self) -> Option<Duration> {
        Some(self.taken_at.load(Ordering::Acquire)).filter(|&at| at > 0).map(Duration::from_micros)
    }

    /// The last sample and its time. `None`: there is none, or it is being written this moment, every time one looks.
    pub fn read(&self) -> Option<(Vec<u8>, Duration)> {
        (0..100).find_map(|_| {
            let before = self.sequence.load(Ordering::Acquire);
            if before % 2 == 1 {
                std::hint::spin_loop();
                return None;
            }
            let length = (self.length.load(Ordering::Relaxed) as usize).min(SAMPLE_BYTES);
            let mut bytes: Vec<u8> = self.words[..length.div_ceil(8)]
                .iter()
                .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
                .collect();
            bytes.truncate(length);
            let at = self.taken_at.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let undisturbed = self.sequence.load(Ordering::Relaxed) == before;
            (undisturbed && at > 0).then(|| (bytes, Duration::from_micros(at)))
        })
    }

    /// Remembers where the log is, unless the last note is quite new.
    pub fn note_position(&self, mark: Mark) {
        let count = self.count.load(Ordering::Acquire);
        let last = self.positions[(count.wrapping_sub(1) as usize) % POSITIONS].at.load(Ordering::Relaxed);
        if count > 0 && micros(mark.at) < last + micros(POSITION_GAP) {
            return;
        }
        let place = &self.positions[count as usize % POSITIONS];
        place.wal.store(mark.wal, Ordering::Relaxed);
        place.at.store(micros(mark.at), Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Release);
    }

    /// The remembered positions, oldest first.
    pub fn positions(&self) -> Vec<Mark> {
        let count = self.count.load(Ordering::Acquire) as usize;
        let mut marks: Vec<Mark> = Vec::with_capacity(count.min(POSITIONS));
        for i in count.saturating_sub(POSITIONS)..count {
            let place = &self.positions[i % POSITIONS];
            let at = Duration::from_micros(place.at.load(Ordering::Relaxed));
            let mark = Mark { wal: place.wal.load(Ordering::Relaxed), at };
            // Written over while we read: what does not go up is not from here.
            if marks.last().is_none_or(|last| last.wal <= mark.wal && last.at <= mark.at) {
                marks.push(mark);
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Box<Board> {
        // SAFETY: atomics of zero, as in fresh shared memory.
        unsafe { Box::<Board>::new_zeroed().assume_init() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sample_is_read_as_it_was_written() {
        let board = board();
        assert_eq!(board.read(), None);
        for text in [&b"twelve bytes"[..], b"", b"a", &[7; SAMPLE_BYTES]] {
            assert!(board.publish(text, SECOND));
            assert_eq!(board.read(), Some((text.to_vec(), SECOND)));
        }
        assert!(!board.publish(&[7; SAMPLE_BYTES + 1], SECOND * 2));
        assert_eq!(board.taken_at(), Some(SECOND));
    }

    #[test]
    fn one_process_takes_the_samples_until_it_stops() {
        let board = board();
        assert!(board.hold(10, SECOND, SECOND));
        assert!(!board.hold(11, SECOND * 3 / 2, SECOND));
        assert!(board.hold(10, SECOND * 3 / 2, SECOND));
        assert!(board.hold(11, SECOND * 3, SECOND), "the lease is over");
        board.let_go(10);
        assert!(!board.hold(10, SECOND * 3, SECOND), "what it does not have it cannot give");
        board.let_go(11);
        assert!(board.hold(10, SECOND * 3, SECOND));
    }

    #[test]
    fn positions_come_at_a_distance_and_the_oldest_go() {
        let board = board();
        for i in 0..20_000 {
            board.note_position(Mark { wal: i, at: Duration::from_millis(100 * i) });
        }
        let marks = board.positions();
        assert_eq!(marks.len(), POSITIONS);
        assert!(marks.windows(2).all(|pair| pair[1].at - pair[0].at >= POSITION_GAP));
        assert_eq!(marks.last().map(|mark| mark.wal), Some(19_998));
    }

    #[test]
    fn a_reader_never_sees_half_a_sample() {
        let board = board();
        let shared: &Board = &board;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0..20_000_u32 {
                    shared.publish(&vec![i as u8; 100 + (i % 50) as usize], Duration::from_secs(1 + u64::from(i)));
                }
            });
            for _ in 0..20_000 {
                if let Some((bytes, at)) = shared.read() {
                    let i = at.as_secs() - 1;
                    assert_eq!(bytes.len(), 100 + (i % 50) as usize);
                    assert!(bytes.iter().all(|&byte| byte == i as u8));
                }
            }
        });
    }
}
