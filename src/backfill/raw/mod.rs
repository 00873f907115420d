//! Functions that a backfill's own SQL calls: which blocks a stride is, and who may fill new rows.

pub mod filling;
pub mod stride;
