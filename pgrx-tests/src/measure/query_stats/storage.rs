//! What seven days take at the defaults: 5,000 statements, 16 % of them active in any five minutes.

use anyhow::Result;

use super::Plan;
use crate::cluster::Cluster;
use crate::measure::report::Report;
use crate::measure::series::{Sample, Series};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::query_history::{Chance, Level, Statement, insert};
use crate::session::Session;

const DATABASE: &str = "storage";
/// In MB a day.
const MOST: f64 = 15.0;
const DAYS: i64 = 7;

/// A level as written, and how many rows of it a day makes.
struct Rows {
    name: &'static str,
    level: Level,
    unit: &'static str,
    a_day: i64,
    /// Days of it that are there after seven days, with the seventh by which partitions leave late.
    kept: f64,
}

const ROWS: [Rows; 3] = [
    Rows { name: "minutes", level: Level::Minutes, unit: "minute", a_day: 1440, kept: 1.0 + 1.0 / 7.0 },
    Rows { name: "hours", level: Level::Hours, unit: "hour", a_day: 24, kept: 7.0 },
    Rows { name: "days", level: Level::Days, unit: "day", a_day: 1, kept: 7.0 },
];

pub fn measure(shared: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    shared.create_database(DATABASE)?;
    let mut session = shared.connect(DATABASE)?;
    session.run("CREATE EXTENSION pg_upkeep; SET upkeep.track_queries = 'none'")?;
    let mut series = Series { name: "a day".into(), samples: Vec::new() };
    let mut sample = Sample::new();
    let mut per_day = 0.0;
    for rows in &ROWS {
        let before = size(&mut session, rows.name)?;
        let written = write(&mut session, rows, plan.statements)?;
        let mb = (size(&mut session, rows.name)? - before) / f64::from(1 << 20) * rows.a_day as f64 / written as f64;
        sample.insert(rows.name, mb);
        per_day += mb * rows.kept / DAYS as f64;
    }
    sample.insert("MB", per_day * 5000.0 / plan.statements as f64);
    series.samples.push(sample);
    let comparison =
        Comparison::new("7 days, MB a day", &series, &series, Measure::Median("MB")).must(Bound::AtMost(MOST));
    report.add("history on disk, with TOAST and indexes, MB", &[series], &[comparison])
}

/// As many rows as a day makes; of hours a whole week's, and of days seven.
fn write(session: &mut Session, rows: &Rows, statements: i64) -> Result<i64> {
    let user: u32 = session.value("SELECT current_user::text::regrole::oid")?;
    let mut chance = Chance(11);
    let count = if matches!(rows.level, Level::Minutes) { rows.a_day } else { rows.a_day * DAYS };
    session.run("BEGIN")?;
    for row in 1..=count {
        // A coarse row has whom any of its five minutes met, with the sum of their calls.
        let slices = match rows.level {
            Level::Minutes => 1,
            Level::Hours => 12,
            Level::Days => 288,
        };
        let share = 1.0 - 0.84_f64.powi(slices);
        let calls = 1 + (12.0 * f64::from(slices) * 0.16 / share) as usize;
        let mut some = Vec::new();
        for id in 1..=statements {
            // Who is active changes every five minutes.
            let turn = if slices == 1 { row / 5 } else { row };
            if Chance((id * 1_000_003 + turn) as u64).uniform() < share {
                let median = 20.0 * f64::powi(2.0, (id % 12) as i32);
                let queryid = id.wrapping_mul(-7_046_029_254_386_353_131);
                let calls = if slices == 1 { 1 + (12.0 * chance.uniform()) as usize } else { calls.min(200) };
                some.push(Statement::new(queryid, user).latencies((0..calls).map(|_| chance.latency(median, 0.5))));
            }
        }
        let started = format!("date_trunc('{0}', now(), 'UTC') - interval '{row} {0}s'", rows.unit);
        insert(session, rows.level, &started, &format!("1 {}", rows.unit), &some)?;
    }
    session.run("COMMIT")?;
    Ok(count)
}

fn size(session: &mut Session, level: &str) -> Result<f64> {
    session.value(&format!(
        "SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class WHERE relname LIKE '\\_query\\_{level}\\__' AND relkind = 'r'"
    ))
}
