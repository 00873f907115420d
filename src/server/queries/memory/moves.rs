//! Counts that move: from the shards to the total, and from an entry that is given up to "others".

use std::sync::atomic::Ordering;

use super::{Shard, Slot, Total};

impl Slot {
    pub fn begin_move(&self) -> bool {
        let moving = self.moving.load(Ordering::Relaxed);
        moving.is_multiple_of(2)
            && self.moving.compare_exchange(moving, moving.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub fn end_move(&self) {
        self.moving.fetch_add(1, Ordering::Release);
    }

    /// For those that may wait: counts move in microseconds.
    pub fn begin_move_patiently(&self) {
        while !self.begin_move() {
            std::thread::yield_now();
        }
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
