//! A look at the server a hundred times a second: what the sessions of pgbench wait for, and what the job is doing meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::session::Session;

const PAUSE: Duration = Duration::from_millis(10);

/// What a session waits for, so far as it tells causes apart.
pub const WAITS: [(&str, &[&str]); 9] = [
    ("flush: its turn", &["LWLock WALWrite"]),
    ("flush: the disk", &["IO WalSync", "IO WALSync", "IO WalWrite", "IO WALWrite"]),
    ("new WAL segment", &["IO WalInitWrite", "IO WalInitSync", "IO WALInitWrite", "IO WALInitSync"]),
    ("WAL buffers", &["LWLock WALInsert", "LWLock WALBufMapping"]),
    ("row lock", &["Lock transactionid", "Lock tuple"]),
    ("other lock", &["Lock"]),
    ("buffer", &["LWLock BufferContent", "BufferPin", "Buffer"]),
    ("other wait", &["LWLock", "IO", "IPC", "Timeout", "Activity", "Extension"]),
    ("processor", &["processor"]),
];

/// What the job is at: of what can make others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// The first stride of a window: pages that are touched for the first time since the checkpoint are written whole.
    FirstTouch,
    LaterStride,
    /// It takes a new window.
    Turn,
    Vacuum,
    /// Verification, rows that were locked.
    Other,
    /// It rests, or there is no job.
    Nothing,
}

impl Act {
    pub const ALL: [(Act, &str); 6] = [
        (Act::FirstTouch, "first touch"),
        (Act::LaterStride, "later stride"),
        (Act::Turn, "a window's turn"),
        (Act::Vacuum, "VACUUM"),
        (Act::Other, "other passes"),
        (Act::Nothing, "no step"),
    ];
}

pub struct Look {
    /// Seconds since the epoch.
    pub at: f64,
    /// Bytes written since the server was made.
    pub wal: f64,
    /// How many sessions of pgbench wait for each of [`WAITS`].
    pub waits: [u32; WAITS.len()],
    /// Of each worker.
    pub acts: Vec<Act>,
    /// A step was committed since the last look.
    pub commit: bool,
    pub checkpoint: bool,
}

pub struct Looks {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Look>>>,
}

impl Looks {
    pub fn start(cluster: &Cluster, database: &str) -> Result<Self> {
        let session = cluster.connect(database)?;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        Ok(Self { enough, thread: thread::spawn(move || watch(session, &stop)) })
    }

    pub fn end(self) -> Result<Vec<Look>> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the looks panicked"))?
    }
}

fn watch(mut session: Session, enough: &AtomicBool) -> Result<Vec<Look>> {
    let look = session.prepare(
        "SELECT extract(epoch FROM clock_timestamp())::float8, (pg_current_wal_insert_lsn() - '0/0')::float8,
                array_agg(coalesce(wait_event_type || ' ' || wait_event, 'processor'))
                    FILTER (WHERE application_name = 'pgbench' AND state = 'active'),
                coalesce(bool_or(wait_event <> 'CheckpointerMain') FILTER (WHERE backend_type = 'checkpointer'), false),
                count(*) FILTER (WHERE backend_type = 'pg_upkeep executor' AND xact_start IS NOT NULL),
                (SELECT array_agg(cursor::text) FROM upkeep._job_slot WHERE pid IS NOT NULL)
           FROM pg_stat_activity",
    )?;
    let mut looks = Vec::new();
    let mut before: Vec<String> = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let row = session.query_one(&look, &[])?;
        let cursors: Vec<Option<String>> = row.get::<_, Option<_>>(5).unwrap_or_default();
        let cursors: Vec<String> = cursors.into_iter().flatten().collect();
        let at_work = usize::try_from(row.get::<_, i64>(4))?;
        looks.push(Look {
            at: row.get(0),
            wal: row.get(1),
            waits: count(&row.get::<_, Option<Vec<String>>>(2).unwrap_or_default()),
            acts: acts(&cursors, &before, at_work),
            commit: cursors != before,
            checkpoint: row.get(3),
        });
        before = cursors;
        thread::sleep(PAUSE);
    }
    Ok(looks)
}

fn count(events: &[String]) -> [u32; WAITS.len()] {
    let mut counts = [0; WAITS.len()];
    for event in events {
        let matches = |names: &&[&str]| names.iter().any(|name| event == name || event.split(' ').next() == Some(name));
        if let Some(at) = WAITS.iter().position(|(_, names)| matches(names)) {
            counts[at] += 1;
        }
    }
    counts
}

/// The steps that are under way, by the places at which the last ones ended.
fn acts(cursors: &[String], before: &[String], at_work: usize) -> Vec<Act> {
    if at_work == 0 {
        return vec![Act::Nothing];
    }
    let windows: HashSet<String> = before.iter().filter_map(|text| window(text)).collect();
    let act = |text: &String| {
        let Ok(cursor) = serde_json::from_str::<Value>(text) else { return Act::Other };
        match (cursor["pass"].as_str(), cursor["stride"].as_u64()) {
            _ if window(text).is_some_and(|window| !windows.contains(&window)) => Act::Turn,
            (Some("blocks" | "keys"), Some(0)) => Act::FirstTouch,
            (Some("blocks" | "keys"), _) => Act::LaterStride,
            (Some("vacuum"), _) => Act::Vacuum,
            _ => Act::Other,
        }
    };
    if cursors.is_empty() { vec![Act::Other] } else { cursors.iter().map(act).collect() }
}

/// Which window a place is in.
fn window(cursor: &str) -> Option<String> {
    let cursor: Value = serde_json::from_str(cursor).ok()?;
    Some(format!("{} {}", cursor.get("first").or_else(|| cursor.get("bounds"))?, cursor["table"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_apart_by_their_names() {
        let events =
            ["LWLock WALWrite", "IO WalSync", "Lock transactionid", "Lock relation", "IO DataFileRead", "processor"];
        let counts = count(&events.map(str::to_owned));
        assert_eq!(counts, [1, 1, 0, 0, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn a_place_tells_what_is_done_there() {
        let place = |first: u32, stride: u32| {
            format!(r#"{{"pass": "blocks", "first": {first}, "last": 90, "next": 5, "stride": {stride}, "table": 1}}"#)
        };
        let seen = |now: String, before: String| acts(&[now], &[before], 1);
        assert_eq!(seen(place(0, 0), place(0, 0)), [Act::FirstTouch]);
        assert_eq!(seen(place(0, 3), place(0, 2)), [Act::LaterStride]);
        assert_eq!(seen(place(90, 0), place(0, 9)), [Act::Turn]);
        assert_eq!(seen(r#"{"pass": "vacuum", "table": 1}"#.into(), place(0, 9)), [Act::Vacuum]);
        assert_eq!(acts(&[place(0, 0)], &[], 0), [Act::Nothing]);
    }
}
