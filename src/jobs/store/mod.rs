//! The private tables `upkeep._job`, `_job_slot` and `_job_event`: the statements that workers and verbs share. All of them are
//! static, and run inside [`spi::bookkeeping`]; those on a slot's shared state see to it themselves.

mod candidates;
mod opened;
mod parked;
mod slots;
mod states;
pub mod steps;

use serde_json::Value;

use crate::server::json::JsonB;

pub use candidates::{Candidate, candidates, is_free, seconds_to_next};
pub use opened::{Live, Opened, failure, inherit_limits, live, open, retries, set_batch_time, set_limits};
pub use parked::{let_go_on, park, unpark, wake_parents};
pub use slots::{
    AtWork, End, MAX_ENDS, MAX_STRIKES, Slot, Told, adopt_leftover, at_work, attend_slot, is_alone, keep_answer,
    lock_shared, lock_slot_at_once, note_failed_start, note_held_until, note_try, release_slot, save, set_wait_reason,
    write_shared,
};
pub use states::{
    CLEANUP_PENDING, NOT_LISTED, RESTORED, TOO_FEW_WORKERS, WAITS_FOR_TURN, WAITS_FOR_WORKER, add_event, cancel, fail,
    fail_unless_locked, finish, pause_foreign_jobs, prune, requeue, set_reason, stay_paused, wait_for_hours,
    wait_for_turn, waited_for_by_older,
};

fn json(value: Option<JsonB>) -> Value {
    value.map_or(Value::Null, |value| value.0)
}
