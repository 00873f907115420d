//! What people get to see of being held back: `wait_reason` and two events, neither of them more often than useful.

use std::collections::HashMap;
use std::time::Duration;

use super::Hold;
use crate::jobs::kind::Event;

/// Shorter waits are nobody's business.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
/// A reason that changes its figures is written again after this time.
const REFRESH: Duration = Duration::from_secs(5);
/// For one input there is one pair of events in this time.
const EVENT_GAP: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct History {
    /// Of the wait that goes on: its beginning.
    since: Option<Duration>,
    /// What it was held back by, other than its pace.
    last: Option<Hold>,
    /// The wait that goes on is not, or not only, for its pace.
    is_held: bool,
    shown: Option<(String, Duration)>,
    /// The input whose event `throttled` has no `resumed` yet, since when, and whether by many short waits.
    open: Option<(Duration, bool)>,
    told: HashMap<&'static str, Duration>,
    /// Part of the time spent waiting, lately.
    share: f64,
    ended: Option<Duration>,
    pending: Vec<Event>,
}

impl History {
    /// To be written with the next step, or sooner.
    pub fn tell(&mut self, event: Event) {
        self.pending.push(event);
    }

    /// The same, at most once in a while for one input.
    pub fn tell_seldom(&mut self, input: &'static str, now: Duration, detail: String) {
        if self.may_tell(input, now) {
            self.tell(Event { event: "throttled", detail });
        }
    }

    fn may_tell(&mut self, input: &'static str, now: Duration) -> bool {
        let may = self.told.get(input).is_none_or(|&last| now >= last + EVENT_GAP);
        if may {
            self.told.insert(input, now);
        }
        may
    }

    /// The job is held back. `Some`: this reason should be seen now, in `wait_reason`. `told`: what holds it back is in its history since
    /// it was parked.
    pub fn held(&mut self, hold: &Hold, told: bool, now: Duration) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        // How fast it goes is said by its steps.
        if hold.is_pace() {
            return None;
        }
        self.last = Some(hold.clone());
        self.is_held = true;
        if now.saturating_sub(since) < WORTH_A_WORD {
            return None;
        }
        let shown = self.shown.as_ref();
        if shown.is_some_and(|(reason, at)| *reason == hold.reason || now < *at + REFRESH) {
            return None;
        }
        self.shown = Some((hold.reason.clone(), now));
        if !told && self.open.is_none() && self.may_tell(hold.input, now) {
            self.throttled(hold, since);
        }
        Some(hold.reason.clone())
    }

    /// It is held back for so long that it is parked: nobody is to wonder why, whatever else was told lately.
    pub fn parked(&mut self, hold: &Hold, now: Duration) {
        if self.open.is_none() {
            self.throttled(hold, self.since.unwrap_or(now));
        }
    }

    fn throttled(&mut self, hold: &Hold, since: Duration) {
        self.open = Some((since, false));
        self.tell(Event { event: "throttled", detail: hold.reason.clone() });
    }

    /// The reason that [`held`](Self::held) gave could not be written down: it comes a while later.
    pub fn unwritten(&mut self, now: Duration) {
        self.shown = Some((String::new(), now));
    }

    /// A step may begin.
    pub fn released(&mut self, now: Duration) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.shown = None;
        let waited = if std::mem::take(&mut self.is_held) { waited } else { Duration::ZERO };
        if let Some(ended) = self.ended {
            let all = now.saturating_sub(ended).as_secs_f64().max(1e-6);
            // The step before this wait is not in `all`: `step_ended` adds it.
            self.share_of(waited.as_secs_f64(), all);
        }
        match self.open {
            Some((since, false)) => self.resumed(since, now),
            Some((since, true)) if self.share < 0.2 => self.resumed(since, now),
            None if self.share > 0.5 => self.begin_paced(now),
            _ => {}
        }
    }

    fn share_of(&mut self, waited: f64, all: f64) {
        let weight = (all / 2.0).min(0.5);
        self.share = self.share * (1.0 - weight) + weight * (waited / all).min(1.0);
    }

    fn begin_paced(&mut self, now: Duration) {
        let Some(Hold { input, reason, .. }) = self.last.clone() else { return };
        if self.may_tell(input, now) {
            self.open = Some((now, true));
            self.tell(Event { event: "throttled", detail: reason });
        }
    }

    fn resumed(&mut self, since: Duration, now: Duration) {
        self.open = None;
        let waited = now.saturating_sub(since).as_secs_f64();
        self.tell(Event { event: "resumed", detail: format!("after {waited:.1} s") });
    }

    /// A step has ended; it took this long.
    pub fn step_ended(&mut self, took: Duration, now: Duration) {
        self.ended = Some(now.saturating_sub(took));
    }

    /// Why the job is slow, while it waits more than it works, though never long at a time.
    pub fn pacing(&self) -> Option<&str> {
        let last = self.last.as_ref()?;
        (self.share > 0.5).then_some(last.reason.as_str())
    }

    pub fn pending(&self) -> &[Event] {
        &self.pending
    }

    /// What was pending has been committed.
    pub fn written(&mut self) {
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::REST;
    use super::*;

    fn hold(reason: &str) -> Hold {
        Hold { input: "replica lag", reason: reason.into(), pause: Duration::ZERO }
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn events(history: &mut History) -> Vec<&'static str> {
        let events = history.pending().iter().map(|event| event.event).collect();
        history.written();
        events
    }

    #[test]
    fn a_long_wait_is_shown_and_refreshed_seldom() {
        let mut history = History::default();
        assert_eq!(history.held(&hold("1 s"), false, at(0.0)), None);
        assert_eq!(history.held(&hold("2 s"), false, at(1.0)).as_deref(), Some("2 s"));
        assert_eq!(history.pending()[0].detail, "2 s");
        assert_eq!(events(&mut history), ["throttled"]);
        assert_eq!(history.held(&hold("3 s"), false, at(2.0)), None);
        assert_eq!(history.held(&hold("7 s"), false, at(6.5)).as_deref(), Some("7 s"));
        assert_eq!(history.held(&hold("7 s"), false, at(60.0)), None, "nothing new");
        history.parked(&hold("7 s"), at(60.0));
        assert!(events(&mut history).is_empty(), "told");
        history.released(at(61.0));
        assert_eq!(history.pending()[0].detail, "after 61.0 s");
        assert_eq!(events(&mut history), ["resumed"]);
    }

    #[test]
    fn what_could_not_be_written_comes_again() {
        let mut history = History::default();
        history.held(&hold("2 s"), false, at(0.0));
        assert!(history.held(&hold("2 s"), false, at(1.0)).is_some());
        history.unwritten(at(1.0));
        assert_eq!(history.held(&hold("2 s"), false, at(1.2)), None, "not each moment");
        assert_eq!(history.held(&hold("2 s"), false, at(6.5)).as_deref(), Some("2 s"));
        history.released(at(7.0));
        assert_eq!(events(&mut history), ["throttled", "resumed"]);
    }

    #[test]
    fn whoever_is_parked_has_been_told() {
        let mut history = History::default();
        let rest = Hold { input: REST, ..hold("rests") };
        history.held(&rest, false, at(0.0));
        assert_eq!(history.held(&rest, false, at(4.0)), None, "its steps say so");
        history.released(at(4.9));
        assert_eq!(history.held(&hold("lag"), false, at(5.0)), None);
        assert!(events(&mut history).is_empty());
        history.parked(&hold("lag"), at(5.0));
        assert_eq!(history.pending()[0].detail, "lag");
        assert_eq!(events(&mut history), ["throttled"]);
        // Whoever goes on for it knows.
        let mut next = History::default();
        next.held(&hold("lag"), true, at(0.0));
        assert_eq!(next.held(&hold("lag"), true, at(2.0)).as_deref(), Some("lag"));
        next.released(at(3.0));
        assert!(events(&mut next).is_empty());
    }

    #[test]
    fn there_is_one_pair_of_events_a_minute() {
        let mut history = History::default();
        let mut count = 0;
        let mut now = 0.0;
        while now < 600.0 {
            for _ in 0..2 {
                history.held(&hold("x"), false, at(now));
                now += 1.5;
            }
            history.released(at(now));
            count += events(&mut history).len();
            history.step_ended(at(0.1), at(now + 0.1));
            now += 0.1;
        }
        assert!((3..=21).contains(&count), "{count}");
    }

    #[test]
    fn many_short_waits_are_one_story() {
        let mut history = History::default();
        let (mut now, mut seen) = (0.0, Vec::new());
        for waited in [0.3; 100].into_iter().chain([0.0; 100]) {
            if waited > 0.0 {
                assert_eq!(history.held(&hold("slow"), false, at(now)), None);
            }
            now += waited;
            history.released(at(now));
            if history.pacing().is_some() && seen.is_empty() {
                assert_eq!(history.pacing(), Some("slow"));
            }
            seen.extend(events(&mut history));
            now += 0.1;
            history.step_ended(at(0.1), at(now));
        }
        assert_eq!(seen, ["throttled", "resumed"]);
        assert_eq!(history.pacing(), None);
    }
}
