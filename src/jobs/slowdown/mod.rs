//! `upkeep.max_slowdown`: jobs take what the application leaves.
//!
//! The scheduler that takes the samples ([`watch`]) lets all jobs rest for a moment now and then, compares what statements take while
//! they work with what they take meanwhile ([`compare`]; where nobody counts, how many are at one, [`crowd`]), and from that says how fast
//! they may go ([`control`]). Executors read it on
//! the board, portion by portion ([`pace`]).

pub mod compare;
pub mod control;
pub mod crowd;
pub mod forecast;
pub mod pace;
pub mod watch;

use std::fmt::Debug;

use pg_upkeep_memory::counters::{Eye, Whose};
use pg_upkeep_memory::histogram::Histogram;

use crate::error::Result;

/// Whoever counts what clients execute. Named in `src/lib.rs`.
pub trait Clients: Debug + Sync {
    /// Gives what has been executed since the last look with this eye. `false`: nobody counts, on this server.
    fn look(&self, eye: &mut Eye, see: &mut dyn FnMut(Whose, &Histogram)) -> bool;

    /// How many statements were at work at a time in the last hour, on average. `None`: nobody counts.
    fn load(&self) -> Result<Option<f64>>;

    /// How many statements there were: the difference of two is what has come in between, in the arithmetic that wraps round.
    fn calls(&self) -> Option<u32>;
}
