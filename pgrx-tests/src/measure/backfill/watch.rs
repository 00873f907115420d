//! An eye on the workers: how long their transactions last, and how long one holds back the xmin horizon.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::cluster::Cluster;
use crate::session::Session;

/// Often enough for transactions of 200 ms, seldom enough not to be in the way.
const LOOK: Duration = Duration::from_millis(20);

pub struct Watch {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// Milliseconds.
#[derive(Default)]
pub struct Seen {
    pub longest_transaction: f64,
    pub oldest_xmin: f64,
}

impl Watch {
    pub fn start(cluster: &Cluster, database: &str) -> Result<Self> {
        let session = cluster.connect(database)?;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        Ok(Self { enough, thread: thread::spawn(move || look(session, &stop)) })
    }

    pub fn end(self) -> Result<Seen> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

fn look(mut session: Session, enough: &AtomicBool) -> Result<Seen> {
    let look = session.prepare(
        "SELECT pid, coalesce(backend_xmin::text, ''),
                coalesce(extract(epoch FROM clock_timestamp() - xact_start) * 1000, 0)::float8
           FROM pg_stat_activity WHERE backend_type LIKE 'pg\\_upkeep %'",
    )?;
    let mut seen = Seen::default();
    let mut horizons: HashMap<(i32, String), Instant> = HashMap::new();
    while !enough.load(Ordering::Relaxed) {
        let mut present = HashMap::new();
        for row in session.query(&look, &[])? {
            let (pid, xmin, age): (i32, String, f64) = (row.get(0), row.get(1), row.get(2));
            seen.longest_transaction = seen.longest_transaction.max(age);
            if !xmin.is_empty() {
                let horizon = (pid, xmin);
                let since = horizons.remove(&horizon).unwrap_or_else(Instant::now);
                seen.oldest_xmin = seen.oldest_xmin.max(since.elapsed().as_secs_f64() * 1e3);
                present.insert(horizon, since);
            }
        }
        horizons = present;
        thread::sleep(LOOK);
    }
    Ok(seen)
}
