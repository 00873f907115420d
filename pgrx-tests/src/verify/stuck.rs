//! Client tests that do not end: which, and what their servers are doing. A run that only hangs would tell nobody.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cluster;
use crate::pg::SUPERUSER;
use crate::room::Room;
use crate::session::Session;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a test program says of a test after a minute.
const SLOW: &str = " has been running for over 60 seconds";

const SESSIONS: &str = "
    SELECT format('    %s %s, %s in %s: %s%s for %s s: %s', a.backend_type, a.pid, a.usename, a.datname, coalesce(a.state, ''),
               coalesce(format(' waits for %s %s', a.wait_event_type, a.wait_event), ''),
               extract(epoch FROM now() - coalesce(a.state_change, a.backend_start))::int, left(a.query, 300))
           || coalesce(format(' (blocked by %s)', nullif(pg_blocking_pids(a.pid), '{}')), '')
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid() AND a.datname IS NOT NULL
    ORDER BY a.backend_start";

/// The tests that had not ended, of a run that was cut short.
pub fn tests(said: &str) -> Vec<&str> {
    let mut slow = Vec::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("test ")) {
        match line.strip_suffix(SLOW) {
            Some(test) => slow.push(test),
            None => slow.retain(|test| line.split(" ... ").next() != Some(test)),
        }
    }
    slow
}

/// Who is connected to the servers that run in this room.
pub fn sessions(room: &Room) -> String {
    let Ok(clusters) = fs::read_dir(room.clusters()) else { return String::new() };
    let running = clusters.flatten().filter(|cluster| !cluster::processes_in(&cluster.path().join("data")).is_empty());
    let told = running.map(|cluster| {
        let name = cluster.file_name().to_string_lossy().into_owned();
        let sessions = of_server(&cluster.path()).unwrap_or_else(|error| format!("    {error:#}"));
        format!("server {name}:\n{sessions}\n")
    });
    told.collect()
}

fn of_server(dir: &Path) -> Result<String> {
    let mut server = postgres::Config::new();
    server.host_path(dir.join("s")).dbname("postgres").user(SUPERUSER);
    // It may be the server that hangs.
    server.connect_timeout(PATIENCE).options("-c statement_timeout=10s");
    let mut session = Session::open(server)?;
    Ok(session.rows(SESSIONS)?.join("\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn those_that_ended_after_all_are_not_stuck() {
        let said = "running 3 tests\ntest a::b has been running for over 60 seconds\ntest a::c has been running for over 60 \
                    seconds\ntest a::b ... ok\ntest a::d ... ok\n";
        assert_eq!(super::tests(said), ["a::c"]);
    }
}
