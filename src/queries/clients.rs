//! What clients feel, for those who work beside them.

use pg_upkeep_memory::counters::{Eye, Whose};
use pg_upkeep_memory::histogram::Histogram;

use super::raw::memory;
use crate::jobs::slowdown::Clients;
use crate::settings;

/// Their statements and commits as they are counted here.
#[derive(Debug)]
pub struct Counted;

impl Clients for Counted {
    fn look(&self, eye: &mut Eye, see: &mut dyn FnMut(Whose, &Histogram)) -> bool {
        settings::counts_queries() && memory::look_at_clients(eye, see)
    }

    fn calls(&self) -> Option<u32> {
        memory::calls_of_clients()
    }
}
