//! Memory that the system refuses, and what a server's environment does to errors.

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use upkeep_tests::jobs::wait_for_state;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

/// A value for an argument of this type.
const VALUES: &str = "
    CREATE FUNCTION a_value(type regtype) RETURNS text LANGUAGE sql RETURN CASE type
        WHEN 'regclass'::regtype THEN '''t''::regclass' WHEN 'oid'::regtype THEN '''t''::regclass::oid'
        WHEN 'uuid'::regtype THEN 'gen_random_uuid()' WHEN 'integer'::regtype THEN '1' WHEN 'bigint'::regtype THEN '1'
        WHEN 'double precision'::regtype THEN '0.5' WHEN 'boolean'::regtype THEN 'true'
        WHEN 'interval'::regtype THEN '''1 hour''::interval' WHEN 'timestamptz'::regtype THEN 'now()'
        WHEN 'jsonb'::regtype THEN '''{}''::jsonb' WHEN 'name'::regtype THEN '''n''::name'
        WHEN 'text'::regtype THEN '''n''::text' ELSE format('NULL::%s', type) END";

/// A call for each argument of each function of ours that can be of any length, in which it is very long.
const CALLS: &str = "
    SELECT format('SELECT upkeep.%I(%s)', p.proname, (
        SELECT string_agg(CASE WHEN o.n = a.n AND o.type = 'text'::regtype THEN 'repeat(''x'', 32000000)'
                               WHEN o.n = a.n THEN 'jsonb_build_object(''k'', repeat(''x'', 32000000))'
                               ELSE a_value(o.type) END, ', ' ORDER BY o.n)
        FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY o (type, n)))
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    CROSS JOIN LATERAL unnest(p.proargtypes::oid[]) WITH ORDINALITY a (type, n)
    WHERE p.pronamespace = 'upkeep'::regnamespace AND l.lanname = 'c' AND p.prokind = 'f'
      AND a.type IN ('text'::regtype, 'jsonb'::regtype)
    ORDER BY 1";

/// A system that commits no more memory than there is (vm.overcommit_memory = 2) refuses it. For Rust that is the end of the
/// process, and so of everybody's session: nothing is copied whose length somebody else chooses.
#[test]
fn texts_of_any_length_do_not_end_the_server() -> Result<()> {
    // A build may need more. What a process starts has its limits.
    testing::tree();
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(1_300_000 << 10), ..before })?;
    let server = testing::server("refused").preloaded().start();
    setrlimit(Resource::As, before)?;
    let server = server?;
    let mut session = server.connect("postgres")?;
    session.run(&format!(
        "CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
         SELECT upkeep.enable_soft_delete('t'); {VALUES}"
    ))?;
    assert_eq!(session.error("SELECT repeat('x', 900000000) || repeat('x', 100000000)")?.code().code(), "53200");
    let pid = session.pid()?;
    let calls: Vec<String> = session.values(CALLS)?;
    ensure!(calls.len() >= 30, "{calls:?}");
    let mut others = Vec::new();
    for call in calls {
        let error = session.error(&call).with_context(|| call.clone())?;
        // Too long, or longer than a name may be.
        if !["54000", "22023"].contains(&error.code().code()) || error.message().len() > 500 {
            let message: String = error.message().chars().take(200).collect();
            others.push(format!("{call}: {} {message}", error.code().code()));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
    // What the server itself can just hold.
    for call in [
        "SELECT upkeep.backfill('t', 'v = v', repeat(' ', 300000000) || 'true')",
        "SELECT upkeep.preview_backfill('t', 'v = v', repeat(' ', 300000000) || 'true')",
        "SELECT upkeep.soft_delete('t', repeat(' ', 300000000) || 'true')",
    ] {
        assert_eq!(session.error(call)?.code().code(), "54000", "{call}");
    }
    assert_eq!(session.pid()?, pid);
    Ok(())
}

/// RUST_BACKTRACE in the environment of a server is for whoever looks at it, not for who is connected.
#[test]
fn errors_have_no_backtrace() -> Result<()> {
    let server = testing::server("backtrace").preloaded().environment("RUST_BACKTRACE", "1").start()?;
    let mut session = server.connect("postgres")?;
    no_error_has_a_backtrace(&mut session)?;
    // The worker of a job keeps what an error said.
    let job = session.text("SELECT upkeep.run_in_background('SELECT 1 / v FROM (VALUES (0)) t(v)')")?;
    wait_for_state(&mut session, &job, "failed")?;
    let kept = session.text(&format!("SELECT error FROM upkeep.jobs WHERE id = '{job}'"))?;
    assert!(kept.contains("division by zero"), "{kept}");
    assert_no_backtrace(&kept);
    for detail in session.rows("SELECT detail FROM upkeep.job_events")? {
        assert_no_backtrace(&detail);
    }
    // The processes that the server starts find what it was started with.
    session.run("CREATE TABLE env (line text); COPY env FROM PROGRAM 'echo $RUST_BACKTRACE-$RUST_LIB_BACKTRACE-'")?;
    assert_eq!(session.text("SELECT line FROM env")?, "1--");

    // Where a session loads the library, and everything that Rust knows asks for one.
    let server = testing::server("backtrace_full")
        .environment("RUST_BACKTRACE", "full")
        .environment("RUST_LIB_BACKTRACE", "full")
        .start()?;
    no_error_has_a_backtrace(&mut server.connect("postgres")?)
}

fn assert_no_backtrace(text: &str) {
    assert!(!text.contains("pgrx") && !text.contains("   0: ") && !text.contains(".rs:"), "{text}");
}

fn no_error_has_a_backtrace(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
         SELECT upkeep.enable_soft_delete('t');
         CREATE TABLE whole (id int) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF whole DEFAULT;
         CREATE FUNCTION broken(bigint) RETURNS double precision LANGUAGE c AS '$libdir/pg_upkeep', 'upkeep_query_percentile_wrapper'",
    )?;
    for statement in [
        // A panic: a function that is not declared as it is written.
        "SELECT broken(1)",
        // An error of the server's that passes pgrx, one of ours, and one that pgrx raises.
        "SELECT upkeep.enable_timestamps('leaf')",
        "SELECT upkeep.backfill('t', 'v = 1', 'v = ''x''')",
        "SELECT upkeep.backfill('t', 'v = 1', 'nonsense(')",
        "SELECT upkeep.enable_soft_delete('t', 'nonsense')",
        "SELECT upkeep.import_index_usage('n', ('[' || repeat('[', 200) || repeat(']', 200) || ']')::jsonb)",
        "SELECT upkeep.alter_soft_deleted('t', 'ALTER TABLE')",
        "SELECT upkeep.alter_soft_deleted('t', 'ALTER TABLE t ADD COLUMN id int')",
        "SELECT upkeep.preview_backfill('t', 'v = 1 / (v - 1)', 'true')",
    ] {
        let error = session.error(statement)?;
        let all = format!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
        assert_no_backtrace(&all);
    }
    Ok(())
}
