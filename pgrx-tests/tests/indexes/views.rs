//! Index views where other people are at work: standbys, migrations, other roles, other sessions, resets and crashes.

use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use upkeep_tests::citus;
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};
use upkeep_tests::wait::wait_until;

const VIEWS: [&str; 7] = [
    "index_usage",
    "unused_indexes",
    "duplicate_indexes",
    "redundant_indexes",
    "invalid_indexes",
    "unindexed_foreign_keys",
    "missing_indexes",
];

/// A server that calls an index unused as soon as it can, and knows nothing of us beforehand.
fn server(name: &str) -> Result<Cluster> {
    testing::server(name).set("upkeep.index_min_age", 0).start()
}

fn prepare(server: &Cluster) -> Result<Session> {
    server.create_database("app")?;
    let mut session = server.connect("app")?;
    session.run(
        "CREATE EXTENSION pg_upkeep; CREATE TABLE t (a int, b int); CREATE INDEX i ON t (a); CREATE INDEX j ON t (b);
         INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n; SET enable_seqscan = off; SET enable_bitmapscan = off",
    )?;
    Ok(session)
}

fn verdict(index: &str) -> String {
    format!("SELECT verdict FROM upkeep.index_usage WHERE indexrelname = '{index}'")
}

fn reason(index: &str) -> String {
    format!("SELECT verdict || ': ' || reason FROM upkeep.index_usage WHERE indexrelname = '{index}'")
}

/// Scans `i`, and waits until everybody can see it.
fn scan(session: &mut Session, index_column: &str) -> Result<()> {
    session.run("SET enable_seqscan = off; SET enable_bitmapscan = off")?;
    session.rows(&format!("SELECT * FROM t WHERE {index_column} = 5"))?;
    session.run("SELECT pg_stat_force_next_flush()")
}

#[test]
fn what_a_standby_uses_is_used() -> Result<()> {
    let primary = server("primary")?;
    let mut here = prepare(&primary)?;
    assert_eq!(here.text(&verdict("i"))?, "unused");
    let standby = primary.standby("reader")?;
    let name = standby.name().to_owned();
    wait_for_text(&mut here, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn IS NOT NULL", "1")?;
    assert_eq!(
        here.text(&reason("i"))?,
        format!(
            "unknown: standby {name} is connected and nothing is known of its use: \
             upkeep.import_index_usage('{name}', ..) brings its figures"
        )
    );
    assert_eq!(here.text("SELECT count(*) FROM upkeep.unused_indexes")?, "0");

    let mut there = standby.connect("app")?;
    assert_eq!(
        there.text(&reason("j"))?,
        "unknown: this is a standby: ask the primary, with this server's figures imported"
    );
    for view in VIEWS {
        there.rows(&format!("SELECT * FROM upkeep.{view}"))?;
    }
    assert!(there.text("SELECT upkeep.index_report_html()")?.contains("</html>"));
    scan(&mut there, "a")?;
    assert_eq!(there.text(&verdict("i"))?, "used");

    let figures: String = there.value("SELECT upkeep.index_usage_snapshot()::text")?;
    let quoted = figures.replace('\'', "''");
    let all = here.text("SELECT count(*) FROM upkeep.index_usage")?;
    assert_eq!(here.text(&format!("SELECT upkeep.import_index_usage('{name}', '{quoted}')"))?, all);
    assert_eq!(here.text(&reason("i"))?, format!("used: scanned 1 times on standbys ({name})"));
    ensure!(here.text(&reason("j"))?.ends_with(", nor on standbys"));
    assert_eq!(here.text("SELECT indexrelname FROM upkeep.unused_indexes")?, "j");

    // Days of imports do not pile up.
    here.run(
        "UPDATE upkeep._xid_mark SET marked_at = now() - interval '3 years';
         INSERT INTO upkeep._xid_mark (marked_at) SELECT now() - n * interval '1 day' FROM generate_series(399, 800) n",
    )?;
    here.run(&format!("SELECT upkeep.import_index_usage('{name}', '{quoted}')"))?;
    assert_eq!(
        here.rows(
            "SELECT (now() - marked_at)::text ~ '^(1095|1096|399) ' OR marked_at > now() - interval '1 hour', \
             count(*) FROM upkeep._xid_mark GROUP BY 1"
        )?,
        ["t|3"]
    );

    // What came later than the figures is not in them.
    here.run("CREATE INDEX k ON t (a, b)")?;
    assert_eq!(
        here.text(&reason("k"))?,
        "unknown: created after the figures of a standby were taken: import them again"
    );
    // Old figures are none; a node can be forgotten.
    here.run("UPDATE upkeep._index_usage_node SET taken_at = taken_at - interval '8 days'")?;
    ensure!(
        here.text(&reason("j"))?.contains("the figures of standby") && here.text(&reason("j"))?.contains("8 days old")
    );
    here.run(&format!("SELECT upkeep.import_index_usage('{name}', NULL)"))?;
    ensure!(here.text(&reason("j"))?.contains("nothing is known of its use"));
    assert_eq!(here.error(&format!("SELECT upkeep.import_index_usage('{name}', NULL)"))?.code().code(), "42704");

    // Figures say of whom they are.
    for (figures, code, message) in [
        ("'{}'", "22023", "these are no figures of index use"),
        ("'[1]'", "22023", "these are no figures of index use"),
        ("upkeep.index_usage_snapshot()", "22023", "these figures are not of a standby"),
        (
            "jsonb_set(upkeep.index_usage_snapshot(), '{database}', '1')",
            "22023",
            "these figures are of another server or database",
        ),
        (
            "jsonb_set(upkeep.index_usage_snapshot(), '{system_identifier}', '1')",
            "22023",
            "these figures are of another server or database",
        ),
        ("jsonb_set(upkeep.index_usage_snapshot(), '{format}', '2')", "22023", "figures of format 2 cannot be read"),
        (
            "upkeep.index_usage_snapshot() || '{\"in_recovery\": true, \"taken_at\": \"yesterday'' --\"}'",
            "22007",
            "invalid input syntax",
        ),
        (
            "upkeep.index_usage_snapshot() || '{\"in_recovery\": true, \"taken_at\": \"2100-01-01\"}'",
            "22023",
            "cannot be used",
        ),
        (
            "upkeep.index_usage_snapshot() || '{\"in_recovery\": true, \"indexes\": [[-1, 0, null]]}'",
            "22023",
            "these are no figures",
        ),
    ] {
        let error = here.error(&format!("SELECT upkeep.import_index_usage('x', {figures})"))?;
        assert_eq!(error.code().code(), code, "{figures}: {error:?}");
        ensure!(error.message().contains(message), "{figures}: {error:?}");
    }
    assert_eq!(here.error("SELECT upkeep.import_index_usage(NULL, '{}')")?.code().code(), "22004");
    assert_eq!(here.error("SELECT upkeep.import_index_usage('', '{}')")?.code().code(), "22023");
    Ok(())
}

#[test]
fn young_statistics_say_nothing() -> Result<()> {
    let mut server = testing::server("young").start()?;
    let mut session = prepare(&server)?;
    let why = session.text(&reason("i"))?;
    ensure!(
        why.starts_with("unknown: the statistics cover only ")
            && why.ends_with(", less than upkeep.index_min_age (30 days)"),
        "{why}"
    );
    server.set("upkeep.index_min_age", "1s")?;
    server.reload()?;
    wait_for_text(&mut session, "SHOW upkeep.index_min_age", "1s")?;
    // Old enough statistics; but was the index there all the time? Marks of transaction ids tell.
    session.run("INSERT INTO upkeep._xid_mark (marked_at) VALUES (now())")?;
    wait_for_text(&mut session, &verdict("i"), "unused")?;
    server.set("upkeep.index_min_age", "30d")?;
    server.reload()?;
    wait_for_text(&mut session, "SHOW upkeep.index_min_age", "30d")?;

    // Any reset counts, that of a single index too, and whatever a crash throws away.
    server.set("upkeep.index_min_age", "0")?;
    server.reload()?;
    wait_for_text(&mut session, "SHOW upkeep.index_min_age", "0")?;
    let since = "SELECT now() - stats_age FROM upkeep.index_usage WHERE indexrelname = 'i'";
    let first = session.text(since)?;
    session.run("SELECT pg_stat_reset_single_table_counters('j'::regclass)")?;
    let second = session.text(since)?;
    ensure!(second > first, "{second} {first}");
    session.run("SELECT pg_stat_reset()")?;
    let third = session.text(since)?;
    ensure!(third > second, "{third} {second}");
    session.run("CHECKPOINT")?;
    server.crash()?;
    server.start()?;
    let mut session = server.connect("app")?;
    let fourth = session.text(since)?;
    ensure!(fourth > third, "{fourth} {third}");
    Ok(())
}

#[test]
fn a_new_index_is_not_called_unused() -> Result<()> {
    let server = testing::server("new").start()?;
    let mut session = prepare(&server)?;
    // As if 100 days had passed: everything is older but for `late`.
    session.run(
        "UPDATE upkeep._xid_mark SET marked_at = now() - interval '100 days';
         INSERT INTO upkeep._xid_mark (marked_at) VALUES (now() - interval '20 days')",
    )?;
    session.run("CREATE INDEX late ON t (b, a)")?;
    let conditions = session.text(
        "SELECT (upkeep._index_conditions() ->> 'surely_young_xids')::bigint > (SELECT age(xmin) FROM pg_index \
         WHERE indexrelid = 'late'::regclass)
            AND (upkeep._index_conditions() ->> 'young_xids')::bigint <= (SELECT age(xmin) FROM pg_index \
            WHERE indexrelid = 'i'::regclass)",
    )?;
    assert_eq!(conditions, "t");
    Ok(())
}

/// On the coordinator nobody scans an index of a distributed table; whoever drops it drops it on all shards.
#[test]
fn indexes_of_tables_of_citus_are_not_judged() -> Result<()> {
    let server = server("citus")?;
    let mut session = prepare(&server)?;
    assert_eq!(session.text(&verdict("i"))?, "unused");
    citus::catalogs(&mut session)?;
    assert_eq!(session.text(&verdict("i"))?, "unused");
    for (kind, ..) in citus::KINDS {
        session
            .run(&format!("CREATE TABLE {kind} (id int PRIMARY KEY, n int); CREATE INDEX {kind}_n ON {kind} (n)"))?;
        citus::distribute(&mut session, kind, kind)?;
        let said = session.text(&reason(&format!("{kind}_n")))?;
        assert!(
            said.starts_with("unknown: not judged: Citus keeps rows of its table on several nodes"),
            "{kind}: {said}"
        );
        assert_eq!(session.text(&reason(&format!("{kind}_pkey")))?, "kept: primary key");
    }
    // Shards, where they are not hidden; and a table that is only called like one.
    session.run("CREATE TABLE hash_7 (n int); CREATE INDEX namesake ON hash_7 (n)")?;
    citus::shard(&mut session, "hash", 102_008)?;
    let unused = "SELECT string_agg(indexrelname, ' ' ORDER BY indexrelname) FROM upkeep.unused_indexes";
    assert_eq!(session.text(unused)?, "i j namesake");
    let proposed = "SELECT upkeep.index_report() #>> '{sections,unused,count}', upkeep.index_report() -> 'conditions' ? 'distributed'";
    assert_eq!(session.rows(proposed)?, ["3|f"]);
    // Anybody hears the same, and nothing where its catalogs are closed.
    session.run("CREATE ROLE plain; SET ROLE plain")?;
    assert_eq!(session.text(unused)?, "i j namesake");
    session.run("RESET ROLE; REVOKE ALL ON pg_dist_partition FROM PUBLIC; SET ROLE plain")?;
    assert_eq!(session.text(unused)?, "");
    Ok(())
}

#[test]
fn nobody_waits_for_a_migration() -> Result<()> {
    let server = server("migration")?;
    let mut session = prepare(&server)?;
    session.run(
        "CREATE TABLE r (a int PRIMARY KEY, b int REFERENCES r, c text); CREATE INDEX partial ON t (a) WHERE b > 5; \
         CREATE INDEX x1 ON t (a)",
    )?;
    let mut migration = server.connect("app")?;
    migration.run("BEGIN; LOCK TABLE t, r IN ACCESS EXCLUSIVE MODE; DROP INDEX j; ALTER TABLE r ADD COLUMN d int")?;
    session.run("SET statement_timeout = '20s'")?;
    for view in VIEWS {
        session.rows(&format!("SELECT * FROM upkeep.{view}"))?;
    }
    session.rows("SELECT upkeep.index_report(), upkeep.index_report_html(), upkeep.index_usage_snapshot()")?;
    // Plain definitions come from the catalogs; what only the server can say is left out.
    assert_eq!(
        session.rows("SELECT indexrelname, indexdef IS NULL, index_size IS NULL FROM upkeep.index_usage WHERE relname = 't' ORDER BY 1")?,
        ["i|f|f", "j|f|f", "partial|t|f", "x1|f|f"]
    );
    migration.run("ROLLBACK")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.index_usage WHERE indexdef IS NULL")?, "0");
    Ok(())
}

#[test]
fn things_may_go_while_one_looks() -> Result<()> {
    let server = server("drops")?;
    let mut session = prepare(&server)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let churn = scope.spawn(|| -> Result<u32> {
            let mut other = server.connect("app")?;
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                other.run(
                    "CREATE TABLE gone (a int PRIMARY KEY, b text, c int REFERENCES gone); CREATE INDEX ON gone (lower(b)) WHERE a > 0;
                     CREATE INDEX ON gone (b); CREATE INDEX ON gone (b); INSERT INTO gone VALUES (1, 'x')",
                )?;
                other.run("DROP TABLE gone")?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let looked = (0..40).try_for_each(|_| -> Result<()> {
            for view in VIEWS {
                session.rows(&format!("SELECT * FROM upkeep.{view}"))?;
            }
            session.rows("SELECT upkeep.index_report(), upkeep.index_usage_snapshot()")?;
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let rounds = churn.join().expect("the other session does not panic")?;
        ensure!(rounds > 20, "only {rounds} rounds");
        looked
    })
}

#[test]
fn a_snapshot_that_is_older_than_the_drop() -> Result<()> {
    let server = server("snapshot")?;
    let mut session = prepare(&server)?;
    session.run("CREATE INDEX partial ON t (lower(a::text)) WHERE b > 5; CREATE TABLE r (a int PRIMARY KEY, b int REFERENCES r)")?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")?;
    server.connect("app")?.run("DROP TABLE t, r")?;
    for view in VIEWS {
        session.rows(&format!("SELECT * FROM upkeep.{view}"))?;
    }
    session.run("COMMIT")
}

#[test]
fn within_a_transaction_counters_stand_still() -> Result<()> {
    let server = server("caching")?;
    let mut session = prepare(&server)?;
    for mode in ["cache", "snapshot"] {
        session.run(&format!("SELECT pg_stat_reset(); SET stats_fetch_consistency = {mode}; BEGIN"))?;
        assert_eq!(session.text(&verdict("i"))?, "unused", "{mode}");
        let mut other = server.connect("app")?;
        scan(&mut other, "a")?;
        let seen = "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'i'";
        wait_for_text(&mut server.connect("app")?, seen, "t")?;
        assert_eq!(session.text(&verdict("i"))?, "unused", "{mode}");
        session.run("SELECT pg_stat_clear_snapshot()")?;
        assert_eq!(session.text(&verdict("i"))?, "used", "{mode}");
        session.run("COMMIT")?;
    }
    // With `none` each look is a new one.
    session.run("SELECT pg_stat_reset(); SET stats_fetch_consistency = none; BEGIN")?;
    assert_eq!(session.text(&verdict("i"))?, "unused");
    let mut other = server.connect("app")?;
    scan(&mut other, "a")?;
    wait_for_text(&mut session, &verdict("i"), "used")
}

#[test]
fn other_sessions_temporary_tables_are_not_touched() -> Result<()> {
    let server = server("temporary")?;
    let mut session = prepare(&server)?;
    let mut other = server.connect("app")?;
    other.run(
        "CREATE TEMP TABLE theirs (a int PRIMARY KEY, b text, c int REFERENCES theirs); \
         CREATE INDEX ON theirs (lower(b)); CREATE INDEX ON theirs (b); CREATE INDEX ON theirs (b)",
    )?;
    for view in VIEWS {
        let rows = session.rows(&format!("SELECT * FROM upkeep.{view}"))?;
        ensure!(!rows.iter().any(|row| row.contains("theirs")), "{view}: {rows:?}");
    }
    ensure!(!session.text("SELECT upkeep.index_report()")?.contains("theirs"));
    assert_eq!(other.text("SELECT count(*) FROM upkeep.duplicate_indexes WHERE relname = 'theirs'")?, "1");
    Ok(())
}

#[test]
fn what_is_being_built_is_not_invalid() -> Result<()> {
    let server = server("built")?;
    let mut session = prepare(&server)?;
    session.run("CREATE ROLE anybody LOGIN; CREATE TABLE u (a int)")?;
    let mut anybody = server.connect_as("app", "anybody")?;
    // A build waits for whoever writes.
    for (command, name) in [
        ("CREATE INDEX CONCURRENTLY built ON t (a, b)", "built"),
        ("REINDEX INDEX CONCURRENTLY i", "i_ccnew"),
        ("REINDEX TABLE CONCURRENTLY t", "j_ccnew"),
        ("DROP INDEX CONCURRENTLY j", "j"),
    ] {
        let mut writer = server.connect("app")?;
        writer.run("BEGIN; INSERT INTO t VALUES (0, 0)")?;
        let builder = server.connect("app")?;
        let waits = std::thread::spawn(move || -> Result<()> {
            let mut builder = builder;
            builder.run(command)
        });
        let there =
            format!("SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid");
        wait_for_text(&mut session, &there, "1")?;
        for role in [&mut session, &mut anybody] {
            assert_eq!(role.rows("SELECT indexrelname FROM upkeep.invalid_indexes")?, [""; 0], "{command}");
        }
        writer.run("COMMIT")?;
        waits.join().expect("the builder does not panic")?;
    }
    // One that was canceled is.
    let mut writer = server.connect("app")?;
    writer.run("BEGIN; INSERT INTO u VALUES (0)")?;
    let mut builder = server.connect("app")?;
    let pid = builder.pid()?;
    let waits = std::thread::spawn(move || builder.error("CREATE INDEX CONCURRENTLY broken ON u (a)").map(drop));
    wait_for_text(&mut session, "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('broken')", "1")?;
    session.run(&format!("SELECT pg_cancel_backend({pid})"))?;
    waits.join().expect("the builder does not panic")?;
    for role in [&mut session, &mut anybody] {
        assert_eq!(role.rows("SELECT indexrelname FROM upkeep.invalid_indexes")?, ["broken"]);
    }
    writer.run("COMMIT")?;
    // Vacuum has the same lock on the table, and builds nothing.
    let mut vacuum = server.connect("app")?;
    vacuum.run("BEGIN; LOCK TABLE u IN SHARE UPDATE EXCLUSIVE MODE")?;
    assert_eq!(session.rows("SELECT indexrelname FROM upkeep.invalid_indexes")?, ["broken"]);
    Ok(())
}

/// Runs what a view says to type, line by line.
fn type_in(session: &mut Session, commands: &str) -> Result<()> {
    let all: Vec<String> = session.values(commands)?;
    ensure!(!all.is_empty(), "nothing from {commands}");
    all.iter().flat_map(|text| text.lines()).try_for_each(|line| session.run(line))
}

#[test]
fn repairs_repair() -> Result<()> {
    let server = server("repairs")?;
    let mut session = prepare(&server)?;
    session.run(
        "CREATE TABLE p (k int NOT NULL, a int) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (a); \
         CREATE TABLE p21 PARTITION OF p2 FOR VALUES FROM (0) TO (10);
         CREATE TABLE q (k int NOT NULL, a int) PARTITION BY RANGE (k); CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (10);
         CREATE INDEX x ON ONLY p (a DESC) WHERE a > 0; ALTER TABLE ONLY q ADD CONSTRAINT pk PRIMARY KEY (k);
         CREATE TABLE u (a int); INSERT INTO u VALUES (1), (1)",
    )?;
    session.error("CREATE UNIQUE INDEX CONCURRENTLY one ON u (a)")?;
    session.run("DELETE FROM u WHERE ctid = '(0,2)'")?;
    // A partition that has partitions itself shows its own part next.
    for _ in 0..3 {
        if session.text("SELECT count(*) FROM upkeep.invalid_indexes")? != "0" {
            type_in(&mut session, "SELECT repair_command FROM upkeep.invalid_indexes ORDER BY relname DESC")?;
        }
    }
    assert_eq!(session.rows("SELECT indexrelname, repair_command FROM upkeep.invalid_indexes")?, [""; 0]);
    assert_eq!(
        session.text(
            "SELECT count(*) FROM pg_index WHERE indexrelid IN ('x'::regclass, 'pk'::regclass, \
             'one'::regclass) AND indisvalid"
        )?,
        "3"
    );

    session.run(
        "CREATE TABLE r (k int, a int REFERENCES q) PARTITION BY RANGE (k); CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);
         CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (a); \
         CREATE TABLE r21 PARTITION OF r2 FOR VALUES FROM (0) TO (10);
         CREATE TABLE s (a int REFERENCES q)",
    )?;
    type_in(&mut session, "SELECT create_command FROM upkeep.unindexed_foreign_keys")?;
    assert_eq!(session.rows("SELECT relname FROM upkeep.unindexed_foreign_keys")?, [""; 0]);
    // Built once: the whole has taken over what its partitions had.
    assert_eq!(session.text("SELECT count(*) FROM pg_index WHERE indrelid IN ('r1'::regclass, 'r21'::regclass)")?, "2");
    Ok(())
}

#[test]
fn a_role_sees_names_and_sizes_but_no_data() -> Result<()> {
    let server = server("roles")?;
    let mut session = prepare(&server)?;
    session.run(
        "CREATE ROLE anybody LOGIN; CREATE TABLE secret (a text, b int, c text); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
         INSERT INTO secret SELECT CASE WHEN i % 200 = 0 THEN 'hush' ELSE 'v' || i END, i, repeat('x', 60) \
         FROM generate_series(1, 20000) i; ANALYZE secret;
         SET enable_seqscan = on",
    )?;
    session.run(
        "DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM count(*) FROM secret WHERE b = i; END LOOP; END $$; \
         SELECT pg_stat_force_next_flush()",
    )?;
    ensure!(session.text("SELECT string_agg(evidence, ' ') FROM upkeep.missing_indexes")?.contains("hush"));
    let mut anybody = server.connect_as("app", "anybody")?;
    for view in VIEWS {
        anybody.rows(&format!("SELECT * FROM upkeep.{view}"))?;
    }
    assert_eq!(anybody.text(&verdict("i"))?, session.text(&verdict("i"))?);
    assert_eq!(
        anybody.rows("SELECT relname, attname, evidence LIKE '%no column statistics that you may read%' FROM upkeep.missing_indexes")?,
        ["secret||t"]
    );
    for text in ["upkeep.index_report()", "upkeep.index_report_html()"] {
        let page = anybody.text(&format!("SELECT {text}"))?;
        ensure!(page.contains("secret") && !page.contains("hush"), "{text}");
    }
    anybody.rows("SELECT upkeep.index_usage_snapshot()")?;
    // A cheap function of one's own in WHERE sees no more.
    anybody.run(
        "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE \
         'saw %', $1; RETURN true; END $$",
    )?;
    anybody.rows("SELECT * FROM upkeep.missing_indexes WHERE pg_temp.peek(evidence) AND pg_temp.peek(attname)")?;
    ensure!(!anybody.notices().iter().any(|notice| notice.message().contains("hush")));
    for forbidden in [
        "SELECT * FROM upkeep._index_usage",
        "SELECT * FROM upkeep._index_usage_node",
        "SELECT * FROM upkeep._xid_mark",
        "SELECT upkeep.import_index_usage('x', NULL)",
    ] {
        assert_eq!(anybody.error(forbidden)?.code().code(), "42501", "{forbidden}");
    }
    // A column that may be read is evidence.
    session.run("ALTER TABLE secret DISABLE ROW LEVEL SECURITY; GRANT SELECT (b) ON secret TO anybody")?;
    assert_eq!(anybody.rows("SELECT attname FROM upkeep.missing_indexes")?, ["b"]);
    Ok(())
}

#[test]
fn a_setting_made_before_the_library_was_loaded_is_nothing() -> Result<()> {
    let server = testing::server("placeholder").start()?;
    let mut session = prepare(&server)?;
    session.run("CREATE ROLE anybody LOGIN")?;
    let mut anybody = server.connect_as("app", "anybody")?;
    anybody.run("SET upkeep.index_min_age = 0")?;
    assert_eq!(anybody.text(&verdict("i"))?, "unknown");
    assert_eq!(anybody.text("SHOW upkeep.index_min_age")?, "30d");
    Ok(())
}

#[test]
fn a_hostile_search_path_changes_nothing() -> Result<()> {
    let server = server("search")?;
    let mut session = prepare(&server)?;
    session.run("CREATE ROLE mallory LOGIN; CREATE SCHEMA evil AUTHORIZATION mallory")?;
    let mut mallory = server.connect_as("app", "mallory")?;
    mallory.run(
        "CREATE FUNCTION evil.pwned(name, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'pwned'; END $$;
         CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.pwned);
         CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'pwned'; END $$;
         CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'pwned'; END $$",
    )?;
    session.run("CREATE INDEX e ON t (lower(a::text)) WHERE b > 5")?;
    session.run("SET search_path = evil, pg_catalog, public")?;
    for view in VIEWS {
        session.rows(&format!("SELECT * FROM upkeep.{view}"))?;
    }
    session.rows("SELECT upkeep.index_report_html()")?;
    Ok(())
}

#[test]
fn looking_executes_no_function_of_an_index() -> Result<()> {
    let server = server("planning")?;
    let mut session = prepare(&server)?;
    session.run(
        "CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE NOTICE 'executed'; RETURN $1; END $$;
         CREATE INDEX f1 ON t (a) WHERE b > f(5); CREATE INDEX f2 ON t (a) WHERE b > f(6); CREATE INDEX f3 ON t (f(a)); ANALYZE t",
    )?;
    ensure!(session.notices().iter().any(|notice| notice.message() == "executed"), "it would be noticed");
    for view in VIEWS {
        session.rows(&format!("SELECT * FROM upkeep.{view}"))?;
    }
    session.rows("SELECT upkeep.index_report_html()")?;
    ensure!(!session.notices().iter().any(|notice| notice.message() == "executed"));
    Ok(())
}

#[test]
fn a_page_of_hostile_names() -> Result<()> {
    let server = server("page")?;
    let mut session = prepare(&server)?;
    let name = "</p><script>alert('x')</script><img src=x onerror=alert(1)>&\u{202E}\n";
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    session.run(&format!(
        "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY, x int, CONSTRAINT {quoted} \
         FOREIGN KEY (x) REFERENCES {quoted}.{quoted});
         CREATE INDEX \"<i>1\" ON {quoted}.{quoted} (x) WHERE {quoted} > 0; \
         CREATE INDEX \"<i>2\" ON {quoted}.{quoted} (x) WHERE {quoted} > 0",
    ))?;
    let page = session.text("SELECT upkeep.index_report_html()")?;
    ensure!(!page.contains("<script") && !page.contains("<img") && !page.contains("<i>") && !page.contains('\u{202E}'));
    ensure!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    // The one style sheet is the one that the page's policy lets through.
    let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap_or_default();
    let hash = session.text(&format!(
        "SELECT encode(sha256('{}'::text::bytea), 'base64')",
        style.replace('\\', "\\\\").replace('\'', "''")
    ))?;
    ensure!(page.contains(&format!("sha256-{hash}&#39;")), "{hash}");
    assert_eq!(page.matches("<style>").count(), 1);
    let (mut depth, mut rest) = (0i32, page.as_str());
    // Every tag that opens closes.
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        depth += match rest.as_bytes()[0] {
            b'/' => -1,
            b'!' => 0,
            _ if rest.starts_with("meta") => 0,
            _ => 1,
        };
    }
    assert_eq!(depth, 0);
    Ok(())
}

#[test]
fn statistics_that_are_not_collected() -> Result<()> {
    let server = testing::server("blind").set("upkeep.index_min_age", 0).set("track_counts", "off").start()?;
    let mut session = prepare(&server)?;
    assert_eq!(session.text(&reason("i"))?, "unknown: track_counts is off: use is not counted");
    Ok(())
}

#[test]
fn a_slot_whose_standby_is_away() -> Result<()> {
    let server = server("slot")?;
    let mut session = prepare(&server)?;
    assert_eq!(session.text(&verdict("i"))?, "unused");
    session.run("SELECT pg_create_physical_replication_slot('reader')")?;
    ensure!(
        session.text(&reason("i"))?.starts_with("unknown: the standby of replication slot reader is not connected")
    );
    session.run("SELECT pg_drop_replication_slot('reader')")?;
    assert_eq!(session.text(&verdict("i"))?, "unused");
    // Who only archives or copies WAL is no standby.
    let mut receiver = server.client_command("pg_receivewal", "app");
    let folder = server.scratch().join("wal");
    std::fs::create_dir_all(&folder)?;
    let mut receiver = receiver.arg("-D").arg(&folder).spawn()?;
    let connected = wait_until("pg_receivewal", PATIENCE, || {
        session
            .text("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
            .is_ok_and(|count| count == "1")
    });
    let verdict = session.text(&verdict("i"));
    receiver.kill()?;
    receiver.wait()?;
    connected?;
    assert_eq!(verdict?, "unused");
    Ok(())
}
