//! `cargo measure backfill`: a job of pg_upkeep against one UPDATE and against the loops people write.

mod contestants;
mod neighbours;
pub(super) mod table;
mod watch;

use anyhow::Result;

use self::contestants::{Arena, Contestant};
use self::neighbours::{BusySessions, hold_snapshot};
use self::table::{INDEX_ON_FILLED, SCATTERED_INDEX, SIX_INDEXES, Shape};
use super::groups::{Group, chosen, measure_each};
use super::report::Report;
use super::series::{Series, Variant, alternate};
use super::verdict::{Bound, Comparison, Measure};
use crate::args::Args;
use crate::cluster::Cluster;
use crate::observe::Sizes;

const DATABASE: &str = "measure";
const UPDATE: Contestant = Contestant::OneUpdate;
const ONE: Contestant = Contestant::Job { workers: 1 };
const TWO: Contestant = Contestant::Job { workers: 2 };
/// Twice the default of `upkeep.batch_time`.
const LONGEST_STEP_MS: f64 = 400.0;

pub struct Plan {
    rows: u64,
    runs: usize,
    groups: Vec<&'static Group<Plan>>,
}

const GROUPS: &[Group<Plan>] = &[
    Group { name: "plain", measure: plain },
    Group { name: "steps", measure: steps },
    Group { name: "indexes", measure: indexes },
    Group { name: "busy", measure: busy },
    Group { name: "loop", measure: common_loop },
    Group { name: "size", measure: size },
    Group { name: "growth", measure: growth },
    Group { name: "uuid", measure: uuid },
    Group { name: "wide", measure: wide },
    Group { name: "snapshot", measure: snapshot },
    Group { name: "filled-index", measure: filled_index },
    Group { name: "scattered-index", measure: scattered_index },
];

impl Plan {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        Ok(Self {
            rows: args.parsed("--rows")?.unwrap_or(2_000_000),
            runs: args.parsed("--runs")?.unwrap_or(5),
            groups: chosen(GROUPS, args)?,
        })
    }
}

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    cluster.create_database(DATABASE)?;
    cluster.connect(DATABASE)?.run("CREATE EXTENSION pg_upkeep")?;
    println!(
        "{} rows, {} runs in turns, a checkpoint before each, autovacuum off on the table; a job's time is the server's\n\
         from the request to its end; table and indexes are multiples of their size after VACUUM FULL of the filled table",
        plan.rows, plan.runs
    );
    measure_each(&plan.groups, cluster, plan, report)
}

fn plain(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let arena = arena(cluster, Shape::usual(plan.rows))?;
    let series = in_turns(plan, &arena, &[UPDATE, ONE, TWO, Contestant::Keyset])?;
    let [update, one, two, keyset] = &series[..] else { unreachable!() };
    let mut lines = against_update(update, one, (1.4, 2.0));
    lines.extend(against_update(update, two, (1.8, 2.4)));
    lines.push(
        speed("keyset batches, one worker: rows/s", one, keyset).must(Bound::AtLeast(1.4)).goal(Bound::AtLeast(2.0)),
    );
    for job in [one, two] {
        for (what, figure) in [("longest transaction, ms", "longest_tx_ms"), ("oldest xmin, ms", "oldest_xmin_ms")] {
            // The worst of all runs: a median would hide the one that hurt.
            let mut worst = Comparison::new(format!("{}: {what}", job.name), job, job, Measure::Median(figure));
            worst.value = job.range(figure).1;
            lines.push(worst.must(Bound::AtMost(LONGEST_STEP_MS)));
        }
    }
    report.add("The usual table", &series, &lines)
}

/// What a step costs beside its rows, as far as the shortest that can be asked for show it.
fn steps(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let arena = arena(cluster, Shape::usual(plan.rows))?;
    let series = in_turns(plan, &arena, &[ONE, Contestant::ShortSteps])?;
    let lines = [speed("batch_time of 10 ms: rows/s of 200 ms", &series[1], &series[0])];
    report.add("Short steps", &series, &lines)
}

fn indexes(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let arena = arena(cluster, Shape { indexed: SIX_INDEXES, ..Shape::usual(plan.rows) })?;
    let series = in_turns(plan, &arena, &[UPDATE, ONE, TWO])?;
    let [update, one, two] = &series[..] else { unreachable!() };
    let faster = |job: &Series, must, goal| {
        speed(format!("{}: rows/s", job.name), job, update).must(Bound::AtLeast(must)).goal(Bound::AtLeast(goal))
    };
    report.add("Five more indexes, three of them scattered", &series, &[faster(one, 1.6, 2.5), faster(two, 2.2, 3.5)])
}

fn busy(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let arena = &arena(cluster, Shape::usual(plan.rows))?;
    let disturbed = |contestant: Contestant| Variant {
        name: format!("{}, two busy sessions", contestant.name()),
        run: Box::new(move || contestant.fill_beside(arena, || BusySessions::start(cluster, DATABASE, 2))),
    };
    let mut variants = [variant(arena, ONE), disturbed(ONE), variant(arena, TWO), disturbed(TWO)];
    let series = alternate(plan.runs, &mut variants)?;
    let mut lines = Vec::new();
    for pair in series.chunks(2) {
        let [quiet, busy] = pair else { unreachable!() };
        let gap = Comparison::new(format!("{}: HOT, points", busy.name), busy, quiet, Measure::Gap("hot_percent"));
        lines.push(gap.must(Bound::AtMost(5.0)));
        lines.extend(sizes_as_promised(busy));
        lines.push(speed(format!("{}: rows/s of the quiet run", busy.name), busy, quiet));
    }
    report.add("Beside two sessions of 20 ms statements", &series, &lines)
}

fn common_loop(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    for quarters in [1, 2, 4] {
        let rows = plan.rows * quarters / 4;
        let arena = arena(cluster, Shape::usual(rows))?;
        let series = in_turns(plan, &arena, &[Contestant::CommonLoop, ONE])?;
        let lines = [speed("one worker: rows/s of the loop", &series[1], &series[0])];
        report.add(&format!("The common loop, {rows} rows"), &series, &lines)?;
    }
    Ok(())
}

fn size(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut series: Vec<Series> = Vec::new();
    for _ in 0..plan.runs {
        // Two tables in turns: each needs its own base, so a turn is a group of one run.
        for (i, rows) in [plan.rows / 2, plan.rows * 5].into_iter().enumerate() {
            let arena = arena(cluster, Shape::usual(rows))?;
            let mut variant = variant(&arena, ONE);
            variant.name = format!("{}, {rows} rows", variant.name);
            let turn = alternate(1, &mut [variant])?.remove(0);
            match series.get_mut(i) {
                Some(known) => known.samples.extend(turn.samples),
                None => series.push(turn),
            }
        }
    }
    let line = speed("ten times the rows: rows/s", &series[1], &series[0]).must(Bound::AtLeast(0.9));
    report.add("Itself at ten times the size", &series, &[line])
}

fn growth(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    honest("Rows that grow by 25 %", cluster, plan, report, Shape { added_bytes: 37, ..Shape::usual(plan.rows) })
}

fn uuid(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    honest("A uuid key", cluster, plan, report, Shape { uuid_key: true, ..Shape::usual(plan.rows) })
}

fn wide(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let shape = Shape { row_bytes: 700, added_bytes: 70, ..Shape::usual(plan.rows) };
    honest("Rows of 700 bytes", cluster, plan, report, shape)
}

fn filled_index(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let shape = Shape { indexed: INDEX_ON_FILLED, ..Shape::usual(plan.rows) };
    honest("The filled column is indexed", cluster, plan, report, shape)
}

fn scattered_index(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let shape = Shape { indexed: SCATTERED_INDEX, ..Shape::usual(plan.rows) };
    honest("The other index is in no order", cluster, plan, report, shape)
}

fn snapshot(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let arena = &arena(cluster, Shape::usual(plan.rows))?;
    let held = |contestant: Contestant| Variant {
        name: contestant.name(),
        run: Box::new(move || contestant.fill_beside(arena, || hold_snapshot(cluster, DATABASE))),
    };
    let series = alternate(plan.runs, &mut [held(UPDATE), held(ONE), held(TWO)])?;
    report.add("While a session holds an old snapshot", &series, &ratios(&series))
}

/// A case with nothing promised: what comes out is what there is to say.
fn honest(title: &str, cluster: &Cluster, plan: &Plan, report: &mut Report, shape: Shape) -> Result<()> {
    let arena = arena(cluster, shape)?;
    let series = in_turns(plan, &arena, &[UPDATE, ONE, TWO])?;
    report.add(title, &series, &ratios(&series))
}

fn arena(cluster: &Cluster, shape: Shape) -> Result<Arena<'_>> {
    println!("  preparing {} rows", shape.rows);
    let mut session = cluster.connect(DATABASE)?;
    shape.make_base(&mut session)?;
    let compact: Sizes = shape.compact_sizes(&mut session)?;
    Ok(Arena { cluster, database: DATABASE, shape, compact })
}

fn variant<'a>(arena: &'a Arena, contestant: Contestant) -> Variant<'a> {
    Variant { name: contestant.name(), run: Box::new(move || contestant.fill(arena)) }
}

fn in_turns(plan: &Plan, arena: &Arena, contestants: &[Contestant]) -> Result<Vec<Series>> {
    let mut variants: Vec<_> = contestants.iter().map(|&c| variant(arena, c)).collect();
    alternate(plan.runs, &mut variants)
}

fn speed(what: impl Into<String>, series: &Series, other: &Series) -> Comparison {
    Comparison::new(what, series, other, Measure::Ratio("rows_per_s"))
}

fn ratios(series: &[Series]) -> Vec<Comparison> {
    let [update, jobs @ ..] = series else { return Vec::new() };
    jobs.iter().map(|job| speed(format!("{}: rows/s", job.name), job, update)).collect()
}

fn against_update(update: &Series, job: &Series, (must, goal): (f64, f64)) -> Vec<Comparison> {
    let rate = speed(format!("{}: rows/s", job.name), job, update);
    let wal = Comparison::new(format!("{}: WAL", job.name), job, update, Measure::Ratio("wal_mb"));
    let mut lines = vec![rate.must(Bound::AtLeast(must)).goal(Bound::AtLeast(goal)), wal.must(Bound::AtMost(0.6))];
    lines.extend(sizes_as_promised(job));
    lines
}

fn sizes_as_promised(job: &Series) -> [Comparison; 2] {
    [("table", "table_x", 1.15), ("indexes", "indexes_x", 1.05)].map(|(what, figure, bound)| {
        Comparison::new(format!("{}: {what}, x compact", job.name), job, job, Measure::Median(figure))
            .must(Bound::AtMost(bound))
    })
}
