//! What a table and its indexes have become when a job has gone slowly: strides come back to a page much later then.

use anyhow::Result;

use super::{DATABASE, Plan, run_job};
use crate::cluster::Cluster;
use crate::measure::backfill::table::{Shape, TABLE};
use crate::measure::report::Report;
use crate::measure::series::{Sample, Variant, alternate};
use crate::measure::verdict::{Bound, Comparison, Measure};
use crate::observe::Sizes;

/// A tenth of the pace takes ten times as long: of fewer rows.
const FEWER: u64 = 8;

pub fn measure(cluster: &Cluster, plan: &Plan, report: &mut Report) -> Result<()> {
    let shape = Shape { rows: plan.rows / FEWER, ..plan.shape() };
    let mut session = cluster.connect(DATABASE)?;
    shape.make_base(&mut session)?;
    let compact = shape.compact_sizes(&mut session)?;
    let shape = &shape;
    let variant = |name: &str, ratio: f64| Variant {
        name: name.into(),
        run: Box::new(move || {
            let mut session = cluster.connect(DATABASE)?;
            shape.make_table(&mut session)?;
            let rows_per_s = run_job(&mut session, shape, &format!("throttle_work_ratio => {ratio}"))?;
            let sizes = Sizes::of(&mut session, TABLE)?;
            Ok(Sample::from([
                ("rows_per_s", rows_per_s),
                ("table_x", sizes.table / compact.table),
                ("indexes_x", sizes.indexes / compact.indexes),
            ]))
        }),
    };
    let series = alternate(plan.runs, &mut [variant("at full pace", 1.0), variant("at a tenth of it", 0.1)])?;
    let lines: Vec<_> = series
        .iter()
        .flat_map(|series| {
            let line = |what: &str, figure| {
                Comparison::new(format!("{}: {what}, x compact", series.name), series, series, Measure::Median(figure))
            };
            [line("table", "table_x").must(Bound::AtMost(1.15)), line("indexes", "indexes_x").must(Bound::AtMost(1.05))]
        })
        .collect();
    // The others start from all rows.
    plan.shape().make_base(&mut session)?;
    report.add("Sizes by pace", &series, &lines)
}
