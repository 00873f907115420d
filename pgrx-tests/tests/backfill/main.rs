//! Backfills: what others do meanwhile, what the texts try to be, and what a crash leaves.

mod attacks;
mod crash;
mod keys;
mod new_rows;
mod new_rows_text;
mod other_owners;
mod production;
mod trees;
