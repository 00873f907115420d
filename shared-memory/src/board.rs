//! The board in the launcher's shared memory: the last sample of what the server is going through, and where its
//! write-ahead log was in the last minutes.
//!
//! One process writes, any number read; none of them ever waits for another.

use std::time::Duration;

use crate::sync::{AtomicU64, Mistake, Ordering, fence, made};

/// Longest sample, in bytes.
#[cfg(not(loom))]
pub const SAMPLE_BYTES: usize = 16 * 1024;
#[cfg(loom)]
pub const SAMPLE_BYTES: usize = 8;
const SAMPLE_WORDS: usize = SAMPLE_BYTES / 8;
/// Positions remembered: more than a quarter of an hour.
#[cfg(not(loom))]
const POSITIONS: usize = 4096;
#[cfg(loom)]
const POSITIONS: usize = 2;
/// Shortest time between two remembered positions.
const POSITION_GAP: Duration = Duration::from_millis(250);
/// How often to look again at a sample that is being written.
#[cfg(not(loom))]
const LOOKS: u32 = 100;
#[cfg(loom)]
const LOOKS: u32 = 1;
/// A process's number takes this many bits on Linux.
const PID_BITS: u32 = 22;

#[repr(C)]
pub struct Board {
    /// Odd while somebody writes the sample.
    sequence: AtomicU64,
    /// When it was taken, in µs of the shared clock; 0: never.
    taken_at: AtomicU64,
    /// The process that takes the samples, and until when it has the right to, in ms: one word, so that no two have it.
    lease: AtomicU64,
    length: AtomicU64,
    /// Of the sample: two processes write at once if the lease of one ended while it wrote.
    sum: AtomicU64,
    words: [AtomicU64; SAMPLE_WORDS],
    /// How fast jobs may go: each of [`Pace`], the time last. Who reads in between takes some of it from the one before.
    pace: [AtomicU64; 8],
    /// What all of them have worked, in µs.
    worked: AtomicU64,
    /// How many positions were ever written.
    count: AtomicU64,
    positions: [Position; POSITIONS],
}

/// How fast all jobs together may go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Of the time of one worker, beside others.
    pub share: f64,
    /// There is nobody to be given way to.
    pub alone: bool,
    /// Those that share it.
    pub workers: f64,
    /// What all of the time of one worker costs others, as a part of what their statements take: for whoever may cost them less.
    pub cost: f64,
    /// How many times as long as without jobs statements of others take: the typical one, and the tail. `None`: there are too few of them
    /// to say.
    pub felt: Option<(f64, f64)>,
    /// Until then they all rest.
    pub rest_until: Duration,
    /// When that was said.
    pub at: Duration,
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

fn lease(pid: i32, until: Duration) -> u64 {
    (until.as_millis() as u64) << PID_BITS | holder_bits(pid)
}

fn holder_bits(pid: i32) -> u64 {
    pid as u64 & ((1 << PID_BITS) - 1)
}

/// Never 0.
fn sum(bytes: &[u8], at: u64) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325_u64 ^ at;
    bytes.iter().fold(start, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)) | 1
}

impl Board {
    #[cfg(all(test, loom))]
    pub fn empty() -> Self {
        let zero = || AtomicU64::new(0);
        Board {
            sequence: zero(),
            taken_at: zero(),
            lease: zero(),
            length: zero(),
            sum: zero(),
            words: std::array::from_fn(|_| zero()),
            pace: std::array::from_fn(|_| zero()),
            worked: zero(),
            count: zero(),
            positions: std::array::from_fn(|_| Position { wal: zero(), at: zero() }),
        }
    }

    /// Takes or keeps the right to write, for this long. `false`: another process has it.
    pub fn hold(&self, pid: i32, now: Duration, time: Duration) -> bool {
        let held = self.lease.load(Ordering::Acquire);
        let is_over = held >> PID_BITS <= now.as_millis() as u64;
        let is_mine = held & ((1 << PID_BITS) - 1) == holder_bits(pid);
        if made(Mistake::LeaseWithoutLooking) && (is_mine || is_over) {
            self.lease.store(lease(pid, now + time), Ordering::Release);
            return true;
        }
        (is_mine || is_over)
            && self.lease.compare_exchange(held, lease(pid, now + time), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives the right back, so that nobody has to wait for the end of the lease.
    pub fn let_go(&self, pid: i32) {
        let held = self.lease.load(Ordering::Acquire);
        if held & ((1 << PID_BITS) - 1) == holder_bits(pid) {
            // Who has taken it since keeps it.
            let _ = self.lease.compare_exchange(held, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Puts up a sample; one that does not fit is left out, and the old one becomes stale. So it does if another process has begun
    /// to write one meanwhile.
    pub fn publish(&self, sample: &[u8], now: Duration) -> bool {
        if sample.len() > SAMPLE_BYTES {
            return false;
        }
        // Odd already: whoever was at it is gone, or its lease is over.
        let before = self.sequence.load(Ordering::Relaxed);
        let sequence = (before + 1) | 1;
        if self.sequence.compare_exchange(before, sequence, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        fence(Ordering::Release);
        for (word, bytes) in self.words.iter().zip(sample.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        self.length.store(sample.len() as u64, Ordering::Relaxed);
        self.taken_at.store(micros(now), Ordering::Relaxed);
        self.sum.store(sum(sample, micros(now)), Ordering::Relaxed);
        self.sequence.compare_exchange(sequence, sequence + 1, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// When the last sample was taken.
    pub fn taken_at(&self) -> Option<Duration> {
        Some(self.taken_at.load(Ordering::Acquire)).filter(|&at| at > 0).map(Duration::from_micros)
    }

    /// The last sample and its time. `None`: there is none, or it is being written this moment, every time one looks.
    pub fn read(&self) -> Option<(Vec<u8>, Duration)> {
        (0..LOOKS).find_map(|_| {
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
            let written = self.sum.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let undisturbed = self.sequence.load(Ordering::Relaxed) == before;
            let undisturbed = undisturbed && (written == sum(&bytes, at) || made(Mistake::BelieveTheSequence));
            (undisturbed && at > 0).then(|| (bytes, Duration::from_micros(at)))
        })
    }

    /// By whoever holds the right to write.
    pub fn set_pace(&self, pace: Pace) {
        let (typical, tail) = pace.felt.unwrap_or_default();
        let values = [
            pace.share.to_bits(),
            pace.alone.into(),
            pace.workers.to_bits(),
            pace.cost.to_bits(),
            typical.to_bits(),
            tail.to_bits(),
            micros(pace.rest_until),
            micros(pace.at),
        ];
        for (word, value) in self.pace.iter().zip(values) {
            word.store(value, Ordering::Release);
        }
    }

    /// A worker has worked so long since it last said so.
    pub fn add_work(&self, time: Duration) {
        self.worked.fetch_add(micros(time), Ordering::Relaxed);
    }

    /// What all workers have worked: the difference of two is what they did in between.
    pub fn worked(&self) -> Duration {
        Duration::from_micros(self.worked.load(Ordering::Relaxed))
    }

    /// `None`: nobody has ever said.
    pub fn pace(&self) -> Option<Pace> {
        let [share, alone, workers, cost, typical, tail, rest_until, at] =
            std::array::from_fn(|i| self.pace[i].load(Ordering::Acquire));
        let felt = (f64::from_bits(typical), f64::from_bits(tail));
        (at > 0).then(|| Pace {
            share: f64::from_bits(share),
            alone: alone != 0,
            workers: f64::from_bits(workers),
            cost: f64::from_bits(cost),
            felt: (felt != (0.0, 0.0)).then_some(felt),
            rest_until: Duration::from_micros(rest_until),
            at: Duration::from_micros(at),
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
        // Who sees any of it also sees that the count has come so far.
        fence(Ordering::Release);
        place.wal.store(mark.wal, Ordering::Relaxed);
        place.at.store(micros(mark.at), Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Release);
    }

    /// The remembered positions, oldest first.
    pub fn positions(&self) -> Vec<Mark> {
        let count = self.count.load(Ordering::Acquire) as usize;
        let first = count.saturating_sub(POSITIONS);
        let mut marks: Vec<Mark> = (first..count)
            .map(|i| {
                let place = &self.positions[i % POSITIONS];
                let at = Duration::from_micros(place.at.load(Ordering::Relaxed));
                Mark { wal: place.wal.load(Ordering::Relaxed), at }
            })
            .collect();
        fence(Ordering::Acquire);
        // Written over while we read, or just being written over.
        let now = self.count.load(Ordering::Relaxed) as usize;
        let gone = if made(Mistake::BelieveOverwritten) { 0 } else { (now + 1).saturating_sub(POSITIONS + first) };
        marks.drain(..gone.min(marks.len()));
        // Two have written at once: what does not go up is left out.
        let mut last = Mark { wal: 0, at: Duration::ZERO };
        marks.retain(|mark| {
            let goes_up = last.wal <= mark.wal && last.at <= mark.at;
            last = if goes_up { *mark } else { last };
            goes_up
        });
        marks
    }
}

#[cfg(all(test, not(loom)))]
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
    fn a_sample_that_two_have_written_is_none() {
        let board = board();
        assert!(board.publish(b"the whole of it", SECOND));
        board.words[0].store(7, Ordering::Relaxed);
        assert_eq!(board.read(), None);
        // One who never came to the end of it is in nobody's way.
        board.sequence.store(9, Ordering::Relaxed);
        assert_eq!(board.read(), None);
        assert!(board.publish(b"anew", SECOND * 2));
        assert_eq!(board.read(), Some((b"anew".to_vec(), SECOND * 2)));
    }

    #[test]
    fn a_pace_is_read_as_it_was_said() {
        let board = board();
        board.add_work(SECOND);
        board.add_work(SECOND);
        assert_eq!(board.worked(), SECOND * 2);
        assert_eq!(board.pace(), None);
        let pace = Pace {
            share: 0.25,
            alone: true,
            workers: 2.0,
            cost: 0.7,
            felt: Some((1.1, 1.2)),
            rest_until: SECOND * 2,
            at: SECOND,
        };
        for pace in [pace, Pace { felt: None, alone: false, ..pace }] {
            board.set_pace(pace);
            assert_eq!(board.pace(), Some(pace));
        }
    }

    #[test]
    fn positions_come_at_a_distance_and_the_oldest_go() {
        let board = board();
        for i in 0..20_000 {
            board.note_position(Mark { wal: i, at: Duration::from_millis(100 * i) });
        }
        let marks = board.positions();
        // The oldest is always about to be written over.
        assert_eq!(marks.len(), POSITIONS - 1);
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
