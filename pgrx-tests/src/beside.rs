//! Somebody who reads and somebody who writes, all the while that something happens: how long did they wait?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::session::Session;

/// Between two statements of one of them.
const PAUSE: Duration = Duration::from_millis(2);

pub struct Beside {
    enough: Arc<AtomicBool>,
    reader: JoinHandle<Result<Duration>>,
    writer: JoinHandle<Result<Duration>>,
    elsewhere: JoinHandle<Result<Duration>>,
}

/// The longest statement of each.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    pub reader: Duration,
    pub writer: Duration,
    /// Of somebody who writes to a table of his own: what the machine alone makes them wait.
    pub elsewhere: Duration,
}

/// Nobody else knows of it.
const ELSEWHERE: &str = "beside_elsewhere";

impl Beside {
    /// Each statement comes again and again, in a session of its own.
    pub fn start(connect: impl Fn() -> Result<Session>, read: &str, write: &str) -> Result<Self> {
        let enough = Arc::new(AtomicBool::new(false));
        let again_and_again = |sql: &str| -> Result<_> {
            let (mut session, enough, sql) = (connect()?, Arc::clone(&enough), sql.to_owned());
            // The first one reads catalogs.
            session.run(&sql)?;
            Ok(thread::spawn(move || {
                let mut longest = Duration::ZERO;
                while !enough.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    session.run(&sql)?;
                    longest = longest.max(start.elapsed());
                    thread::sleep(PAUSE);
                }
                Ok(longest)
            }))
        };
        connect()?.run(&format!("CREATE TABLE IF NOT EXISTS {ELSEWHERE} AS SELECT 1 AS n"))?;
        let elsewhere = again_and_again(&format!("UPDATE {ELSEWHERE} SET n = n + 1"))?;
        Ok(Self { reader: again_and_again(read)?, writer: again_and_again(write)?, elsewhere, enough })
    }

    pub fn end(self) -> Result<Longest> {
        self.enough.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<Result<Duration>>| thread.join().map_err(|_| anyhow!("somebody panicked"))?;
        Ok(Longest { reader: join(self.reader)?, writer: join(self.writer)?, elsewhere: join(self.elsewhere)? })
    }
}

/// Whoever waits behind a change waits for several processes in turn, and each of them for the machine as the one elsewhere does.
const IN_TURN: u32 = 6;

impl Longest {
    /// Did nobody wait for longer than this, but for the machine?
    pub fn is_within(self, longest: Duration) -> bool {
        self.reader.max(self.writer) < longest + IN_TURN * self.elsewhere
    }
}
