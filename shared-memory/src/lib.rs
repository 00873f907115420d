//! What the processes of pg_upkeep share: counters of statements and the board, in memory that any process may read or write at
//! any moment, and in which one may end at any moment.
//!
//! No dependency on the server, so that every order of two or three processes' steps can be tried out (`models`, with
//! `--cfg loom`). What has to be known of the server is handed in: [`counters::Own`] and [`Host`].

pub mod board;
pub mod counters;
pub mod figures;
pub mod histogram;
#[cfg(all(test, loom))]
mod models;
mod sync;

/// What whoever waits for another process has to know of the server.
pub trait Host {
    /// This process.
    fn pid(&self) -> u32;
    /// May this process still write here? One that is gone never will. Not asked about what this process holds itself.
    fn is_alive(&self, pid: u32) -> bool;
    /// Lets others work. Where the caller may be interrupted, this is where it ends: nothing is held while it is called.
    fn wait(&self, turn: u32);
    /// Microseconds since 2000.
    fn now(&self) -> i64;
}

/// How often to look whether another process is done, before it is given up.
#[cfg(not(loom))]
pub const TURNS: u32 = 1200;
#[cfg(loom)]
pub const TURNS: u32 = 3;
/// Each so many turns it is asked whether the other process is still there.
#[cfg(not(loom))]
pub const TURNS_BEFORE_ASKING: u32 = 200;
#[cfg(loom)]
pub const TURNS_BEFORE_ASKING: u32 = 1;
