//! Jobs and the processes that work on them.

mod advice;
mod at_commit;
mod claims;
mod commands;
mod databases;
mod fairness;
mod held_workers;
mod in_the_way;
mod looks;
mod noticed;
mod owners_elsewhere;
mod slowdown;
mod slowdown_attacks;
mod step_limits;
mod throttling;
mod turns;
mod verbs;
mod waiting;
mod worker_ends;
mod workers;
