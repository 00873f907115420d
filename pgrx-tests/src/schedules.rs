//! Words for what tests do with schedules.

use anyhow::{Context, Result};

use crate::session::Session;
use crate::testing::wait_for_text;

/// `upkeep.schedule(name, schedule, command)`: its id.
pub fn schedule(session: &mut Session, name: &str, schedule: &str, command: &str) -> Result<String> {
    schedule_with(session, name, schedule, command, "")
}

/// The same with more arguments: `timeout => '1 s'`.
pub fn schedule_with(session: &mut Session, name: &str, rule: &str, command: &str, arguments: &str) -> Result<String> {
    let comma = if arguments.is_empty() { "" } else { ", " };
    session.text(&format!("SELECT upkeep.schedule('{name}', '{rule}', $command${command}$command${comma}{arguments})"))
}

/// A schedule that is due in years.
pub const RARELY: &str = "0 0 29 2 *";

/// Statuses of a schedule's runs, oldest first.
pub fn statuses(session: &mut Session, name: &str) -> Result<String> {
    session.text(&format!(
        "SELECT coalesce(string_agg(status, ' ' ORDER BY due_at, status), '') FROM upkeep.schedule_runs WHERE name = '{name}'"
    ))
}

/// Waits until a query about the runs of a schedule gives this text.
pub fn wait_for_runs(session: &mut Session, name: &str, what: &str, wanted: &str) -> Result<()> {
    let look = format!("SELECT {what} FROM upkeep.schedule_runs WHERE name = '{name}'");
    wait_for_text(session, &look, wanted).with_context(|| describe(session))
}

/// Runs a schedule now and waits until its run has ended; gives `status|attempt|rows|error`.
pub fn run_now(session: &mut Session, name: &str) -> Result<String> {
    let job = session.text(&format!("SELECT upkeep.run_now('{name}')"))?;
    wait_until_ended(session, &job)?;
    session.text(&format!("SELECT status, attempt, rows, error FROM upkeep.schedule_runs WHERE job = '{job}'"))
}

/// Waits until the run that a job does has ended.
pub fn wait_until_ended(session: &mut Session, job: &str) -> Result<()> {
    let look = format!(
        "SELECT count(*) FROM upkeep.schedule_runs
          WHERE job = '{job}' AND status IN ('done', 'failed', 'timed out', 'canceled')"
    );
    wait_for_text(session, &look, "1").with_context(|| describe(session))
}

/// All that can be said of the schedules, for a failed test.
pub fn describe(session: &mut Session) -> String {
    let schedules = session.rows("SELECT s FROM upkeep.schedules s ORDER BY created_at LIMIT 20");
    let runs = session.rows("SELECT r FROM upkeep.schedule_runs r ORDER BY due_at DESC LIMIT 20");
    let jobs = session.rows("SELECT j FROM upkeep.jobs j ORDER BY created_at DESC LIMIT 20");
    format!("{schedules:#?}\n{runs:#?}\n{jobs:#?}")
}
