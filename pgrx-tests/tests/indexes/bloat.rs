//! `upkeep.bloated_indexes` and `upkeep.measure_index_bloat` beside other sessions: locks, drops, roles, standbys.

use anyhow::Result;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

/// A table with an index of many pages, analyzed, and the counters of its activity at their place.
fn table(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE t (id int, few int, note text) WITH (autovacuum_enabled = off);
         INSERT INTO t SELECT i, i % 5, 'note ' || i FROM generate_series(1, 20000) i;
         CREATE INDEX t_id ON t (id); CREATE INDEX t_note ON t (note)",
    )?;
    // What is reported after ANALYZE is counted as written after it.
    session.run("SELECT pg_stat_force_next_flush()")?;
    session.run("ANALYZE t")
}

/// A role that may connect and see nothing.
fn stranger(db: &Database) -> Result<Session> {
    db.connect_as(&db.role("stranger")?)
}

/// VACUUM passes over a page that somebody else has pinned, as a checkpoint does while it writes it, and leaves its dead
/// rows in the indexes. With FREEZE it waits for the page.
fn vacuum(session: &mut Session) -> Result<()> {
    session.run("VACUUM (FREEZE) t")
}

fn verdict(session: &mut Session, index: &str) -> Result<String> {
    session.text(&format!("SELECT verdict FROM upkeep.bloated_indexes WHERE indexrelname = '{index}'"))
}

#[test]
fn it_works_without_preload() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    assert_eq!(verdict(&mut session, "t_id")?, "fine");
    let measured = "SELECT index_rows FROM upkeep.measure_index_bloat('t_id')";
    assert_eq!(session.text(measured)?, "20000");
    // Looking takes no transaction id.
    session.run("BEGIN")?;
    session.rows("SELECT * FROM upkeep.bloated_indexes")?;
    session.rows(measured)?;
    assert_eq!(session.text("SELECT pg_current_xact_id_if_assigned()")?, "");
    session.run("COMMIT")
}

#[test]
fn deleted_and_vacuumed_rows_are_bloat() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    session.run("DELETE FROM t WHERE id % 10 > 0")?;
    vacuum(&mut session)?;
    assert_eq!(verdict(&mut session, "t_id")?, "bloated");
    let measured = "SELECT bloat_ratio > 0.8, index_rows, leaf_density < 0.2
                      FROM upkeep.measure_index_bloat('t_id', 1000000)";
    assert_eq!(session.rows(measured)?, ["t|2000|t"]);
    let bounds = "SELECT lower_bound || ' ' || upper_bound FROM upkeep.bloated_indexes WHERE indexrelname = 't_id'";
    let bounds: Vec<i64> = session.text(bounds)?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let command = "SELECT reindex_command FROM upkeep.bloated_indexes WHERE indexrelname = 't_id'";
    let command = session.text(command)?;
    session.run(&command)?;
    let rebuilt: i64 = session.value("SELECT pg_relation_size('t_id')")?;
    assert!((bounds[0]..=bounds[1]).contains(&rebuilt), "{rebuilt} is not in {bounds:?}");
    assert_eq!(verdict(&mut session, "t_id")?, "fine");
    // All rows of many pages gone: those pages are gone too, and wait to be used again.
    session.run("DELETE FROM t")?;
    vacuum(&mut session)?;
    let measured = "SELECT deleted_pages > 0, index_rows, estimated_size
                      FROM upkeep.measure_index_bloat('t_note', 1000000)";
    assert_eq!(session.rows(measured)?, ["t|0|8192"]);
    Ok(())
}

/// Rows written since the statistics were gathered count.
#[test]
fn rows_are_counted_as_they_are_now() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    table(&mut session)?;
    let estimate = "SELECT estimated_size FROM upkeep.bloated_indexes WHERE indexrelname = 't_id'";
    let before: i64 = session.value(estimate)?;
    session.run("INSERT INTO t SELECT i, i % 5, 'note ' || i FROM generate_series(20001, 60000) i")?;
    session.run("SELECT pg_stat_force_next_flush()")?;
    let after: i64 = session.value(estimate)?;
    assert!((2.8..3.2).contains(&(after as f64 / before as f64)), "{before} {after}");
    let basis = "SELECT basis ~ 'written since ANALYZE: 67%', n_mod_since_analyze, last_analyze IS NOT NULL
                   FROM upkeep.bloated_indexes WHERE indexrelname = 't_id'";
    assert_eq!(session.rows(basis)?, ["t|40000|t"]);
    // With the counters gone, there are the catalogs' count and the table's growth since.
    session.run("SELECT pg_stat_reset()")?;
    let reset = "SELECT basis ~ 'counters were reset' FROM upkeep.bloated_indexes WHERE indexrelname = 't_id'";
    wait_for_text(&mut session, reset, "t")?;
    let after: i64 = session.value(estimate)?;
    assert!((2.8..3.2).contains(&(after as f64 / before as f64)), "{before} {after}");
    Ok(())
}

#[test]
fn the_view_waits_for_nobody() -> Result<()> {
    let db = testing::database_without_preload()?;
    let (mut session, mut migration) = (db.connect()?, db.connect()?);
    table(&mut session)?;
    migration.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; REINDEX INDEX t_id")?;
    session.run("SET lock_timeout = '1s'")?;
    assert_eq!(verdict(&mut session, "t_id")?, "fine");
    // To measure is to read the index: that waits as a query does, and no longer than the caller wants.
    assert_eq!(session.error("SELECT upkeep.measure_index_bloat('t_id')")?.code().code(), "55P03");
    migration.run("ROLLBACK")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.measure_index_bloat('t_id')")?, "1");
    // And leaves no lock behind.
    session.run("BEGIN")?;
    session.rows("SELECT * FROM upkeep.measure_index_bloat('t_id')")?;
    let held = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 't_id'::regclass";
    assert_eq!(session.text(held)?, "0");
    session.run("COMMIT")
}

/// A snapshot older than the drop still has the index in its catalogs.
#[test]
fn a_dropped_index_is_no_error() -> Result<()> {
    let db = testing::database_without_preload()?;
    let (mut reader, mut dropper) = (db.connect()?, db.connect()?);
    table(&mut dropper)?;
    dropper.run("CREATE TABLE other (id int PRIMARY KEY); ANALYZE other")?;
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    let listed = "SELECT string_agg(indexrelname, ',' ORDER BY indexrelname) FROM upkeep.bloated_indexes
                  WHERE schemaname = 'public'";
    assert_eq!(reader.text(listed)?, "other_pkey,t_id,t_note");
    let oid: u32 = reader.value("SELECT 't_id'::regclass::oid")?;
    dropper.run("DROP INDEX t_id")?;
    assert_eq!(reader.text(listed)?, "other_pkey,t_note");
    dropper.run("DROP TABLE t")?;
    assert_eq!(reader.text(listed)?, "other_pkey");
    let error = reader.error(&format!("SELECT upkeep.measure_index_bloat({oid})"))?;
    assert_eq!((error.code().code(), error.message().contains("just been dropped")), ("42P01", true));
    reader.run("ROLLBACK")
}

/// Tables come and go while the view is read again and again.
#[test]
fn concurrent_ddl_is_no_error() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut reader = db.connect()?;
    let mut busy = db.connect()?;
    let churn = std::thread::spawn(move || -> Result<()> {
        for round in 0..60 {
            busy.run(
                "CREATE TABLE churn (id int PRIMARY KEY, n int, e text);
                 CREATE INDEX churn_n ON churn (n); CREATE INDEX churn_e ON churn (lower(e));
                 INSERT INTO churn SELECT i, i % 3, i FROM generate_series(1, 500) i",
            )?;
            busy.run(if round % 2 == 0 { "ANALYZE churn" } else { "REINDEX TABLE churn" })?;
            busy.run("DROP TABLE churn")?;
        }
        Ok(())
    });
    let mut looks = 0;
    while !churn.is_finished() {
        reader.rows("SELECT * FROM upkeep.bloated_indexes")?;
        looks += 1;
    }
    churn.join().expect("no panic")?;
    assert!(looks > 0);
    Ok(())
}

#[test]
fn statistics_stay_hidden_and_sizes_do_not() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut owner = db.connect()?;
    table(&mut owner)?;
    owner.run("CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k SELECT generate_series(1, 1000)")?;
    owner.run("CREATE INDEX t_lower ON t (lower(note))")?;
    owner.run("ANALYZE t, k")?;
    let mut session = stranger(&db)?;
    let row = "SELECT index_size > 0, estimated_size, basis FROM upkeep.bloated_indexes WHERE indexrelname = 't_note'";
    let hidden = "t||not estimated: no statistics of column note: not analyzed, or not yours to see";
    assert_eq!(session.rows(row)?, [hidden]);
    // What the catalogs show to everyone is enough for a primary key.
    assert_eq!(verdict(&mut session, "k_pkey")?, "fine");
    let role = session.text("SELECT current_user")?;
    owner.run(&format!("GRANT SELECT (note) ON t TO {role}"))?;
    assert_eq!(verdict(&mut session, "t_note")?, "fine");
    assert_eq!(verdict(&mut session, "t_id")?, "unknown");
    // Statistics of an expression belong to the index's owner.
    assert_eq!(verdict(&mut session, "t_lower")?, "unknown");
    // Row security hides statistics in pg_stats, and so here.
    owner.run("ALTER TABLE t ENABLE ROW LEVEL SECURITY")?;
    assert_eq!(session.rows(row)?, [hidden]);
    Ok(())
}

#[test]
fn measuring_takes_a_right() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut owner = db.connect()?;
    table(&mut owner)?;
    let mut session = stranger(&db)?;
    let role = session.text("SELECT current_user")?;
    let measure = "SELECT count(*) FROM upkeep.measure_index_bloat('t_id')";
    for (right, may) in [
        (String::new(), false),
        (format!("GRANT SELECT (id) ON t TO {role}"), false),
        (format!("GRANT SELECT ON t TO {role}"), true),
        (format!("REVOKE SELECT ON t FROM {role}"), false),
        (format!("GRANT pg_stat_scan_tables TO {role}"), true),
        (format!("REVOKE pg_stat_scan_tables FROM {role}"), false),
        (format!("ALTER TABLE t OWNER TO {role}; REVOKE ALL ON t FROM {role}"), true),
    ] {
        owner.run(&right)?;
        if may {
            assert_eq!(session.text(measure)?, "1", "{right}");
        } else {
            let error = session.error(measure)?;
            assert_eq!(error.code().code(), "42501", "{right}");
            assert!(error.hint().is_some_and(|hint| hint.contains(&role)), "{error:?}");
        }
    }
    Ok(())
}

#[test]
fn temporary_tables_of_others_are_left_alone() -> Result<()> {
    let db = testing::database_without_preload()?;
    let (mut session, mut other) = (db.connect()?, db.connect()?);
    other.run("CREATE TEMP TABLE mine (id int PRIMARY KEY); INSERT INTO mine SELECT generate_series(1, 5000)")?;
    other.run("ANALYZE mine")?;
    let listed = "SELECT count(*) FROM upkeep.bloated_indexes WHERE indexrelname = 'mine_pkey'";
    assert_eq!(other.text(listed)?, "1");
    assert_eq!(other.text("SELECT index_rows FROM upkeep.measure_index_bloat('mine_pkey')")?, "5000");
    assert_eq!(session.text(listed)?, "0");
    let oid: u32 = other.value("SELECT 'mine_pkey'::regclass::oid")?;
    let error = session.error(&format!("SELECT upkeep.measure_index_bloat({oid})"))?;
    assert_eq!(error.code().code(), "0A000");
    Ok(())
}

#[test]
fn a_sample_is_bounded_and_can_be_canceled() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE big (id int) WITH (autovacuum_enabled = off);
         INSERT INTO big SELECT generate_series(1, 600000); CREATE INDEX big_id ON big (id)",
    )?;
    let pages: i64 = session.value("SELECT pg_relation_size('big_id') / 8192")?;
    assert!(pages > 1600, "{pages}");
    let measured = |pages: i32| {
        format!(
            "SELECT pages_read, round(index_rows / 6000.0), round(100.0 * estimated_size / index_size)
               FROM upkeep.measure_index_bloat('big_id', {pages})"
        )
    };
    let all = session.rows(&measured(1_000_000))?;
    assert_eq!(all, [format!("{pages}|100|100")]);
    let sample = session.rows(&measured(100))?.remove(0);
    let sample: Vec<f64> = sample.split('|').map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(sample[0], 100.0);
    // Pages of one kind: whatever is chosen says the same, but for an inner page among them.
    assert!((90.0..=110.0).contains(&sample[1]) && (90.0..=110.0).contains(&sample[2]), "{sample:?}");
    session.run("SET statement_timeout = '20ms'")?;
    let endless =
        "SELECT count(*) FROM generate_series(1, 100000), LATERAL upkeep.measure_index_bloat('big_id', 1000000)";
    assert_eq!(session.error(endless)?.code().code(), "57014");
    session.run("RESET statement_timeout")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.measure_index_bloat('big_id', 10)")?, "1");
    Ok(())
}

/// Rows come, go and split pages while the index is measured.
#[test]
fn writers_go_on_meanwhile() -> Result<()> {
    let db = testing::database_without_preload()?;
    let (mut reader, mut writer) = (db.connect()?, db.connect()?);
    table(&mut reader)?;
    let churn = std::thread::spawn(move || -> Result<()> {
        for _ in 0..15 {
            writer.run("INSERT INTO t SELECT random() * 20000, 1, md5(i::text) FROM generate_series(1, 3000) i")?;
            writer.run("DELETE FROM t WHERE random() < 0.15")?;
            writer.run("VACUUM t")?;
        }
        Ok(())
    });
    let mut looks = 0;
    while !churn.is_finished() {
        for index in ["t_id", "t_note"] {
            let sound = format!(
                "SELECT lower_bound <= estimated_size AND estimated_size <= upper_bound AND leaf_density BETWEEN 0 AND 1
                   FROM upkeep.measure_index_bloat('{index}', 200)"
            );
            assert_eq!(reader.text(&sound)?, "t");
            looks += 1;
        }
    }
    churn.join().expect("no panic")?;
    assert!(looks > 0);
    Ok(())
}

#[test]
fn a_standby_answers_too() -> Result<()> {
    let server = testing::server("bloat").start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    table(&mut session)?;
    session.run("CREATE UNLOGGED TABLE u (id int PRIMARY KEY)")?;
    session.run("ANALYZE u")?;
    let standby = server.standby("bloat_standby")?;
    let mut session = standby.connect("postgres")?;
    wait_for_text(&mut session, "SELECT count(*) FROM pg_class WHERE relname = 'u_pkey'", "1")?;
    assert_eq!(verdict(&mut session, "t_id")?, "fine");
    assert_eq!(session.text("SELECT index_rows FROM upkeep.measure_index_bloat('t_id')")?, "20000");
    let listed = "SELECT count(*) FROM upkeep.bloated_indexes WHERE indexrelname = 'u_pkey'";
    assert_eq!(session.text(listed)?, "0");
    assert_eq!(session.error("SELECT upkeep.measure_index_bloat('u_pkey')")?.code().code(), "0A000");
    Ok(())
}
