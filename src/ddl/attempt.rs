//! DDL that a session asks for itself, on a table that others use. Who waits for an exclusive lock has everybody who comes later
//! wait behind him, readers too. So it waits for a moment only, lets those pass who have queued up, and tries again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::holders::{Holders, holder};
use crate::error::{Error, LOCK_NOT_AVAILABLE, QUERY_CANCELED, Result};
use crate::server::catch::subtransaction;
use crate::server::{Oid, spi, timeout, worker};

/// One lock is waited for this long (LAW 14): too short for a deadlock to be found at somebody else's expense.
const ONE_WAIT: Duration = Duration::from_millis(200);
/// All locks of one attempt together.
const ALL_LOCKS: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// All attempts together, unless `lock_timeout` says otherwise.
const ALTOGETHER: Duration = Duration::from_secs(10);

thread_local! {
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
}

struct Attempt(bool);

impl Drop for Attempt {
    fn drop(&mut self) {
        ATTEMPTING.set(self.0);
    }
}

/// Is a lock that was not to be had a reason to undo everything, and to try again?
pub fn is_short_attempt() -> bool {
    ATTEMPTING.get()
}

/// Runs `f` until it gets its locks: each time nothing is left of an attempt that has not. 55P03 if none has. `relids`: the tables and
/// views that it locks, the most likely one first.
pub fn in_short_attempts<T>(
    table: &str,
    relids: impl Fn() -> Result<Vec<Oid>>,
    f: impl Fn() -> Result<T>,
) -> Result<T> {
    let patience = timeout::of_locks().unwrap_or(ALTOGETHER);
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let wait = left.min(ONE_WAIT).max(Duration::from_millis(1));
        let attempt = || {
            let _attempt = Attempt(ATTEMPTING.replace(true));
            spi::with_lock_timeout(wait, &f)
        };
        match subtransaction(attempt) {
            Err(error) if error.sqlstate == LOCK_NOT_AVAILABLE => {}
            done => return done,
        }
        if start.elapsed() + pause >= patience {
            return Err(gave_up(table, patience, holder(&relids()?, Holders::All)?));
        }
        worker::wait_in_session(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs DDL that must not wait: `None` if somebody holds a lock that it needs.
pub fn without_waiting<T>(f: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let done = timeout::limited(Some(ALL_LOCKS), || {
        subtransaction(|| {
            spi::set_transaction("lock_timeout", &format!("{}ms", ONE_WAIT.as_millis()));
            f()
        })
    });
    match done {
        Ok(value) => Ok(Some(value)),
        Err(Error { sqlstate: LOCK_NOT_AVAILABLE | QUERY_CANCELED, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn gave_up(table: &str, patience: Duration, holder: Option<(String, String)>) -> Error {
    let time = match patience.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    };
    let (what, who) = match &holder {
        Some((held, holder)) => (held.as_str(), format!("It is held by {holder}.")),
        None => (table, "Whoever held it has just let go of it.".to_owned()),
    };
    Error::new(LOCK_NOT_AVAILABLE, format!("could not get the lock on {what} within {time}"))
        .detail(format!("{who} Nothing has been changed, and nobody had to wait behind this for longer than a moment."))
        .hint("Call it again when that transaction has ended; with a longer lock_timeout it tries for longer.")
}
