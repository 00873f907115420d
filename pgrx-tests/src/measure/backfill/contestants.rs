//! The ways to fill a column.

use std::time::Instant;

use anyhow::{Result, bail};

use super::table::{Shape, TABLE};
use super::watch::Watch;
use crate::cluster::Cluster;
use crate::measure::series::Sample;
use crate::observe::{Counters, Sizes};
use crate::session::Session;

/// Where and on what the contestants work.
pub struct Arena<'a> {
    pub cluster: &'a Cluster,
    pub database: &'static str,
    pub shape: Shape,
    /// Sizes of the filled table without a dead row.
    pub compact: Sizes,
}

#[derive(Clone, Copy)]
pub enum Contestant {
    OneUpdate,
    Job {
        workers: u32,
    },
    /// One worker with the shortest steps that can be asked for.
    ShortSteps,
    /// A client that walks along the key in batches of 10,000.
    Keyset,
    /// The client everybody writes first: the next 10,000 rows that still lack the value.
    CommonLoop,
}

const BATCH: i64 = 10_000;

impl Contestant {
    pub fn name(self) -> String {
        match self {
            Self::OneUpdate => "one UPDATE".into(),
            Self::Job { workers: 1 } => "job, one worker".into(),
            Self::Job { workers } => format!("job, {workers} workers"),
            Self::ShortSteps => "job, batch_time of 10 ms".into(),
            Self::Keyset => "keyset batches".into(),
            Self::CommonLoop => "common loop".into(),
        }
    }

    /// Makes a fresh table, fills it, checks it. The clock runs for the filling only.
    pub fn fill(self, arena: &Arena) -> Result<Sample> {
        self.fill_beside(arena, || Ok(()))
    }

    /// The same beside neighbours, who come when the table is ready and go when it is filled.
    pub fn fill_beside<N>(self, arena: &Arena, neighbours: impl FnOnce() -> Result<N>) -> Result<Sample> {
        let Arena { cluster, database, shape, compact } = arena;
        let mut session = cluster.connect(database)?;
        shape.make_table(&mut session)?;
        let neighbours = neighbours()?;
        let before = Counters::read(&mut session, TABLE)?;

        let mut sample = Sample::new();
        let seconds = match self {
            Self::Job { .. } | Self::ShortSteps => {
                let watch = Watch::start(cluster, database)?;
                let seconds = run_job(&mut session, shape, self.job_options());
                let seen = watch.end()?;
                sample.insert("longest_tx_ms", seen.longest_transaction);
                sample.insert("oldest_xmin_ms", seen.oldest_xmin);
                seconds?
            }
            _ => {
                let clock = Instant::now();
                self.fill_by_hand(&mut session, shape)?;
                let seconds = clock.elapsed().as_secs_f64();
                session.run("SELECT pg_stat_force_next_flush()")?;
                seconds
            }
        };
        drop(neighbours);

        let work = before.until_now(&mut session, TABLE, shape.rows as f64)?;
        let sizes = Sizes::of(&mut session, TABLE)?;
        let wrong = shape.wrong_rows(&mut session)?;
        if wrong > 0 {
            bail!("{wrong} rows were not filled");
        }
        sample.insert("rows_per_s", shape.rows as f64 / seconds);
        sample.insert("wal_mb", work.wal / f64::from(1 << 20));
        sample.insert("hot_percent", work.hot_share * 100.0);
        sample.insert("table_x", sizes.table / compact.table);
        sample.insert("indexes_x", sizes.indexes / compact.indexes);
        Ok(sample)
    }

    fn fill_by_hand(self, session: &mut Session, shape: &Shape) -> Result<()> {
        let set = format!("UPDATE {TABLE} SET {}", shape.assignments());
        match self {
            Self::OneUpdate => session.run(&format!("{set} WHERE label IS NULL")),
            Self::Keyset => keyset_batches(session, &set),
            Self::CommonLoop => common_loop(session, &set),
            Self::Job { .. } | Self::ShortSteps => bail!("a job is not filled by hand"),
        }
    }

    fn job_options(self) -> String {
        match self {
            Self::Job { workers } => format!("workers => {workers}"),
            _ => "batch_time => '10 ms'".into(),
        }
    }
}

/// Seconds from the request to the job's end, by the server's clock: `upkeep.wait` may notice the end a little later.
fn run_job(session: &mut Session, shape: &Shape, options: String) -> Result<f64> {
    let request = format!("SELECT upkeep.backfill('{TABLE}', $${}$$, 'label IS NULL', {options})", shape.assignments());
    let job = session.text(&request)?;
    session.run(&format!("CALL upkeep.wait('{job}')"))?;
    let look = format!(
        "SELECT extract(epoch FROM finished_at - created_at)::float8, coalesce(rows_left, 0)::bigint
           FROM upkeep.jobs WHERE id = '{job}'"
    );
    let row = session.query_one(&look, &[])?;
    match row.get::<_, i64>(1) {
        0 => Ok(row.get(0)),
        left => bail!("the job ended with {left} rows left"),
    }
}

fn keyset_batches(session: &mut Session, set: &str) -> Result<()> {
    let next = session.prepare(&format!(
        "SELECT max(id) FROM (SELECT id FROM {TABLE} WHERE id > $1 ORDER BY id LIMIT {BATCH}) batch"
    ))?;
    let fill = session.prepare(&format!("{set} WHERE id > $1 AND id <= $2 AND label IS NULL"))?;
    let mut last = 0_i64;
    while let Some(upto) = session.query_one(&next, &[&last])?.get::<_, Option<i64>>(0) {
        session.execute(&fill, &[&last, &upto])?;
        last = upto;
    }
    Ok(())
}

fn common_loop(session: &mut Session, set: &str) -> Result<()> {
    let ids = format!("SELECT id FROM {TABLE} WHERE label IS NULL ORDER BY id LIMIT {BATCH}");
    let fill = session.prepare(&format!("{set} WHERE id IN ({ids})"))?;
    while session.execute(&fill, &[])? > 0 {}
    Ok(())
}
