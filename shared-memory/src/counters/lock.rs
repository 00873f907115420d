//! The lock: whoever enters or evicts a statement, takes a place for a database or gives one up, holds it.

use super::{DATABASES, Memory};
use crate::sync::{Mistake, Ordering, made};
use crate::{Host, TURNS, TURNS_BEFORE_ASKING};

#[cfg(not(loom))]
const LOCK_TRIES: u32 = 100;
#[cfg(loom)]
const LOCK_TRIES: u32 = 1;

impl Memory {
    /// For everybody's sessions: a few looks, no waiting.
    pub(super) fn try_lock(&self, pid: u32) -> bool {
        let lock = &self.header().lock;
        let mut tries = 0;
        while tries < LOCK_TRIES {
            if lock.load(Ordering::Relaxed) == 0
                && lock.compare_exchange(0, pid, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return true;
            }
            tries += 1;
            std::hint::spin_loop();
        }
        false
    }

    pub(super) fn unlock(&self) {
        self.header().lock.store(0, Ordering::Release);
    }

    /// For those that may wait. False: somebody holds it who neither ends nor is gone.
    #[must_use]
    pub(super) fn lock_patiently(&self, host: &impl Host) -> bool {
        let mut turn = 0;
        while turn < TURNS || made(Mistake::WaitForTheGone) {
            if self.try_lock(host.pid()) || self.break_open(host, turn) {
                return true;
            }
            host.wait(turn);
            turn += 1;
        }
        false
    }

    /// Looks whether a process that is gone has left something half done, and does the rest.
    pub fn tend(&self, host: &impl Host) {
        if self.header().lock.load(Ordering::Relaxed) != 0 && self.lock_patiently(host) {
            self.unlock();
        }
    }

    fn break_open(&self, host: &impl Host, turn: u32) -> bool {
        if turn % TURNS_BEFORE_ASKING != TURNS_BEFORE_ASKING - 1 || made(Mistake::WaitForTheGone) {
            return false;
        }
        let lock = &self.header().lock;
        let other = lock.load(Ordering::Acquire);
        if other == 0
            || host.is_alive(other)
            || lock.compare_exchange(other, host.pid(), Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return false;
        }
        self.repair(host);
        true
    }

    /// Under the lock of somebody who is gone: entries and places that are nobody's are free, and have nothing left.
    fn repair(&self, host: &impl Host) {
        let header = self.header();
        self.clear_given_up(host);
        let mut free = 0;
        for number in DATABASES as u32 + 1..header.fresh.load(Ordering::Acquire).min(header.slots) {
            let slot = self.slot(number);
            if slot.generation.load(Ordering::SeqCst) % 2 == 1 {
                continue;
            }
            self.unlink(number);
            if slot.begin_move_at_once(host) {
                slot.give_to(self.others_of(slot));
                slot.end_move();
            }
            slot.next.store(free, Ordering::Relaxed);
            free = number + 1;
        }
        header.free.store(free, Ordering::Relaxed);
    }
}
