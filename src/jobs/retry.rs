//! What an error of a step means for the job (LAW 22).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ddl;
use crate::error::{Error, Result, SqlState};
use crate::server::catch::subtransaction;

/// What the executor does after a step was rolled back.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Try the step again after this time.
    Again(Duration),
    /// It will not get better by itself.
    Fail,
}

/// Why a step is to be tried again; `detail` is for members of the owner.
pub struct WaitsFor {
    pub reason: String,
    pub detail: String,
}

/// Longest pause between two tries.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// A table can be locked for hours by somebody who knows why; for longer than this nobody does.
const MAX_LOCK_TRIES: u32 = 20_000;
/// Disk full, out of memory, canceled: worth a few tries, spread over minutes.
const MAX_RESOURCE_TRIES: u32 = 60;

/// A step that takes longer than it may: that was no accident twice.
const MAX_SLOW_TRIES: u32 = 2;
/// With which its job stops, where rows are not put aside.
pub const ROW_TOO_SLOW: &str = "the row takes longer than upkeep.max_row_time";
pub const TOO_SLOW: &str = "a step of the job takes longer than upkeep.max_row_time allows";

/// How often a slot has tried in vain since its last progress, by what was in the way. It is kept in the slot: whoever has it
/// next goes on counting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tries {
    contention: u32,
    resources: u32,
    slow: u32,
    /// The last of them went on beyond its limit until its worker was ended (the server's part of this is
    /// [`store::release_slot`](super::store::release_slot)).
    pub caught: bool,
    /// The SQLSTATE that the last event told of.
    pub told: Option<String>,
    /// Attempts at the locks of a change.
    pub locks: ddl::Tries,
    /// Until when limits of the job keep its next step back, in µs of the server's clock: whoever has the slot next waits for
    /// the rest of that, or to pause and to resume a job would be a way around them.
    pub held_until: Option<i64>,
}

impl Tries {
    fn all(&self) -> u32 {
        self.contention.saturating_add(self.resources).saturating_add(self.slow)
    }

    /// As the next executor goes on counting.
    pub fn taken_over(self) -> Self {
        Tries { caught: false, held_until: None, ..self }
    }

    pub fn with_locks(self, locks: &ddl::Tries) -> Self {
        Tries { locks: locks.clone(), ..self }
    }

    /// What is told when it goes on.
    pub fn describe(&self) -> String {
        let tries = self.all();
        format!("after {tries} {} in vain", if tries == 1 { "try" } else { "tries" })
    }

    /// Has it gone on beyond its limits too often?
    pub fn are_spent(&self) -> bool {
        self.slow > MAX_SLOW_TRIES
    }

    pub fn slow(&self) -> u32 {
        self.slow
    }

    fn counter(&mut self, error: &Error) -> Option<(&mut u32, u32)> {
        match &error.sqlstate.code() {
            // serialization failure, deadlock, lock timeout
            b"40001" | b"40P01" | b"55P03" => Some((&mut self.contention, MAX_LOCK_TRIES)),
            b"57014" if error.message == TOO_SLOW => Some((&mut self.slow, MAX_SLOW_TRIES)),
            b"57014" if error.message.starts_with(ROW_TOO_SLOW) => None,
            // query canceled: somebody's pg_cancel_backend hit a step, which did nothing
            b"57014" => Some((&mut self.resources, MAX_RESOURCE_TRIES)),
            // insufficient resources: disk, memory, connections
            code if code.starts_with(b"53") => Some((&mut self.resources, MAX_RESOURCE_TRIES)),
            _ => None,
        }
    }

    /// Counts one more. Row errors (classes 22, 23, P0 and the user's own) never come here: the kind isolates the row.
    pub fn judge(&mut self, error: &Error) -> Verdict {
        match self.counter(error) {
            Some((count, most)) if *count < most => {
                let pause = delay(*count);
                *count += 1;
                Verdict::Again(pause)
            }
            _ => Verdict::Fail,
        }
    }
}

/// Is this something in the way, or a lack, that comes and goes by itself?
pub fn is_transient(error: &Error) -> bool {
    Tries::default().judge(error) != Verdict::Fail
}

/// Writes something that can be done without, in a transaction: not if somebody is in the way.
pub fn unless_in_the_way(write: impl FnOnce() -> Result<()>) -> Result<()> {
    match subtransaction(write) {
        Err(error) if !is_transient(&error) => Err(error),
        _ => Ok(()),
    }
}

/// May what could not be written down now be written down later? Whatever the server lacked, or had a fault with.
pub fn may_pass(error: &Error) -> bool {
    is_transient(error) || matches!(&error.sqlstate.class(), b"53" | b"54" | b"57" | b"58" | b"XX")
}

/// Before an executor is started that ended in the middle of a step, or could not start, so many times in a row: at
/// once after the first time (an administrator ended it), then after 1 s, 2 s, .. 60 s.
pub fn pause_before_restart(times: i32) -> Duration {
    match u32::try_from(times).unwrap_or(0) {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 2).min(6)).min(Duration::from_secs(60)),
    }
}

/// 50 ms, doubling up to 5 s.
pub fn delay(tries: u32) -> Duration {
    (Duration::from_millis(50) * 2u32.saturating_pow(tries.min(10))).min(MAX_DELAY)
}

/// Is this an error of one row, and not of the statement, the table or the server?
pub fn is_row_error(sqlstate: SqlState) -> bool {
    match &sqlstate.class() {
        b"22" | b"23" | b"P0" => true,
        class => !is_standard(class),
    }
}

/// Classes that PostgreSQL or the SQL standard defines; any other is somebody's own.
pub fn is_standard(class: &[u8; 2]) -> bool {
    const CLASSES: [&[u8; 2]; 44] = [
        b"00", b"01", b"02", b"03", b"08", b"09", b"0A", b"0B", b"0F", b"0L", b"0P", b"0Z", b"10", b"20", b"21", b"22",
        b"23", b"24", b"25", b"26", b"27", b"28", b"2B", b"2D", b"2F", b"34", b"38", b"39", b"3B", b"3D", b"3F", b"40",
        b"42", b"44", b"53", b"54", b"55", b"57", b"58", b"72", b"F0", b"HV", b"P0", b"XX",
    ];
    CLASSES.contains(&class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(code: &[u8; 5]) -> Error {
        Error::new(SqlState::new(code), "")
    }

    #[test]
    fn contention_is_tried_again_with_growing_pauses() {
        let contended = |contention| Tries { contention, ..Tries::default() };
        assert_eq!(contended(0).judge(&error(b"55P03")), Verdict::Again(Duration::from_millis(50)));
        assert_eq!(contended(3).judge(&error(b"40P01")), Verdict::Again(Duration::from_millis(400)));
        assert_eq!(contended(100).judge(&error(b"40001")), Verdict::Again(MAX_DELAY));
        assert_eq!(contended(MAX_LOCK_TRIES).judge(&error(b"55P03")), Verdict::Fail);
    }

    #[test]
    fn a_step_that_takes_too_long_is_not_repeated_for_hours() {
        let slow = Error::new(SqlState::new(b"57014"), TOO_SLOW);
        let mut tries = Tries::default();
        assert!(matches!(tries.judge(&slow), Verdict::Again(_)));
        assert!(matches!(tries.judge(&slow), Verdict::Again(_)));
        assert_eq!(tries.judge(&slow), Verdict::Fail);
        let row = Error::new(SqlState::new(b"57014"), format!("{ROW_TOO_SLOW} (1 s)"));
        assert_eq!(Tries::default().judge(&row), Verdict::Fail);
    }

    #[test]
    fn each_kind_of_obstacle_has_its_own_count() {
        let mut tries = Tries::default();
        for _ in 0..MAX_RESOURCE_TRIES {
            assert!(matches!(tries.judge(&error(b"53100")), Verdict::Again(_)));
            assert!(matches!(tries.judge(&error(b"40001")), Verdict::Again(_)));
        }
        assert_eq!(tries.judge(&error(b"57014")), Verdict::Fail);
        assert!(matches!(tries.judge(&error(b"55P03")), Verdict::Again(_)));
        assert!(matches!(tries.judge(&Error::new(SqlState::new(b"57014"), TOO_SLOW)), Verdict::Again(_)));
        assert_eq!(tries.describe(), "after 122 tries in vain");
    }

    #[test]
    fn a_slot_of_before_has_tried_nothing() {
        assert_eq!(serde_json::from_str::<Tries>("{}").unwrap(), Tries::default());
    }

    #[test]
    fn what_cannot_get_better_fails_at_once() {
        for code in [b"42P01", b"42501", b"42703", b"XX000", b"0A000", b"25006"] {
            assert_eq!(Tries::default().judge(&error(code)), Verdict::Fail, "{}", SqlState::new(code));
        }
    }

    #[test]
    fn row_errors_are_those_of_a_value_or_of_the_users_own() {
        for code in [b"22012", b"23505", b"P0001", b"ABC01", b"U0001"] {
            assert!(is_row_error(SqlState::new(code)), "{}", SqlState::new(code));
        }
        for code in [b"42703", b"40001", b"53100", b"57014", b"55P03", b"XX000"] {
            assert!(!is_row_error(SqlState::new(code)), "{}", SqlState::new(code));
        }
    }

    #[test]
    fn a_worker_that_ends_again_and_again_comes_back_ever_later() {
        let pauses: Vec<u64> = (0..11).map(|times| pause_before_restart(times).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_before_restart(i32::MAX), Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_longest(tries in 0u32..1_000_000) {
            prop_assert!(delay(tries) <= MAX_DELAY);
        }
    }
}
