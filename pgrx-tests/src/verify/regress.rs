//! PostgreSQL's own runners: pg_regress compares psql's output, pg_isolation_regress that of interleaved sessions.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Passed, Suite};
use crate::cluster::Cluster;
use crate::pg::SUPERUSER;
use crate::{command, paths, tools};

pub fn regress(suite: &Suite) -> Result<Passed> {
    run(suite, "regress", &suite.tree()?.pg.regress_runner(), ("sql", "sql"))
}

pub fn isolation(suite: &Suite) -> Result<Passed> {
    run(suite, "isolation", &suite.tree()?.pg.isolation_runner(), ("specs", "spec"))
}

/// Runs every case of a suite, in the order of their names, in one database with the extension.
fn run(suite: &Suite, name: &str, runner: &Path, (folder, extension): (&str, &str)) -> Result<Passed> {
    let tree = suite.tree()?;
    tools::DIFF.require()?;
    let input = paths::harness().join(name);
    let cases = cases(&input.join(folder), extension)?;
    if cases.is_empty() {
        bail!("there is no case in {}", input.join(folder).display());
    }
    let cluster = Cluster::builder(tree, &Cluster::unique_name(name)).preloaded().start()?;
    cluster.create_database(name)?;
    cluster.connect(name)?.run("CREATE EXTENSION pg_upkeep")?;

    // Kept after the run: the diffs name files in it.
    let output = paths::target().join("verify").join(tree.pg.feature()).join(name);
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    fs::create_dir_all(&output)?;
    if suite.accept {
        for case in &cases {
            // The runners give up on a case without expectations instead of showing what it prints.
            File::options().create(true).append(true).open(input.join(format!("expected/{case}.out")))?;
        }
    }
    let mut runner = tree.runner(runner);
    // From within the input directory: version 15 looks for expected files in the input directory, 16 and later in the
    // current one.
    runner.current_dir(&input).arg("--inputdir=.").arg(format!("--outputdir={}", output.display()));
    runner.arg(format!("--bindir={}", tree.pg.bin.display())).arg(format!("--host={}", cluster.host().display()));
    runner.args(["--port=5432", &format!("--user={SUPERUSER}"), "--use-existing", &format!("--dbname={name}")]);
    let result = command::output(runner.args(&cases))?;
    let said = command::said(&result);
    if suite.accept {
        for case in &cases {
            let file = format!("{case}.out");
            fs::copy(output.join("results").join(&file), input.join("expected").join(&file))?;
        }
        return Ok(Passed::with(format!("{} results accepted as expected; read the diff", cases.len())));
    }
    if !result.status.success() {
        let diffs = fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
        bail!("{name} differs{said}\n{diffs}");
    }
    Ok(Passed::with(said.trim_start_matches('\n').replace("\n    ", "\n")))
}

fn cases(dir: &Path, extension: &str) -> Result<Vec<String>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            cases.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    cases.sort();
    Ok(cases)
}
