//! pgbench as the application beside the work, and what it felt.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, PATIENCE};
use crate::figures::{max, percentile};
use crate::wait::wait_for;

/// Transactions per second asked for: a steady application, not a load test. Latency then counts from the moment a
/// transaction was due, so one that waits behind a blocked one counts as slow too.
pub const RATE: u32 = 200;

pub struct Pgbench {
    child: Child,
    log_dir: PathBuf,
    prefix: String,
}

/// A stretch of time, in seconds since the epoch.
#[derive(Clone, Copy)]
pub struct Span {
    pub from: f64,
    pub to: f64,
}

/// Milliseconds.
#[derive(Clone, Copy)]
pub struct Latency {
    pub median: f64,
    pub p95: f64,
    pub p99: f64,
    pub worst: f64,
}

impl Pgbench {
    pub fn start(cluster: &Cluster, database: &str) -> Result<Self> {
        Self::start_with(cluster, database, RATE, &[])
    }

    /// At a rate of one's own, and with more of pgbench's options.
    pub fn start_with(cluster: &Cluster, database: &str, rate: u32, options: &[&str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("pgbench-{database}-{}-", COUNT.fetch_add(1, Ordering::Relaxed));
        let log_dir = cluster.scratch();
        let mut pgbench = cluster.client_command("pgbench", database);
        pgbench.args(["--no-vacuum", "--client=4", "--time=86400", "--log", "--rate"]).arg(rate.to_string());
        pgbench.args(options);
        pgbench.arg("--log-prefix").arg(log_dir.join(&prefix));
        let child = pgbench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let pgbench = Self { child, log_dir, prefix };
        wait_for("pgbench's first transactions", PATIENCE, || Ok(pgbench.transactions()?.pop()))?;
        Ok(pgbench)
    }

    /// Latency within a stretch of time that is over.
    pub fn latency(&self, span: Span) -> Result<Latency> {
        Ok(Latency::of(&self.within(span)?))
    }

    /// The transactions that were under way in a stretch of time that is over, in the order of their ends.
    pub fn within(&self, span: Span) -> Result<Vec<Transaction>> {
        // pgbench writes its log through a buffer: wait until it shows what came after.
        wait_for("pgbench's log", PATIENCE, || {
            Ok(self.transactions()?.last().is_some_and(|t| t.ended > span.to).then_some(()))
        })?;
        let inside = |t: &Transaction| t.ended > span.from && t.began() < span.to;
        Ok(self.transactions()?.into_iter().filter(inside).collect())
    }

    pub fn stop(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn transactions(&self) -> Result<Vec<Transaction>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.log_dir)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&self.prefix)) {
                let log = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                all.extend(log.lines().filter_map(parse));
            }
        }
        all.sort_by(|a, b| a.ended.total_cmp(&b.ended));
        Ok(all)
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Latency {
    pub fn of(transactions: &[Transaction]) -> Self {
        let took: Vec<f64> = transactions.iter().map(|t| t.took).collect();
        let part = |fraction| percentile(&took, fraction);
        Self { median: part(0.5), p95: part(0.95), p99: part(0.99), worst: max(&took) }
    }
}

impl Span {
    /// Lets this much time pass: for looking at the application alone.
    pub fn pass(time: Duration) -> Self {
        Self::during(|| std::thread::sleep(time)).0
    }

    /// The time that `work` takes, and its result.
    pub fn during<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let (from, clock) = (epoch_seconds(), Instant::now());
        let result = work();
        (Self { from, to: from + clock.elapsed().as_secs_f64() }, result)
    }
}

#[derive(Clone, Copy)]
pub struct Transaction {
    /// Seconds since the epoch.
    pub ended: f64,
    /// Milliseconds, from the moment at which it was due.
    pub took: f64,
}

impl Transaction {
    pub fn began(&self) -> f64 {
        self.ended - self.took / 1e3
    }
}

/// `client transaction microseconds script epoch_seconds epoch_microseconds lag`; the last line may be half written.
fn parse(line: &str) -> Option<Transaction> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, _, took, _, seconds, micros, _lag] = fields[..] else { return None };
    let number = |text: &str| text.parse::<f64>().ok();
    Some(Transaction { ended: number(seconds)? + number(micros)? / 1e6, took: number(took)? / 1e3 })
}

fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_transaction_log() {
        let t = parse("0 199 2241 0 1175850568 995598 12").unwrap();
        assert_eq!((t.took, t.ended), (2.241, 1_175_850_568.995_598));
        assert!(parse("0 200 17").is_none());
        assert!(parse("1 5 skipped 0 1175850568 995598 12").is_none());
    }
}
