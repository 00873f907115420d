//! Takes the samples, in the scheduler: it may see what the owner of a job may not (LAW 15).

use std::collections::HashMap;
use std::time::Duration;

use super::lag::{self, Replay};
use super::sample::{Disk, Replica, Sample, Slot, Vacuum};
use crate::error::{Error, Result};
use crate::server::catch::transaction;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, spi, system, worker};
use pg_upkeep_memory::board::{Board, Mark};

/// How often to look: standbys need a quick eye, everything else moves slowly.
const WITH_REPLICAS: Duration = Duration::from_millis(250);
const WITHOUT_REPLICAS: Duration = Duration::from_secs(1);
/// Sessions, vacuums and disks.
const OFTEN: Duration = Duration::from_secs(1);
/// Files that wait for the archiver: reading a large directory takes a while.
const SELDOM: Duration = Duration::from_secs(5);
/// Another scheduler takes over when ours has not come for so long.
const LEASE: Duration = Duration::from_millis(2500);

/// Looks at the server now and then, and puts what it sees on the board.
#[derive(Default)]
pub struct Sampler {
    taken: Option<Duration>,
    /// It is this process that looks for all.
    is_ours: bool,
    often: Option<Duration>,
    seldom: Option<Duration>,
    sample: Sample,
    /// Where the log was at the last checkpoint, and when: known even if nobody looked.
    checkpoint: Option<Mark>,
    replays: HashMap<String, Replay>,
    /// What went wrong, to say it once.
    trouble: Option<String>,
}

impl Sampler {
    /// Takes a sample if it is time and nobody else does. Returns when to come again.
    pub fn visit(&mut self, board: &Board) -> Duration {
        let now = system::monotonic();
        if let Some(rest) = self.taken.and_then(|taken| (taken + self.pause()).checked_sub(now))
            && !rest.is_zero()
        {
            return rest;
        }
        self.is_ours = board.hold(worker::my_pid(), now, LEASE);
        if !self.is_ours {
            return WITHOUT_REPLICAS;
        }
        self.taken = Some(now);
        match transaction(|| spi::bookkeeping(|| self.look(board, now))) {
            Ok(()) => {
                self.trouble = None;
                board.publish(&self.sample.clone().encode(), now);
            }
            // The sample grows stale and jobs wait; once in the log is enough.
            Err(error) if self.trouble.as_ref() != Some(&error.message) => {
                self.trouble = Some(error.message.clone());
                let message = format!("pg_upkeep scheduler cannot look at the server, so jobs wait: {}", error.message);
                raise::report(Level::Log, Error { message, ..error });
            }
            Err(_) => {}
        }
        self.pause()
    }

    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    fn pause(&self) -> Duration {
        if self.sample.replicas.is_empty() { WITHOUT_REPLICAS } else { WITH_REPLICAS }
    }

    fn look(&mut self, board: &Board, now: Duration) -> Result<()> {
        let due = |last: Option<Duration>, pause: Duration| last.is_none_or(|last| now >= last + pause);
        let flushed = Mark { wal: system::wal_flush_position(), at: now };
        board.note_position(flushed);
        if due(self.seldom, SELDOM) {
            self.seldom = Some(now);
            self.sample.archive = archive_backlog()?;
            self.checkpoint = last_checkpoint(now)?;
        }
        if due(self.often, OFTEN) {
            self.often = Some(now);
            let disk = |disk: system::Disk| Disk { place: disk.place, free: disk.free };
            self.sample.disks = system::disks().into_iter().map(disk).collect();
            self.sample.vacuums = vacuums()?;
            self.sample.blocked = blocked_sessions()?;
        }
        let marks = board.positions();
        self.sample.wal_rate = recent_rate(&marks, flushed);
        let seen = replicas()?;
        let names: Vec<&String> = seen.iter().map(|seen| &seen.replica.name).collect();
        self.replays.retain(|name, _| names.contains(&name));
        self.sample.replicas = seen
            .into_iter()
            .map(|Seen { mut replica, reported, own_lag }| {
                let missing = flushed.wal.saturating_sub(replica.position);
                let behind = lag::behind(&marks, self.checkpoint, flushed, replica.position);
                replica.lag = behind.as_secs_f64() * 1e3;
                if missing > 0 {
                    replica.lag = replica.lag.max(own_lag.unwrap_or(0.0));
                }
                if let Some(reported) = reported {
                    let replay = self.replays.entry(replica.name.clone()).or_default();
                    replica.rate = replay.note(replica.position, reported, missing);
                }
                replica
            })
            .collect();
        self.sample.slots = slots()?;
        Ok(())
    }
}

/// Bytes of WAL a second, over the last two seconds.
fn recent_rate(marks: &[Mark], now: Mark) -> f64 {
    let before = |mark: &&Mark| mark.at + Duration::from_secs(2) <= now.at;
    let Some(mark) = marks.iter().rev().find(before).or(marks.first()) else { return 0.0 };
    let time = now.at.saturating_sub(mark.at).as_secs_f64();
    if time > 0.0 { now.wal.saturating_sub(mark.wal) as f64 / time } else { 0.0 }
}

struct Seen {
    replica: Replica,
    /// When it said so, in seconds; `None`: it is a slot's.
    reported: Option<f64>,
    /// `replay_lag`, ms
    own_lag: Option<f64>,
}

/// Everyone who follows our log, and the slots of those who are not there. A slot that is lost cannot be saved any more.
fn replicas() -> Result<Vec<Seen>> {
    spi::query(
        "SELECT coalesce(nullif(r.application_name, ''), s.slot_name::pg_catalog.text, r.pid::pg_catalog.text),
                s.slot_name::pg_catalog.text, true,
                (r.replay_lsn OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.text,
                pg_catalog.date_part('epoch', r.reply_time),
                pg_catalog.date_part('epoch', r.replay_lag) OPERATOR(pg_catalog.*) 1000, s.datoid
         FROM pg_catalog.pg_stat_replication r
         LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid OPERATOR(pg_catalog.=) r.pid
         WHERE r.replay_lsn IS NOT NULL
         UNION ALL
         SELECT s.slot_name::pg_catalog.text, s.slot_name::pg_catalog.text, false,
                (coalesce(s.confirmed_flush_lsn, s.restart_lsn) OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.text,
                NULL, NULL, s.datoid
         FROM pg_catalog.pg_replication_slots s
         WHERE NOT s.active AND coalesce(s.confirmed_flush_lsn, s.restart_lsn) IS NOT NULL
           AND s.wal_status IS DISTINCT FROM 'lost'",
        &[],
        |row| {
            let connected = row.require(3)?;
            Ok(Seen {
                replica: Replica {
                    name: row.require(1)?,
                    slot: row.get(2)?,
                    connected,
                    // Physical slots have none.
                    database: row.get::<Oid>(7)?.map(Oid::to_u32),
                    position: row.require::<String>(4)?.parse().unwrap_or(0),
                    lag: 0.0,
                    rate: None,
                },
                reported: if connected { Some(row.get::<f64>(5)?.unwrap_or(0.0)) } else { None },
                own_lag: row.get(6)?,
            })
        },
    )
}

/// Slots that `max_slot_wal_keep_size` can take away.
fn slots() -> Result<Vec<Slot>> {
    let keep = system::number_setting(c"max_slot_wal_keep_size").filter(|&megabytes| megabytes > 0).map(|mb| mb << 20);
    let segments = 4 * system::wal_segment_bytes() as i64;
    // A tenth of what is kept, and four segments, unless all that is kept is hardly more.
    let danger = keep.map(|keep| (keep / 10).max(segments.min(keep / 2)));
    spi::query(
        "SELECT s.slot_name::pg_catalog.text, coalesce(s.safe_wal_size, -1), s.wal_status OPERATOR(pg_catalog.=) 'unreserved'
         FROM pg_catalog.pg_replication_slots s
         WHERE s.wal_status OPERATOR(pg_catalog.=) 'unreserved'
            OR s.wal_status OPERATOR(pg_catalog.<>) 'lost' AND s.safe_wal_size IS NOT NULL",
        &[],
        |row| {
            let unreserved: bool = row.require(3)?;
            Ok(Slot { name: row.require(1)?, safe: row.require(2)?, danger: danger.filter(|_| !unreserved) })
        },
    )
}

/// Segments that wait for the archiver; `None`: nothing is archived.
fn archive_backlog() -> Result<Option<u64>> {
    if catalog::setting(c"archive_mode") == "off" {
        return Ok(None);
    }
    let count = spi::query_one(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_ls_archive_statusdir() f
         WHERE f.name OPERATOR(pg_catalog.~~) '%.ready'",
        &[],
        |row| row.require::<i64>(1),
    )?;
    Ok(count.and_then(|count| u64::try_from(count).ok()))
}

fn last_checkpoint(now: Duration) -> Result<Option<Mark>> {
    spi::query_one(
        "SELECT (c.redo_lsn OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.text,
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) c.checkpoint_time)
         FROM pg_catalog.pg_control_checkpoint() c",
        &[],
        |row| {
            let ago = Duration::from_secs_f64(row.require::<f64>(2)?.clamp(0.0, 1e9));
            Ok(Mark { wal: row.require::<String>(1)?.parse().unwrap_or(0), at: now.saturating_sub(ago) })
        },
    )
}

/// VACUUMs of all databases, but for those of our own workers.
fn vacuums() -> Result<Vec<Vacuum>> {
    spi::query(
        "SELECT v.pid, v.datid, v.relid FROM pg_catalog.pg_stat_get_progress_info('VACUUM') v
         CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(v.pid) a
         WHERE a.backend_type OPERATOR(pg_catalog.<>) 'pg_upkeep executor'",
        &[],
        |row| {
            let oid = |ordinal| row.require::<Oid>(ordinal).map(Oid::to_u32);
            Ok(Vacuum { pid: row.require(1)?, database: oid(2)?, relid: oid(3)? })
        },
    )
}

/// Sessions that wait for a lock which one of our workers holds. The lock manager is asked only about those who wait.
fn blocked_sessions() -> Result<u32> {
    catalog::forget_process_list();
    let count = spi::query_one(
        "SELECT pg_catalog.count(*)
         FROM pg_catalog.pg_stat_get_activity(NULL) w
         WHERE w.wait_event_type OPERATOR(pg_catalog.=) 'Lock'
           AND EXISTS (SELECT 1 FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) b(pid),
                                     pg_catalog.pg_stat_get_activity(b.pid) a
                       WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep executor')",
        &[],
        |row| row.require::<i64>(1),
    )?;
    Ok(count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0))
}
