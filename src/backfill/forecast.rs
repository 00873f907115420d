//! What a backfill does to those beside it, and they to it: warnings of `upkeep.explain_backfill`.

use crate::error::Result;
use crate::jobs::slowdown::forecast;
use crate::server::{catalog, system};

/// Of a job that takes so long with nobody beside it, and writes so much WAL.
pub fn warnings(seconds: f64, wal_bytes: f64) -> Result<Vec<(&'static str, String)>> {
    let mut warnings = Vec::new();
    let is_felt = |expected: &forecast::Expected| expected.share < SLOW && seconds / expected.share >= LONG;
    if let Some(expected) = forecast::expected()?.filter(is_felt) {
        let text = format!(
            "beside the application it may go at {:.0} % of its pace, and take {} or longer instead of {} ({})",
            expected.share * 100.0,
            in_words(seconds / expected.share),
            in_words(seconds),
            expected.because
        );
        warnings.push(("pace", text));
    }
    if seconds >= LONG && forecast::is_blind() {
        let text = "nobody counts what statements take: with shared_preload_libraries = 'pg_upkeep' (and upkeep.track_queries) the job \
                    keeps to max_slowdown by what each of them takes; now it goes by how many sessions are at one, and what they wait for";
        warnings.push(("figures", text.to_owned()));
    }
    warnings.extend(
        Checkpoints::of_server().and_then(|it| it.warning(seconds, wal_bytes)).map(|text| ("checkpoints", text)),
    );
    Ok(warnings)
}

/// A job that is nearly as fast as alone need not be told of.
const SLOW: f64 = 0.9;
/// Nor one that is over in no time.
const LONG: f64 = 10.0;

fn in_words(seconds: f64) -> String {
    match seconds {
        short if short < 120.0 => format!("{short:.0} s"),
        medium if medium < 7200.0 => format!("{:.0} min", medium / 60.0),
        long => format!("{:.1} h", long / 3600.0),
    }
}

/// When the server begins one.
struct Checkpoints {
    /// Bytes.
    max_wal_size: f64,
    completion_target: f64,
    /// Seconds.
    timeout: f64,
}

impl Checkpoints {
    fn of_server() -> Option<Self> {
        Some(Checkpoints {
            max_wal_size: (system::number_setting(c"max_wal_size")? << 20) as f64,
            completion_target: catalog::setting(c"checkpoint_completion_target").parse().ok()?,
            timeout: system::number_setting(c"checkpoint_timeout")? as f64,
        })
    }

    /// One begins when so much has been written since the last one began, so that the one before it and this one have room in
    /// `max_wal_size` (`CalculateCheckpointSegments` of the server's xlog.c).
    fn warning(&self, seconds: f64, wal_bytes: f64) -> Option<String> {
        let apart = self.max_wal_size / (1.0 + self.completion_target);
        let between = wal_bytes * (self.timeout / seconds.max(self.timeout));
        if between <= apart {
            return None;
        }
        let needed = between * (1.0 + self.completion_target) / f64::from(1 << 20);
        Some(format!(
            "at full speed its WAL begins about {:.0} checkpoints before their time, and after each the application writes whole pages \
             again; with max_wal_size = '{:.0} GB' it would not",
            (wal_bytes / apart).floor(),
            (needed / 1024.0).ceil()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_foreseen() {
        let server = Checkpoints { max_wal_size: 1e9, completion_target: 0.9, timeout: 300.0 };
        assert_eq!(server.warning(100.0, 0.5e9), None);
        let text = server.warning(100.0, 2e9).unwrap();
        assert!(text.contains("about 3 checkpoints") && text.contains("'4 GB'"), "{text}");
        assert_eq!(server.warning(30_000.0, 2e9), None, "it is slow enough for them to come when they would anyway");
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!([in_words(5.2), in_words(600.0), in_words(9000.0)], ["5 s", "10 min", "2.5 h"]);
    }
}
