//! A catalogue of small cases, each with the right verdict. Every case also says: what the views propose may all be done at once without
//! leaving a foreign key unserved, and create_command makes again exactly what drop_command took away.

mod broken;
mod keys;
mod superfluous;
mod verdicts;

use anyhow::{Context, Result, bail, ensure};
use upkeep_tests::cluster::Cluster;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

/// A case: what it shows, what is there (in schema `c`, which is in search_path), what is asked, what comes back.
pub type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

pub const VERDICT: &str = "SELECT indexrelname, verdict FROM upkeep.index_usage WHERE schemaname = 'c' ORDER BY 1";
pub const REASON: &str =
    "SELECT indexrelname, verdict, reason FROM upkeep.index_usage WHERE schemaname = 'c' ORDER BY 1";
pub const UNUSED: &str = "SELECT indexrelname FROM upkeep.unused_indexes WHERE schemaname = 'c'";
pub const DUPLICATE: &str =
    "SELECT indexrelname, duplicate_of FROM upkeep.duplicate_indexes WHERE schemaname = 'c' ORDER BY 1";
pub const REDUNDANT: &str = "SELECT indexrelname, covered_by, what_would_be_lost FROM upkeep.redundant_indexes
                             WHERE schemaname = 'c' ORDER BY 1";
pub const INVALID: &str = "SELECT indexrelname, missing_partitions, repair_command FROM upkeep.invalid_indexes
                           WHERE schemaname = 'c' ORDER BY 1";
pub const FOREIGN_KEY: &str =
    "SELECT relname, columns, severity FROM upkeep.unindexed_foreign_keys WHERE schemaname = 'c' ORDER BY conname";
pub const MISSING: &str = "SELECT relname, attname FROM upkeep.missing_indexes WHERE schemaname = 'c' ORDER BY 1, 2";

fn server() -> Result<Cluster> {
    testing::server("cases").set("upkeep.index_min_age", 0).set("autovacuum", "off").start()
}

fn session(server: &Cluster) -> Result<Session> {
    server.create_database("cases")?;
    let mut session = server.connect("cases")?;
    session.run("CREATE EXTENSION pg_upkeep; CREATE EXTENSION btree_gist; CREATE EXTENSION pg_trgm")?;
    session.run("SET search_path = c, public; SET client_min_messages = error; SET enable_seqscan = off; SET enable_bitmapscan = off")?;
    Ok(session)
}

fn run(cases: &[Case]) -> Result<()> {
    let server = server()?;
    let mut session = session(&server)?;
    let mut failures = Vec::new();
    for case in cases {
        if let Err(error) = check(&mut session, case).with_context(|| case.0) {
            failures.push(format!("{error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{} of {} cases:\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
    Ok(())
}

fn check(session: &mut Session, (_, ddl, ask, wanted): &Case) -> Result<()> {
    session.run("DROP SCHEMA IF EXISTS c CASCADE; CREATE SCHEMA c")?;
    for statement in ddl.split(";;") {
        match statement.trim().strip_prefix("FAILS ") {
            Some(statement) => drop(session.error(statement)?),
            None => session.run(statement)?,
        }
    }
    // What this session has counted is for everyone to see from the next statement on.
    session.run("SELECT pg_stat_force_next_flush()")?;
    let rows = session.rows(ask)?;
    ensure!(rows == *wanted, "wanted {wanted:#?}\nis {rows:#?}");
    what_is_proposed_can_be_done(session)
}

fn what_is_proposed_can_be_done(session: &mut Session) -> Result<()> {
    let served =
        "SELECT DISTINCT f.conname FROM upkeep._foreign_key_support() s JOIN pg_constraint f ON f.oid = s.conoid
                  JOIN pg_namespace n ON n.oid = f.connamespace AND n.nspname = 'c' ORDER BY 1";
    let constraints = "SELECT conname FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace \
                       AND nspname = 'c' AND contype IN ('p', 'f', 'x') ORDER BY 1";
    let before = (session.rows(served)?, session.rows(constraints)?);
    let proposed = "SELECT format('%s|%s|%s', indexrelname, drop_command, create_command) FROM (
                        SELECT indexrelname, drop_command, create_command FROM upkeep.unused_indexes WHERE schemaname = 'c'
                        UNION SELECT indexrelname, drop_command, create_command FROM upkeep.duplicate_indexes WHERE schemaname = 'c'
                        UNION SELECT indexrelname, drop_command, create_command FROM upkeep.redundant_indexes WHERE schemaname = 'c') p";
    let proposals: Vec<String> = session.values(proposed)?;
    let mut dropped = Vec::new();
    for proposal in &proposals {
        let [index, drop, create] = proposal.splitn(3, '|').collect::<Vec<_>>()[..] else { bail!("{proposal}") };
        if drop.is_empty() {
            continue;
        }
        let index = index.replace('\'', "''");
        let definition = format!(
            "SELECT pg_get_indexdef(format('c.%I', '{index}')::regclass), (SELECT count(*) FROM pg_inherits \
             WHERE inhparent = format('c.%I', '{index}')::regclass)"
        );
        let was = session.rows(&definition)?;
        session.run(drop)?;
        dropped.push((definition, was, create.to_owned()));
    }
    let after = (session.rows(served)?, session.rows(constraints)?);
    ensure!(before == after, "after {proposals:#?}\n{before:?} became {after:?}");
    for (definition, was, create) in dropped {
        // A constraint comes back in two steps, of which the first must be on its own.
        match create.split_once("; ALTER TABLE ") {
            Some((index, constraint)) => {
                session.run(index)?;
                session.run(&format!("ALTER TABLE {constraint}"))?;
            }
            None => session.run(&create)?,
        }
        let is = session.rows(&definition)?;
        ensure!(was == is, "{create} makes {is:?} of {was:?}");
    }
    Ok(())
}

#[test]
fn used_kept_unused() -> Result<()> {
    run(verdicts::CASES)
}

#[test]
fn duplicate_and_redundant() -> Result<()> {
    run(superfluous::CASES)
}

#[test]
fn invalid() -> Result<()> {
    run(broken::CASES)
}

#[test]
fn foreign_keys_and_missing() -> Result<()> {
    run(keys::CASES)
}

#[test]
fn there_are_many() {
    let all = [verdicts::CASES, superfluous::CASES, broken::CASES, keys::CASES];
    assert!(all.iter().map(|cases| cases.len()).sum::<usize>() >= 80);
}
