//! Sequences, parking and children, with a kind whose steps do what a test wants of them (`src/outside/nested.rs`): each is to be done
//! once and in order, whatever comes in between.

use anyhow::{Result, bail};

use crate::cluster::{Cluster, PATIENCE};
use crate::faults::{Blow, strike_open_step};
use crate::jobs::{executors_of, state, wait_for_state};
use crate::session::Session;
use crate::testing::wait_for_text;
use crate::wait::wait_for;

type Test = fn(&Cluster, &mut Session, bool) -> Result<()>;

macro_rules! named {
    ($($test:ident,)*) => { [$((stringify!($test), $test as Test)),*] };
}

/// Each in a database of its own; the flag: in full.
pub const TESTS: [(&str, Test); 10] = named![
    steps_nested_three_deep_are_done_once_and_in_order,
    killed_at_any_step_the_end_is_the_same,
    canceled_and_retried_at_any_step_the_end_is_the_same,
    a_sequence_of_one_is_the_work_alone,
    a_person_is_waited_for_without_a_worker,
    what_failed_goes_on_and_what_is_undone_is_done_again,
    what_is_done_to_a_parent_goes_down_and_up_comes_what_becomes_of_its_children,
    a_thousand_parked_jobs_hold_nothing,
    what_is_parked_goes_on_in_a_copy_of_the_database,
    what_is_parked_goes_on_on_a_standby_that_is_promoted,
];

pub fn run(test: Test, name: &str, cluster: &Cluster, full: bool) -> Result<()> {
    let database = &name[..name.len().min(60)];
    let mut session = cluster.with_extension(database)?;
    session.run(
        "CREATE SCHEMA tests;
         CREATE FUNCTION tests.nested(oid, jsonb) RETURNS uuid
             LANGUAGE c STRICT AS '$libdir/pg_upkeep', 'outside_nested_wrapper';
         CREATE FUNCTION tests.alone(oid, text, text) RETURNS uuid
             LANGUAGE c STRICT AS '$libdir/pg_upkeep', 'outside_alone_wrapper';
         DO $$ BEGIN CREATE ROLE nested_owner LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         GRANT USAGE ON SCHEMA tests TO nested_owner;
         CREATE TABLE done (what text, n bigserial);
         ALTER TABLE done OWNER TO nested_owner;
         SET ROLE nested_owner",
    )?;
    test(cluster, &mut session, full)
}

/// Everything that a step can be, three deep.
const ALL: &str = r#"[["write", "a"], ["wait", "b"],
    [["top", "c"], ["skip", "d"], [["park", "e"], ["write", "f"]], ["child", "g"]], ["top", "h"]]"#;
const ALL_DONE: &str = "a 0,a 1,a 2,b before,b after,c,e before,e after,f 0,f 1,f 2,1,2,3,4,5,6,g,h";
const ROWS: &str =
    "SELECT string_agg(what, ',' ORDER BY n) FROM done WHERE what NOT LIKE 'allow %' AND what NOT LIKE 'keep %'";

fn nested(session: &mut Session, steps: &str) -> Result<String> {
    session.text(&format!("SELECT tests.nested('done'::regclass, '{steps}')"))
}

fn expect(what: &str, found: &str, wanted: &str) -> Result<()> {
    if found != wanted {
        bail!("{what}: {found}, not {wanted}");
    }
    Ok(())
}

fn all_is_done(session: &mut Session, job: &str) -> Result<()> {
    wait_for_state(session, job, "done")?;
    expect("each row once, in order", &session.text(ROWS)?, ALL_DONE)?;
    let steps = format!(
        "SELECT string_agg(concat_ws(' ', step_no, action, state), ',' ORDER BY step_no) FROM upkeep.job_steps WHERE job = '{job}'"
    );
    expect(
        "the steps",
        &session.text(&steps)?,
        "1 write done,2 wait done,3 top done,4 skip skipped,5 park done,6 write done,7 child done,8 top done",
    )?;
    // The seventh number was put aside, by the child.
    let shown = format!("SELECT concat_ws(' ', percent, rows_left, quarantined) FROM upkeep.jobs WHERE id = '{job}'");
    expect("the whole", &session.text(&shown)?, "100 1 1")
}

fn steps_nested_three_deep_are_done_once_and_in_order(
    _cluster: &Cluster,
    session: &mut Session,
    _full: bool,
) -> Result<()> {
    let job = nested(session, ALL)?;
    all_is_done(session, &job)?;
    let child = session.text(&format!("SELECT kind || ' ' || state FROM upkeep.jobs WHERE parent = '{job}'"))?;
    expect("its child", &child, "numbers done")?;
    let facts =
        "SELECT concat_ws(' ', schemaname, relname, relid = 'done'::regclass, lock_mode, reversible, attempts, command,
                                  started_at <= finished_at)
                 FROM upkeep.job_steps WHERE step_no = 3";
    expect("a step", &session.text(facts)?, "public done t RowExclusiveLock t 1 INSERT .. c t")?;

    // What has left a row is done again, and nothing else.
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    expect("the row that was left", &session.text(ROWS)?, &format!("{ALL_DONE},7,g"))?;
    let shown = format!("SELECT concat_ws(' ', percent, rows_left, quarantined) FROM upkeep.jobs WHERE id = '{job}'");
    expect("the whole", &session.text(&shown)?, "100 0 0")
}

/// How far a job is: any change of its steps' cursors or rows.
const FAR: &str =
    "SELECT (SELECT count(*) FROM done) + (SELECT count(*) FROM upkeep.job_steps WHERE state <> 'planned')";

/// Waits until the job has come further, or has ended; `None`: it has.
fn come_further(session: &mut Session, job: &str, than: i64) -> Result<Option<i64>> {
    wait_for("a job to come further", PATIENCE, || {
        let far: i64 = session.value(FAR)?;
        let ended = ["done", "failed", "canceled"].contains(&&*state(session, job)?);
        Ok((ended || far > than).then_some((!ended).then_some(far)))
    })
}

/// Kills an executor in the middle of a step, and with it the server. Gives a new session.
fn strike(cluster: &Cluster, session: &mut Session) -> Result<Session> {
    let database = session.text("SELECT current_database()")?;
    let before = cluster.log_position();
    strike_open_step(cluster, session, Blow::Kill)?;
    cluster.wait_for_restart(before)?;
    let mut session = cluster.connect_again(&database)?;
    session.run("SET ROLE nested_owner")?;
    Ok(session)
}

fn killed_at_any_step_the_end_is_the_same(cluster: &Cluster, session: &mut Session, full: bool) -> Result<()> {
    let job = nested(session, ALL)?;
    let (mut far, mut blows) = (0, 0);
    let most = if full { 100 } else { 6 };
    while blows < most {
        let Some(now) = come_further(session, &job, far)? else { break };
        far = now;
        match strike(cluster, session) {
            Ok(next) => *session = next,
            // It has ended before it was hit.
            Err(_) if state(session, &job)? == "done" => break,
            Err(error) => return Err(error),
        }
        blows += 1;
    }
    if blows < 3 {
        bail!("only {blows} blows fell");
    }
    let again = "SELECT sum(attempts) > count(*) FROM upkeep.job_steps WHERE state IN ('done', 'skipped', 'running')";
    expect("steps that were hit have begun again", &session.text(again)?, "t")?;
    all_is_done(session, &job)
}

fn canceled_and_retried_at_any_step_the_end_is_the_same(
    _cluster: &Cluster,
    session: &mut Session,
    full: bool,
) -> Result<()> {
    let job = nested(session, ALL)?;
    let (mut far, mut times, mut cut_off) = (0, 0, 0);
    let most = if full { 100 } else { 12 };
    while times < most {
        let Some(now) = come_further(session, &job, far)? else { break };
        far = now;
        times += 1;
        // It may be done by now.
        let ended = session.text(&format!(
            "SELECT state FROM upkeep.jobs WHERE id = '{job}' AND state IN ('done', 'failed', 'canceled')"
        ));
        if ended.is_ok_and(|state| !state.is_empty()) {
            break;
        }
        if session.run(&format!("SELECT upkeep.cancel('{job}')")).is_err() {
            break;
        }
        let left = "SELECT count(*) FROM upkeep.jobs WHERE state NOT IN ('done', 'failed', 'canceled')";
        expect("it and its child are canceled", &session.text(left)?, "0")?;
        expect(
            "no step is at work",
            &session.text("SELECT count(*) FROM upkeep.job_steps WHERE state = 'running'")?,
            "0",
        )?;
        let said = "SELECT count(*) FROM upkeep.job_steps
                    WHERE state = 'failed' AND detail = 'canceled' AND finished_at IS NOT NULL";
        cut_off += session.value::<i64>(said)?;
        session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    }
    if times < 5 || cut_off < 1 {
        bail!("it was canceled only {times} times, at a step {cut_off} times");
    }
    all_is_done(session, &job)
}

/// What is seen of a job when it has ended, but for its steps.
fn seen(session: &mut Session, job: &str) -> Result<String> {
    let events = "SELECT string_agg(event || coalesce(' ' || detail, ''), ',' ORDER BY happened_at)
                  FROM upkeep.job_events WHERE job = j.id";
    session.text(&format!(
        "SELECT concat_ws(' / ', j.state, j.percent, j.rows_done, j.rows_left, j.quarantined, j.error, ({events}), ({ROWS}))
         FROM upkeep.jobs j WHERE j.id = '{job}'"
    ))
}

fn a_sequence_of_one_is_the_work_alone(cluster: &Cluster, session: &mut Session, _full: bool) -> Result<()> {
    // A step lasts long enough to be hit.
    session.run(
        "RESET ROLE;
         CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END$$;
         CREATE TRIGGER slowly BEFORE INSERT ON done FOR EACH ROW EXECUTE FUNCTION public.slowly();
         SET ROLE nested_owner",
    )?;
    for ask in ["tests.alone('done'::regclass, 'write', 'x')", r#"tests.nested('done'::regclass, '[["write", "x"]]')"#]
    {
        session.run("DELETE FROM done")?;
        let job = session.text(&format!("SELECT {ask}"))?;
        for rows in 0..3 {
            wait_for_text(session, "SELECT least(count(*), 3) FROM done", &rows.to_string())?;
            *session = strike(cluster, session)?;
        }
        wait_for_state(session, &job, "done")?;
        expect("killed at each step", &session.text(ROWS)?, "x 0,x 1,x 2")?;
    }
    session.run("DROP TRIGGER slowly ON done")?;
    for what in ["write", "wait", "park", "top", "fail", "raise", "undo", "skip", "child"] {
        let mut both = Vec::new();
        for ask in [
            format!("SELECT tests.alone('done'::regclass, '{what}', 'x')"),
            format!("SELECT tests.nested('done'::regclass, '[[\"{what}\", \"x\"]]')"),
        ] {
            session.run("DELETE FROM done")?;
            let job = session.text(&ask)?;
            wait_for("the job to end", PATIENCE, || {
                Ok(["done", "failed"].contains(&&*state(session, &job)?).then_some(()))
            })?;
            both.push(seen(session, &job)?);
        }
        // The one is a step of a sequence, which a failure says it could not undo.
        if what != "undo" {
            expect(what, &both[1], &both[0])?;
        }
    }
    Ok(())
}

fn a_person_is_waited_for_without_a_worker(_cluster: &Cluster, session: &mut Session, _full: bool) -> Result<()> {
    let job = nested(session, r#"[["tell", "x"], ["write", "y"]]"#)?;
    let shown = format!("SELECT concat_ws(' ', state, wait_reason) FROM upkeep.jobs WHERE id = '{job}'");
    let asks = |session: &mut Session| {
        wait_for_text(session, &shown, "waiting x asks")?;
        wait_for("its worker to leave", PATIENCE, || Ok(executors_of(session, &job)?.is_empty().then_some(())))
    };
    asks(session)?;
    // To pause and resume is no answer.
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    wait_for_text(session, &shown, "paused")?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    asks(session)?;
    session.run("RESET ROLE; SELECT upkeep.pause_all(); SELECT upkeep.resume_all(); SET ROLE nested_owner")?;
    asks(session)?;
    expect("nothing is done", &session.text("SELECT count(*) FROM done")?, "0")?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    expect("it is", &session.text(ROWS)?, "x,y 0,y 1,y 2")
}

fn what_failed_goes_on_and_what_is_undone_is_done_again(
    _cluster: &Cluster,
    session: &mut Session,
    _full: bool,
) -> Result<()> {
    let steps = "SELECT string_agg(state, ',' ORDER BY step_no) FROM upkeep.job_steps";
    let job = nested(session, r#"[["write", "a"], [["wait", "b"], ["fail", "c"]], ["write", "d"]]"#)?;
    wait_for_state(session, &job, "failed")?;
    expect("its error", &session.text(&format!("SELECT error FROM upkeep.jobs WHERE id = '{job}'"))?, "c fails")?;
    expect("the steps", &session.text(steps)?, "done,done,failed,planned")?;
    session.run(&format!("INSERT INTO done VALUES ('allow c'); SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    expect("once", &session.text(ROWS)?, "a 0,a 1,a 2,b before,b after,c,d 0,d 1,d 2")?;

    session.run(&format!("SELECT upkeep.drop_job('{job}'); DELETE FROM done"))?;
    expect("the steps go with the job", &session.text("SELECT count(*) FROM upkeep.job_steps")?, "0")?;
    let job = nested(
        session,
        r#"[["write", "a"], [["top", "b"], ["skip", "c"]], ["wait", "d"], [["undo", "e"]], ["write", "f"]]"#,
    )?;
    wait_for_state(session, &job, "failed")?;
    // What waits cannot be undone.
    expect("what is undone", &session.text(ROWS)?, "d before,d after")?;
    expect("the steps", &session.text(steps)?, "undone,undone,skipped,done,failed,planned")?;
    let error = session.text(&format!("SELECT error FROM upkeep.jobs WHERE id = '{job}'"))?;
    expect("its error", &error, "e fails")?;
    session.run(&format!("INSERT INTO done VALUES ('allow e'); SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    // What could not be undone is not done twice.
    expect("done again", &session.text(ROWS)?, "d before,d after,a 0,a 1,a 2,b,e,f 0,f 1,f 2")?;

    session.run(&format!("SELECT upkeep.drop_job('{job}'); DELETE FROM done; INSERT INTO done VALUES ('keep b')"))?;
    let job = nested(session, r#"[["write", "a"], [["top", "b"], ["write", "c"]], ["undo", "d"]]"#)?;
    wait_for_state(session, &job, "failed")?;
    let error = session.text(&format!("SELECT error FROM upkeep.jobs WHERE id = '{job}'"))?;
    expect("what cannot be undone", &error, "b is kept")?;
    expect("undone so far", &session.text(ROWS)?, "a 0,a 1,a 2,b")?;
    expect("the steps", &session.text(steps)?, "done,failed,undone,failed")?;
    // What was undone is done again, and nothing twice.
    session.run(&format!("INSERT INTO done VALUES ('allow d'); SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    expect("forward from there", &session.text(ROWS)?, "a 0,a 1,a 2,b,c 0,c 1,c 2,d")?;

    session.run(&format!("SELECT upkeep.drop_job('{job}'); DELETE FROM done"))?;
    let job = nested(session, r#"[["child", "a"], ["fail", "b"]]"#)?;
    wait_for_state(session, &job, "failed")?;
    session.run(&format!("INSERT INTO done VALUES ('allow b'); SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    // A job that goes on leaves the rows that a step before has left.
    expect("the steps", &session.text(steps)?, "done,done")?;
    expect("all but the row that is left", &session.text(ROWS)?, "1,2,3,4,5,6,a,b")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    expect("and that", &session.text(ROWS)?, "1,2,3,4,5,6,a,b,7,a")
}

fn what_is_done_to_a_parent_goes_down_and_up_comes_what_becomes_of_its_children(
    _cluster: &Cluster,
    session: &mut Session,
    _full: bool,
) -> Result<()> {
    let job = nested(session, r#"[["write", "a"], ["child", "b"], ["write", "c"]]"#)?;
    let of_child = format!("SELECT id FROM upkeep.jobs WHERE parent = '{job}'");
    let child = wait_for("the child", PATIENCE, || Ok(session.rows(&of_child)?.into_iter().next()))?;
    let states = format!(
        "SELECT string_agg(state, ' ' ORDER BY parent NULLS FIRST) FROM upkeep.jobs WHERE '{job}' IN (id, parent)"
    );
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    expect("both are paused", &session.text(&states)?, "paused paused")?;
    for verb in ["resume", "drop_job"] {
        expect(verb, session.error(&format!("SELECT upkeep.{verb}('{child}')"))?.code().code(), "55000")?;
    }
    session.run(&format!("SELECT upkeep.alter_job('{job}', max_wal_rate => 100000)"))?;
    let limits = format!("SELECT limits ->> 'max_wal_rate' FROM upkeep.jobs WHERE id = '{child}'");
    expect("limits go down", &session.text(&limits)?, "100000")?;
    session.run(&format!("SELECT upkeep.resume('{job}'); SELECT upkeep.cancel('{child}')"))?;
    wait_for_state(session, &job, "failed")?;
    let error = format!("SELECT error FROM upkeep.jobs WHERE id = '{job}'");
    expect("its error", &session.text(&error)?, "a part of the job was canceled")?;
    expect(
        "a retry of the child alone",
        session.error(&format!("SELECT upkeep.retry('{child}')"))?.code().code(),
        "55000",
    )?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")?;
    expect("all once", &session.text(ROWS)?, "a 0,a 1,a 2,1,2,3,4,5,6,b,c 0,c 1,c 2")?;
    let shown = format!("SELECT concat_ws(' ', rows_done, rows_left, quarantined) FROM upkeep.jobs WHERE id = '{job}'");
    expect("what comes up", &session.text(&shown)?, "13 1 1")?;
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))?;
    expect("they go together", &session.text("SELECT count(*) FROM upkeep.jobs")?, "0")?;

    // A parent that is canceled takes its child with it, and both come back.
    session.run("DELETE FROM done")?;
    let job = nested(session, r#"[["child", "b"]]"#)?;
    let of_child = format!("SELECT count(*) FROM upkeep.jobs WHERE parent = '{job}'");
    wait_for_text(session, &of_child, "1")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    let states = format!("SELECT string_agg(state, ' ') FROM upkeep.jobs WHERE '{job}' IN (id, parent)");
    expect("both are canceled", &session.text(&states)?, "canceled canceled")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_state(session, &job, "done")
}

fn a_thousand_parked_jobs_hold_nothing(_cluster: &Cluster, session: &mut Session, full: bool) -> Result<()> {
    let count = if full { 1000 } else { 100 };
    session.run("RESET ROLE")?;
    session.run("ALTER SYSTEM SET upkeep.max_jobs_per_role = 2000")?;
    session.run("SELECT pg_reload_conf()")?;
    wait_for_text(session, "SHOW upkeep.max_jobs_per_role", "2000")?;
    session.run(&format!(
        "SET ROLE nested_owner;
         SELECT tests.nested('done'::regclass, '[[\"tell\", \"x\"]]') FROM generate_series(1, {count})"
    ))?;
    wait_for_text(session, "SELECT count(*) FROM upkeep.jobs WHERE state = 'waiting'", &count.to_string())?;
    let database = session.text("SELECT current_database()")?;
    let nobody =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()");
    wait_for_text(session, &nobody, "0")?;
    session.run("RESET ROLE")?;
    session.run("ALTER SYSTEM RESET upkeep.max_jobs_per_role")?;
    session.run("SELECT pg_reload_conf()")
}

/// Jobs in all these states: one waits for a person, a parent is paused with its child, one has failed.
struct Waiting {
    person: String,
    parent: String,
    failed: String,
}

impl Waiting {
    fn make(session: &mut Session) -> Result<Self> {
        let person = nested(session, r#"[["write", "a"], ["tell", "b"], ["write", "c"]]"#)?;
        wait_for_text(session, &shown(&person), "waiting")?;
        let parent = nested(session, r#"[["child", "d"]]"#)?;
        wait_for_text(session, &format!("SELECT count(*) FROM upkeep.jobs WHERE parent = '{parent}'"), "1")?;
        session.run(&format!("SELECT upkeep.pause('{parent}')"))?;
        let failed = nested(session, r#"[["write", "e"], ["fail", "f"]]"#)?;
        wait_for_state(session, &failed, "failed")?;
        Ok(Waiting { person, parent, failed })
    }

    /// They go on elsewhere, as soon as they may.
    fn go_on(&self, session: &mut Session) -> Result<()> {
        let Waiting { person, parent, failed } = self;
        wait_for_state(session, parent, "done")?;
        wait_for_state(session, failed, "done")?;
        wait_for_text(session, &shown(person), "waiting")?;
        session.run(&format!("SELECT upkeep.resume('{person}')"))?;
        wait_for_state(session, person, "done")?;
        let rows = "SELECT count(*) || ' ' || count(DISTINCT what) FROM done WHERE what NOT LIKE 'allow %'";
        expect("each once", &session.text(rows)?, "18 18")
    }
}

fn shown(job: &str) -> String {
    format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'")
}

fn what_is_parked_goes_on_in_a_copy_of_the_database(
    cluster: &Cluster,
    session: &mut Session,
    _full: bool,
) -> Result<()> {
    let waiting = Waiting::make(session)?;
    let dump = cluster.dump(&session.text("SELECT current_database()")?)?;
    cluster.restore("nested_copy", &dump)?;
    let mut copy = cluster.connect("nested_copy")?;
    let all =
        "SELECT string_agg(DISTINCT concat_ws(' ', state, wait_reason), ',') FROM upkeep.jobs WHERE state <> 'failed'";
    expect("nothing wakes up", &copy.text(all)?, "paused restored")?;
    // Its retry queues the one that has failed, for an administrator to let it go on here as well.
    copy.run(&format!(
        "INSERT INTO done VALUES ('allow f'); SELECT upkeep.retry('{}'); SELECT upkeep.resume_all()",
        waiting.failed
    ))?;
    waiting.go_on(&mut copy)
}

fn what_is_parked_goes_on_on_a_standby_that_is_promoted(
    cluster: &Cluster,
    session: &mut Session,
    _full: bool,
) -> Result<()> {
    let waiting = Waiting::make(session)?;
    let database = session.text("SELECT current_database()")?;
    let standby = cluster.standby("nested-standby")?;
    let mut there = standby.connect(&database)?;
    expect("seen there", &there.text(&shown(&waiting.person))?, "waiting")?;
    expect("steps, too", &there.text("SELECT count(*) FROM upkeep.job_steps")?, "6")?;
    standby.promote()?;
    there.run(&format!(
        "INSERT INTO done VALUES ('allow f'); SELECT upkeep.retry('{}'); SELECT upkeep.resume('{}')",
        waiting.failed, waiting.parent
    ))?;
    waiting.go_on(&mut there)
}
