//! What is in force for one job: the server's settings and the job's own limits, of each the stricter.

use std::time::Duration;

use crate::jobs::limits::Limits;
use crate::settings::Throttles;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub replica_lag: Option<Duration>,
    pub replica_lag_bytes: Option<u64>,
    /// Bytes a second.
    pub wal_rate: Option<u64>,
    pub ignored: Ignored,
    pub work_ratio: f64,
    pub slowdown: Option<f64>,
    pub archive_backlog: Option<u64>,
    pub free_disk: Option<u64>,
}

/// Standbys and slots that hold nothing back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ignored {
    all: bool,
    names: Vec<String>,
}

impl Ignored {
    fn read(list: &str) -> Self {
        let names = || list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ignored {
            all: names().any(|name| name == "*"),
            names: names().map(|name| name.trim_matches('"').to_owned()).collect(),
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|ignored| ignored == name)
    }
}

impl Policy {
    pub fn of(server: Throttles, job: &Limits) -> Self {
        let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        Policy {
            replica_lag: stricter(server.replica_lag, positive(job.max_replica_lag).map(Duration::from_millis)),
            replica_lag_bytes: stricter(server.replica_lag_bytes, positive(job.max_replica_lag_bytes)),
            wal_rate: stricter(server.wal_rate, positive(job.max_wal_rate.map(i64::from)).map(|rate| rate * 1024)),
            ignored: Ignored::read(&server.ignored_standbys),
            work_ratio: server.work_ratio.min(job.throttle_work_ratio.unwrap_or(1.0)),
            slowdown: server.slowdown.into_iter().chain(job.max_slowdown).reduce(f64::min),
            archive_backlog: server.archive_backlog,
            free_disk: server.free_disk,
        }
    }

    /// Does any of it need to know what the server is going through?
    pub fn needs_figures(&self) -> bool {
        self.replica_lag.is_some()
            || self.replica_lag_bytes.is_some()
            || self.archive_backlog.is_some()
            || self.free_disk.is_some()
    }
}

fn stricter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Throttles {
        Throttles {
            replica_lag: Some(Duration::from_secs(10)),
            replica_lag_bytes: None,
            wal_rate: None,
            ignored_standbys: String::new(),
            work_ratio: 0.5,
            slowdown: Some(1.2),
            archive_backlog: None,
            free_disk: None,
        }
    }

    #[test]
    fn a_job_can_only_be_stricter_than_the_server() {
        let looser = Limits {
            max_replica_lag: Some(60_000),
            throttle_work_ratio: Some(1.0),
            max_slowdown: Some(2.0),
            ..Limits::default()
        };
        assert_eq!(Policy::of(server(), &looser), Policy::of(server(), &Limits::default()));
        let tighter = Limits {
            max_replica_lag: Some(1000),
            max_replica_lag_bytes: Some(5),
            max_wal_rate: Some(2),
            throttle_work_ratio: Some(0.1),
            max_slowdown: Some(1.05),
            ..Limits::default()
        };
        let policy = Policy::of(server(), &tighter);
        assert_eq!(policy.replica_lag, Some(Duration::from_secs(1)));
        assert_eq!((policy.replica_lag_bytes, policy.wal_rate, policy.work_ratio), (Some(5), Some(2048), 0.1));
        assert_eq!(policy.slowdown, Some(1.05));
        assert_eq!(
            Policy::of(Throttles { slowdown: None, ..server() }, &tighter).slowdown,
            Some(1.05),
            "it has one all the same"
        );
    }

    #[test]
    fn figures_are_needed_for_what_looks_at_them() {
        assert!(Policy::of(server(), &Limits::default()).needs_figures());
        let off = Throttles { replica_lag: None, wal_rate: Some(1), ..server() };
        assert!(!Policy::of(off, &Limits::default()).needs_figures());
    }

    #[test]
    fn standbys_are_ignored_by_name() {
        let some = Ignored::read(" a, \"B c\" ,,");
        assert!(some.contains("a") && some.contains("B c") && !some.contains("b") && !some.contains(""));
        assert!(Ignored::read("a, *").contains("anything"));
        assert!(!Ignored::read("").contains("anything"));
    }
}
