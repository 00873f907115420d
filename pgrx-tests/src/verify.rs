//! `cargo verify`: everything that must hold, on one PostgreSQL.

mod accounts;
mod cargo_steps;
mod client;
mod client_tests;
mod examples;
mod fuzz;
mod in_server;
mod markdown;
mod nested;
mod outside;
mod pg_upgrade;
mod pg_upgrade_tables;
mod regress;
mod report;
mod scripts;
mod smoke;
mod sql_names;
mod stuck;
mod tidy;
mod upgrade;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::report::{Finished, Report};
use crate::args::Args;
use crate::extension::Flavour;
use crate::prepare::Postgres;
use crate::tree::Tree;
use crate::{overdue, schema};

/// What the steps work on.
pub struct Suite {
    postgres: Postgres,
    /// The extension as users have it.
    dev: Option<Tree>,
    /// The extension with its in-server tests.
    tests: Option<Tree>,
    /// The older versions with the extension, from the oldest on.
    older: Vec<Tree>,
    /// Whether regress and isolation write their expectations instead of comparing with them.
    accept: bool,
    /// Everything of what is otherwise a choice: the hostile suite and the fuzzer of calls.
    full: bool,
}

impl Suite {
    fn tree(&self) -> Result<&Tree> {
        self.dev.as_ref().context("this step needs a prepared tree")
    }

    fn tests_tree(&self) -> Result<&Tree> {
        self.tests.as_ref().context("this step needs the tree with the in-server tests")
    }
}

/// What a step found out, in its runner's own words; the last line is the summary.
pub struct Passed {
    output: String,
    /// What failed and passed when it ran once more, alone.
    flaky: Vec<Flaky>,
}

/// A test that failed once: a defect, of itself or of what it tests.
struct Flaky {
    test: String,
    said: String,
}

impl Passed {
    pub fn with(output: impl Into<String>) -> Self {
        Self { output: output.into(), flaky: Vec::new() }
    }
}

struct Step {
    name: &'static str,
    /// The build of the extension that must be there.
    needs: Option<Flavour>,
    run: fn(&Suite) -> Result<Passed>,
}

/// Reads sources and nothing else: it needs no PostgreSQL, and comes before there is one.
const TIDY: &str = "tidy";

/// The steps that mostly compile, in the order in which they fail soonest.
const COMPILING: &[Step] = &[
    Step { name: "format", needs: None, run: |_| cargo_steps::format() },
    Step { name: "clippy", needs: None, run: cargo_steps::clippy },
    Step { name: "unit", needs: None, run: cargo_steps::unit },
    Step { name: "loom", needs: None, run: |_| cargo_steps::loom() },
    Step { name: "schema", needs: None, run: |s| Ok(Passed::with(schema::check(&s.postgres.compiler)?)) },
];

/// The steps that mostly wait for servers: one core compiles while the other runs these.
const RUNNING: &[Step] = &[
    Step { name: "in-server", needs: Some(Flavour::Tests), run: in_server::run },
    Step { name: "sql", needs: Some(Flavour::Tests), run: sql_names::run },
    Step { name: "regress", needs: Some(Flavour::Dev), run: regress::regress },
    Step { name: "isolation", needs: Some(Flavour::Dev), run: regress::isolation },
    Step { name: "examples", needs: Some(Flavour::Dev), run: examples::run },
    Step { name: "accounts", needs: Some(Flavour::Dev), run: accounts::run },
    Step { name: "upgrade", needs: Some(Flavour::Dev), run: upgrade::run },
    Step { name: "pg_upgrade", needs: Some(Flavour::Dev), run: pg_upgrade::run },
    Step { name: "fuzz", needs: Some(Flavour::Dev), run: fuzz::run },
    Step { name: "hostile", needs: Some(Flavour::Dev), run: client::hostile },
    Step { name: "client", needs: Some(Flavour::Dev), run: client::client },
];

/// What is part of another step, and runs only if it is asked for.
const PARTS: &[Step] = &[Step { name: "smoke", needs: Some(Flavour::Dev), run: client::smoke }];

pub fn run(mut args: Args) -> Result<ExitCode> {
    let (only, skip) = (args.list("--only")?, args.list("--skip")?);
    let accept = args.flag("--accept");
    let full = args.flag("--full");
    let Chosen { tidy, lanes } = choose(&only, &skip)?;
    let mut report = Report::new();
    let clock = Instant::now();
    if tidy {
        let result = tidy::run(accept);
        report.add(Finished { name: TIDY, took: clock.elapsed(), result });
        if lanes.iter().all(Vec::is_empty) {
            let _any = (args.value("--version")?, args.value("--pg-config")?);
            args.finish()?;
            return Ok(report.close());
        }
    }
    let postgres = Postgres::from_args(&mut args)?;
    args.finish()?;
    println!("verifying on PostgreSQL {}", postgres.installation.version);

    overdue::watch();
    let clock = Instant::now();
    // All before the first step: cargo would make one of them wait for what another step compiles.
    let needs = |flavour| lanes.iter().flatten().any(|step| step.needs == Some(flavour));
    let build = |flavour| needs(flavour).then(|| postgres.tree(flavour)).transpose();
    let upgrades = lanes.iter().flatten().any(|step| step.name == "pg_upgrade");
    let older = || if upgrades { pg_upgrade::older(&postgres) } else { Ok(Vec::new()) };
    let trees = older().and_then(|older| Ok((older, build(Flavour::Dev)?, build(Flavour::Tests)?)));
    let built = match &trees {
        Ok(_) => Ok(Passed::with("")),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    report.add(Finished { name: "build", took: clock.elapsed(), result: built });
    if let Ok((older, dev, tests)) = trees {
        run_lanes(&Suite { postgres, dev, tests, older, accept, full }, lanes, &mut report);
    }
    Ok(report.close())
}

/// Each lane runs its steps one after the other, beside the other lane.
fn run_lanes(suite: &Suite, lanes: [Vec<&'static Step>; 2], report: &mut Report) {
    let (sender, finished) = mpsc::channel();
    thread::scope(|scope| {
        for lane in lanes {
            let sender = sender.clone();
            scope.spawn(move || {
                for step in lane {
                    let clock = Instant::now();
                    let result = (step.run)(suite);
                    let _ = sender.send(Finished { name: step.name, took: clock.elapsed(), result });
                }
            });
        }
        drop(sender);
        for step in finished {
            report.add(step);
        }
    });
}

/// What of all there is will run.
struct Chosen {
    tidy: bool,
    lanes: [Vec<&'static Step>; 2],
}

fn choose(only: &[String], skip: &[String]) -> Result<Chosen> {
    let all = || [TIDY].into_iter().chain([COMPILING, RUNNING, PARTS].into_iter().flatten().map(|step| step.name));
    for name in only.iter().chain(skip) {
        if !all().any(|known| known == name) {
            bail!("there is no step {name}; the steps are {}", all().collect::<Vec<_>>().join(", "));
        }
    }
    let named = |names: &[String], step: &str| names.iter().any(|n| n == step);
    let wanted = |step: &str| (only.is_empty() || named(only, step)) && !named(skip, step);
    let chosen = |step: &&Step| wanted(step.name);
    let asked_for = PARTS.iter().filter(|step| named(only, step.name));
    let [compiling, running] = [COMPILING, RUNNING].map(|lane| lane.iter().filter(chosen));
    let (mut compiling, mut running): (Vec<_>, Vec<_>) = (compiling.collect(), running.chain(asked_for).collect());
    if compiling.is_empty() && running.len() > 1 {
        // The longest is the last. It waits more than it works, so the others may run beside it.
        compiling.extend(running.pop());
    }
    Ok(Chosen { tidy: wanted(TIDY), lanes: [compiling, running] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let Chosen { tidy, lanes } = choose(&owned(only), &owned(skip)).unwrap();
        tidy.then_some(TIDY).into_iter().chain(lanes.iter().flatten().map(|step| step.name)).collect()
    }

    #[test]
    fn steps_are_chosen_by_name() {
        assert_eq!(names(&[], &[]).len(), 1 + COMPILING.len() + RUNNING.len());
        assert_eq!(names(&["tidy"], &[]), ["tidy"]);
        assert!(!names(&[], &["tidy"]).contains(&"tidy"));
        assert_eq!(names(&["unit", "client"], &[]), ["unit", "client"]);
        assert_eq!(names(&["client"], &[]), ["client"]);
        assert!(!names(&[], &["schema"]).contains(&"schema"));
        assert_eq!(names(&["smoke", "regress"], &[]), ["smoke", "regress"]);
        assert!(choose(&["untested".to_owned()], &[]).is_err());
    }
}
