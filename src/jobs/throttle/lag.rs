//! How far behind a standby is, in time: `replay_lag` of the server's own view does not grow while replay is paused, so it
//! is read off the places where the log was in the last minutes.

use std::time::Duration;

use pg_upkeep_memory::board::Mark;

/// Between two marks this close the log is taken to have grown evenly.
const EVEN: Duration = Duration::from_secs(5);
/// A standby less than this behind (bytes) may have had nothing to do: it says nothing of its speed.
const BUSY: u64 = 256 * 1024;
/// Shortest time over which a speed is measured.
const STRETCH: f64 = 0.1;

/// How long ago the log was at `position`: since then there is something that the standby lacks.
///
/// `marks` are in order; `now` is where the log is; `known` another place and time, from before the first mark.
pub fn behind(marks: &[Mark], known: Option<Mark>, now: Mark, position: u64) -> Duration {
    if position >= now.wal {
        return Duration::ZERO;
    }
    let since = |at: Duration| now.at.saturating_sub(at);
    let next = marks.partition_point(|mark| mark.wal <= position);
    let after = marks.get(next).copied().unwrap_or(now);
    let Some(before) = next.checked_sub(1).map(|i| marks[i]) else {
        let oldest = known.filter(|known| position < known.wal).map_or(Duration::ZERO, |known| since(known.at));
        return oldest.max(since(after.at));
    };
    let gap = after.at.saturating_sub(before.at);
    if gap > EVEN {
        return since(after.at);
    }
    let share = (position - before.wal) as f64 / (after.wal - before.wal).max(1) as f64;
    since(before.at + gap.mul_f64(share.clamp(0.0, 1.0)))
}

/// How fast a standby replays, from the places it reports while it has enough to do.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    last: Option<Report>,
    /// Bytes a second.
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    position: u64,
    /// Seconds, by whatever clock the standby's reports come with.
    at: f64,
    busy: bool,
}

impl Replay {
    /// Notes a report; the same one again changes nothing.
    pub fn note(&mut self, position: u64, at: f64, missing: u64) -> Option<f64> {
        let report = Report { position, at, busy: missing >= BUSY };
        if !report.busy {
            // What it can do when it has caught up is anybody's guess.
            self.rate = None;
            self.last = Some(report);
            return None;
        }
        let Some(last) = self.last.filter(|last| last.busy && position >= last.position) else {
            self.last = Some(report);
            return self.rate;
        };
        let time = at - last.at;
        if time >= STRETCH {
            let rate = (position - last.position) as f64 / time;
            self.rate = Some(self.rate.map_or(rate, |known| (known + rate) / 2.0));
            self.last = Some(report);
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(wal: u64, seconds: f64) -> Mark {
        Mark { wal, at: Duration::from_secs_f64(seconds) }
    }

    fn seconds(marks: &[Mark], known: Option<Mark>, now: Mark, position: u64) -> f64 {
        behind(marks, known, now, position).as_secs_f64()
    }

    #[test]
    fn who_has_everything_is_not_behind() {
        let marks = [mark(100, 1.0), mark(200, 2.0)];
        assert_eq!(behind(&marks, None, mark(200, 50.0), 200), Duration::ZERO);
        assert_eq!(behind(&[], None, mark(0, 50.0), 0), Duration::ZERO);
    }

    #[test]
    fn a_paused_standby_falls_behind_with_the_clock() {
        let marks = [mark(100, 1.0), mark(200, 2.0), mark(300, 3.0)];
        assert_eq!(seconds(&marks, None, mark(400, 4.0), 200), 2.0);
        assert_eq!(seconds(&marks, None, mark(400, 60.0), 200), 58.0);
        assert_eq!(seconds(&marks, None, mark(400, 4.0), 150), 2.5);
        assert_eq!(seconds(&marks, None, mark(400, 4.0), 350), 0.5);
    }

    #[test]
    fn nothing_is_guessed_about_times_nobody_looked_at() {
        // An hour without a job: the log may have grown at its beginning or at its end.
        let marks = [mark(100, 1.0), mark(200, 3600.0)];
        assert_eq!(seconds(&marks, None, mark(200, 3601.0), 150), 1.0);
        // Older than everything: at least as long ago as the first mark, or the checkpoint.
        assert_eq!(seconds(&marks, None, mark(200, 3601.0), 50), 3600.0);
        let marks = [mark(200, 3600.0)];
        assert_eq!(seconds(&marks, Some(mark(120, 100.0)), mark(200, 3601.0), 110), 3501.0);
        assert_eq!(seconds(&marks, Some(mark(120, 100.0)), mark(200, 3601.0), 130), 1.0);
    }

    #[test]
    fn the_speed_of_a_busy_standby_is_measured_and_of_an_idle_one_not() {
        let mut replay = Replay::default();
        assert_eq!(replay.note(0, 1.0, 0), None);
        assert_eq!(replay.note(0, 2.0, 10 << 20), None);
        assert_eq!(replay.note(1 << 20, 3.0, 20 << 20), Some(f64::from(1 << 20)));
        assert_eq!(replay.note(1 << 20, 3.0, 30 << 20), Some(f64::from(1 << 20)), "no news");
        assert_eq!(replay.note(1 << 20, 4.0, 30 << 20), Some(f64::from(1 << 19)), "it stands still");
        assert_eq!(replay.note(31 << 20, 5.0, 0), None, "it has caught up");
    }

    proptest! {
        /// What lies further back is never less late, and nothing is later than the oldest thing known.
        #[test]
        fn lag_grows_backwards(
            steps in prop::collection::vec((0u64..1000, 1u64..9000), 1..40),
            positions in prop::collection::vec(0u64..50_000, 2),
        ) {
            let mut marks = Vec::new();
            let (mut wal, mut at) = (1000, 1000);
            for (bytes, ms) in steps {
                wal += bytes;
                at += ms;
                marks.push(Mark { wal, at: Duration::from_millis(at) });
            }
            let now = marks.pop().unwrap_or(Mark { wal, at: Duration::from_millis(at) });
            let first = marks.first().copied().unwrap_or(now);
            let (low, high) = (positions[0].min(positions[1]), positions[0].max(positions[1]));
            let (earlier, later) = (behind(&marks, None, now, low), behind(&marks, None, now, high));
            prop_assert!(earlier >= later, "{earlier:?} {later:?}");
            prop_assert!(earlier <= now.at - first.at);
        }
    }
}
