//! `upkeep.max_slowdown`: jobs take what the application leaves.
//!
//! The scheduler that takes the samples ([`watch`]) lets all jobs rest for a moment now and then, compares what statements take while
//! they work with what they take meanwhile ([`compare`]; where nobody counts, how many are at one, [`crowd`]), and from that says how fast
//! they may go ([`control`]). Executors read it on the board, portion by portion ([`pace`]). Jobs that cannot be paced are told of when
//! others notice them ([`unpaced`]).

pub mod compare;
pub mod control;
pub mod crowd;
pub mod forecast;
pub mod pace;
pub mod unpaced;
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

    /// Gives what was executed in this database between these two times, in µs, as far as that is known by now.
    fn stored(&self, since: i64, until: i64, see: &mut dyn FnMut(Whose, &Histogram)) -> Result<()>;

    /// How many statements there were: the difference of two is what has come in between, in the arithmetic that wraps round.
    fn calls(&self) -> Option<u32>;
}
