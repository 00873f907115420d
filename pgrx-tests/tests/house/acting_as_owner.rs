//! What runs as the owner of a table runs nothing of anybody else's: not his operators and casts, and not what he does to a
//! table once it is his.

use anyhow::Result;
use upkeep_tests::jobs::{join, meanwhile, meanwhile_error, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

/// A role with a schema of its own, and a function in it that says who runs it.
fn role_with_schema(db: &Database, admin: &mut Session, name: &str, schema: &str) -> Result<(String, Session)> {
    let role = db.role(name)?;
    admin.run(&format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"))?;
    let session = db.connect_as(&role)?;
    Ok((role, session))
}

/// Where code of somebody's notes as whom it ran.
fn note_runs(admin: &mut Session) -> Result<()> {
    admin.run("CREATE TABLE public.ran (who name, what text); GRANT INSERT ON public.ran TO PUBLIC")
}

const RAN: &str = "SELECT coalesce(string_agg(DISTINCT what || ' as ' || who, ','), 'nothing') FROM public.ran";

/// A trigger further up waits, and somebody wants to change the owner of a cascaded table: not before the statement's end,
/// which acts as the owner that it has found.
#[test]
fn no_table_is_handed_over_in_the_middle_of_a_deletion() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    note_runs(&mut admin)?;
    let (mallory, mut session) = role_with_schema(&db, &mut admin, "mallory", "mal")?;
    session.run(
        "CREATE TABLE mal.customer (id int PRIMARY KEY);
         CREATE TABLE mal.c1 (id int PRIMARY KEY, customer int REFERENCES mal.customer ON DELETE CASCADE);
         CREATE FUNCTION mal.waits() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             PERFORM pg_advisory_xact_lock(42); RETURN NEW; END$$;
         CREATE FUNCTION mal.says() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             INSERT INTO public.ran VALUES (current_user, TG_TABLE_NAME); RETURN NEW; END$$;
         CREATE TRIGGER waits BEFORE UPDATE ON mal.c1 FOR EACH ROW EXECUTE FUNCTION mal.waits();
         SELECT upkeep.enable_soft_delete('mal.c1'), upkeep.enable_soft_delete('mal.customer')",
    )?;
    admin.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, customer int REFERENCES mal.customer ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('shop.orders'); GRANT USAGE ON SCHEMA shop TO PUBLIC",
    )?;
    session.run("INSERT INTO mal.customer SELECT generate_series(1, 2); INSERT INTO mal.c1 SELECT g, g FROM generate_series(1, 2) g")?;
    admin.run("INSERT INTO shop.orders SELECT g, g FROM generate_series(1, 2) g")?;
    admin.run("SELECT pg_advisory_lock(42)")?;
    let mut other = db.connect_as(&mallory)?;
    let pid = other.pid()?;
    // Its program is there already.
    other.run("BEGIN; SELECT upkeep.soft_delete('mal.customer', 'false'); COMMIT")?;
    let deletes = meanwhile(other, "DELETE FROM mal.customer_live WHERE id = 1");
    let waiting = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND locktype = 'advisory' AND NOT granted");
    wait_for_text(&mut admin, &waiting, "1")?;
    admin.run("SET lock_timeout = '300 ms'")?;
    let hand_over = format!("ALTER TABLE shop.orders OWNER TO {mallory}");
    assert_eq!(admin.error(&hand_over)?.code().code(), "55P03");
    admin.run("SELECT pg_advisory_unlock(42)")?;
    let (mut other, deleted) = join(deletes)?;
    deleted?;
    assert_eq!(admin.text("SELECT count(*) FROM shop.orders WHERE deleted_at IS NULL")?, "1");
    // The same when it is brought back, by id.
    admin.run("SELECT pg_advisory_lock(42)")?;
    session.run("CREATE TRIGGER waits BEFORE UPDATE ON mal.customer FOR EACH ROW EXECUTE FUNCTION mal.waits()")?;
    let id = other.text("SELECT id FROM upkeep.deletions")?;
    let undeletes = meanwhile(other, &format!("SELECT upkeep.undelete('{id}'::uuid)"));
    wait_for_text(&mut admin, &waiting, "1")?;
    assert_eq!(admin.error(&hand_over)?.code().code(), "55P03");
    admin.run("SELECT pg_advisory_unlock(42)")?;
    let (mut other, undeleted) = join(undeletes)?;
    undeleted?;
    assert_eq!(admin.text("SELECT count(*) FROM shop.orders WHERE deleted_at IS NULL")?, "2");
    // Afterwards it is its new owner's, in the session that knew the former one too.
    admin.run(&hand_over)?;
    session.run("CREATE TRIGGER says BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION mal.says()")?;
    other.run("DELETE FROM mal.customer_live WHERE id = 2")?;
    assert_eq!(admin.text(RAN)?, format!("orders as {mallory}"));
    Ok(())
}

/// Domains over citext, whose operators are in a schema where others may create some that fit the domains better.
#[test]
fn keys_are_compared_by_their_own_operators() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    note_runs(&mut admin)?;
    let (mallory, mut session) = role_with_schema(&db, &mut admin, "mallory", "m2")?;
    admin.run(&format!(
        "CREATE EXTENSION citext SCHEMA public; GRANT CREATE ON SCHEMA public TO {mallory};
         CREATE TABLE public.account (code citext PRIMARY KEY, name text);
         SELECT upkeep.enable_soft_delete('public.account'); INSERT INTO public.account VALUES ('a', 'x'), ('b', 'y');
         GRANT SELECT, REFERENCES ON public.account TO {mallory};
         CREATE SCHEMA priv; CREATE DOMAIN public.pcode AS citext;
         CREATE TABLE priv.t (code public.pcode PRIMARY KEY, n int);
         CREATE TABLE priv.c (id int PRIMARY KEY, code public.pcode REFERENCES priv.t ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('priv.c'), upkeep.enable_soft_delete('priv.t')"
    ))?;
    session.run(
        "CREATE DOMAIN public.mycode AS citext; CREATE DOMAIN m2.dom AS citext;
         CREATE TABLE public.mine (id int PRIMARY KEY, code public.mycode REFERENCES account);
         CREATE TABLE m2.par (code m2.dom PRIMARY KEY); SELECT upkeep.enable_soft_delete('m2.par');
         GRANT USAGE ON SCHEMA m2 TO PUBLIC; GRANT REFERENCES ON m2.par TO PUBLIC; INSERT INTO m2.par VALUES ('a'), ('b')",
    )?;
    admin.run(
        "CREATE TABLE priv.kid (id int PRIMARY KEY, code citext REFERENCES m2.par ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('priv.kid'); INSERT INTO priv.kid VALUES (1, 'a'), (2, 'b')",
    )?;
    let kinds = [
        ("citext", "public.mycode"),
        ("public.pcode", "public.pcode"),
        ("m2.dom", "citext"),
        ("m2.dom", "m2.dom"),
        ("citext", "m2.dom"),
    ];
    for (i, (left, right)) in kinds.into_iter().enumerate() {
        for (k, operator) in ["=", "<=", ">", ">="].into_iter().enumerate() {
            session.run(&format!(
                "CREATE FUNCTION m2.evil{i}{k}({left}, {right}) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
                     INSERT INTO public.ran VALUES (current_user, '{left} {operator} {right}'); RETURN true; END$$;
                 GRANT EXECUTE ON FUNCTION m2.evil{i}{k} TO PUBLIC;
                 CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = m2.evil{i}{k})"
            ))?;
        }
    }
    admin.run("SET search_path = pg_catalog; INSERT INTO public.mine VALUES (1, 'a')")?;
    admin.run(
        "INSERT INTO priv.t SELECT 'k' || g, g FROM generate_series(1, 40) g;
         INSERT INTO priv.c SELECT g, 'k' || g FROM generate_series(1, 40) g;
         SELECT upkeep.soft_delete('priv.t', 'n = 1'); DELETE FROM priv.t_live WHERE n = 2",
    )?;
    session.run("DELETE FROM m2.par_live WHERE code OPERATOR(pg_catalog.=) 'a'")?;
    assert_eq!(admin.text("SELECT pg_catalog.count(*) FROM priv.kid WHERE deleted_at IS NULL")?, "1");
    assert_eq!(admin.text("SELECT pg_catalog.count(*) FROM priv.c WHERE deleted_at IS NULL")?, "38");
    assert_eq!(admin.text(RAN)?, "nothing");
    // A job by keys.
    let job =
        admin.text("SELECT upkeep.backfill('priv.t', 'n = 0', 'n > 0', options => '{\"strategy\": \"keys\"}')")?;
    wait(&mut admin, &job)?;
    let job = admin.text("SELECT upkeep.purge_deleted('priv.t', '0')")?;
    wait(&mut admin, &job)?;
    assert_eq!(admin.text(RAN)?, "nothing");
    Ok(())
}

/// What a purge looks at: a column of ours, and a key, whose type says by a function of its owner's what it is cast to.
#[test]
fn a_purge_runs_no_casts_of_others() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    note_runs(&mut admin)?;
    let (mallory, mut session) = role_with_schema(&db, &mut admin, "mallory", "m2")?;
    admin.run(&format!(
        "CREATE SCHEMA al; CREATE TABLE al.par (id int PRIMARY KEY, at timestamptz UNIQUE); SELECT upkeep.enable_soft_delete('al.par');
         GRANT USAGE ON SCHEMA al TO {mallory}; GRANT REFERENCES, SELECT ON al.par TO {mallory};
         INSERT INTO al.par SELECT g, '2000-01-01'::timestamptz + g * interval '1 day' FROM generate_series(1, 100) g;
         SELECT upkeep.soft_delete('al.par', 'id = 100')"
    ))?;
    session.run(
        "CREATE TABLE m2.kid (id int PRIMARY KEY, a int REFERENCES al.par ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('m2.kid', hide => 'none'); INSERT INTO m2.kid VALUES (1, 1);
         SELECT upkeep.soft_delete('m2.kid', 'id = 1');
         CREATE TYPE m2.r AS RANGE (subtype = int4);
         CREATE FUNCTION m2.r2t(m2.r) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN
             INSERT INTO public.ran VALUES (current_user, 'cast'); RETURN '2000-01-02'; END$$;
         CREATE CAST (m2.r AS timestamptz) WITH FUNCTION m2.r2t(m2.r) AS IMPLICIT",
    )?;
    let drop_triggers = "DO $$DECLARE t record; BEGIN
        FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'm2.kid'::regclass AND NOT tgisinternal LOOP
            EXECUTE format('DROP TRIGGER %I ON m2.kid', t.tgname); END LOOP; END$$";
    session.run(&format!(
        "BEGIN; {drop_triggers};
         ALTER TABLE m2.kid ALTER deleted_at TYPE m2.r USING CASE WHEN deleted_at IS NOT NULL THEN m2.r(1, 2) END; COMMIT"
    ))?;
    for call in ["SELECT * FROM upkeep.explain_purge('al.par', '0')", "SELECT upkeep.purge_deleted('al.par', '0')"] {
        let refused = admin.error(call)?;
        assert_eq!(refused.code().code(), "55000", "{refused:?}");
        assert_eq!(refused.message(), "column \"deleted_at\" of m2.kid is gone, or has another type now");
    }
    // The same by the key, whose foreign key the server accepts because there is a cast.
    session.run(
        "ALTER TABLE m2.kid DROP CONSTRAINT kid_a_fkey; SELECT upkeep.disable_soft_delete('m2.kid', 'keep');
         DROP TABLE m2.kid; CREATE TABLE m2.kid2 (id int PRIMARY KEY, a m2.r REFERENCES al.par (at) ON DELETE CASCADE)",
    )?;
    admin.run("TRUNCATE public.ran")?;
    for call in ["SELECT * FROM upkeep.explain_purge('al.par', '0')", "SELECT upkeep.purge_deleted('al.par', '0')"] {
        let refused = admin.error(call)?;
        assert_eq!(refused.code().code(), "55000", "{refused:?}");
        assert_eq!(refused.message(), "rows of m2.kid2 cannot be compared with what they reference");
    }
    assert_eq!(admin.text(RAN)?, "nothing");
    Ok(())
}

/// Whoever may reference a table has triggers on what goes with its rows.
#[test]
fn a_purge_runs_triggers_of_others_as_themselves() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    note_runs(&mut admin)?;
    let (mallory, mut session) = role_with_schema(&db, &mut admin, "mallory", "m2")?;
    admin.run(&format!(
        "CREATE SCHEMA al; CREATE TABLE al.par (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('al.par');
         GRANT USAGE ON SCHEMA al TO {mallory}; GRANT REFERENCES, SELECT ON al.par TO {mallory};
         INSERT INTO al.par SELECT generate_series(1, 3)"
    ))?;
    session.run(
        "CREATE TABLE m2.kid (id int PRIMARY KEY, a int REFERENCES al.par ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('m2.kid'); GRANT USAGE ON SCHEMA m2 TO PUBLIC; GRANT REFERENCES ON m2.kid TO PUBLIC;
         CREATE FUNCTION m2.says() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             INSERT INTO public.ran VALUES (current_user, TG_TABLE_NAME); RETURN OLD; END$$;
         CREATE TRIGGER says BEFORE DELETE ON m2.kid FOR EACH ROW EXECUTE FUNCTION m2.says();
         CREATE TRIGGER says_after AFTER DELETE ON m2.kid FOR EACH ROW EXECUTE FUNCTION m2.says();
         INSERT INTO m2.kid SELECT g, g FROM generate_series(1, 3) g",
    )?;
    admin.run(
        "CREATE TABLE al.grandkid (id int PRIMARY KEY, k int REFERENCES m2.kid ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('al.grandkid'); INSERT INTO al.grandkid SELECT g, g FROM generate_series(1, 3) g;
         SELECT upkeep.soft_delete('al.par', 'id <= 2')",
    )?;
    let job = admin.text("SELECT upkeep.purge_deleted('al.par', '0')")?;
    wait(&mut admin, &job)?;
    assert_eq!(admin.text(RAN)?, format!("kid as {mallory}"));
    let left =
        "SELECT (SELECT count(*) FROM al.par), (SELECT count(*) FROM m2.kid), (SELECT count(*) FROM al.grandkid)";
    assert_eq!(admin.text(left)?, "1|1|1");
    Ok(())
}

/// Whoever has to wait for the lock of his table may find that it is his no more.
#[test]
fn a_table_given_away_meanwhile_is_not_ours_to_change() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let (mallory, mut session) = role_with_schema(&db, &mut admin, "mallory", "mal")?;
    let alice = db.role("alice")?;
    admin.run(&format!("GRANT CREATE, USAGE ON SCHEMA mal TO {alice}"))?;
    session.run("CREATE TABLE mal.h (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('mal.h')")?;
    let before = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'mal.h'::regclass";
    let triggers = admin.text(before)?;
    for call in [
        "SELECT upkeep.disable_soft_delete('mal.h', 'keep')",
        "SELECT upkeep.repair_soft_delete('mal.h')",
        "SELECT upkeep.alter_soft_deleted('mal.h', 'ALTER TABLE mal.h ADD COLUMN n int')",
    ] {
        let mut other = db.connect_as(&mallory)?;
        let pid = other.pid()?;
        admin.run(&format!("BEGIN; ALTER TABLE mal.h OWNER TO {alice}"))?;
        let calls = meanwhile_error(other, call);
        wait_for_text(&mut admin, &format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted"), "1")?;
        admin.run("COMMIT")?;
        let refused = join(calls)??;
        assert_eq!(refused.code().code(), "42501", "{call}: {refused:?}");
        assert_eq!(refused.message(), "must be owner of table mal.h", "{call}");
        assert_eq!(admin.text(before)?, triggers);
        assert_eq!(admin.text("SELECT count(*) FROM upkeep.soft_delete_tables")?, "1");
        admin.run(&format!("ALTER TABLE mal.h OWNER TO {mallory}"))?;
    }
    Ok(())
}

/// A row is shown to who asks; what its types are cast to json by is their owner's.
#[test]
fn a_preview_runs_no_casts_of_the_tables_owner() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    note_runs(&mut admin)?;
    let (_, mut session) = role_with_schema(&db, &mut admin, "mallory", "m2")?;
    session.run(
        "CREATE TYPE m2.en AS ENUM ('a', 'b'); CREATE TYPE m2.pair AS (x m2.en, y int); CREATE DOMAIN m2.dom AS m2.en;
         CREATE FUNCTION m2.en2j(m2.en) RETURNS json LANGUAGE plpgsql AS $$BEGIN
             INSERT INTO public.ran VALUES (current_user, 'cast'); RETURN '1'; END$$;
         CREATE CAST (m2.en AS json) WITH FUNCTION m2.en2j(m2.en);
         CREATE TABLE m2.pv (k m2.en PRIMARY KEY, v int, d m2.dom, p m2.pair, l m2.en[], j jsonb, t text);
         INSERT INTO m2.pv VALUES ('a', NULL, 'b', ('a', 1), '{a,b}', '{\"x\": 1}', NULL)",
    )?;
    let rows = admin.rows(
        "SELECT row_key, old_row, new_row FROM upkeep.preview_backfill('m2.pv', 'v = 1, d = k, t = k', 'v IS NULL')",
    )?;
    assert_eq!(
        rows,
        [
            "{\"k\": \"a\"}|{\"d\": \"b\", \"j\": {\"x\": 1}, \"k\": \"a\", \"l\": \"{a,b}\", \"p\": \"(a,1)\", \"t\": null, \"v\": null}|\
          {\"d\": \"a\", \"j\": {\"x\": 1}, \"k\": \"a\", \"l\": \"{a,b}\", \"p\": \"(a,1)\", \"t\": \"a\", \"v\": 1}"
        ]
    );
    assert_eq!(admin.text(RAN)?, "nothing");
    Ok(())
}
