//! A kind of job and a chore that a test registers (`src/outside/`), with workers, commits and crashes.

use anyhow::{Result, bail};

use crate::cluster::{Cluster, PATIENCE};
use crate::faults::{Blow, strike_open_step};
use crate::jobs::wait_for_state;
use crate::session::Session;
use crate::wait::wait_until;

const LAST: i64 = 400;

pub fn run(cluster: &Cluster) -> Result<()> {
    const DATABASE: &str = "outside";
    let mut session = cluster.with_extension(DATABASE)?;
    session.run(
        "CREATE SCHEMA tests;
         CREATE FUNCTION tests.numbers(oid, text, bigint) RETURNS uuid
             LANGUAGE c STRICT AS '$libdir/pg_upkeep', 'outside_numbers_wrapper';
         CREATE ROLE numbers_owner LOGIN;
         GRANT USAGE ON SCHEMA tests TO numbers_owner;
         CREATE TABLE numbers (n bigint);
         ALTER TABLE numbers OWNER TO numbers_owner;
         SET ROLE numbers_owner",
    )?;
    let ask = format!("SELECT tests.numbers('numbers'::regclass, 'public.numbers', {LAST})");
    let job = session.text(&ask)?;
    let refused = session.error(&ask)?;
    expect("a second one is refused", refused.code().code(), "55006")?;
    expect("in these words", refused.message(), "another numbers of this table has not ended")?;
    for blow in [Blow::Kill, Blow::Terminate, Blow::Kill] {
        let before = cluster.log_position();
        strike_open_step(cluster, &mut session, blow)?;
        if matches!(blow, Blow::Kill) {
            cluster.wait_for_restart(before)?;
        }
        session = cluster.connect_again(DATABASE)?;
    }
    wait_for_state(&mut session, &job, "done")?;
    let numbers = "SELECT concat_ws(' ', count(*), count(DISTINCT n), count(*) FILTER (WHERE n % 7 = 0)) FROM numbers";
    let aside = LAST / 7;
    expect("each number once", &session.text(numbers)?, &format!("{0} {0} 0", LAST - aside))?;
    let shown =
        "SELECT concat_ws(' ', j.kind, j.rows_left, j.quarantined, (SELECT count(*) FROM upkeep.quarantined_rows))
                 FROM upkeep.jobs j";
    expect("rows are put aside", &session.text(shown)?, &format!("numbers {aside} {aside} {aside}"))?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait_for_state(&mut session, &job, "done")?;
    expect("and done after all", &session.text(numbers)?, &format!("{LAST} {LAST} {aside}"))?;
    expect("nothing is left", &session.text(shown)?, "numbers 0 0 0")?;
    forgotten(&mut session, &job)?;
    let said = "pg_upkeep scheduler passed over a chore from outside: it fails each time";
    wait_until("the chore to be told of in the log", PATIENCE, || cluster.log().contains(said))
}

fn forgotten(session: &mut Session, job: &str) -> Result<()> {
    session.run(&format!("SELECT upkeep.drop_job('{job}')"))?;
    let left = "SELECT count(*) FROM upkeep._job_claim";
    expect("a job goes with its claims", &session.text(left)?, "0")
}

fn expect(what: &str, found: &str, wanted: &str) -> Result<()> {
    if found != wanted {
        bail!("{what}: {found}, not {wanted}");
    }
    Ok(())
}
