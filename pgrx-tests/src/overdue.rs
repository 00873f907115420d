//! A statement that never ends would hang its test, and nobody would be told why. Where this is watched, such a statement is canceled,
//! after what its server was doing has been told.

use std::sync::{Arc, Mutex, Once, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use postgres::{CancelToken, Config, NoTls};

use crate::session::Session;

/// Longer than any test lets a statement wait.
const LONGEST: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(1);
/// It may be the whole server that hangs.
const ANSWER: Duration = Duration::from_secs(10);

const SESSIONS: &str = "
    SELECT concat_ws(' ', '   ', a.backend_type, a.pid, a.usename, a.datname, a.state, a.wait_event_type, a.wait_event,
               'blocked by ' || nullif(pg_blocking_pids(a.pid), '{}')::text,
               extract(epoch FROM clock_timestamp() - coalesce(a.state_change, a.backend_start))::int || ' s:', left(a.query, 300))
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid() AND (a.datname IS NOT NULL OR a.backend_type LIKE 'pg_upkeep%')
    ORDER BY a.backend_start";

/// A session, as far as it is watched.
pub struct Watched {
    server: Config,
    cancel: CancelToken,
    since: Mutex<Option<Instant>>,
    /// What the server was doing when a statement was canceled.
    seen: Mutex<Option<String>>,
}

type Sessions = Mutex<Vec<Weak<Watched>>>;

static SESSIONS_WATCHED: OnceLock<Sessions> = OnceLock::new();

/// From now on, in this process.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let watched = SESSIONS_WATCHED.get_or_init(Sessions::default);
        thread::spawn(|| {
            loop {
                thread::sleep(LOOK);
                look(watched, LONGEST);
            }
        });
    });
}

fn look(sessions: &Sessions, longest: Duration) {
    let mut sessions = sessions.lock().expect("nobody panics here");
    sessions.retain(|session| session.strong_count() > 0);
    let all: Vec<_> = sessions.iter().filter_map(Weak::upgrade).collect();
    drop(sessions);
    all.iter().for_each(|session| session.end_what_is_overdue(longest));
}

impl Watched {
    pub fn new(server: Config, cancel: CancelToken) -> Arc<Self> {
        let watched = Arc::new(Self { server, cancel, since: Mutex::default(), seen: Mutex::default() });
        if let Some(sessions) = SESSIONS_WATCHED.get() {
            sessions.lock().expect("nobody panics here").push(Arc::downgrade(&watched));
        }
        watched
    }

    pub fn begins(&self) {
        *self.since.lock().expect("nobody panics here") = Some(Instant::now());
    }

    /// What there is to say of it, if it was overdue.
    pub fn ends(&self) -> Option<String> {
        *self.since.lock().expect("nobody panics here") = None;
        self.seen.lock().expect("nobody panics here").take()
    }

    pub fn end_what_is_overdue(&self, longest: Duration) {
        let overdue = self.since.lock().expect("nobody panics here").take_if(|since| since.elapsed() > longest);
        if overdue.is_some() {
            let sessions = sessions(&self.server).unwrap_or_else(|error| format!("    {error:#}"));
            *self.seen.lock().expect("nobody panics here") = Some(sessions);
            let _ = self.cancel.cancel_query(NoTls);
        }
    }
}

/// Who is connected to this server, and what they are doing.
pub fn sessions(server: &Config) -> Result<String> {
    let mut server = server.clone();
    server.user(crate::pg::SUPERUSER).dbname("postgres").connect_timeout(ANSWER).options("-c statement_timeout=10s");
    Ok(Session::open(server)?.rows(SESSIONS)?.join("\n"))
}
