//! How fast this worker may go: read by an executor before and within each step, without a lock and without SQL.

use std::cell::Cell;
use std::time::Duration;

use pg_upkeep_memory::board::{Board, Pace};

use super::Clients;
use super::control::{LEAST, TYPICAL, left, of_typical};
use crate::jobs::raw::segment;
use crate::server::system;

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
    /// The server's, or the job's own if that is stricter.
    limit: Cell<Option<f64>>,
    clients: Cell<Option<&'static dyn Clients>>,
    calls: Cell<Option<u32>>,
    company_until: Cell<Duration>,
}

/// What a worker may do this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum May {
    /// This share of its time, by the board or for want of it.
    Work(f64),
    /// Nothing until then: what statements take without us is being measured.
    RestUntil(Duration),
}

/// By what others feel.
#[derive(Clone, Debug, PartialEq)]
pub struct Slowed {
    pub share: f64,
    /// For people.
    pub text: String,
}

impl View {
    pub fn follow(&self, segment: u32, clients: Option<&'static dyn Clients>) {
        self.segment.set(segment);
        self.clients.set(clients);
    }

    pub fn limit(&self, limit: Option<f64>) {
        self.limit.set(limit);
    }

    /// Is its pace set by what others feel?
    pub fn is_limited(&self) -> bool {
        self.limit.get().is_some()
    }

    pub fn may(&self) -> May {
        let Some(limit) = self.limit.get() else { return May::Work(1.0) };
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
        May::Work(share(pace, limit, now < self.company_until.get()))
    }

    /// Has something changed that a step at this share should not go on with?
    pub fn has_changed(&self, share: f64) -> bool {
        match self.may() {
            May::RestUntil(_) => true,
            May::Work(now) => share >= 1.0 && now < 1.0,
        }
    }

    /// Somebody is there, whether or not he feels anything.
    pub fn has_company(&self) -> bool {
        self.limit.get().is_some() && self.board().and_then(Board::pace).is_some_and(|pace| !pace.alone)
    }

    /// Work that has cost so much.
    pub fn worked(&self, time: Duration) {
        if let Some(board) = self.board() {
            board.add_work(time);
        }
    }

    /// How fast it goes, and why not faster. `None`: nothing slows it down.
    pub fn slowed(&self) -> Option<Slowed> {
        let limit = self.limit.get()?;
        let now = system::monotonic();
        let pace = self.board().and_then(Board::pace).filter(|pace| now.saturating_sub(pace.at) <= STALE);
        match pace {
            Some(pace) => described(pace, limit).map(|text| Slowed { share: share(pace, limit, false), text }),
            None => Some(Slowed {
                share: LEAST,
                text: format!("goes at {} %: nobody has looked at the server of late", percent(LEAST)),
            }),
        }
    }

    fn board(&self) -> Option<&'static Board> {
        segment::attach(self.segment.get()).map(|segment| &segment.board)
    }

    fn look_for_company(&self, now: Duration) {
        let Some(calls) = self.clients.get().and_then(Clients::calls) else { return };
        if let Some(before) = self.calls.replace(Some(calls))
            && calls.wrapping_sub(before) >= COMPANY
        {
            self.company_until.set(now + BENEFIT);
        }
    }
}

/// Of one worker. `company`: somebody has just come.
pub fn share(pace: Pace, limit: f64, company: bool) -> f64 {
    let of_all = if pace.alone && !company { pace.workers } else { pace.share.min(left(limit, pace.cost)) };
    // The least is that of all together.
    (of_all.max(LEAST) / pace.workers.max(1.0)).min(1.0)
}

/// As people read it.
pub fn percent(share: f64) -> f64 {
    match share * 100.0 {
        small if small < 1.0 => (small * 100.0).round() / 100.0,
        percent => percent.round(),
    }
}

/// Of a job, `None` if it goes at full speed.
pub fn described(pace: Pace, limit: f64) -> Option<String> {
    let share = share(pace, limit, false);
    if share >= 1.0 {
        return None;
    }
    let (why, has_room) = match pace.felt {
        None => ("too few statements of others to judge by".to_owned(), true),
        Some((typical, tail)) => {
            let half = of_typical(limit);
            let has_room = |felt: f64, limit: f64| felt - 1.0 < (limit - 1.0) * ROOM;
            let why = if typical - 1.0 > (tail - 1.0) * TYPICAL {
                let of = format!("limit {}, half of what max_slowdown = {limit} leaves", times(half));
                format!("the application's typical statement takes {}, {of}", times(typical.max(1.0)))
            } else {
                format!("the application's p95 is {}, limit {}", times(tail.max(1.0)), times(limit))
            };
            (why, has_room(typical, half) && has_room(tail, limit))
        }
    };
    let at_least = share * pace.workers.max(1.0) <= LEAST;
    let outlook = if has_room { ", and faster step by step" } else { "" };
    let advice = if at_least && !has_room {
        format!(
            "; this is the slowest pace: a higher max_slowdown (now {limit}) lets it go faster, run_between lets it work in quiet hours"
        )
    } else {
        String::new()
    };
    Some(format!("goes at {} %{outlook} ({why}){advice}", percent(share)))
}

/// With less of what the limit leaves than this, it goes faster in the next turn.
const ROOM: f64 = 0.7;

/// As people read a slowdown, or the limit of one, however close it is to 1.
fn times(slowdown: f64) -> String {
    if slowdown < 1.05 && slowdown > 1.0 { format!("{slowdown:.3}x") } else { format!("{slowdown:.2}x") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_how_fast_and_why_not_faster() {
        let pace = Pace { share: 0.76, workers: 2.0, felt: Some((1.01, 1.2)), ..Pace::default() };
        let text = |pace| described(pace, 1.2);
        assert_eq!(text(pace).unwrap(), "goes at 38 % (the application's p95 is 1.20x, limit 1.20x)");
        let typical = Pace { felt: Some((1.3, 1.2)), ..pace };
        assert_eq!(
            text(typical).unwrap(),
            "goes at 38 % (the application's typical statement takes 1.30x, limit 1.10x, half of what max_slowdown = 1.2 leaves)"
        );
        let faster = Pace { felt: Some((0.9, 0.95)), ..pace };
        assert_eq!(
            text(faster).unwrap(),
            "goes at 38 %, and faster step by step (the application's p95 is 1.00x, limit 1.20x)"
        );
        let strict = described(Pace { felt: Some((1.03, 1.0)), cost: 0.5, ..pace }, 1.01).unwrap();
        assert!(strict.contains("takes 1.030x, limit 1.005x, half"), "{strict}");
        assert_eq!(
            text(Pace { felt: None, ..pace }).unwrap(),
            "goes at 38 %, and faster step by step (too few statements of others to judge by)"
        );
        assert!(text(Pace { share: 0.0, ..pace }).unwrap().ends_with("lets it work in quiet hours"));
        assert_eq!(text(Pace { alone: true, ..pace }), None);
        assert_eq!(text(Pace { share: 2.0, ..pace }), None);
    }

    #[test]
    fn workers_share_what_there_is() {
        let pace = Pace { share: 0.5, alone: false, workers: 2.0, ..Pace::default() };
        assert_eq!(share(pace, 1.2, false), 0.25);
        assert_eq!(share(Pace { alone: true, ..pace }, 1.2, false), 1.0);
        assert_eq!(share(Pace { alone: true, ..pace }, 1.2, true), 0.25, "somebody has just come");
        let own = share(Pace { cost: 0.9, ..pace }, 1.1, false);
        assert!((own - 0.05).abs() < 1e-9, "its own limit leaves it less: {own}");
        assert_eq!(share(Pace { share: 0.0, ..pace }, 1.2, false), LEAST / 2.0);
        assert_eq!(share(Pace { workers: 0.0, share: 0.3, ..pace }, 1.2, false), 0.3);
    }
}
