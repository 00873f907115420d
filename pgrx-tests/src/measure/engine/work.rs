//! What nested and parked work costs. The steps are those of `src/outside/nested.rs`, in a release build.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Plan;
use crate::cluster::{Cluster, PATIENCE};
use crate::jobs::{run_endlessly, wait_for_state};
use crate::measure::report::Report;
use crate::measure::series::{Sample, Series, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::observe::time_on_cpu;
use crate::session::Session;
use crate::testing::{wait_for_text, workers};
use crate::wait::wait_until;

const DATABASE: &str = "engine";
const PARKED: u32 = 10_000;

/// A database in which such jobs can be asked for.
fn database(cluster: &Cluster) -> Result<Session> {
    if let Ok(session) = cluster.connect(DATABASE) {
        return Ok(session);
    }
    let mut session = cluster.with_extension(DATABASE)?;
    session.run(
        "CREATE TABLE done (what text, n bigserial, at timestamptz DEFAULT clock_timestamp());
         CREATE FUNCTION nested(oid, jsonb) RETURNS uuid LANGUAGE c STRICT AS '$libdir/pg_upkeep', 'outside_nested_wrapper';
         CREATE FUNCTION alone(oid, text, text) RETURNS uuid
             LANGUAGE c STRICT AS '$libdir/pg_upkeep', 'outside_alone_wrapper'",
    )?;
    Ok(session)
}

/// The same steps as a job, and as the only part of a sequence.
pub fn steps(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    database(cluster)?;
    let steps = plan.steps;
    let variant = |name: &str, ask: String| Variant {
        name: name.to_owned(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            let job = session.text(&ask)?;
            wait_for_state(&mut session, &job, "done")?;
            let busy: f64 = session.value(&format!("SELECT busy_time FROM upkeep._job_slot WHERE job = '{job}'"))?;
            session.run(&format!("SELECT upkeep.drop_job('{job}')"))?;
            Ok(Sample::from([("us a step", 1000.0 * busy / f64::from(steps))]))
        }),
    };
    let mut variants = [
        variant("alone", format!("SELECT alone('done'::regclass, 'count', '{steps}')")),
        variant("a sequence of one", format!("SELECT nested('done'::regclass, '[[\"count\", \"{steps}\"]]')")),
    ];
    let series = alternate(3 * plan.runs, &mut variants)?;
    let verdict =
        [Comparison::new("a sequence of one / alone: us a step", &series[1], &series[0], Measure::Ratio("us a step"))
            .must(Bound::AtMost(1.02))
            .goal(Bound::AtMost(1.0))];
    report.add(&format!("{steps} steps that do nothing else"), &series, &verdict)
}

/// From the end of a child to its parent's next step.
pub fn children(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let session = &mut database(cluster)?;
    let mut samples = Vec::new();
    for _ in 0..3 * plan.runs {
        session.run("DELETE FROM done")?;
        let job = session.text("SELECT nested('done'::regclass, '[[\"child\", \"after\"]]')")?;
        wait_for_state(session, &job, "done")?;
        let ms: f64 = session.value(&format!(
            "SELECT (1000 * extract(epoch FROM d.at - c.finished_at))::float8
             FROM upkeep.jobs c, done d WHERE c.parent = '{job}' AND d.what = 'after'"
        ))?;
        samples.push(Sample::from([("ms", ms)]));
    }
    let series = [Series { name: "child done, parent's next row written".into(), samples }];
    let verdict =
        [Comparison::new("child done to parent running again: ms", &series[0], &series[0], Measure::Median("ms"))
            .must(Bound::AtMost(1000.0))
            .goal(Bound::AtMost(200.0))];
    report.add("a parent that waits for its child (its step waits 20 ms)", &series, &verdict)
}

/// A look of a scheduler, with nobody and with many parked beside it.
pub fn looks(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let session = &mut database(cluster)?;
    let parked = session.text("SELECT nested('done'::regclass, '[[\"tell\", \"x\"]]')")?;
    wait_for_state(session, &parked, "waiting")?;
    // As long as somebody works, the scheduler stays.
    let (endless, _) = run_endlessly(session)?;
    let few = Series { name: "1 parked job".into(), samples: looked(session, plan, &parked)? };
    // Some for each thing that can be waited for.
    session.run(&format!(
        "INSERT INTO upkeep._job (id, kind, owner, owner_name, relid, target, params, session, state, reason, parked, not_before,
                                  system_identifier, database)
         SELECT gen_random_uuid(), kind, owner, owner_name, relid, target, params, session, 'queued', 'waits',
                (ARRAY['clock', 'children', 'person'])[1 + g % 3], CASE WHEN g % 3 = 0 THEN now() + g * interval '1 hour' END,
                system_identifier, database
         FROM upkeep._job, generate_series(1, {PARKED}) g WHERE id = '{parked}'"
    ))?;
    session.run("VACUUM ANALYZE upkeep._job")?;
    wait_for_text(session, "SELECT count(*) FROM upkeep._job WHERE parked IS NOT NULL", &(PARKED + 1).to_string())?;
    let many = Series { name: format!("{PARKED} parked jobs"), samples: looked(session, plan, &parked)? };
    session.run(&format!("SELECT upkeep.cancel('{endless}')"))?;
    let verdict = [Comparison::new("a look beside them: ms of processor", &many, &few, Measure::Median("ms"))
        .must(Bound::AtMost(10.0))
        .goal(Bound::AtMost(2.0))];
    report.add("a look of the scheduler", &[few, many], &verdict)
}

fn looked(session: &mut Session, plan: &Plan, parked: &str) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for _ in 0..plan.looks {
        let [scheduler] = workers(session, "scheduler")?[..] else { anyhow::bail!("one scheduler is expected") };
        settle(scheduler)?;
        let before = time_on_cpu(scheduler)?;
        // Who alters a job that lives has the scheduler look.
        session.run(&format!("SELECT upkeep.alter_job('{parked}', batch_time => '100 ms')"))?;
        wait_until("the scheduler to look", PATIENCE, || time_on_cpu(scheduler).is_ok_and(|now| now > before))?;
        settle(scheduler)?;
        let took = time_on_cpu(scheduler)?.saturating_sub(before);
        ensure!(!took.is_zero(), "it has not looked");
        samples.push(Sample::from([("ms", took.as_secs_f64() * 1000.0)]));
    }
    Ok(samples)
}

/// Waits until a process has done nothing for a moment.
fn settle(pid: i32) -> Result<()> {
    const MOMENT: Duration = Duration::from_millis(30);
    let clock = Instant::now();
    let mut last = time_on_cpu(pid)?;
    while clock.elapsed() < PATIENCE {
        thread::sleep(MOMENT);
        let now = time_on_cpu(pid)?;
        if std::mem::replace(&mut last, now) == now {
            return Ok(());
        }
    }
    anyhow::bail!("process {pid} does not come to rest")
}
