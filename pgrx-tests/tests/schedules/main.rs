//! Schedules: what runs when, as whom, and what becomes of it.

mod clock;
mod crowd;
mod guard;
mod runs;
