//! Counts that move: from the shards to the total, and from an entry that is given up to "others".
//!
//! Who moves them says so in the entry's word `moving`: its process, and how often counts have moved before. If it ends in the
//! middle of it, somebody else goes on in its place.

use super::{Shard, Slot, Total};
use crate::sync::{Mistake, Ordering, made};
use crate::{Host, TURNS, TURNS_BEFORE_ASKING};

/// Who is moving counts; 0: nobody.
pub fn mover(moving: u64) -> u32 {
    (moving >> 32) as u32
}

impl Slot {
    pub fn begin_move(&self, pid: u32) -> bool {
        let moving = self.moving.load(Ordering::Relaxed);
        mover(moving) == 0 && self.take_move(moving, pid)
    }

    fn take_move(&self, moving: u64, pid: u32) -> bool {
        let mine = u64::from(pid) << 32 | u64::from((moving as u32).wrapping_add(1));
        self.moving.compare_exchange(moving, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub fn end_move(&self) {
        let count = self.moving.load(Ordering::Relaxed) as u32;
        self.moving.store(count.wrapping_add(1).into(), Ordering::Release);
    }

    /// Without waiting, for those that hold the lock.
    pub fn begin_move_at_once(&self, host: &impl Host) -> bool {
        self.begin_move(host.pid()) || self.take_over(host, TURNS_BEFORE_ASKING - 1)
    }

    /// For those that may wait: counts move in microseconds. False: somebody is at it who neither ends it nor is gone.
    #[must_use]
    pub fn begin_move_patiently(&self, host: &impl Host) -> bool {
        let mut turn = 0;
        while turn < TURNS || made(Mistake::WaitForTheGone) {
            if self.begin_move(host.pid()) || self.take_over(host, turn) {
                return true;
            }
            host.wait(turn);
            turn += 1;
        }
        false
    }

    /// Takes the place of a process that is gone.
    pub fn take_over(&self, host: &impl Host, turn: u32) -> bool {
        if turn % TURNS_BEFORE_ASKING != TURNS_BEFORE_ASKING - 1 || made(Mistake::WaitForTheGone) {
            return false;
        }
        let moving = self.moving.load(Ordering::Acquire);
        let other = mover(moving);
        other != 0 && !host.is_alive(other) && self.take_move(moving, host.pid())
    }

    /// All counts of this entry go to `others`.
    pub fn give_to(&self, others: &Slot) {
        for shard in &self.shards {
            others.shards[0].add(shard);
        }
        others.total.add(&self.total);
        others.touched.store(1, Ordering::SeqCst);
    }
}

/// Moves what `from` holds, if that is anything.
macro_rules! pour {
    ($from:expr => $($to:expr),+) => {
        if $from.load(Ordering::Relaxed) != 0 {
            let value = $from.swap(0, Ordering::SeqCst);
            $($to.fetch_add(value.into(), Ordering::SeqCst);)+
        }
    };
}

macro_rules! pour_most {
    ($from:expr => $($to:expr),+) => {
        if $from.load(Ordering::Relaxed) != 0 {
            let value = $from.swap(0, Ordering::SeqCst);
            $($to.fetch_max(value, Ordering::SeqCst);)+
        }
    };
}

macro_rules! add_all {
    ($name:ident) => {
        pub fn add(&self, from: &$name) {
            pour!(from.ns => self.ns);
            pour!(from.rows => self.rows);
            pour_most!(from.inverted_min => self.inverted_min);
            pour_most!(from.max => self.max);
            for (from, to) in from.failures.iter().zip(&self.failures) {
                pour!(from => to);
            }
            for (from, to) in from.buckets.iter().zip(&self.buckets) {
                pour!(from => to);
            }
        }
    };
}

impl Shard {
    add_all!(Shard);
}

impl Total {
    add_all!(Total);
}
