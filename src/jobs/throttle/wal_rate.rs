//! A limit on the server's WAL, kept in the long run: what a step wrote too much is waited for before the next one.

use std::time::Duration;

use pg_upkeep_memory::board::Mark;

/// What may be saved up: so much time's worth.
const SAVED: Duration = Duration::from_millis(250);
/// A rate is taken over at least this time.
const STRETCH: Duration = Duration::from_secs(2);
/// What others write while a job waits is held against it for no longer than this.
const OTHERS: Duration = Duration::from_secs(1);

/// Each worker has one of its own. All of them count the WAL of the whole server, so they agree.
#[derive(Debug, Default)]
pub struct Bucket {
    last: Option<Mark>,
    /// Bytes that may be written now; below 0: that have been written too early.
    level: f64,
    /// Where the stretch began over which the rate is taken for people to read.
    stretch: Option<Mark>,
    /// Bytes a second.
    pub seen: f64,
}

impl Bucket {
    /// Before a step, and again while waiting: how long it is too early. `worked`: a step was made since the last call.
    pub fn wait(&mut self, now: Mark, rate: u64, worked: bool) -> Duration {
        let rate = rate as f64;
        let most = rate * SAVED.as_secs_f64();
        let Some(last) = self.last.replace(now) else {
            self.level = most;
            return Duration::ZERO;
        };
        let time = now.at.saturating_sub(last.at).as_secs_f64();
        let written = now.wal.saturating_sub(last.wal) as f64;
        self.look(now);
        let mut level = (self.level + rate * time - written).min(most);
        if !worked {
            level = level.max(self.level.min(-rate * OTHERS.as_secs_f64()));
        }
        self.level = level;
        if level >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((-level / rate).min(3600.0)) }
    }

    fn look(&mut self, now: Mark) {
        let stretch = *self.stretch.get_or_insert(now);
        let time = now.at.saturating_sub(stretch.at);
        if time >= STRETCH {
            self.seen = now.wal.saturating_sub(stretch.wal) as f64 / time.as_secs_f64();
            self.stretch = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: u64 = 1_000_000;

    /// A job that writes `step` bytes in `took` ms as often as it may, for a minute, beside others: bytes in all.
    fn minute(step: u64, took: u64, others: u64) -> u64 {
        let (mut bucket, mut wal, mut ms) = (Bucket::default(), 0, 0);
        let mut worked = false;
        while ms < 60_000 {
            let wait = bucket.wait(Mark { wal, at: Duration::from_millis(ms) }, RATE, worked);
            worked = wait.is_zero();
            let time = if worked { took } else { (wait.as_millis() as u64).clamp(1, 1000) };
            wal += others * time / 1000 + if worked { step } else { 0 };
            ms += time;
        }
        wal
    }

    proptest! {
        #[test]
        fn the_rate_is_kept_in_the_long_run(step in 10_000u64..3_000_000, took in 1u64..400, others in 0..RATE / 2) {
            let written = minute(step, took, others);
            let fastest = 60 * 1000 / took.max(1) * step + 60 * others;
            let expected = (60 * RATE).min(fastest);
            prop_assert!(written as f64 <= 60.0 * RATE as f64 * 1.02 + step as f64 * 2.0, "{written}");
            prop_assert!(written as f64 >= expected as f64 * 0.9 - step as f64, "{written} {expected}");
        }
    }

    #[test]
    fn what_others_wrote_is_not_paid_for_later() {
        let mut bucket = Bucket::default();
        let at = Duration::from_secs;
        assert_eq!(bucket.wait(Mark { wal: 0, at: at(0) }, RATE, false), Duration::ZERO);
        // Somebody loads a gigabyte while we wait.
        for second in 1..100 {
            let wait = bucket.wait(Mark { wal: second * 10_000_000, at: at(second) }, RATE, false);
            assert!(wait > Duration::ZERO && wait <= OTHERS, "{wait:?}");
        }
        let calm = 99 * 10_000_000;
        assert_eq!(bucket.wait(Mark { wal: calm, at: at(101) }, RATE, false), Duration::ZERO);
    }

    #[test]
    fn nothing_is_saved_up_over_night() {
        let mut bucket = Bucket::default();
        bucket.wait(Mark { wal: 0, at: Duration::ZERO }, RATE, false);
        bucket.wait(Mark { wal: 0, at: Duration::from_secs(36_000) }, RATE, false);
        let wait = bucket.wait(Mark { wal: RATE, at: Duration::from_secs(36_000) }, RATE, true);
        assert_eq!(wait, Duration::from_millis(750));
    }
}
