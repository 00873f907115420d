//! How long a step, and a statement in it, may take.

use std::time::{Duration, Instant};

use crate::error::{Error, QUERY_CANCELED};
use crate::jobs::kind::Context;
use crate::settings;

/// What a batch may take at most, half way between its target and what must never be.
pub(super) fn longest(context: &Context) -> Duration {
    context.usual_batch_time() * 3 / 2
}

/// What a page, or another range that cannot be divided, may take before its rows are done one by one. Its rows are
/// locked meanwhile.
const LONGEST_PAGE: Duration = Duration::from_secs(10);

/// How long a statement may take.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub time: Option<Duration>,
    /// Of a range: there are smaller ones.
    pub divisible: bool,
}

impl Limit {
    pub(super) fn of(context: &Context, divisible: bool) -> Self {
        let longest = longest(context);
        let time = match settings::max_row_time() {
            _ if divisible => Some(longest),
            row_time => row_time.map(|row_time| row_time.min(LONGEST_PAGE).max(longest)),
        };
        Limit { time, divisible }
    }

    /// For all rows of such a range together, where they are done one by one.
    pub(super) fn of_page(context: &Context) -> Self {
        Limit::of(context, false)
    }

    /// For a look at a range, which locks no row: what cannot be divided has all the time of its step.
    pub(super) fn of_look(context: &Context, divisible: bool) -> Self {
        Limit { time: divisible.then(|| longest(context)), divisible }
    }

    pub(super) fn is_over(self, error: &Error, started: Instant) -> bool {
        error.sqlstate == QUERY_CANCELED && self.time.is_some_and(|time| started.elapsed() >= time)
    }
}
