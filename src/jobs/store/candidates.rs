//! What a scheduler may start.

use std::time::Duration;

use pgrx::Uuid;

use crate::error::{Error, Result};
use crate::jobs::part::Part;
use crate::jobs::registry;
use crate::server::json::JsonB;
use crate::server::spi::{self};
use crate::server::{Oid, catalog};

/// A slot that could start now, and what must hold for its owner (LAW 10).
pub struct Candidate {
    pub job: Uuid,
    pub slot: i32,
    pub owner: Oid,
    /// Limits of the server hold its steps back.
    pub throttled: bool,
    /// It works in one piece.
    pub long: bool,
    /// An executor has it in hand, started by an earlier scheduler perhaps.
    pub attended: bool,
    /// How long ago the executor was started that took it last.
    pub last_taken: Option<Duration>,
    /// How often in a row its executor ended without progress or could not start, and how long ago it last did.
    pub ends: i32,
    pub last_end: Option<Duration>,
    /// Its job is not running yet.
    pub queued: bool,
    /// What another job keeps from it, and how long ago its executor found that.
    pub waits_for: Option<Part>,
    pub sent_back: Option<Duration>,
    /// It says why it is queued.
    pub has_reason: bool,
    /// How long ago its job was created.
    pub age: Duration,
    pub owner_exists: bool,
    pub may_connect: bool,
    pub may_log_in: bool,
}

/// Every slot of every job that wants to run now: first slots of all jobs first. Whose turn it is says
/// [`crate::jobs::room::Room`].
pub fn candidates() -> Result<Vec<Candidate>> {
    spi::query(
        "SELECT j.id, n.slot, j.owner, coalesce(upkeep._is_executor(s.pid, s.backend_start), false),
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.backend_start),
                r.oid IS NOT NULL,
                r.oid IS NOT NULL AND pg_catalog.has_database_privilege(r.oid,
                    (SELECT d.oid FROM pg_catalog.pg_database d
                     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()), 'CONNECT'),
                (r.rolcanlogin OR pg_catalog.current_setting('server_version_num')::integer OPERATOR(pg_catalog.>=) 170000)
                    AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now()),
                j.kind,
                coalesce(greatest(s.ends, s.failed_starts), 0),
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.ended_at),
                j.state OPERATOR(pg_catalog.=) 'queued',
                j.waits_for,
                CASE WHEN j.waits_for IS NOT NULL THEN
                    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) j.not_before)
                END,
                pg_catalog.date_part('epoch', pg_catalog.now() OPERATOR(pg_catalog.-) j.created_at),
                j.reason IS NOT NULL AND j.parked IS NULL, s.cursor IS NOT NULL
         FROM (
             SELECT r.* FROM upkeep._job r
             WHERE r.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])
               AND (r.parked IS NULL OR r.parked OPERATOR(pg_catalog.=) 'woken')
               AND (r.not_before IS NULL OR r.not_before OPERATOR(pg_catalog.<=) pg_catalog.now())
             UNION ALL
             SELECT d.* FROM upkeep._job d
             WHERE d.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])
               AND d.parked OPERATOR(pg_catalog.=) 'clock'
               AND d.not_before OPERATOR(pg_catalog.<=) pg_catalog.now()) j
         CROSS JOIN LATERAL pg_catalog.generate_series(0, j.workers OPERATOR(pg_catalog.-) 1) n(slot)
         LEFT JOIN upkeep._job_slot s
           ON s.job OPERATOR(pg_catalog.=) j.id AND s.slot OPERATOR(pg_catalog.=) n.slot
         LEFT JOIN pg_catalog.pg_authid r ON r.oid OPERATOR(pg_catalog.=) j.owner
         -- One of another server or database that somebody had locked when it was to be paused.
         WHERE j.system_identifier OPERATOR(pg_catalog.=) $1 AND j.database OPERATOR(pg_catalog.=) $2
         ORDER BY n.slot, j.created_at",
        &[catalog::system_identifier().into(), catalog::my_database().into()],
        |row| {
            let nature = registry::nature(&row.require::<String>(9)?);
            let seconds =
                |at| Ok::<_, Error>(row.get::<f64>(at)?.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))));
            Ok(Candidate {
                job: row.require(1)?,
                slot: row.require(2)?,
                owner: row.require(3)?,
                attended: row.require(4)?,
                last_taken: seconds(5)?,
                owner_exists: row.require(6)?,
                may_connect: row.require(7)?,
                may_log_in: row.get(8)?.unwrap_or(false),
                throttled: nature.throttled,
                // What cannot go on half way, and has no worker any more, only says what came of it.
                long: nature.in_one_piece
                    && (nature.resumable || row.require::<bool>(4)? || !row.require::<bool>(17)?),
                ends: row.require(10)?,
                last_end: seconds(11)?,
                queued: row.require(12)?,
                waits_for: row.get::<JsonB>(13)?.and_then(|part| serde_json::from_value(part.0).ok()),
                sent_back: seconds(14)?,
                age: seconds(15)?.unwrap_or_default(),
                has_reason: row.require(16)?,
            })
        },
    )
}

/// Is nobody in the way of a job's start? Its executor would wait for the row and give up.
pub fn is_free(job: Uuid) -> Result<bool> {
    let free = spi::execute_returning(
        "SELECT true FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED",
        &[job.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(!free.is_empty())
}

/// Seconds until something happens by itself: a delayed start, or a finished job
/// that has been kept long enough.
pub fn seconds_to_next(retention: Option<Duration>) -> Result<Option<f64>> {
    spi::query_one(
        "SELECT pg_catalog.date_part('epoch', pg_catalog.min(t.due) OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
         FROM (SELECT pg_catalog.min(not_before) AS due FROM upkeep._job
               WHERE not_before IS NOT NULL
                 AND (state OPERATOR(pg_catalog.=) 'queued'
                      OR needs_cleanup AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled']))
               UNION ALL
               SELECT pg_catalog.min(finished_at) OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $1)
               FROM upkeep._job WHERE NOT needs_cleanup) t",
        &[retention.map(|time| time.as_secs_f64()).into()],
        |row| row.get(1),
    )
    .map(Option::flatten)
}
