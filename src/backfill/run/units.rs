//! In what a run is counted, and what its plan says.

use super::whole::Tree;
use crate::jobs::kind::Plan;

/// What the fill is of the whole, where there is a sweep after it.
pub const FILL_UNITS: f64 = 95.0;
pub const ALL_UNITS: f64 = 100.0;

/// Blocks of the first range that a sweep looks at.
pub const FIRST_BLOCKS: u32 = 256;

/// Ranges of keys are not made smaller than this.
pub const SHORTEST_ROWS: u32 = 10;

/// Blocks, or rows, of the first portion of a step.
pub const FIRST_PORTION: u32 = 16;

/// What `upkeep.jobs` shows of the whole.
pub fn plan_of(tree: &Tree) -> Plan {
    Plan {
        strategy: crate::backfill::explain::in_words(tree.tables, &tree.strategies),
        rows_estimate: tree.rows_estimate(),
        units_total: tree.weight,
    }
}
