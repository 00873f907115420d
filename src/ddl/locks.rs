//! Taking all locks of a change before it begins, in an order in which two that want the same do not get into each other's way.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::error::{Error, LOCK_NOT_AVAILABLE, Result};
use crate::server::table_lock::{self, Mode};
use crate::server::{Oid, heap, spi};

/// A lock that a change needs. Whether it may be taken is for whoever wants it to have found out.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub relid: Oid,
    pub mode: Mode,
    /// And on all that is below it: partitions, or what inherits from it.
    pub with_children: bool,
}

/// What may be waited for all locks together, and what has been.
pub(super) struct Waits {
    allowed: Duration,
    used: Cell<Duration>,
}

/// Counts, however the wait ends.
struct Waiting<'a>(&'a Cell<Duration>, Instant);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + self.1.elapsed());
    }
}

impl Waits {
    pub(super) fn new(allowed: Duration) -> Self {
        Waits { allowed, used: Cell::default() }
    }

    pub(super) fn used(&self) -> Duration {
        self.used.get()
    }

    pub(super) fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.used())
    }

    /// No lock from here on is waited for longer.
    pub(super) fn bound(&self) {
        let left = self.left().as_millis().max(1);
        spi::set_transaction("lock_timeout", &left.to_string());
    }

    /// `false`: it is gone, and nothing is locked.
    fn lock(&self, relid: Oid, mode: Mode) -> Result<bool> {
        if !table_lock::lock_at_once(relid, mode) {
            if self.left() < Duration::from_millis(1) {
                return Err(Error::new(LOCK_NOT_AVAILABLE, "no time is left to wait for a lock"));
            }
            self.bound();
            let _waiting = Waiting(&self.used, Instant::now());
            table_lock::lock(relid, mode);
        }
        if heap::exists(relid) {
            return Ok(true);
        }
        table_lock::unlock(relid, mode);
        Ok(false)
    }
}

/// The strongest mode first, views before tables, as their readers have it; then parents before children; then by number: two that want
/// the same do not get into each other's way for good.
type Turn = (Reverse<Mode>, bool, u32, u32);

/// Takes all of them. What is below a table is looked for when that has its lock, under which nothing new can come. What is gone is
/// passed over.
pub(super) fn lock_all(wanted: &[Wanted], waits: &Waits) -> Result<()> {
    let mut turns: BTreeMap<Turn, Wanted> = BTreeMap::new();
    let mut held: HashMap<Oid, Vec<Wanted>> = HashMap::new();
    let queue = |level: u32, wanted: Wanted, turns: &mut BTreeMap<Turn, Wanted>| {
        let turn = (Reverse(wanted.mode), !table_lock::is_view(wanted.relid), level, wanted.relid.to_u32());
        turns.entry(turn).and_modify(|known| known.with_children |= wanted.with_children).or_insert(wanted);
    };
    for &wanted in wanted {
        queue(0, wanted, &mut turns);
    }
    while let Some(((_, _, level, _), next)) = turns.pop_first() {
        let known = held.entry(next.relid).or_default();
        if known.iter().any(|known| known.mode.covers(next.mode) && (known.with_children || !next.with_children)) {
            continue;
        }
        if !waits.lock(next.relid, next.mode)? {
            continue;
        }
        known.push(next);
        if next.with_children {
            for child in table_lock::children(next.relid) {
                queue(level + 1, Wanted { relid: child, ..next }, &mut turns);
            }
        }
    }
    Ok(())
}
