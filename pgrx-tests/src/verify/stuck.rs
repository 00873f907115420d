//! Client tests that do not end: which, and what their servers are doing. A run that only hangs would tell nobody.

use std::fs;

use crate::room::Room;
use crate::{cluster, overdue};

/// What a test program says of a test after a minute.
const SLOW: &str = " has been running for over 60 seconds";

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
        let mut server = postgres::Config::new();
        server.host_path(cluster.path().join("s"));
        let sessions = overdue::sessions(&server).unwrap_or_else(|error| format!("    {error:#}"));
        format!("server {name}:\n{sessions}\n")
    });
    told.collect()
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
