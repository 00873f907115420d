//! Other people's sessions while the work is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::session::Session;

/// Sessions with one 20 ms statement after the other: the ordinary life of a database, and the reason for window rotation.
pub struct BusySessions {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl BusySessions {
    pub fn start(cluster: &Cluster, database: &str, count: usize) -> Result<Self> {
        let enough = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..count {
            let mut session = cluster.connect(database)?;
            let stop = Arc::clone(&enough);
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    session.run("SELECT pg_sleep(0.02)")?;
                }
                Ok(())
            }));
        }
        Ok(Self { enough, threads })
    }
}

impl Drop for BusySessions {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A transaction that keeps an old snapshot for as long as the session is kept.
pub fn hold_snapshot(cluster: &Cluster, database: &str) -> Result<Session> {
    let mut session = cluster.connect(database)?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")?;
    Ok(session)
}
