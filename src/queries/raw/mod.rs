//! Counting everybody's statements. `executor` and `utility` are what they pass, `books` is what this process knows of those that
//! run, `failures` finds out which of them failed, `next` knows who had the hooks before; `memory` holds the counters and `texts` the
//! texts, which `capture` makes.
//!
//! What the SAFETY sentences take for granted: a process of the server has one thread, so what it has once nobody else sees; what the
//! server calls with lives until we return; frames that call what comes next hold plain values only, which an error may jump over.
//! Rules: docs/raw.md.

#![allow(unsafe_code, ffi_unwind_calls)]

use std::cell::UnsafeCell;

mod books;
mod capture;
pub mod executor;
mod failures;
pub mod memory;
mod next;
pub mod texts;
pub mod utility;

/// What a process has once, behind a pointer.
struct Global<T>(UnsafeCell<T>);
// SAFETY: backends have one thread, and the postmaster forks them.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline]
    const fn get(&self) -> *mut T {
        self.0.get()
    }
}
