//! What a scheduler does for its database on each look, besides starting executors: chores, each by itself. An error in
//! one of them, or in one job or schedule, is told in the log once, and keeps nobody else from work (LAW 32).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pgrx::Uuid;

use super::retry;
use crate::error::{Error, LOCK_NOT_AVAILABLE, Result};
use crate::jobs::raw::segment::Database;
pub use crate::jobs::raw::segment::Memory;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog};

/// When to try again what was given up because of a lock or a lack.
pub const SOON: Duration = Duration::from_secs(1);
/// When to try again what went wrong otherwise.
const LATER: Duration = Duration::from_secs(10);

/// Work that a scheduler does for its database on each look. One static each, named in `src/lib.rs`.
pub trait Chore: Sync {
    /// As in the server's log: "pg_upkeep scheduler passed over ..".
    fn name(&self) -> &'static str;

    /// Does what is due. Between transactions; it makes its own. What it remembers from look to look is in `memory`, which all
    /// schedulers of this database share, and which is empty after a launcher's start.
    fn visit(&self, memory: &Memory) -> Result<Visit>;

    /// In the launcher, which reads no tables: when a scheduler is wanted in this database for this chore, as a timestamp.
    fn due(&self, _database: Oid) -> Option<i64> {
        None
    }

    /// In the launcher: nobody tells it when something becomes due, and it must not sleep for longer.
    fn longest_pause(&self) -> Option<Duration> {
        None
    }

    /// In the launcher, in a transaction: databases that do not exist any more are forgotten.
    fn forget_databases(&self, _exists: &dyn Fn(Oid) -> bool) {}

    /// In the launcher: no scheduler is sent to this database.
    fn is_left_alone(&self, _database: Oid) {}

    /// The extension is not in this scheduler's database.
    fn extension_is_absent(&self) {}

    /// This scheduler's process ends, however that came about. Must not raise.
    fn scheduler_ends(&self) {}

    /// What was asked for and does not happen, and what to type about it, a line each. `attended`: schedulers can come.
    fn advice(&self, _attended: bool) -> Vec<String> {
        Vec::new()
    }

    /// What `pause_all()` holds besides jobs.
    fn held(&self) -> Option<&'static dyn Held> {
        None
    }

    /// Those of these finished jobs that are not to be forgotten yet. Inside `spi::bookkeeping`.
    fn still_needs(&self, _jobs: &[Uuid]) -> Result<Vec<Uuid>> {
        Ok(Vec::new())
    }

    /// Somebody drops this finished job. Inside `spi::bookkeeping`.
    fn job_will_be_dropped(&self, _job: Uuid) -> Result<()> {
        Ok(())
    }
}

/// What `pause_all()` holds besides jobs, and `resume_all()` lets go on: rows of a private table that say where they belong
/// (`system_identifier`, `database`) and to whom (`owner`, `owner_name`), as those of `_job` do. All of it inside `spi::bookkeeping`.
pub trait Held: Sync {
    /// Without its schema.
    fn table(&self) -> &'static str;
    /// What people call one, and several.
    fn words(&self) -> [&'static str; 2];
    /// Which rows are to be held, as a condition.
    fn to_hold(&self) -> &'static str;
    /// Which rows are to be let go.
    fn to_release(&self) -> &'static str;
    /// The caller has these rows locked.
    fn hold(&self, rows: &[Uuid], reason: Option<&str>) -> Result<()>;
    /// The same. Those that came with a dump or a copy belong here from now on; gives those that cannot, and why.
    fn release(&self, rows: &[Uuid]) -> Result<Vec<(Uuid, Error)>>;
}

/// What a visit found.
#[derive(Default)]
pub struct Visit {
    /// How long nothing more is due.
    pub next: Option<Duration>,
    /// Something is due, and there is no room for it or somebody is changing it.
    pub waiting: bool,
    pub given_up: GivenUp,
}

impl Visit {
    pub fn again_in(&mut self, time: Duration) {
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
    }

    /// Passes something over for now.
    pub fn give_up(&mut self, what: impl Into<String>, error: Error) {
        self.again_in(if retry::is_transient(&error) { SOON } else { LATER });
        self.pass_over(what, error);
    }

    /// The same for what is tried again at a time of its own.
    pub fn pass_over(&mut self, what: impl Into<String>, error: Error) {
        self.given_up.0.push((what.into(), error));
    }

    /// One part of the work. False: it was given up.
    pub fn attempt(&mut self, what: &str, part: impl FnOnce() -> Result<()>) -> bool {
        match part() {
            Ok(()) => true,
            Err(error) => {
                self.give_up(what, error);
                false
            }
        }
    }

    pub fn add(&mut self, other: Visit) {
        if let Some(next) = other.next {
            self.again_in(next);
        }
        self.waiting |= other.waiting;
        self.given_up.0.extend(other.given_up.0);
    }
}

/// Somebody has the row locked of what is passed over.
pub fn locked() -> Error {
    Error::new(LOCK_NOT_AVAILABLE, "another session has its row locked")
}

/// What a look has passed over, and why.
#[derive(Default)]
pub struct GivenUp(Vec<(String, Error)>);

impl GivenUp {
    /// So many lines at once are enough to know.
    const MOST_LINES: usize = 10;
    /// The same is told again after an hour; something else no sooner than after ten seconds; and what was over for a
    /// minute is news again. In microseconds.
    const AGAIN: i64 = 3600 * 1_000_000;
    const GAP: i64 = 10 * 1_000_000;
    const OVER: i64 = 60 * 1_000_000;

    pub fn one(what: &str, error: Error) -> Self {
        GivenUp(vec![(what.to_owned(), error)])
    }

    /// Tells it in the server's log, unless the last looks have. They may have been another scheduler's, hence the
    /// shared memory.
    pub fn tell(&self, database: &Database) {
        database.passed_over.store(self.0.len() as u32, Ordering::Release);
        let now = catalog::now();
        let told_at = database.complained_at.load(Ordering::Acquire);
        let since = now.saturating_sub(told_at).max(0);
        if self.0.is_empty() {
            if since > Self::OVER {
                database.complaint.store(0, Ordering::Release);
            }
            return;
        }
        let complaint = self.hash();
        let same = database.complaint.load(Ordering::Acquire) == complaint;
        if since < if same { Self::AGAIN } else { Self::GAP } {
            return;
        }
        database.complaint.store(complaint, Ordering::Release);
        database.complained_at.store(now, Ordering::Release);
        for (what, error) in self.0.iter().take(Self::MOST_LINES) {
            let message = format!("pg_upkeep scheduler passed over {what}: {}", error.message);
            raise::report(Level::Log, Error { message, ..error.clone() });
        }
        if let Some(more) = self.0.len().checked_sub(Self::MOST_LINES).filter(|&more| more > 0) {
            let message = format!("pg_upkeep scheduler passed over {more} more");
            raise::report(Level::Log, Error::new(crate::error::SqlState(0), message));
        }
    }

    /// Of what it is about; figures in a message may differ each time.
    fn hash(&self) -> u64 {
        let mut about: Vec<(&str, i32)> =
            self.0.iter().map(|(what, error)| (what.as_str(), error.sqlstate.0)).collect();
        about.sort_unstable();
        let mut hasher = DefaultHasher::new();
        about.hash(&mut hasher);
        hasher.finish().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{INTERNAL_ERROR, QUERY_CANCELED};

    #[test]
    fn a_part_that_fails_ends_nothing() {
        let mut visit = Visit { next: Some(Duration::from_secs(60)), ..Visit::default() };
        assert!(!visit.attempt("a", || Err(Error::new(INTERNAL_ERROR, "no"))));
        assert_eq!(visit.next, Some(LATER));
        assert!(!visit.attempt("b", || Err(locked())));
        assert!(visit.attempt("c", || Ok(())));
        assert_eq!((visit.next, visit.given_up.0.len()), (Some(SOON), 2));
    }

    #[test]
    fn complaints_are_the_same_whatever_their_order_and_figures() {
        let about = |list: &[(&str, Error)]| {
            GivenUp(list.iter().map(|(what, error)| ((*what).to_owned(), error.clone())).collect()).hash()
        };
        let (a, b) = (("a", Error::new(INTERNAL_ERROR, "1")), ("b", locked()));
        let other = ("a", Error::new(INTERNAL_ERROR, "2"));
        assert_eq!(about(&[a.clone(), b.clone()]), about(&[b.clone(), other]));
        assert_ne!(about(std::slice::from_ref(&a)), about(&[a, b]));
        assert_ne!(about(&[("a", locked())]), about(&[("a", Error::new(QUERY_CANCELED, ""))]));
    }
}
