//! What a scheduler does for its database on each look, besides starting executors: chores, each by itself. An error in
//! one of them, or in one job or schedule, is told in the log once, and keeps nobody else from work (LAW 32).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::retry;
use crate::error::{Error, LOCK_NOT_AVAILABLE, Result};
use crate::jobs::raw::segment::Database;
use crate::server::catalog;
use crate::server::raise::{self, Level};

/// What is given up because of a lock or a lack is tried again after this time,
pub const SOON: Duration = Duration::from_secs(1);
/// and what else went wrong after this.
const LATER: Duration = Duration::from_secs(10);

/// One kind of work. It runs between transactions, and makes its own.
pub struct Chore {
    pub name: &'static str,
    pub visit: fn(&'static Database) -> Result<Visit>,
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
