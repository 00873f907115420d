//! The private tables `upkeep._job`, `_job_slot` and `_job_event`: the statements that workers and verbs share. All of them are
//! static, and run inside [`spi::bookkeeping`]; those on a slot's shared state see to it themselves.

mod candidates;
mod opened;
mod slots;
mod states;

use serde_json::Value;

use crate::server::json::JsonB;

pub use candidates::{Candidate, candidates, is_free, seconds_to_next};
pub use opened::{Live, Opened, failure, live, open, retries, set_limits};
pub use slots::{
    End, MAX_ENDS, MAX_STRIKES, Slot, adopt_leftover, attend_slot, keep_answer, lock_slot_at_once, note_failed_start,
    note_try, release_slot, save, set_wait_reason, write_shared,
};
pub use states::{
    CLEANUP_PENDING, NOT_LISTED, RESTORED, TOO_FEW_WORKERS, WAITS_FOR_TURN, WAITS_FOR_WORKER, add_event, fail,
    fail_unless_locked, finish, notify, pause_foreign_jobs, prune, requeue, set_reason, stay_paused, wait_for_hours,
    wait_for_turn, waited_for_by_older,
};

fn json(value: Option<JsonB>) -> Value {
    value.map_or(Value::Null, |value| value.0)
}
