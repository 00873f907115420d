//! What an operation did, by the server's own counters and the system's.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::session::Session;
use crate::wait::wait_until;

/// Bytes on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub table: f64,
    pub indexes: f64,
}

impl Sizes {
    pub fn of(session: &mut Session, table: &str) -> Result<Self> {
        let bytes = |function| format!("SELECT {function}('{table}')::float8");
        Ok(Self { table: session.value(&bytes("pg_table_size"))?, indexes: session.value(&bytes("pg_indexes_size"))? })
    }
}

/// Counters that only grow: an operation is the difference of two.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    wal: f64,
    updates: f64,
    hot_updates: f64,
}

/// What lies between two readings of the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    pub wal: f64,
    /// Updates of the table that changed no index (HOT), as a fraction of all.
    pub hot_share: f64,
}

impl Counters {
    pub fn read(session: &mut Session, table: &str) -> Result<Self> {
        let row = session.query_one(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8, n_tup_upd::float8, n_tup_hot_upd::float8
               FROM pg_stat_all_tables WHERE relid = $1::text::regclass",
            &[&table],
        )?;
        Ok(Self { wal: row.get(0), updates: row.get(1), hot_updates: row.get(2) })
    }

    /// The work since `self`. Sessions report their counts with a delay: wait until these updates have arrived.
    pub fn until_now(self, session: &mut Session, table: &str, updates: f64) -> Result<Work> {
        let wal = Self::read(session, table)?.wal - self.wal;
        let mut now = self;
        let arrived = wait_until("the update counters", Duration::from_secs(10), || {
            if let Ok(read) = Self::read(session, table) {
                now = read;
            }
            now.updates - self.updates >= updates
        });
        // A tool may update fewer rows than expected; that is for the checks to find.
        drop(arrived);
        Ok(Work { wal, hot_share: (now.hot_updates - self.hot_updates) / (now.updates - self.updates) })
    }
}

/// How long a process has worked: on a busy machine the rest of its time it waited for its turn.
pub fn time_on_cpu(pid: i32) -> Result<Duration> {
    let file = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let nanoseconds = text.split_whitespace().next().context(file)?.parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}
