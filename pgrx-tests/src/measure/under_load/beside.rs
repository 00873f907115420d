//! One run: pgbench at a rate, alone, then beside some work, then alone again. What it feels is compared within the run, so that a
//! busy minute of the machine hits both.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::looks::{Look, Looks};
use super::{DATABASE, Plan};
use crate::cluster::{Cluster, PATIENCE};
use crate::command;
use crate::demo::pgbench::{Latency, Pgbench, Span, Transaction};
use crate::jobs::executors_of;
use crate::measure::backfill::table::TABLE;
use crate::measure::series::{Sample, Series};
use crate::measure::verdict::{Comparison, Measure, Promise};
use crate::session::Session;
use crate::wait::{wait_for, wait_until};

/// What is purged.
const DELETED: &str = "deleted";
const SCALE: &str = "--scale=20";
/// pgbench's own CPU time is on the same machine: prepared statements.
const CLIENTS: [&str; 3] = ["--client=8", "--jobs=2", "--protocol=prepared"];
/// Alone, before the work and after it.
const CALM: Duration = Duration::from_secs(6);
/// From its first transaction until it runs evenly.
const WARM_UP: Duration = Duration::from_secs(3);
/// From a job's beginning until it has found its pace.
const SETTLE: Duration = Duration::from_secs(8);
/// The work is looked at for so long, or until most of it is done: its end is not what is measured.
const LONGEST: Duration = Duration::from_secs(20);
const MOST: f64 = 0.9;

/// What pgbench does: at most so many transactions a second.
#[derive(Clone, Copy)]
pub struct Load {
    pub script: Script,
    pub rate: u32,
}

#[derive(Clone, Copy)]
pub enum Script {
    TpcB,
    SelectOnly,
    SimpleUpdate,
    /// Updates of the table that the work is on: half of them of a thousandth of its rows.
    HotRows,
}

impl Script {
    fn options(self, cluster: &Cluster, plan: &Plan) -> Result<Vec<String>> {
        let mut options: Vec<String> = CLIENTS.map(str::to_owned).to_vec();
        options.push(match self {
            Script::TpcB => "--builtin=tpcb-like".into(),
            Script::SelectOnly => "--builtin=select-only".into(),
            Script::SimpleUpdate => "--builtin=simple-update".into(),
            Script::HotRows => {
                let file = cluster.scratch().join("hot.sql");
                let (hot, all) = (plan.rows / 1000, plan.rows);
                let choice = format!(
                    "\\if random(0, 1) = 1\n\\set id random(1, {hot})\n\\else\n\\set id random(1, {all})\n\\endif\n"
                );
                fs::write(&file, format!("{choice}UPDATE {TABLE} SET a = a + 1 WHERE id = :id;\n"))?;
                format!("--file={}", file.display())
            }
        });
        Ok(options)
    }

    /// Transactions a second as fast as it can.
    pub fn capacity(self, cluster: &Cluster, plan: &Plan) -> Result<f64> {
        if let Script::HotRows = self {
            plan.shape().make_table(&mut cluster.connect(DATABASE)?)?;
        }
        let mut pgbench = cluster.client_command("pgbench", DATABASE);
        let said = command::capture(pgbench.args(["--no-vacuum", "--time=15"]).args(self.options(cluster, plan)?))?;
        let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.context("pgbench does not say how fast it was")
    }
}

impl Load {
    pub fn start(self, cluster: &Cluster, plan: &Plan) -> Result<Pgbench> {
        let options = self.script.options(cluster, plan)?;
        Pgbench::start_with(cluster, DATABASE, self.rate, &options.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[derive(Clone, Copy)]
pub enum Work {
    Nothing,
    /// With so many workers.
    Job(u32),
    /// Of all rows of a table, that were deleted softly.
    Purge,
    /// One worker that gives way to nobody.
    RudeJob,
    OneUpdate,
    /// No work at all: a process of the lowest priority that computes for a quarter of the time, in pieces of a millisecond. What is
    /// felt of it is the machine's doing.
    Spinner,
}

/// What became of one run.
pub struct Felt {
    pub calm: Vec<Transaction>,
    pub during: Vec<Transaction>,
    pub looks: Vec<Look>,
    rows_per_s: Option<f64>,
}

impl Felt {
    /// Milliseconds, and how many times what it was alone.
    pub fn sample(&self) -> Sample {
        let (calm, during) = (Latency::of(&self.calm), Latency::of(&self.during));
        let mut sample = Sample::from([
            ("p50_ms", during.median),
            ("p95_ms", during.p95),
            ("p99_ms", during.p99),
            ("worst_ms", during.worst),
            ("p50_x", during.median / calm.median),
            ("p95_x", during.p95 / calm.p95),
            ("p99_x", during.p99 / calm.p99),
        ]);
        sample.extend(self.rows_per_s.map(|speed| ("rows_per_s", speed)));
        sample
    }
}

/// How many times as long as alone transactions may take.
#[derive(Clone, Copy)]
pub struct Slower {
    pub p50: Promise,
    pub p95: Promise,
    pub p99: Promise,
}

impl Slower {
    pub const UNPROMISED: Self = Self { p50: Promise::NONE, p95: Promise::NONE, p99: Promise::NONE };

    pub fn lines(self, series: &Series) -> Vec<Comparison> {
        let line = |what, figure, promise| {
            let what = format!("{}: {what}, x alone", series.name);
            Comparison::new(what, series, series, Measure::Median(figure)).promised(promise)
        };
        vec![line("p50", "p50_x", self.p50), line("p95", "p95_x", self.p95), line("p99", "p99_x", self.p99)]
    }
}

/// Makes pgbench's tables. Gives the transactions a second that it can do.
pub fn prepare(cluster: &Cluster, plan: &Plan) -> Result<f64> {
    command::capture(cluster.client_command("pgbench", DATABASE).args(["--initialize", "--quiet", SCALE]))?;
    let capacity = Script::TpcB.capacity(cluster, plan)?;
    println!("  pgbench alone, as fast as it can: {capacity:.0} transactions/s");
    Ok(capacity)
}

pub fn run(cluster: &Cluster, plan: &Plan, work: Work, load: Load) -> Result<Felt> {
    let mut session = cluster.connect(DATABASE)?;
    match work {
        Work::Purge => make_deleted(&mut session, plan)?,
        _ => plan.shape().make_table(&mut session)?,
    }
    let pgbench = load.start(cluster, plan)?;
    Span::pass(WARM_UP);
    let before = Span::pass(CALM);
    let job = begin_job(&mut session, plan, work)?;
    let looks = Looks::start(cluster, DATABASE)?;
    let (span, speed) = Span::during(|| match &job {
        Some(job) => watch(&mut session, plan, job).map(Some),
        None => do_work(&mut session, plan, work),
    });
    let looks = looks.end()?;
    if let Some(job) = &job {
        end(&mut session, job)?;
    }
    if matches!(work, Work::RudeJob) {
        set_nice(&mut session, "TO DEFAULT", "10")?;
    }
    let after = Span::pass(CALM);
    let mut calm = pgbench.within(before)?;
    calm.extend(pgbench.within(after)?);
    let during = pgbench.within(span)?;
    pgbench.stop()?;
    Ok(Felt { calm, during, looks, rows_per_s: speed? })
}

/// A job with nobody beside it: rows a second.
pub fn alone(cluster: &Cluster, plan: &Plan, workers: u32) -> Result<Sample> {
    let mut session = cluster.connect(DATABASE)?;
    plan.shape().make_table(&mut session)?;
    let job = begin(&mut session, plan, workers)?;
    let speed = watch(&mut session, plan, &job)?;
    end(&mut session, &job)?;
    Ok(Sample::from([("rows_per_s", speed)]))
}

/// A job that has found its pace, if the work is one.
fn begin_job(session: &mut Session, plan: &Plan, work: Work) -> Result<Option<String>> {
    let job = match work {
        Work::Job(workers) => begin(session, plan, workers)?,
        Work::RudeJob => {
            set_nice(session, "= 0", "0")?;
            begin(session, plan, 1)?
        }
        Work::Purge => session.text(&format!("SELECT upkeep.purge_deleted('{DELETED}', '0')"))?,
        Work::Nothing | Work::OneUpdate | Work::Spinner => return Ok(None),
    };
    Span::pass(SETTLE);
    Ok(Some(job))
}

/// Rows that were deleted softly, and are due.
fn make_deleted(session: &mut Session, plan: &Plan) -> Result<()> {
    session.run(&format!("DROP TABLE IF EXISTS {DELETED} CASCADE"))?;
    session.run(&format!(
        "CREATE TABLE {DELETED} (id bigint PRIMARY KEY, payload text) WITH (autovacuum_enabled = off);
         SELECT upkeep.enable_soft_delete('{DELETED}');
         CREATE INDEX ON {DELETED} (deleted_at) WHERE deleted_at IS NOT NULL;
         SET session_replication_role = replica;
         INSERT INTO {DELETED} (id, payload, deleted_at, deletion_id)
         SELECT g, repeat('x', 100), now() - interval '1 day', '00000000-0000-0000-0000-000000000001'
           FROM generate_series(1, {}) g;
         RESET session_replication_role",
        plan.rows
    ))?;
    session.run(&format!("VACUUM ANALYZE {DELETED}"))?;
    session.run("CHECKPOINT")
}

/// Rows a second of what is no job, if it has any.
fn do_work(session: &mut Session, plan: &Plan, work: Work) -> Result<Option<f64>> {
    match work {
        Work::OneUpdate => {
            let clock = Instant::now();
            let assignments = plan.shape().assignments();
            session.run(&format!("UPDATE {TABLE} SET {assignments} WHERE label IS NULL"))?;
            return Ok(Some(plan.rows as f64 / clock.elapsed().as_secs_f64()));
        }
        Work::Spinner => thread::spawn(spin).join().map_err(|_| anyhow!("the spinner panicked"))??,
        Work::Nothing | Work::Job(_) | Work::Purge | Work::RudeJob => thread::sleep(LONGEST),
    }
    Ok(None)
}

fn spin() -> Result<()> {
    const PIECE: Duration = Duration::from_millis(1);
    // Of this thread alone, on Linux.
    rustix::process::nice(19)?;
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        let piece = Instant::now() + PIECE;
        while Instant::now() < piece {
            std::hint::spin_loop();
        }
        thread::sleep(3 * PIECE);
    }
    Ok(())
}

pub fn begin(session: &mut Session, plan: &Plan, workers: u32) -> Result<String> {
    let assignments = plan.shape().assignments();
    session
        .text(&format!("SELECT upkeep.backfill('{TABLE}', $${assignments}$$, 'label IS NULL', workers => {workers})"))
}

/// Rows a second from now on, until most of them are done or it has been looked at for long enough. Looked at seldom: whoever looks is
/// a client, too.
fn watch(session: &mut Session, plan: &Plan, job: &str) -> Result<f64> {
    let look = format!("SELECT rows_done::float8 FROM upkeep._job_slot WHERE job = '{job}'");
    let rows = |session: &mut Session| Ok::<f64, anyhow::Error>(session.values::<f64>(&look)?.into_iter().sum());
    let (clock, before) = (Instant::now(), rows(session)?);
    loop {
        thread::sleep(Duration::from_millis(250));
        let (now, elapsed) = (rows(session)?, clock.elapsed());
        if now >= plan.rows as f64 * MOST || elapsed >= LONGEST {
            return Ok((now - before) / elapsed.as_secs_f64());
        }
    }
}

pub fn end(session: &mut Session, job: &str) -> Result<()> {
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for("the workers to leave", PATIENCE, || Ok(executors_of(session, job)?.is_empty().then_some(())))
}

fn set_nice(session: &mut Session, to: &str, shown_as: &str) -> Result<()> {
    session.run(&format!("ALTER SYSTEM SET upkeep.worker_nice {to}"))?;
    session.run("SELECT pg_reload_conf()")?;
    let shown = "SELECT setting FROM pg_settings WHERE name = 'upkeep.worker_nice'";
    wait_until("the new nice value", PATIENCE, || session.text(shown).is_ok_and(|text| text == shown_as))
}
