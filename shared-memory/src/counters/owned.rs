//! Memory of a model's own.

use super::*;
use crate::sync::{AtomicI64, AtomicU32, AtomicU64};

/// All of it on the heap, with few entries; it has to live until nobody uses its [`Memory`] any more.
pub struct Owned {
    header: Box<Header>,
    heads: Box<[AtomicU32]>,
    writing: Box<[Writing]>,
    commits: Box<Commits>,
    slots: Box<[Slot]>,
}

fn many<T>(count: u32, make: impl Fn() -> T) -> Box<[T]> {
    (0..count).map(|_| make()).collect()
}

fn shard() -> Shard {
    let zero = || AtomicU64::new(0);
    Shard {
        ns: zero(),
        rows: zero(),
        inverted_min: zero(),
        max: zero(),
        failures: std::array::from_fn(|_| zero()),
        buckets: std::array::from_fn(|_| AtomicU32::new(0)),
    }
}

fn total() -> Total {
    let zero = || AtomicU64::new(0);
    Total {
        ns: zero(),
        rows: zero(),
        inverted_min: zero(),
        max: zero(),
        failures: std::array::from_fn(|_| zero()),
        buckets: std::array::from_fn(|_| zero()),
    }
}

fn slot() -> Slot {
    Slot {
        generation: AtomicU32::new(0),
        next: AtomicU32::new(0),
        queryid: AtomicI64::new(0),
        who: AtomicU64::new(0),
        traits: AtomicU32::new(0),
        uses: AtomicU32::new(0),
        touched: AtomicU32::new(0),
        moving: AtomicU64::new(0),
        since: AtomicI64::new(0),
        shards: std::array::from_fn(|_| shard()),
        total: total(),
        counters: std::array::from_fn(|_| AtomicU64::new(0)),
        counters_since: AtomicI64::new(0),
    }
}

impl Owned {
    pub fn new(entries: u32, writers: u32) -> Owned {
        let slots = entries + DATABASES as u32 + 1;
        let zero = || AtomicU32::new(0);
        let header = Header {
            lock: zero(),
            hand: zero(),
            free: zero(),
            fresh: zero(),
            slots,
            heads: 1,
            writers,
            vacated: zero(),
            evictions: AtomicU64::new(0),
            databases: std::array::from_fn(|_| Database::nobodys()),
        };
        let owned = Owned {
            header: Box::new(header),
            heads: many(1, zero),
            writing: many(writers, || Writing { entry: zero(), calls: zero() }),
            commits: Box::new(Commits(std::array::from_fn(|_| {
                std::array::from_fn(|_| std::array::from_fn(|_| zero()))
            }))),
            slots: many(slots, slot),
        };
        owned.memory().begin(0);
        owned
    }

    pub fn memory(&self) -> Memory {
        Memory {
            header: &raw const *self.header,
            heads: self.heads.as_ptr(),
            writing: self.writing.as_ptr(),
            commits: &raw const *self.commits,
            slots: self.slots.as_ptr(),
        }
    }

    /// A process begins to move the counts of the first entry, and is seen no more.
    pub fn begin_move_of_first(&self, pid: u32) {
        assert!(self.memory().slot(DATABASES as u32 + 1).begin_move(pid));
    }

    /// A process begins to give the first entry away, under the lock, and is seen no more.
    pub fn die_evicting_first(&self, pid: u32) {
        let memory = self.memory();
        assert!(memory.try_lock(pid));
        let slot = memory.slot(DATABASES as u32 + 1);
        assert!(slot.begin_move(pid));
        slot.generation.store(slot.generation.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
    }
}

impl Memory {
    /// How many places a database has: at most one.
    pub fn places_of(&self, oid: u32) -> usize {
        self.others().filter(|&(_, other)| other == oid).count()
    }
}
