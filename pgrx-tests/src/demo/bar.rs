//! The live progress of a job, from view upkeep.jobs.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::figures::thousands;
use crate::session::Session;

const LOOK: Duration = Duration::from_millis(200);

/// Draws until the job has ended. On a terminal the line is redrawn; elsewhere there is one line for each tenth.
pub fn follow(session: &mut Session, job: &str) -> Result<()> {
    let look = format!(
        "SELECT state, coalesce(wait_reason, ''), coalesce(percent, 0)::float8, coalesce(bar, ''),
                coalesce(rows_done, 0)::float8, coalesce(rows_per_second, 0)::float8,
                coalesce((eta - clock_timestamp())::interval(0)::text, ''), coalesce(error, '')
           FROM upkeep.jobs WHERE id = '{job}'"
    );
    let live = stdout().is_terminal();
    let mut next_tenth = 0.0;
    loop {
        let row = session.query_one(&look, &[])?;
        let (state, percent): (String, f64) = (row.get(0), row.get(2));
        let done = state == "done";
        // What has not started has no progress to show.
        if state != "queued" && (live || done || percent >= next_tenth) {
            next_tenth = (percent / 10.0).floor() * 10.0 + 10.0;
            let (reason, bar, left): (String, String, String) = (row.get(1), row.get(3), row.get(6));
            let (rows, rate) = (thousands(row.get(4)), thousands(row.get(5)));
            let left = if done || left.is_empty() { String::new() } else { format!(", {left} left") };
            let line = format!("  {bar} {percent:5.1} %  {rows} rows, {rate} rows/s{left}  {state} {reason}");
            if live {
                print!("\r{}\x1b[K", line.trim_end())
            } else {
                println!("{}", line.trim_end())
            }
            stdout().flush()?;
        }
        if done {
            if live {
                println!();
            }
            return Ok(());
        }
        if state == "failed" || state == "canceled" {
            bail!("the job is {state}: {}", row.get::<_, String>(7));
        }
        std::thread::sleep(LOOK);
    }
}
