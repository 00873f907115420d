//! What is wrong with the statistics, and what to type about it: lines of `upkeep.status.advice`.

use std::time::Duration;

use super::due::due;
use crate::queries::raw::memory::{self, Presence};
use crate::server::catalog;
use crate::settings;

/// All there is to say. `attended`: schedulers can come.
pub fn all(attended: bool) -> Vec<String> {
    ailments(attended).into_iter().map(about).collect()
}

/// Why statements of this database are not counted apart, not known by their text, or not remembered.
#[derive(Debug, PartialEq)]
enum Ailment {
    NotPreloaded,
    NoQueryId,
    /// Too many databases came before.
    NoPlace,
    Absent,
    TextsFull,
    NotDrained {
        seconds: i64,
    },
    HeldUp,
}

/// What is late by two intervals, and by at least this, is not only late.
const OVERDUE: Duration = Duration::from_secs(15);

/// What is wrong with the statistics of this database. `attended`: schedulers can come.
fn ailments(attended: bool) -> Vec<Ailment> {
    if !settings::counts_queries() {
        return Vec::new();
    }
    if !memory::is_available() {
        return vec![Ailment::NotPreloaded];
    }
    let mut found = Vec::new();
    if catalog::setting(c"compute_query_id") == "off" {
        found.push(Ailment::NoQueryId);
    }
    let here = catalog::my_database();
    let Some(database) = memory::known(here.to_u32()) else {
        found.push(Ailment::NoPlace);
        return found;
    };
    if database.presence() == Presence::Absent {
        found.push(Ailment::Absent);
    }
    if database.has_lacked_room() {
        found.push(Ailment::TextsFull);
    }
    let late = due(here).map_or(0, |at| (catalog::now() - at) / 1_000_000);
    let longest = settings::query_interval().map_or(OVERDUE, |interval| OVERDUE.max(2 * interval));
    if attended && late >= longest.as_secs() as i64 {
        found.push(Ailment::NotDrained { seconds: late });
    }
    if database.is_held_up() {
        found.push(Ailment::HeldUp);
    }
    found
}

fn about(ailment: Ailment) -> String {
    match ailment {
        Ailment::NotPreloaded => "Statements are not counted: add pg_upkeep to shared_preload_libraries and \
            restart, or switch that off: ALTER SYSTEM SET upkeep.track_queries = none;"
            .into(),
        Ailment::NoQueryId => "Statements are counted as one, because compute_query_id is off. \
            ALTER SYSTEM SET compute_query_id = auto; SELECT pg_reload_conf();"
            .into(),
        Ailment::NoPlace => "Statements of this database are counted with those of others, not apart: \
            64 databases had some before. What is dropped makes room; so does listing the databases that matter \
            in upkeep.databases."
            .into(),
        Ailment::Absent => "Statements of this database are not counted apart, because the extension was not here \
            when a worker looked last. SELECT upkeep.run_in_background('SELECT 1'); has one look again."
            .into(),
        Ailment::TextsFull => "There was no room for the texts of some statements: they are shown once those that \
            wait are stored, at the next upkeep.query_interval. Raise upkeep.query_max if that is always so \
            (needs a restart; 1 kB of texts for each)."
            .into(),
        Ailment::NotDrained { seconds } => format!(
            "What statements cost waits to be written to the history for \
            {seconds} s: no worker could do it; the reason is in the server's log (\"pg_upkeep\")."
        ),
        Ailment::HeldUp => "Old history of statements is not dropped: a session that has read it has not ended \
            its transaction; the server's log says which."
            .into(),
    }
}
