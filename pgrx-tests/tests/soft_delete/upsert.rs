//! An upsert never changes a row that nobody sees.

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

const DEAD: &str = "SELECT n FROM users WHERE id = 1";

/// A table, its live view by the name that writers use, and one deleted row; `more` is run in between.
fn users(session: &mut Session, partitioned: bool, arguments: &str) -> Result<()> {
    let by = if partitioned { "PARTITION BY RANGE (id)" } else { "" };
    session.run(&format!(
        "CREATE TABLE users (id int PRIMARY KEY, email text, n int DEFAULT 0, gone boolean NOT NULL DEFAULT false) {by}"
    ))?;
    if partitioned {
        // Its columns have other numbers.
        session.run(
            "CREATE TABLE users_1 (gone boolean NOT NULL DEFAULT false, extra int, n int DEFAULT 0, email text, id int NOT NULL);
             ALTER TABLE users_1 DROP COLUMN extra; ALTER TABLE users ATTACH PARTITION users_1 FOR VALUES FROM (0) TO (100)",
        )?;
    }
    session.run(&format!(
        "SELECT upkeep.enable_soft_delete('users'{arguments}); INSERT INTO users VALUES (1, 'one'), (2, 'two')"
    ))
}

fn upsert(into: &str, set: &str) -> String {
    format!("INSERT INTO {into} VALUES (1, 'new', 7) ON CONFLICT (id) DO UPDATE SET n = excluded.n{set}")
}

#[test]
fn a_deleted_row_is_not_changed_however_it_is_met() -> Result<()> {
    for partitioned in [false, true] {
        for arguments in ["", ", flag => 'gone'", ", hide => 'swap'"] {
            let db = testing::database()?;
            let mut session = db.connect()?;
            users(&mut session, partitioned, arguments)?;
            let swapped = arguments.contains("swap");
            let (table, view) = if swapped { ("users_all", "users") } else { ("users", "users_live") };
            session.run(&format!(
                "SELECT upkeep.soft_delete('{table}', 'id = 1'); CREATE VIEW wrapped AS SELECT * FROM {view};
                 CREATE FUNCTION save() RETURNS void LANGUAGE plpgsql AS $$BEGIN {}; END$$",
                upsert(view, "")
            ))?;
            let what = format!("partitioned: {partitioned}{arguments}");
            for into in [view, "wrapped", table] {
                assert_eq!(sqlstate(&mut session, &upsert(into, ""))?, "55000", "{into}, {what}");
            }
            if partitioned {
                let (leaf, row) =
                    ("users_1 (id, email, n)", "VALUES (1, 'new', 7) ON CONFLICT (id) DO UPDATE SET n = 8");
                assert_eq!(sqlstate(&mut session, &format!("INSERT INTO {leaf} {row}"))?, "55000", "{what}");
            }
            for statement in [
                "SELECT save()".to_owned(),
                format!("WITH saved AS ({} RETURNING n) SELECT * FROM saved", upsert(view, "")),
                format!("PREPARE p AS {}; EXECUTE p; EXECUTE p", upsert(view, "")),
                format!(
                    "INSERT INTO {view} VALUES (3, 'three', 3), (1, 'new', 7) ON CONFLICT (id) DO UPDATE SET n = 9"
                ),
                format!(
                    "MERGE INTO {table} t USING (VALUES (1), (4)) s (id) ON t.id = s.id
                     WHEN MATCHED THEN UPDATE SET n = 7 WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)"
                ),
            ] {
                assert_eq!(sqlstate(&mut session, &statement)?, "55000", "{statement}, {what}");
            }
            let dead = DEAD.replace("users", table);
            assert_eq!(session.text(&dead)?, "0", "{what}");
            // Whoever says what becomes of it may.
            session.run(&upsert(table, &format!(" WHERE {table}.deleted_at IS NULL")))?;
            assert_eq!(session.text(&dead)?, "0", "{what}");
            session.run(&upsert(table, &format!(", deleted_at = {table}.deleted_at")))?;
            assert_eq!(session.text(&dead)?, "7", "{what}");
            session.run(&upsert(table, ", deleted_at = NULL").replace("excluded.n", "8"))?;
            assert_eq!(session.text(&format!("SELECT n FROM {view} WHERE id = 1"))?, "8", "{what}");
            // It is live: an upsert like any other.
            session.run(&upsert(view, ""))?;
            assert_eq!(session.text(&format!("SELECT n FROM {view} WHERE id = 1"))?, "7", "{what}");
        }
    }
    Ok(())
}

#[test]
fn other_statements_change_deleted_rows_as_before() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    users(&mut session, false, "")?;
    session.run(
        "SELECT upkeep.soft_delete('users', 'id = 1');
         UPDATE users SET n = 1 WHERE id = 1; INSERT INTO users VALUES (3, 'three');
         MERGE INTO users t USING (VALUES (1)) s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET n = n + 1",
    )?;
    assert_eq!(session.text(DEAD)?, "2");
    // One statement in a trigger of another: each is by itself.
    session.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE users SET n = n + 1 WHERE id = 1; RETURN NULL; END$$;
         CREATE TRIGGER touch AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch();
         INSERT INTO users VALUES (4, 'four')",
    )?;
    assert_eq!(session.text(DEAD)?, "3");
    // What was refused leaves nothing to the next statement of the transaction, nor of the session.
    session.run("BEGIN; SAVEPOINT s")?;
    assert_eq!(sqlstate(&mut session, &upsert("users_live", ""))?, "55000");
    session
        .run("ROLLBACK TO s; INSERT INTO users_live VALUES (5, 'five'); UPDATE users SET n = 9 WHERE id = 1; COMMIT")?;
    session.run("INSERT INTO users_live VALUES (6, 'six')")?;
    assert_eq!(session.text(DEAD)?, "10");
    Ok(())
}

#[test]
fn the_error_says_what_to_do_and_that_helps() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    users(&mut session, false, "")?;
    assert!(session.notices().is_empty(), "there is no key to tell of");
    session.run("SELECT upkeep.disable_soft_delete('users'); ALTER TABLE users ADD UNIQUE (email)")?;
    session.run("SELECT upkeep.enable_soft_delete('users')")?;
    let told = session.notices();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].message(), "unique keys of public.users hold for deleted rows as well: users_email_key");
    assert!(
        told[0].hint().is_some_and(|hint| hint.starts_with("SELECT upkeep.make_unique_keys_partial('public.users');"))
    );
    session.run("SELECT upkeep.soft_delete('users', 'id = 1')")?;
    let save = "INSERT INTO users VALUES (7, 'one') ON CONFLICT (email) DO UPDATE SET n = 7";
    let error = session.error(save)?;
    assert_eq!(error.message(), "a row to insert into table \"users\" meets a deleted one");
    let hint = error.hint().unwrap_or_default().to_owned();
    let call = hint.split_once(" has deleted").map_or("", |(call, _)| call);
    assert_eq!(call, "SELECT upkeep.make_unique_keys_partial('public.users')");
    let job = session.text(call)?;
    upkeep_tests::jobs::wait(&mut session, &job)?;
    session.run(&save.replace("(email)", "(email) WHERE deleted_at IS NULL"))?;
    assert_eq!(session.rows("SELECT id, n FROM users_live WHERE email = 'one'")?, ["7|0"]);
    Ok(())
}

#[test]
fn statements_that_mean_deleted_rows_change_them() -> Result<()> {
    for partitioned in [false, true] {
        let db = testing::database()?;
        let mut session = db.connect()?;
        users(&mut session, partitioned, ", flag => 'gone'")?;
        session.run("SELECT upkeep.soft_delete('users', 'id = 1')")?;
        let merge = |when: &str| {
            format!(
                "MERGE INTO users t USING (VALUES (1), (4)) s (id) ON t.id = s.id
                 {when} WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)"
            )
        };
        let mut n = 10;
        for statement in [
            // It is not the INSERT that changes it.
            "WITH u AS (UPDATE users SET n = $n WHERE deleted_at IS NOT NULL RETURNING 1) INSERT INTO users (id) \
             SELECT 3 FROM u".to_owned(),
            "WITH u AS (UPDATE users SET n = $n WHERE id = 1 RETURNING 1) INSERT INTO users (id) SELECT 3 FROM u \
             ON CONFLICT DO NOTHING".to_owned(),
            "WITH i AS (INSERT INTO users (id) VALUES (3) RETURNING 1) UPDATE users SET n = $n WHERE id = 1".to_owned(),
            "WITH u AS (UPDATE users SET n = $n WHERE id = 1 RETURNING 1) INSERT INTO users_live (id) SELECT 3 FROM u".to_owned(),
            merge("WHEN MATCHED AND t.deleted_at IS NOT NULL THEN UPDATE SET n = $n"),
            merge("WHEN MATCHED AND t.gone THEN UPDATE SET n = $n WHEN MATCHED AND t.deleted_at IS NULL THEN UPDATE SET n = 0"),
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = $n WHERE users.deleted_at IS NOT NULL".to_owned(),
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = $n WHERE users.gone".to_owned(),
        ] {
            n += 1;
            session.run(&format!("BEGIN; {}", statement.replace("$n", &n.to_string())))?;
            assert_eq!(session.text(DEAD)?, n.to_string(), "{statement}, partitioned: {partitioned}");
            session.run("ROLLBACK")?;
        }
        for statement in [
            merge("WHEN MATCHED AND t.email = 'one' THEN UPDATE SET n = 7"),
            merge("WHEN MATCHED AND t.deleted_at IS NULL THEN UPDATE SET n = 6 WHEN MATCHED THEN UPDATE SET n = 7"),
            "INSERT INTO users (id, email) VALUES (1, 'one') ON CONFLICT (id) DO UPDATE SET n = 7 WHERE users.email = excluded.email"
                .to_owned(),
        ] {
            assert_eq!(sqlstate(&mut session, &statement)?, "55000", "{statement}, partitioned: {partitioned}");
        }
    }
    Ok(())
}

#[test]
fn nothing_that_is_said_lets_an_upsert_through_the_view_change_a_deleted_row() -> Result<()> {
    for partitioned in [false, true] {
        for arguments in [", flag => 'gone'", ", flag => 'gone', hide => 'swap'"] {
            let db = testing::database()?;
            let mut session = db.connect()?;
            users(&mut session, partitioned, arguments)?;
            let swapped = arguments.contains("swap");
            let (table, view) = if swapped { ("users_all", "users") } else { ("users", "users_live") };
            session.run(&format!(
                "SELECT upkeep.soft_delete('{table}', 'id = 1'); CREATE VIEW wrapped AS SELECT * FROM {view}"
            ))?;
            let dead = format!("SELECT n, deleted_at IS NOT NULL, gone FROM {table} WHERE id = 1");
            for into in [view, "wrapped"] {
                for more in [
                    ", deleted_at = $v.deleted_at",
                    ", gone = $v.gone",
                    ", deleted_at = NULL",
                    ", gone = false",
                    ", deleted_at = NULL, deleted_by = NULL, deletion_id = NULL",
                    " WHERE $v.deleted_at IS NOT NULL",
                    ", deleted_at = $v.deleted_at WHERE $v.gone RETURNING *",
                ] {
                    let statement = upsert(into, &more.replace("$v", into));
                    let what = format!("{statement}, partitioned: {partitioned}{arguments}");
                    assert_eq!(sqlstate(&mut session, &statement)?, "55000", "{what}");
                    let nested = format!("WITH w AS ({statement}) SELECT 1");
                    assert_eq!(sqlstate(&mut session, &nested)?, "55000", "{what}");
                }
                // It passes over a row, dead or not, that its condition does not take; 15 itself refuses one that the view does not show.
                let passes = upsert(into, &format!(" WHERE {into}.n > 100"));
                if session.text("SELECT current_setting('server_version_num')::int < 160000")? == "t" {
                    assert_eq!(sqlstate(&mut session, &passes)?, "55000", "{passes}");
                } else {
                    session.run(&passes)?;
                }
                assert_eq!(session.rows(&dead)?, ["0|t|t"]);
                // A live row is changed by whatever names the columns.
                session.run(&format!(
                    "INSERT INTO {into} (id, n) VALUES (2, 5) ON CONFLICT (id) DO UPDATE SET n = excluded.n, deleted_at = NULL"
                ))?;
                assert_eq!(session.text(&format!("SELECT n FROM {view} WHERE id = 2"))?, "5");
            }
        }
    }
    Ok(())
}

#[test]
fn without_the_library_preloaded_upserts_are_refused_too() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    users(&mut session, false, "")?;
    session.run("SELECT upkeep.soft_delete('users', 'id = 1')")?;
    for into in ["users", "users_live"] {
        assert_eq!(sqlstate(&mut session, &upsert(into, ""))?, "55000", "{into}");
    }
    session.run(&upsert("users", " WHERE users.deleted_at IS NULL"))?;
    assert_eq!(session.text(DEAD)?, "0");
    Ok(())
}
