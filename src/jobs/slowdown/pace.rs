//! How fast this worker may go: read by an executor before and within each step, without a lock and without SQL.

use std::cell::Cell;
use std::time::Duration;

use pg_upkeep_memory::board::{Board, Pace};

use super::control::LEAST;
use crate::jobs::raw::segment;
use crate::jobs::registry;
use crate::server::system;
use crate::settings;

/// What was said longer ago does not hold any more: whoever said it is gone, or cannot look.
const STALE: Duration = Duration::from_secs(3);
/// So many statements of clients between two looks of a worker that has nobody beside it: somebody has come.
const COMPANY: u32 = 3;
/// For so long he is given way to before the next look of the scheduler says what he feels.
const BENEFIT: Duration = Duration::from_millis(1500);

/// One worker's view of the board.
#[derive(Debug, Default)]
pub struct View {
    segment: Cell<u32>,
    calls: Cell<Option<u32>>,
    company_until: Cell<Duration>,
}

/// What a worker may do this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum May {
    /// This share of its time.
    Work(f64),
    /// Nothing until then: what statements take without us is being measured.
    RestUntil(Duration),
}

impl View {
    pub fn follow(&self, segment: u32) {
        self.segment.set(segment);
    }

    pub fn may(&self) -> May {
        if settings::max_slowdown().is_none() {
            return May::Work(1.0);
        }
        let now = system::monotonic();
        let Some(pace) = self.board().and_then(|board| board.pace()) else { return May::Work(LEAST) };
        if now.saturating_sub(pace.at) > STALE {
            return May::Work(LEAST);
        }
        if pace.rest_until > now {
            return May::RestUntil(pace.rest_until);
        }
        if pace.alone {
            self.look_for_company(now);
        } else {
            self.calls.set(None);
        }
        May::Work(share(pace, now < self.company_until.get()))
    }

    /// Has something changed that a step at this share should not go on with?
    pub fn has_changed(&self, share: f64) -> bool {
        match self.may() {
            May::RestUntil(_) => true,
            May::Work(now) => share >= 1.0 && now < 1.0,
        }
    }

    fn board(&self) -> Option<&'static Board> {
        segment::attach(self.segment.get()).map(|segment| &segment.board)
    }

    fn look_for_company(&self, now: Duration) {
        let Some(calls) = registry::clients().and_then(|clients| clients.calls()) else { return };
        if let Some(before) = self.calls.replace(Some(calls))
            && calls.wrapping_sub(before) >= COMPANY
        {
            self.company_until.set(now + BENEFIT);
        }
    }
}

fn share(pace: Pace, company: bool) -> f64 {
    let of_all = if pace.alone && !company { pace.workers } else { pace.share };
    (of_all / pace.workers.max(1.0)).clamp(LEAST, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_what_there_is() {
        let pace = Pace { share: 0.5, alone: false, workers: 2.0, ..Pace::default() };
        assert_eq!(share(pace, false), 0.25);
        assert_eq!(share(Pace { alone: true, ..pace }, false), 1.0);
        assert_eq!(share(Pace { alone: true, ..pace }, true), 0.25, "somebody has just come");
        assert_eq!(share(Pace { share: 0.0, ..pace }, false), LEAST);
        assert_eq!(share(Pace { workers: 0.0, share: 0.3, ..pace }, false), 0.3);
    }
}
