//! Where the time goes: what the sessions of pgbench wait for, second by second, and what the job was at when transactions were slow.

use anyhow::Result;

use super::Plan;
use super::beside::{self, Felt, Load, Script, Work};
use super::looks::{Act, Look, WAITS};
use crate::cluster::Cluster;
use crate::demo::pgbench::{Latency, Transaction};
use crate::figures::{align, percentile};
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};

/// What happened so long before a transaction ended may have made it slow, in seconds.
const BEFORE: f64 = 0.01;

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let rate = (beside::prepare(cluster, plan)? / 2.0) as u32;
    let contestants = [
        ("nothing", Work::Nothing),
        ("a job, one worker", Work::Job(1)),
        ("a job, two workers", Work::Job(2)),
        ("one UPDATE", Work::OneUpdate),
        ("no work: the processor at a quarter of its time", Work::Spinner),
    ];
    let mut variants = contestants.map(|(name, work)| Variant {
        name: name.into(),
        run: Box::new(move || {
            let felt = beside::run(cluster, plan, work, Load { script: Script::TpcB, rate })?;
            println!("\n  beside {name}, second by second: transactions; ms; sessions that wait, on average\n");
            println!("{}", seconds(&felt));
            println!("  beside {name}, by what was going on when a transaction was under way\n\n{}", causes(&felt));
            Ok(sample(&felt))
        }),
    });
    let series = alternate(plan.runs, &mut variants)?;
    report.add(&format!("Sessions of pgbench that wait, at {rate} transactions/s"), &series, &[])
}

/// How many sessions wait for what at a time.
fn sample(felt: &Felt) -> Sample {
    let mut sample = felt.sample();
    for (at, (name, _)) in WAITS.iter().enumerate() {
        sample.insert(name, mean(&felt.looks, at));
    }
    sample
}

fn mean(looks: &[Look], wait: usize) -> f64 {
    looks.iter().map(|look| f64::from(look.waits[wait])).sum::<f64>() / looks.len().max(1) as f64
}

fn seconds(felt: &Felt) -> String {
    let Some(first) = felt.looks.first().map(|look| look.at) else { return String::new() };
    let names = WAITS.iter().map(|(name, _)| (*name).to_owned());
    let head = ["s", "transactions", "p50", "p95", "p99", "worst", "WAL MB", "checkpoint"].map(str::to_owned);
    let mut rows = vec![head.into_iter().chain(names).collect::<Vec<_>>()];
    for (second, looks) in felt.looks.chunk_by(|a, b| (a.at - first) as u32 == (b.at - first) as u32).enumerate() {
        let (Some(from), Some(to)) = (looks.first(), looks.last()) else { continue };
        let inside = |t: &&Transaction| t.ended >= from.at && t.ended < from.at + 1.0;
        let done: Vec<Transaction> = felt.during.iter().filter(inside).copied().collect();
        let felt = Latency::of(&done);
        let mut row = vec![second.to_string(), done.len().to_string()];
        row.extend([felt.median, felt.p95, felt.p99, felt.worst].map(|ms| format!("{ms:.1}")));
        row.push(format!("{:.1}", (to.wal - from.wal) / f64::from(1 << 20)));
        row.push(if looks.iter().any(|look| look.checkpoint) { "yes".into() } else { String::new() });
        row.extend((0..WAITS.len()).map(|wait| format!("{:.2}", mean(looks, wait))));
        rows.push(row);
    }
    align(&rows)
}

/// Of each act the part of all transactions that met it, and of the slow ones: those above what p99 was alone.
fn causes(felt: &Felt) -> String {
    let took: Vec<f64> = felt.calm.iter().map(|t| t.took).collect();
    let slow = percentile(&took, 0.99);
    let mut rows =
        vec![["", "of all, %", "of the slow, %", "slow among them, %", "MB of WAL/s"].map(str::to_owned).to_vec()];
    let with = |meets: &dyn Fn(&Look) -> bool| felt.looks.iter().map(meets).collect::<Vec<bool>>();
    let mut of_acts = Act::ALL.map(|(act, name)| (name, with(&|look| look.acts.contains(&act)))).to_vec();
    of_acts.push(("a commit of the job", with(&|look| look.commit)));
    of_acts.push(("a checkpoint", with(&|look| look.checkpoint)));
    for (name, with) in of_acts {
        let met: Vec<f64> = felt.during.iter().filter(|t| has_met(t, &felt.looks, &with)).map(|t| t.took).collect();
        let (all, all_slow) = (felt.during.len(), felt.during.iter().filter(|t| t.took > slow).count());
        let met_slow = met.iter().filter(|&&took| took > slow).count();
        let percent = |part: usize, of: usize| match of {
            0 => "-".to_owned(),
            of => format!("{:.1}", 100.0 * part as f64 / of as f64),
        };
        rows.push(vec![
            name.to_owned(),
            percent(met.len(), all),
            percent(met_slow, all_slow),
            percent(met_slow, met.len()),
            format!("{:.1}", wal_rate(&felt.looks, &with)),
        ]);
    }
    align(&rows)
}

/// Was there a look with it while the transaction was under way, or just before?
fn has_met(transaction: &Transaction, looks: &[Look], with: &[bool]) -> bool {
    let from = looks.partition_point(|look| look.at < transaction.began().min(transaction.ended - BEFORE));
    let to = looks.partition_point(|look| look.at <= transaction.ended);
    // Between two looks: what the next one saw.
    with[from.min(with.len())..to.max(from + 1).min(with.len())].contains(&true)
}

/// Megabytes of WAL a second while it went on.
fn wal_rate(looks: &[Look], with: &[bool]) -> f64 {
    let (mut bytes, mut time) = (0.0, 0.0);
    for (pair, _) in looks.windows(2).zip(with).filter(|(_, with)| **with) {
        bytes += pair[1].wal - pair[0].wal;
        time += pair[1].at - pair[0].at;
    }
    if time > 0.0 { bytes / time / f64::from(1 << 20) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_meets_what_was_seen_while_it_ran() {
        let look = |at: f64, act| Look {
            at,
            wal: 0.0,
            waits: [0; WAITS.len()],
            acts: vec![act],
            commit: false,
            checkpoint: false,
        };
        let looks = [look(1.00, Act::FirstTouch), look(1.05, Act::LaterStride), look(1.10, Act::Vacuum)];
        let with = |act| looks.iter().map(|look| look.acts.contains(&act)).collect::<Vec<_>>();
        let met = |ended, took, act| has_met(&Transaction { ended, took }, &looks, &with(act));
        assert!(met(1.06, 20.0, Act::LaterStride) && !met(1.06, 20.0, Act::FirstTouch));
        assert!(met(1.06, 70.0, Act::FirstTouch));
        assert!(met(1.08, 1.0, Act::Vacuum), "between two looks the next one tells");
        assert!(!met(2.0, 1.0, Act::Vacuum));
    }
}
