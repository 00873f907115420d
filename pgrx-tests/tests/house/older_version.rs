//! A new library is loaded by every session at once, and meets the SQL of 0.5.0 until somebody says ALTER EXTENSION UPDATE: nobody's
//! statements on his own tables notice, and what is the extension's own says what to do.

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

/// Triggers and views of soft delete, as 0.5.0 has made them.
fn soft_delete_of_050(table: &str) -> String {
    format!(
        "ALTER TABLE {table} ADD deleted_at timestamptz, ADD deleted_by text, ADD deletion_id uuid;
         CREATE VIEW {table}_live WITH (security_invoker = true) AS SELECT t.* FROM {table} AS t WHERE t.deleted_at IS NULL;
         CREATE VIEW {table}_deleted WITH (security_invoker = true) AS SELECT t.* FROM {table} AS t WHERE t.deleted_at IS NOT NULL;
         INSERT INTO upkeep._soft_delete_table (relid, name, hide, deleted_at, deleted_by, deletion_id, live_view, deleted_view)
         VALUES ('{table}', '{table}', 'live_view', 'deleted_at', 'deleted_by', 'deletion_id', '{table}_live', '{table}_deleted');
         CREATE TRIGGER upkeep_soft_delete AFTER UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated();
         CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS deleted
             FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();
         CREATE TRIGGER upkeep_soft_delete_no_truncate BEFORE TRUNCATE ON {table}
             FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();
         CREATE TRIGGER upkeep_soft_delete_row AFTER UPDATE ON {table} FOR EACH ROW
             WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL) AND upkeep._is_by_hand('{table}'::regclass, NEW.deletion_id))
             EXECUTE FUNCTION upkeep._soft_delete_updated_row();
         CREATE TRIGGER upkeep_soft_delete_row INSTEAD OF DELETE ON {table}_live FOR EACH ROW
             EXECUTE FUNCTION upkeep._soft_delete_view_row();
         CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON {table}_live EXECUTE FUNCTION upkeep._soft_delete_view();
         CREATE TRIGGER upkeep_soft_delete AFTER DELETE ON {table}_live EXECUTE FUNCTION upkeep._soft_delete_view()"
    )
}

fn checks_of_050(table: &str, soft: bool) -> String {
    let changed = "record_image_ne(ROW(OLD.user_id), ROW(NEW.user_id))";
    let (insert, update) = match soft {
        true => (
            "WHEN (NEW.deleted_at IS NULL)",
            format!(
                "NEW.deleted_at IS NULL AND ({changed} OR (OLD.deleted_at IS NOT NULL
                 AND upkeep._is_by_hand('{table}'::regclass, NEW.deletion_id)))"
            ),
        ),
        false => ("", changed.to_owned()),
    };
    format!(
        "CREATE CONSTRAINT TRIGGER upkeep_live_parent_insert AFTER INSERT ON {table} NOT DEFERRABLE FOR EACH ROW {insert}
             EXECUTE FUNCTION upkeep._soft_delete_live_parent();
         CREATE CONSTRAINT TRIGGER upkeep_live_parent_update AFTER UPDATE ON {table} NOT DEFERRABLE FOR EACH ROW WHEN ({update})
             EXECUTE FUNCTION upkeep._soft_delete_live_parent()"
    )
}

/// Everything that an application does, with keys from `first` on.
fn work(session: &mut Session, first: i32) -> Result<()> {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| first + i);
    session.run(&format!(
        "INSERT INTO users (id, n) SELECT g, 0 FROM generate_series({a}, {d}) g;
         INSERT INTO posts (id, user_id) SELECT g, g FROM generate_series({a}, {d}) g;
         INSERT INTO notes (id, user_id) SELECT g, g FROM generate_series({a}, {d}) g;
         UPDATE users SET n = 1 WHERE id = {a}; UPDATE notes SET user_id = {b} WHERE id = {a}; \
         UPDATE notes SET user_id = {a} WHERE id = {a};
         MERGE INTO users u USING (VALUES ({a}), ({b})) v (id) ON u.id = v.id WHEN MATCHED THEN UPDATE SET n = n + 1;
         INSERT INTO users_live (id, n) VALUES ({b}, 7) ON CONFLICT (id) DO UPDATE SET n = excluded.n"
    ))?;
    // Stamped and filled.
    assert_eq!(
        session.rows(&format!(
            "SELECT id, n, version, updated_at IS NOT NULL, filled FROM users WHERE id IN ({a}, {b}) ORDER BY 1"
        ))?,
        [format!("{a}|2|3|t|{}", 2 * a), format!("{b}|7|3|t|{}", 2 * b)]
    );
    session.run(&format!(
        "UPDATE users SET deleted_at = now() WHERE id = {a}; DELETE FROM users_live WHERE id = {b}; BEGIN"
    ))?;
    session.run("COMMIT")?;
    let deletion = session.text(&format!("SELECT upkeep.soft_delete('users', 'id = {c}')"))?;
    let state = |session: &mut Session| {
        session.rows(&format!(
            "SELECT u.id, u.deletion_id IS NOT NULL, p.deletion_id = u.deletion_id, n.user_id
             FROM users u JOIN posts p USING (id) JOIN notes n USING (id) WHERE u.id >= {a} AND u.id <= {d} ORDER BY 1"
        ))
    };
    assert_eq!(state(session)?, [format!("{a}|t|t|"), format!("{b}|t|t|"), format!("{c}|t|t|"), format!("{d}|f||{d}")]);
    for (statement, code) in [
        (format!("INSERT INTO posts VALUES ({first} + 50, {a})"), "23503"),
        (format!("UPDATE notes SET user_id = {a} WHERE id = {b}"), "23503"),
        (format!("DELETE FROM users WHERE id = {d}"), "55000"),
        ("TRUNCATE posts".to_owned(), "55000"),
    ] {
        assert_eq!(sqlstate(session, &statement)?, code, "{statement}");
    }
    assert_eq!(session.text(&format!("SELECT upkeep.undelete('{deletion}'::uuid)"))?, "2");
    assert_eq!(session.text(&format!("SELECT upkeep.undelete('users', 'id = {a}')"))?, "1");
    session.run(&format!("UPDATE users SET deleted_at = NULL WHERE id = {b}"))?;
    assert_eq!(state(session)?, [format!("{a}|f||"), format!("{b}|f||"), format!("{c}|f||{c}"), format!("{d}|f||{d}")]);
    session.run(&format!(
        "SET upkeep.allow_hard_delete = on; DELETE FROM posts WHERE id >= {a}; DELETE FROM users WHERE id >= {a};
         RESET upkeep.allow_hard_delete"
    ))
}

#[test]
fn statements_on_the_tables_of_an_older_version_do_not_notice() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("DROP EXTENSION pg_upkeep; CREATE EXTENSION pg_upkeep VERSION '0.5.0'")?;
    session.run(&format!(
        "CREATE TABLE users (id int PRIMARY KEY, n int, version bigint, updated_at timestamptz, filled int);
         CREATE TABLE posts (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
         CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE SET NULL);
         {}; {}; {}; {};
         CREATE TRIGGER zzz_upkeep_row_stamps BEFORE INSERT OR UPDATE ON users FOR EACH ROW
             WHEN (true OR NEW.updated_at IS NULL OR NEW.version IS NULL)
             EXECUTE FUNCTION upkeep._stamp_row('updated_at', 'version', 'clock=transaction', 'mode=incremented');
         CREATE FUNCTION upkeep._fill() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.filled := 2 * NEW.id; RETURN NEW; END$$;
         CREATE TRIGGER zz_upkeep_fill BEFORE INSERT OR UPDATE ON users FOR EACH ROW
             WHEN (NEW.filled IS NULL AND NOT upkeep._is_filling('00000000-0000-0000-0000-000000000001'))
             EXECUTE FUNCTION upkeep._fill()",
        soft_delete_of_050("posts"),
        soft_delete_of_050("users"),
        checks_of_050("posts", true),
        checks_of_050("notes", false)
    ))?;
    let mut other = db.connect()?;
    session.notices();
    work(&mut session, 0)?;
    work(&mut other, 100)?;
    session
        .run("ALTER TABLE users ADD more int; CREATE TABLE plain (id int PRIMARY KEY, user_id int REFERENCES users)")?;
    assert!(session.notices().is_empty());
    for verb in [
        "enable_soft_delete('plain')",
        "disable_soft_delete('users')",
        "repair_soft_delete('users')",
        "alter_soft_deleted('users', 'ALTER TABLE users ADD x int')",
        "purge_deleted('users', '1 day')",
        "explain_purge('users', '1 day')",
        "make_unique_keys_partial('users')",
        "explain_make_unique_keys_partial('users')",
        "backfill('users', 'n = 1', 'n IS NULL')",
        "run_in_background('SELECT 1')",
    ] {
        let error = session.error(&format!("SELECT upkeep.{verb}"))?;
        assert_eq!(
            (error.code().code(), error.hint()),
            ("55000", Some("ALTER EXTENSION pg_upkeep UPDATE;")),
            "{verb}: {error}"
        );
    }
    work(&mut session, 200)?;
    session.notices();
    session.run("ALTER EXTENSION pg_upkeep UPDATE")?;
    let told: Vec<String> = session.notices().iter().map(|notice| notice.message().to_owned()).collect();
    assert_eq!(told, ["tables with soft delete lack triggers that are new in this version"]);
    work(&mut other, 300)?;
    work(&mut session, 400)?;
    let upsert = "INSERT INTO users (id, n) VALUES (1000, 1) ON CONFLICT (id) DO UPDATE SET n = 2";
    let repairs = session.rows("SELECT DISTINCT repair FROM upkeep.soft_delete_drift ORDER BY 1")?;
    assert!(repairs.iter().any(|repair| repair == "SELECT upkeep.repair_soft_delete('public.users');"), "{repairs:?}");
    for repair in repairs {
        session.run(&repair)?;
    }
    session.run(&format!("{upsert}; DELETE FROM users_live WHERE id = 1000"))?;
    assert_eq!(sqlstate(&mut session, upsert)?, "55000");
    assert_eq!(session.rows("SELECT problem FROM upkeep.soft_delete_drift")?, Vec::<String>::new());
    work(&mut other, 2000)?;
    work(&mut session, 3000)
}
