//! Soft delete with keys of all kinds.

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::testing;

/// Cleared references are written down as text: by one session's settings, and read by another's.
#[test]
fn cleared_references_come_back_whatever_the_settings() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        r#"CREATE TABLE p (id float8 PRIMARY KEY, t timestamptz UNIQUE, iv interval UNIQUE, b bytea UNIQUE, n numeric UNIQUE,
                           j jsonb UNIQUE, d date UNIQUE);
           CREATE TABLE c (id interval PRIMARY KEY, f float8 REFERENCES p (id) ON DELETE SET NULL,
                           t timestamptz REFERENCES p (t) ON DELETE SET NULL, iv interval REFERENCES p (iv) ON DELETE SET NULL,
                           b bytea REFERENCES p (b) ON DELETE SET NULL, n numeric REFERENCES p (n) ON DELETE SET NULL,
                           j jsonb REFERENCES p (j) ON DELETE SET NULL, d date REFERENCES p (d) ON DELETE SET NULL);
           INSERT INTO p VALUES
               ('NaN', '2024-03-04 05:06:07.123456+00', '-1 year 2 mons -3 days 04:05:06', '\x00ff5c27', 'NaN',
                '{"a": null}', '2024-02-01'),
               (0.1::float8 + 0.2::float8, 'infinity', '-1 days -2:00', '', '1e40', 'null', '0044-03-15 BC'),
               ('-0', '4713-01-01 00:00:00+00 BC', '1 mon', '\x27', 0.10, '"x\"y"', 'infinity');
           INSERT INTO c SELECT iv, id, t, iv, b, n, j, d FROM p;
           CREATE TABLE before AS SELECT * FROM c;
           SELECT upkeep.enable_soft_delete('p');
           SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape';
           SET extra_float_digits = -3; SET TimeZone = 'Asia/Kathmandu';
           SELECT upkeep.soft_delete('p', 'true')"#,
    )?;
    assert_eq!(session.text("SELECT count(*) FROM c WHERE num_nonnulls(f, t, iv, b, n, j, d) = 0")?, "3");
    assert_eq!(session.text("SHOW IntervalStyle")?, "sql_standard", "the session's own again");
    session.run("RESET ALL; SET DateStyle = 'German'; SET IntervalStyle = 'postgres_verbose'; SET TimeZone = 'America/St_Johns'")?;
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions; RESET ALL")?;
    let lost = "SELECT * FROM (TABLE before EXCEPT TABLE c) x";
    assert_eq!(session.rows(lost)?, [""; 0]);
    Ok(())
}

#[test]
fn keys_of_unusual_types() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN pairs AS pair; CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE TABLE p_array (id int[] PRIMARY KEY); CREATE TABLE c_array (id int PRIMARY KEY, p int[] \
         REFERENCES p_array ON DELETE CASCADE);
         CREATE TABLE p_pair (id pair PRIMARY KEY); CREATE TABLE c_pair (id int PRIMARY KEY, p pair REFERENCES p_pair ON DELETE CASCADE);
         CREATE TABLE p_pairs (id pairs PRIMARY KEY);
         CREATE TABLE p_range (id int4range PRIMARY KEY); CREATE TABLE c_range (id int PRIMARY KEY, p int4range \
         REFERENCES p_range ON DELETE CASCADE);
         CREATE TABLE p_domain (n int GENERATED ALWAYS AS IDENTITY, id positive PRIMARY KEY, a int[], g int GENERATED \
         ALWAYS AS (cardinality(a)) STORED);
         CREATE TABLE c_domain (id int PRIMARY KEY, p positive REFERENCES p_domain ON DELETE CASCADE);
         INSERT INTO p_range VALUES ('[1,5)'), ('empty'); INSERT INTO c_range VALUES (1, '[1,4]'), (2, 'empty');
         INSERT INTO p_domain (id, a) VALUES (1, '{1,2}'), (2, '{3}'); INSERT INTO c_domain VALUES (1, 1), (2, 2);
         SELECT upkeep.enable_soft_delete(t) FROM unnest('{c_array,c_pair,c_range,c_domain,p_range,p_domain}'::regclass[]) t",
    )?;
    // What cannot be done is said before it is begun.
    for table in ["p_array", "p_pair", "p_pairs"] {
        assert_eq!(
            sqlstate(&mut session, &format!("SELECT upkeep.enable_soft_delete('{table}')"))?,
            "0A000",
            "{table}"
        );
    }
    session.run("DELETE FROM p_range_live WHERE isempty(id); DELETE FROM p_domain_live WHERE g = 1")?;
    let live = "SELECT (SELECT string_agg(id::text, ' ') FROM c_range_live), (SELECT string_agg(id::text, ' ') FROM c_domain_live)";
    assert_eq!(session.rows(live)?, ["1|1"]);
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.rows(live)?, ["1 2|1 2"]);
    Ok(())
}

/// Keys from and to partitions and partitioned tables, one of which clears a part of its columns.
#[test]
fn foreign_keys_of_partitions() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
         CREATE TABLE one (id int PRIMARY KEY, p int, k int, FOREIGN KEY (p, k) REFERENCES p1 ON DELETE CASCADE);
         CREATE TABLE every (id int, k int, p int, PRIMARY KEY (id, k), FOREIGN KEY (p, k) REFERENCES p ON DELETE \
         SET NULL (p)) PARTITION BY LIST (k);
         CREATE TABLE every1 PARTITION OF every FOR VALUES IN (1); CREATE TABLE every2 PARTITION OF every FOR VALUES IN (2);
         INSERT INTO p SELECT g, 1 + g % 2 FROM generate_series(1, 6) g;
         INSERT INTO one SELECT id, id, k FROM p WHERE k = 1; INSERT INTO every SELECT id, k, id FROM p;
         SELECT upkeep.enable_soft_delete('one'), upkeep.enable_soft_delete('p');
         DELETE FROM p_live WHERE id IN (1, 2)",
    )?;
    let seen = "SELECT (SELECT count(*) FROM p_live), (SELECT count(*) FROM one_live), (SELECT string_agg(id::text, \
                ' ' ORDER BY id) FROM every WHERE p IS NULL)";
    assert_eq!(session.rows(seen)?, ["4|2|1 2"]);
    assert_eq!(sqlstate(&mut session, "INSERT INTO one VALUES (99, 2, 1)")?, "23503");
    assert_eq!(sqlstate(&mut session, "INSERT INTO every VALUES (99, 1, 2)")?, "23503");
    assert_eq!(sqlstate(&mut session, "UPDATE every2 SET p = 1 WHERE id = 3")?, "23503");
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.rows(seen)?, ["6|3|"]);
    Ok(())
}

/// A trigger of the user's keeps a reference that was to be cleared: no live row may reference a deleted one.
#[test]
fn a_reference_that_a_trigger_keeps_is_in_the_way() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY);
         CREATE TABLE c (id int PRIMARY KEY, p int DEFAULT 2 REFERENCES p ON DELETE SET NULL, q int DEFAULT 2 \
         REFERENCES p ON DELETE SET DEFAULT);
         INSERT INTO p VALUES (1), (2), (3); INSERT INTO c VALUES (1, 1, NULL), (2, NULL, 2), (3, NULL, 3);
         SELECT upkeep.enable_soft_delete('p');
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.p := OLD.p; RETURN NEW; END$$;
         CREATE TRIGGER keep BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION keep()",
    )?;
    for id in [1, 2] {
        for statement in [
            format!("DELETE FROM p_live WHERE id = {id}"),
            format!("SELECT upkeep.soft_delete('p', 'id = {id}')"),
            format!("UPDATE p SET deleted_at = now() WHERE id = {id}"),
        ] {
            assert_eq!(sqlstate(&mut session, &statement)?, "23503", "{statement}");
        }
    }
    session.run("DELETE FROM p_live WHERE id = 3")?;
    assert_eq!(session.text("SELECT q FROM c WHERE id = 3")?, "2");
    assert_eq!(session.text("SELECT count(*) FROM p_live")?, "2");
    Ok(())
}

/// Columns that are there already and cannot serve.
#[test]
fn columns_that_do_not_fit_are_refused() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id timestamptz PRIMARY KEY, u uuid NOT NULL, g timestamptz GENERATED ALWAYS AS (NULL) STORED,
                         n timestamptz NOT NULL DEFAULT now(), d date, fl boolean NOT NULL DEFAULT false)",
    )?;
    for arguments in [
        "deleted_at => 'id'",
        "deleted_at => 'g'",
        "deleted_at => 'n'",
        "deleted_at => 'd'",
        "deletion_id => 'u'",
        "deleted_by => 'u'",
        "flag => 'd'",
    ] {
        let call = format!("SELECT upkeep.enable_soft_delete('t', {arguments})");
        assert_eq!(sqlstate(&mut session, &call)?, "42804", "{arguments}");
    }
    session.run("SELECT upkeep.enable_soft_delete('t', flag => 'fl')")
}

#[test]
fn names_and_keys_that_are_in_the_way_are_told() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE); CREATE TABLE u (id int PRIMARY KEY); CREATE VIEW u_live AS SELECT 1",
    )?;
    let error = session.error("SELECT upkeep.enable_soft_delete('t')")?;
    assert_eq!((error.code().code(), error.message()), ("55000", "public.t has a deferrable primary key"));
    session.run(error.hint().unwrap_or_default().trim_end_matches("ADD PRIMARY KEY (..);").trim_end_matches(", "))?;
    session.run("ALTER TABLE t ADD PRIMARY KEY (id); SELECT upkeep.enable_soft_delete('t')")?;
    let error = session.error("SELECT upkeep.enable_soft_delete('u')")?;
    assert_eq!((error.code().code(), error.message()), ("42P07", "relation public.u_live already exists"));
    assert!(error.hint().is_some_and(|hint| hint.ends_with("DROP VIEW public.u_live;")), "{:?}", error.hint());
    session.run("CREATE TABLE w (id int PRIMARY KEY); CREATE TABLE w_deleted (); CREATE TABLE heir () INHERITS (w)")?;
    let error = session.error("SELECT upkeep.enable_soft_delete('w')")?;
    assert_eq!(error.code().code(), "0A000");
    assert!(error.hint().is_some_and(|hint| hint.ends_with("NO INHERIT public.w;")), "{:?}", error.hint());
    session.run("ALTER TABLE heir NO INHERIT public.w")?;
    let error = session.error("SELECT upkeep.enable_soft_delete('w')")?;
    assert_eq!(error.hint(), Some("Rename it: ALTER TABLE public.w_deleted RENAME TO ..;"));
    let error = session.error("DELETE FROM t WHERE false OR id IS NULL; INSERT INTO t VALUES (9); DELETE FROM t")?;
    assert!(
        error.hint().is_some_and(|hint| hint.contains(": DELETE FROM public.t_live .., or ")),
        "{:?}",
        error.hint()
    );
    // An upsert that meets a deleted row: as the documents say.
    session.run("INSERT INTO t_live VALUES (1); DELETE FROM t_live")?;
    let upsert = |relation: &str, more: &str| {
        format!("INSERT INTO {relation} VALUES (1) ON CONFLICT (id) DO UPDATE SET id = excluded.id{more} RETURNING 1")
    };
    assert_eq!(sqlstate(&mut session, &upsert("t_live", ""))?, "55000");
    assert_eq!(session.text("SELECT count(*) FROM t_live")?, "0");
    assert_eq!(session.rows(&upsert("t", " WHERE t.deleted_at IS NULL"))?, Vec::<String>::new());
    assert_eq!(session.rows(&upsert("t", ", deleted_at = NULL"))?, ["1"]);
    assert_eq!(session.text("SELECT count(*) FROM t_live")?, "1");
    Ok(())
}
