//! Sums over intervals.

use super::histogram::Histogram;
use super::percentile;

/// What can be told apart. No queryid: a statement that the caller may not see; 0: what could not be kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub queryid: Option<i64>,
    pub userid: u32,
    pub toplevel: bool,
}

impl Key {
    pub fn is_others(&self) -> bool {
        self.queryid == Some(0)
    }

    /// Counts in sums over statements: what runs within a function is in the figures of its caller already.
    pub fn counts(&self) -> bool {
        self.toplevel || self.is_others()
    }
}

/// What one interval, or the sum of many, has of one statement. Times in ms.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub calls: i64,
    pub rows: i64,
    pub total_time: f64,
    pub min_time: f64,
    pub max_time: f64,
    pub errors: i64,
    pub cancellations: i64,
    pub timeouts: i64,
    pub unknown_errors: i64,
    pub histogram: Histogram,
    /// Of pg_stat_statements, if it was there.
    pub counters: Option<Counters>,
    pub lossy: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    pub shared_blks_hit: i64,
    pub blks_read: i64,
    pub blks_written: i64,
    pub temp_blks_read: i64,
    pub temp_blks_written: i64,
    pub blk_read_time: f64,
    pub blk_write_time: f64,
    pub wal_bytes: i64,
    pub jit_time: f64,
}

impl Figures {
    pub fn add(&mut self, more: &Figures) {
        if more.calls > 0 {
            self.min_time = if self.calls > 0 { self.min_time.min(more.min_time) } else { more.min_time };
            self.max_time = self.max_time.max(more.max_time);
        }
        for (sum, more) in [
            (&mut self.calls, more.calls),
            (&mut self.rows, more.rows),
            (&mut self.errors, more.errors),
            (&mut self.cancellations, more.cancellations),
            (&mut self.timeouts, more.timeouts),
            (&mut self.unknown_errors, more.unknown_errors),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.total_time += more.total_time;
        self.histogram.merge(&more.histogram);
        self.lossy |= more.lossy;
        if let Some(more) = &more.counters {
            self.counters.get_or_insert_default().add(more);
        }
    }

    pub fn mean_time(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.total_time / self.calls as f64)
    }

    pub fn percentile(&self, fraction: f64) -> Option<f64> {
        percentile::of(&self.histogram, fraction, self.min_time, self.max_time)
    }

    /// The fastest and the slowest call, if there were any.
    pub fn extremes(&self) -> (Option<f64>, Option<f64>) {
        let known = self.calls > 0;
        (known.then_some(self.min_time), known.then_some(self.max_time))
    }

    /// Executions that did not succeed, for whatever reason.
    pub fn failures(&self) -> i64 {
        [self.cancellations, self.timeouts, self.unknown_errors].into_iter().fold(self.errors, i64::saturating_add)
    }
}

impl Counters {
    fn add(&mut self, more: &Counters) {
        for (sum, more) in [
            (&mut self.shared_blks_hit, more.shared_blks_hit),
            (&mut self.blks_read, more.blks_read),
            (&mut self.blks_written, more.blks_written),
            (&mut self.temp_blks_read, more.temp_blks_read),
            (&mut self.temp_blks_written, more.temp_blks_written),
            (&mut self.wal_bytes, more.wal_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.blk_read_time += more.blk_read_time;
        self.blk_write_time += more.blk_write_time;
        self.jit_time += more.jit_time;
    }

    pub fn io(&self) -> i64 {
        self.blks_read.saturating_add(self.blks_written)
    }

    pub fn temp(&self) -> i64 {
        self.temp_blks_read.saturating_add(self.temp_blks_written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(calls: i64, us: u64) -> Figures {
        let mut histogram = Histogram::default();
        (0..calls).for_each(|_| histogram.add(us));
        let time = us as f64 / 1000.0;
        Figures {
            calls,
            total_time: calls as f64 * time,
            min_time: time,
            max_time: time,
            histogram,
            ..Figures::default()
        }
    }

    #[test]
    fn sums_know_the_extremes_of_what_ran() {
        let mut sum = Figures::default();
        for part in [figures(2, 5000), figures(0, 0), figures(3, 1000)] {
            sum.add(&part);
        }
        assert_eq!((sum.calls, sum.extremes(), sum.mean_time()), (5, (Some(1.0), Some(5.0)), Some(2.6)));
        assert_eq!(sum.percentile(0.6), Some(percentile::of(&sum.histogram, 0.5, 1.0, 5.0).unwrap()));
        assert_eq!(sum.percentile(1.0), Some(5.0));
        assert_eq!(Figures::default().extremes(), (None, None));
    }

    #[test]
    fn counters_are_null_until_there_are_some() {
        let mut sum = figures(1, 1);
        sum.add(&figures(1, 1));
        assert_eq!(sum.counters, None);
        let with = Figures { counters: Some(Counters { wal_bytes: 7, ..Counters::default() }), ..Figures::default() };
        sum.add(&with);
        sum.add(&figures(1, 1));
        sum.add(&with);
        assert_eq!(sum.counters.unwrap().wal_bytes, 14);
    }
}
