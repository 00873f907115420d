//! Jobs that change indexes of one table take turns: two at once would wait for each other, and leave an invalid index.

use anyhow::Result;
use upkeep_tests::jobs::{events, executors_of, run_in_background, wait, wait_until_nobody_works_on};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_state, wait_for_text};

const TABLE: &str = "CREATE TABLE t (a int PRIMARY KEY, b int, c int, d int);
                     INSERT INTO t SELECT g, g, g, g FROM generate_series(1, 1000) g;
                     CREATE INDEX t_b ON t (b); CREATE INDEX t_c ON t (c); CREATE INDEX t_d ON t (d)";

/// A session that writes to a table keeps every concurrent build on it waiting until its commit.
fn writer(db: &Database, table: &str) -> Result<Session> {
    let mut session = db.connect()?;
    session.run(&format!("BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))?;
    Ok(session)
}

fn reindex(session: &mut Session, index: &str) -> Result<String> {
    run_in_background(session, &format!("REINDEX INDEX CONCURRENTLY {index}"))
}

fn wait_until_it_waits(session: &mut Session, job: &str, what: &str) -> Result<()> {
    let look = format!("SELECT state || ': ' || wait_reason FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(session, &look, &format!("queued: waits for its turn: another job changes indexes of {what}"))
}

fn is_at_work(session: &mut Session, job: &str) -> Result<()> {
    let look = "SELECT count(*) FROM pg_stat_activity a JOIN upkeep.jobs j ON a.query LIKE '%' || j.id || '%'
                WHERE a.backend_type = 'pg_upkeep executor' AND a.wait_event_type = 'Lock' AND j.state = 'running'";
    wait_for_text(session, &format!("{look} AND j.id = '{job}'"), "1")
}

fn assert_all_valid(session: &mut Session) -> Result<()> {
    let left = session.text(
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                             WHERE NOT i.indisvalid OR c.relname LIKE '%\\_cc%'",
    )?;
    assert_eq!(left, "0", "indexes that a build has left");
    Ok(())
}

#[test]
fn all_indexes_of_a_table_are_rebuilt_one_after_another() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLE)?;
    let mut writer = writer(&db, "t")?;
    let first = reindex(&mut session, "t_pkey")?;
    is_at_work(&mut session, &first)?;
    let mut others = vec![reindex(&mut session, "t_b")?, reindex(&mut session, "public.t_c")?];
    others.push(run_in_background(&mut session, "DROP INDEX CONCURRENTLY t_d")?);
    others.push(run_in_background(&mut session, "CREATE INDEX CONCURRENTLY t_cd ON t (c, d)")?);
    others.push(run_in_background(&mut session, "REINDEX (CONCURRENTLY) TABLE t")?);
    for job in &others {
        wait_until_it_waits(&mut session, job, "public.t")?;
        assert!(executors_of(&mut session, job)?.is_empty(), "no worker waits with it");
    }
    writer.run("COMMIT")?;
    for job in others.iter().chain([&first]) {
        wait(&mut session, job)?;
        let told = events(&mut session, job)?.iter().filter(|event| *event == "waiting").count();
        assert!(told <= 1, "it says once that it waits, but: {:?}", events(&mut session, job)?);
    }
    assert_all_valid(&mut session)?;
    let indexes = session.text(
        "SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text)
                                FROM pg_index WHERE indrelid = 't'::regclass",
    )?;
    assert_eq!(indexes, "t_b t_c t_cd t_pkey");
    Ok(())
}

/// Without anybody else's help: what REINDEX waits for are the others.
#[test]
fn jobs_for_all_bloated_indexes_may_be_asked_for_at_once() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLE)?;
    session.run(
        "SELECT upkeep.run_in_background(format('REINDEX INDEX CONCURRENTLY %s', indexrelid::regclass))
                 FROM pg_index, generate_series(1, 3) WHERE indrelid = 't'::regclass",
    )?;
    for job in session.rows("SELECT id FROM upkeep.jobs")? {
        wait(&mut session, &job)?;
    }
    assert_all_valid(&mut session)?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs WHERE state = 'done'")?, "12");
    Ok(())
}

#[test]
fn other_tables_and_partitions_have_their_own_turns() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLE)?;
    session.run(
        "CREATE TABLE p (k int) PARTITION BY LIST (k);
         CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
         CREATE INDEX p_k ON p (k)",
    )?;
    let mut writer = writer(&db, "t, p1, p2")?;
    let apart = [reindex(&mut session, "t_b")?, reindex(&mut session, "p1_k_idx")?, reindex(&mut session, "p2_k_idx")?];
    for job in &apart {
        is_at_work(&mut session, job)?;
    }
    let whole = reindex(&mut session, "p_k")?;
    wait_until_it_waits(&mut session, &whole, "public.p")?;
    let everything = run_in_background(&mut session, "REINDEX SCHEMA CONCURRENTLY public")?;
    wait_until_it_waits(&mut session, &everything, "this database")?;
    writer.run("COMMIT")?;
    for job in apart.iter().chain([&whole, &everything]) {
        wait(&mut session, job)?;
    }
    assert_all_valid(&mut session)
}

#[test]
fn a_turn_ends_with_its_worker() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLE)?;
    let mut writer = writer(&db, "t")?;
    let first = reindex(&mut session, "t_b")?;
    is_at_work(&mut session, &first)?;
    let next = reindex(&mut session, "t_c")?;
    wait_until_it_waits(&mut session, &next, "public.t")?;
    let canceled = reindex(&mut session, "t_d")?;
    wait_until_it_waits(&mut session, &canceled, "public.t")?;
    session.run(&format!("SELECT upkeep.cancel('{canceled}')"))?;
    let paused = reindex(&mut session, "t_d")?;
    session.run(&format!("SELECT upkeep.pause('{paused}')"))?;
    for executor in executors_of(&mut session, &first)? {
        session.run(&format!("SELECT pg_terminate_backend({executor})"))?;
    }
    is_at_work(&mut session, &next)?;
    wait_for_state(&mut session, &first, "failed")?;
    session.run(&format!("SELECT upkeep.resume('{paused}')"))?;
    wait_until_it_waits(&mut session, &paused, "public.t")?;
    writer.run("COMMIT")?;
    wait(&mut session, &next)?;
    wait(&mut session, &paused)?;
    wait_until_nobody_works_on(&mut session, &canceled)?;
    assert_eq!(session.text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{canceled}'"))?, "canceled");
    Ok(())
}

/// Names are the session's that asked.
#[test]
fn the_table_is_the_one_that_the_author_meant() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(TABLE)?;
    session.run("CREATE SCHEMA other; CREATE TABLE other.t (b int); CREATE INDEX t_b ON other.t (b)")?;
    let mut writer = writer(&db, "public.t, other.t")?;
    let here = reindex(&mut session, "t_b")?;
    session.run("SET search_path = other")?;
    let there = reindex(&mut session, "t_b")?;
    session.run("RESET search_path")?;
    is_at_work(&mut session, &here)?;
    is_at_work(&mut session, &there)?;
    let missing = reindex(&mut session, "no_such_index")?;
    wait_for_state(&mut session, &missing, "failed")?;
    writer.run("COMMIT")?;
    wait(&mut session, &here)?;
    wait(&mut session, &there)
}
