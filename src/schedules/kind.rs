//! The kind of what a schedule makes: a command, with a time limit and retries of the schedule's. It is called `command` too.

use std::time::Duration;

use pgrx::Uuid;
use serde::Deserialize;
use serde_json::Value;

use super::history;
use crate::error::Result;
use crate::jobs::command::{self, KIND, NATURE, Run, Terms};
use crate::jobs::kind::{Belonging, Job, Kind, Nature, Restart, Work};
use crate::server::index_command::Extent;

/// Of a job's parameters, beside the command: which schedule it is a run of, and how that wants its runs.
#[derive(Deserialize)]
struct Params {
    schedule: String,
    /// ms
    timeout: Option<u64>,
    retries: i32,
    /// ms
    retry_backoff: u64,
}

pub struct ScheduledCommand;

impl Kind for ScheduledCommand {
    fn name(&self) -> &'static str {
        KIND
    }

    fn takes(&self, params: &Value) -> bool {
        params.get("schedule").is_some()
    }

    fn nature(&self) -> Nature {
        NATURE
    }

    fn open(&self, job: &Job) -> Result<Box<dyn Work>> {
        let Params { schedule, timeout, retries, retry_backoff } = serde_json::from_value(job.params.clone())?;
        let terms = Terms {
            time_limit: timeout.map(Duration::from_millis),
            backoff: Duration::from_millis(retry_backoff),
            retries,
            repeat: format!("SELECT upkeep.run_now('{schedule}');"),
            more_time: "SELECT upkeep.alter_schedule(.., timeout => ..) gives it more time.",
        };
        Ok(Box::new(Run::open(job, terms)?))
    }

    fn extent(&self, job: &Job, begun: bool) -> Result<Extent> {
        command::extent(job, begun)
    }

    fn restart(&self, _shared: Value, _was_done: bool) -> Restart {
        command::from_the_start()
    }

    fn check_retry(&self, job: Uuid) -> Result<()> {
        history::check_retry(job)
    }

    fn belongings(&self) -> &'static [Belonging] {
        &[Belonging { table: "upkeep._schedule_run", column: "schedule", to: "upkeep._schedule" }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_are_told_from_other_commands() {
        assert!(!ScheduledCommand.takes(&json!({ "command": "VACUUM" })));
        let run = json!({ "command": "VACUUM", "schedule": "x", "timeout": null, "retries": 2, "retry_backoff": 5 });
        assert!(ScheduledCommand.takes(&run));
        let params: Params = serde_json::from_value(run).unwrap();
        assert_eq!((params.timeout, params.retries, params.retry_backoff), (None, 2, 5));
    }
}
