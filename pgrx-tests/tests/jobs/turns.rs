//! Jobs that change indexes of one table take turns: two at once would wait for each other, and leave an invalid index.

use anyhow::Result;
use upkeep_tests::jobs::{events, executors_of, run_in_background, wait, wait_for_state, wait_until_nobody_works_on};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

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
    wait_for_text(session, &look, &format!("queued: waits for its turn: another job is at work on {what}"))
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
    for command in [
        "REINDEX (CONCURRENTLY) TABLE t",
        "ANALYZE t (b)",
        "VACUUM (FULL, ANALYZE false) t",
        "CLUSTER t USING t_pkey",
        "ALTER TABLE t SET (fillfactor = 80)",
    ] {
        others.push(run_in_background(&mut session, command)?);
    }
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
    wait_until_it_waits(&mut session, &everything, "schema public")?;
    let name = session.text("SELECT current_database()")?;
    let database = run_in_background(&mut session, &format!("REINDEX DATABASE CONCURRENTLY {name}"))?;
    wait_until_it_waits(&mut session, &database, "this database")?;
    writer.run("COMMIT")?;
    for job in apart.iter().chain([&whole, &everything, &database]) {
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
    for _ in 0..2 {
        session.run(&format!("SELECT upkeep.resume('{paused}')"))?;
        wait_until_it_waits(&mut session, &paused, "public.t")?;
        session.run(&format!("SELECT upkeep.pause('{paused}')"))?;
    }
    session.run(&format!("SELECT upkeep.resume('{paused}')"))?;
    writer.run("COMMIT")?;
    wait(&mut session, &next)?;
    wait(&mut session, &paused)?;
    wait_until_nobody_works_on(&mut session, &canceled)?;
    assert_eq!(session.text(&format!("SELECT state FROM upkeep.jobs WHERE id = '{canceled}'"))?, "canceled");
    Ok(())
}

/// However many jobs on its partitions come later.
#[test]
fn who_wants_the_whole_is_not_overtaken() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (k int) PARTITION BY LIST (k); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
         CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); CREATE INDEX p_k ON p (k)",
    )?;
    let mut first = writer(&db, "p1")?;
    let part = reindex(&mut session, "p1_k_idx")?;
    is_at_work(&mut session, &part)?;
    let whole = reindex(&mut session, "p_k")?;
    wait_until_it_waits(&mut session, &whole, "public.p")?;
    let later = reindex(&mut session, "p2_k_idx")?;
    wait_until_it_waits(&mut session, &later, "public.p")?;
    let mut second = writer(&db, "p2")?;
    first.run("COMMIT")?;
    wait(&mut session, &part)?;
    is_at_work(&mut session, &whole)?;
    wait_until_it_waits(&mut session, &later, "public.p")?;
    second.run("COMMIT")?;
    wait(&mut session, &whole)?;
    wait(&mut session, &later)
}

#[test]
fn make_unique_keys_partial_takes_turns_however_often_it_begins() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, e text UNIQUE); INSERT INTO t SELECT g, g FROM generate_series(1, 1000) g;
         SELECT upkeep.enable_soft_delete('t'); CREATE INDEX t_plain ON t (e)",
    )?;
    let mut writer = writer(&db, "t")?;
    let keys = session.text("SELECT upkeep.make_unique_keys_partial('t')")?;
    let more = format!("SELECT upkeep.alter_job('{keys}', workers => 2)");
    assert_eq!(upkeep_tests::jobs::sqlstate(&mut session, &more)?, "22023", "it has one worker");
    is_at_work(&mut session, &keys)?;
    let other = reindex(&mut session, "t_plain")?;
    wait_until_it_waits(&mut session, &other, "public.t")?;
    let executors = executors_of(&mut session, &keys)?;
    session.run(&format!("SELECT pg_terminate_backend({})", executors[0]))?;
    // Whoever comes first has the turn, and never both.
    let both =
        format!("SELECT count(*) FROM upkeep.jobs WHERE id IN ('{keys}', '{other}') AND wait_reason LIKE '%its turn%'");
    wait_for_text(&mut session, &both, "1")?;
    writer.run("COMMIT")?;
    wait(&mut session, &other)?;
    wait(&mut session, &keys)?;
    assert_all_valid(&mut session)
}

#[test]
fn nobody_takes_the_turn_of_what_is_not_his() -> Result<()> {
    let db = testing::database()?;
    let (alice, mallory) = (db.role("alice")?, db.role("mallory")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {alice}, {mallory};
         CREATE SCHEMA shop AUTHORIZATION {alice}; CREATE SCHEMA mal AUTHORIZATION {mallory}; GRANT USAGE ON SCHEMA shop TO {mallory}"
    ))?;
    let mut owner = db.connect_as(&alice)?;
    owner.run("CREATE TABLE shop.orders (n int); CREATE INDEX orders_n ON shop.orders (n)")?;
    let mut mallorys = db.connect_as(&mallory)?;
    mallorys.run("CREATE TABLE mal.t (n int); CREATE INDEX t_n ON mal.t (n)")?;
    mallorys.run("BEGIN; LOCK TABLE mal.t")?;
    let mut asks = db.connect_as(&mallory)?;
    let name = admin.text("SELECT current_database()")?;
    let mut jobs = vec![run_in_background(&mut asks, "DROP INDEX mal.t_n, shop.orders_n")?];
    is_at_work(&mut admin, &jobs[0])?;
    for command in ["REINDEX SCHEMA mal", "REINDEX SCHEMA shop", &format!("REINDEX DATABASE {name}")] {
        jobs.push(run_in_background(&mut asks, command)?);
    }
    wait_until_it_waits(&mut admin, &jobs[1], "schema mal")?;
    let own = run_in_background(&mut owner, "REINDEX INDEX shop.orders_n")?;
    wait(&mut owner, &own)?;
    wait_for_state(&mut admin, &jobs[2], "failed")?;
    wait_for_state(&mut admin, &jobs[3], "failed")?;
    mallorys.run("COMMIT")?;
    wait_for_state(&mut admin, &jobs[0], "failed")?;
    wait(&mut asks, &jobs[1])
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
