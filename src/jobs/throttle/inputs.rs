//! What can hold a job back: one input is one function that reads a sample, and one line in [`INPUTS`].

use std::time::Duration;

use super::policy::Policy;
use super::sample::{Replica, Sample};

/// What there is to judge by.
pub struct Facts<'a> {
    pub sample: &'a Sample,
    pub policy: &'a Policy,
    /// Where the next WAL record goes, this moment.
    pub wal: u64,
    pub database: u32,
    /// The job's table.
    pub relid: Option<u32>,
    /// VACUUMs that have been waited for long enough.
    pub outwaited: &'a [i32],
    /// May names be said that only `pg_monitor` sees?
    pub names: bool,
}

/// One figure of one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub subject: String,
    pub value: f64,
    pub unit: &'static str,
    /// Where it begins to hold jobs back.
    pub threshold: Option<f64>,
    /// It does: this is why, and by how much.
    pub reason: Option<String>,
}

pub struct Input {
    pub name: &'static str,
    pub read: fn(&Facts) -> Vec<Reading>,
}

pub const REPLICA_LAG: &str = "replica lag";
pub const VACUUM: &str = "vacuum";

/// In the order in which they are looked at: the first one that holds is the reason.
pub const INPUTS: &[Input] = &[
    Input { name: "free disk", read: free_disk },
    Input { name: "replication slot", read: slots },
    Input { name: REPLICA_LAG, read: lag },
    Input { name: "replica lag bytes", read: lag_bytes },
    Input { name: "archive backlog", read: archive },
    Input { name: VACUUM, read: vacuum },
    Input { name: "waiting sessions", read: waiting },
    Input { name: super::WAL_RATE, read: wal_rate },
];

/// What a standby is taken to replay in a second before it has shown what it can.
const UNKNOWN_RATE: f64 = (16 << 20) as f64;

fn megabytes(bytes: f64) -> String {
    match bytes / f64::from(1 << 20) {
        small if small < 10.0 => format!("{small:.1} MB"),
        large => format!("{large:.0} MB"),
    }
}

fn seconds(time: f64) -> String {
    match time / 1e3 {
        long if long >= 60.0 => format!("{long:.0} s"),
        short => format!("{short:.1} s"),
    }
}

/// `10 s`, `250 ms`
fn limit(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn free_disk(facts: &Facts) -> Vec<Reading> {
    let read = |disk: &super::sample::Disk| {
        let free = disk.free as f64;
        let over = facts.policy.free_disk.filter(|&least| disk.free < least);
        Reading {
            subject: disk.place.clone(),
            value: free,
            unit: "bytes",
            threshold: facts.policy.free_disk.map(|least| least as f64),
            reason: over.map(|least| {
                format!("{} free on the disk of {} (at least {})", megabytes(free), disk.place, megabytes(least as f64))
            }),
        }
    };
    facts.sample.disks.iter().map(read).collect()
}

fn slots(facts: &Facts) -> Vec<Reading> {
    let read = |slot: &super::sample::Slot| {
        let danger = slot.danger.is_none_or(|danger| slot.safe < danger);
        let heeded = !facts.policy.ignored.contains(&slot.name);
        Reading {
            subject: slot.name.clone(),
            value: slot.safe as f64,
            unit: "bytes",
            threshold: slot.danger.map(|danger| danger as f64),
            reason: (danger && heeded).then(|| {
                let safe = megabytes(slot.safe.max(0) as f64);
                format!("replication slot \"{}\" may be lost after {safe} more of WAL", slot.name)
            }),
        }
    };
    facts.sample.slots.iter().map(read).collect()
}

fn heeded<'a>(facts: &'a Facts) -> impl Iterator<Item = &'a Replica> {
    let ignored = |name: &str| facts.policy.ignored.contains(name);
    // A subscriber of another database gets nothing of what is written here, and passes over it without applying it.
    let follows = |r: &Replica| r.database.is_none_or(|database| database == facts.database);
    let known = move |r: &Replica| ignored(&r.name) || r.slot.as_deref().is_some_and(ignored);
    facts.sample.replicas.iter().filter(move |r| follows(r) && !known(r))
}

/// As the owner of a job may call it: slots are everyone's to see, standbys are not.
fn describe(replica: &Replica, names: bool) -> String {
    let what = if replica.database.is_some() { "subscriber" } else { "standby" };
    match replica.connected {
        true if names => format!("{what} \"{}\"", replica.name),
        true => format!("a {what}"),
        false => format!("replication slot \"{}\" (nobody is connected)", replica.name),
    }
}

fn missing(facts: &Facts, replica: &Replica) -> f64 {
    facts.wal.saturating_sub(replica.position) as f64
}

fn lag(facts: &Facts) -> Vec<Reading> {
    let read = |replica: &Replica| {
        let who = describe(replica, facts.names);
        let reason = facts.policy.replica_lag.and_then(|most| {
            let most_ms = most.as_secs_f64() * 1e3;
            if replica.lag > most_ms {
                return Some(format!("{who} is {} behind (limit {})", seconds(replica.lag), limit(most)));
            }
            // What is on its way takes as long to replay as it takes, even if nothing more follows.
            let todo = missing(facts, replica);
            let backlog = todo / replica.rate.unwrap_or(UNKNOWN_RATE).max(1.0) * 1e3;
            let falls_behind = replica.connected && todo > 1e6 && backlog > most_ms;
            falls_behind.then(|| {
                let rate = match replica.rate {
                    None => String::new(),
                    Some(rate) if rate < 50e3 => " and stands still".into(),
                    Some(rate) => format!(" at {}/s", megabytes(rate)),
                };
                let does = if replica.database.is_some() { "apply" } else { "replay" };
                format!("{who} has {} to {does}{rate} (limit {})", megabytes(todo), limit(most))
            })
        });
        Reading {
            subject: replica.name.clone(),
            value: replica.lag,
            unit: "ms",
            threshold: facts.policy.replica_lag.map(|most| most.as_secs_f64() * 1e3),
            reason,
        }
    };
    heeded(facts).map(read).collect()
}

fn lag_bytes(facts: &Facts) -> Vec<Reading> {
    let read = |replica: &Replica| {
        let bytes = missing(facts, replica);
        let over = facts.policy.replica_lag_bytes.filter(|&most| bytes > most as f64);
        Reading {
            subject: replica.name.clone(),
            value: bytes,
            unit: "bytes",
            threshold: facts.policy.replica_lag_bytes.map(|most| most as f64),
            reason: over.map(|most| {
                let who = describe(replica, facts.names);
                format!("{who} is {} of WAL behind (limit {})", megabytes(bytes), megabytes(most as f64))
            }),
        }
    };
    heeded(facts).map(read).collect()
}

fn archive(facts: &Facts) -> Vec<Reading> {
    let read = |count: u64| {
        let over = facts.policy.archive_backlog.filter(|&most| count > most);
        Reading {
            subject: "archive".into(),
            value: count as f64,
            unit: "segments",
            threshold: facts.policy.archive_backlog.map(|most| most as f64),
            reason: over.map(|most| format!("{count} WAL segments wait to be archived (limit {most})")),
        }
    };
    facts.sample.archive.map(read).into_iter().collect()
}

fn vacuum(facts: &Facts) -> Vec<Reading> {
    let mine = |v: &&super::sample::Vacuum| v.database == facts.database && Some(v.relid) == facts.relid;
    let read = |vacuum: &super::sample::Vacuum| Reading {
        subject: format!("process {}", vacuum.pid),
        value: 1.0,
        unit: "vacuum",
        threshold: None,
        reason: (!facts.outwaited.contains(&vacuum.pid))
            .then(|| format!("VACUUM is at work on the table (process {})", vacuum.pid)),
    };
    facts.sample.vacuums.iter().filter(mine).map(read).collect()
}

/// Shown only: a worker whose locks somebody waits for makes its batches shorter at once (see `waiters`).
fn waiting(facts: &Facts) -> Vec<Reading> {
    vec![Reading {
        subject: "sessions".into(),
        value: facts.sample.blocked.into(),
        unit: "sessions",
        threshold: None,
        reason: None,
    }]
}

/// Shown only: each worker measures for itself, before each step (see `wal_rate`).
fn wal_rate(facts: &Facts) -> Vec<Reading> {
    vec![Reading {
        subject: "server".into(),
        value: facts.sample.wal_rate,
        unit: "bytes/s",
        threshold: facts.policy.wal_rate.map(|rate| rate as f64),
        reason: None,
    }]
}

/// What holds a job back, by a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub input: &'static str,
    pub reason: String,
}

pub fn judge(facts: &Facts) -> Option<Held> {
    INPUTS.iter().find_map(|input| {
        // Of several things the one that is furthest off.
        let worst = (input.read)(facts).into_iter().filter_map(|r| Some((excess(&r), r.reason?)));
        let (_, reason) = worst.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some(Held { input: input.name, reason })
    })
}

fn excess(reading: &Reading) -> f64 {
    (reading.value - reading.threshold.unwrap_or(0.0)).abs()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Disk, Slot, Vacuum as Running};
    use super::*;
    use crate::jobs::limits::Limits;
    use crate::settings::Throttles;

    const MB: u64 = 1 << 20;

    fn policy() -> Policy {
        let server = Throttles {
            replica_lag: Some(Duration::from_secs(10)),
            replica_lag_bytes: Some(500 * MB),
            wal_rate: None,
            ignored_standbys: "backup".into(),
            work_ratio: 1.0,
            slowdown: None,
            archive_backlog: Some(64),
            free_disk: Some(1024 * MB),
        };
        Policy::of(server, &Limits::default())
    }

    fn held(sample: &Sample) -> Option<String> {
        held_with(sample, &[], true)
    }

    fn held_with(sample: &Sample, outwaited: &[i32], names: bool) -> Option<String> {
        let policy = policy();
        let facts = Facts { sample, policy: &policy, wal: 1000 * MB, database: 5, relid: Some(77), outwaited, names };
        judge(&facts).map(|held| held.reason)
    }

    fn standby(name: &str, lag: f64, megabytes_behind: u64) -> Replica {
        let position = (1000 - megabytes_behind) * MB;
        Replica { name: name.into(), connected: true, position, lag, ..Replica::default() }
    }

    fn with(replica: Replica) -> Sample {
        Sample { replicas: vec![replica], ..Sample::default() }
    }

    #[test]
    fn the_worst_standby_is_the_reason() {
        let sample = Sample {
            replicas: vec![standby("s1", 14_200.0, 0), standby("s2", 90_000.0, 0), standby("backup", 1e9, 900)],
            ..Sample::default()
        };
        assert_eq!(held(&sample).unwrap(), "standby \"s2\" is 90 s behind (limit 10 s)");
        assert_eq!(held_with(&sample, &[], false).unwrap(), "a standby is 90 s behind (limit 10 s)");
        assert_eq!(held(&with(standby("s1", 9_999.0, 1))), None);
        assert_eq!(held(&with(standby("s1", 14_200.0, 1))).unwrap(), "standby \"s1\" is 14.2 s behind (limit 10 s)");
    }

    #[test]
    fn what_a_standby_will_take_too_long_to_replay_counts_before_it_is_late() {
        let slow = |rate| Replica { rate, ..standby("s1", 500.0, 200) };
        assert_eq!(held(&with(slow(Some(30e6)))), None);
        let reason = "standby \"s1\" has 200 MB to replay at 5.0 MB/s (limit 10 s)";
        assert_eq!(held(&with(slow(Some(5.0 * MB as f64)))).unwrap(), reason);
        let reason = "standby \"s1\" has 200 MB to replay and stands still (limit 10 s)";
        assert_eq!(held(&with(slow(Some(0.0)))).unwrap(), reason);
        assert_eq!(held(&with(slow(None))).unwrap(), "standby \"s1\" has 200 MB to replay (limit 10 s)");
        assert_eq!(held(&with(Replica { rate: Some(0.0), ..standby("s1", 500.0, 0) })), None, "it has everything");
    }

    #[test]
    fn a_subscriber_is_no_standby_and_counts_for_its_own_database() {
        let of = |database| Replica { database: Some(database), ..standby("s1", 20_000.0, 200) };
        assert_eq!(held(&with(of(5))).unwrap(), "subscriber \"s1\" is 20.0 s behind (limit 10 s)");
        assert_eq!(held_with(&with(of(5)), &[], false).unwrap(), "a subscriber is 20.0 s behind (limit 10 s)");
        let slow = Replica { lag: 1.0, ..of(5) };
        assert_eq!(held(&with(slow)).unwrap(), "subscriber \"s1\" has 200 MB to apply (limit 10 s)");
        assert_eq!(held(&with(of(6))), None);
        assert_eq!(held(&with(Replica { connected: false, ..of(6) })), None);
        assert!(held(&with(Replica { connected: false, ..of(5) })).unwrap().starts_with("replication slot \"s1\""));
    }

    #[test]
    fn a_slot_nobody_is_connected_to_is_a_standby() {
        let slot = Replica { connected: false, ..standby("s1", 20_000.0, 3) };
        let reason = "replication slot \"s1\" (nobody is connected) is 20.0 s behind (limit 10 s)";
        assert_eq!(held_with(&with(slot.clone()), &[], false).unwrap(), reason);
        assert_eq!(
            held(&with(Replica { lag: 1.0, position: 400 * MB, ..slot.clone() })).unwrap(),
            "replication slot \"s1\" (nobody is connected) is 600 MB of WAL behind (limit 500 MB)"
        );
        assert_eq!(held(&with(Replica { name: "x".into(), slot: Some("backup".into()), ..slot })), None);
    }

    #[test]
    fn other_inputs_have_their_limits() {
        let slot = |danger, safe| Slot { name: "s".into(), safe, danger };
        let sample = |slot| Sample { slots: vec![slot], ..Sample::default() };
        assert_eq!(held(&sample(slot(Some(100), 100))), None);
        assert!(held(&sample(slot(Some(100), 99))).unwrap().starts_with("replication slot \"s\" may be lost"));
        assert!(held(&sample(slot(None, -1))).is_some());

        let disk = |free| Sample { disks: vec![Disk { place: "pg_wal".into(), free }], ..Sample::default() };
        assert_eq!(held(&disk(1024 * MB)), None);
        assert_eq!(held(&disk(5 * MB)).unwrap(), "5.0 MB free on the disk of pg_wal (at least 1024 MB)");

        let archive = |count| Sample { archive: Some(count), ..Sample::default() };
        assert_eq!(held(&archive(64)), None);
        assert_eq!(held(&archive(65)).unwrap(), "65 WAL segments wait to be archived (limit 64)");
    }

    #[test]
    fn a_vacuum_of_the_own_table_is_waited_for_but_not_for_ever() {
        let vacuums =
            |relid, database| Sample { vacuums: vec![Running { pid: 9, database, relid }], ..Sample::default() };
        assert_eq!(held(&vacuums(77, 5)).unwrap(), "VACUUM is at work on the table (process 9)");
        assert_eq!(held(&vacuums(78, 5)), None);
        assert_eq!(held(&vacuums(77, 6)), None);
        assert_eq!(held_with(&vacuums(77, 5), &[9], true), None);
    }
}
