//! What the history of statements says, read from histories whose every call is known.

use anyhow::Result;
use upkeep_tests::query_history::{Chance, Level, Statement, insert};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

/// Nothing but what the test stores: no scheduler has preloaded the extension here.
fn database() -> Result<(Database, Session)> {
    let db = testing::database_without_preload()?;
    let session = db.connect()?;
    Ok((db, session))
}

fn oid(session: &mut Session, role: &str) -> Result<u32> {
    session.value(&format!("SELECT {role}::text::regrole::oid"))
}

fn text(session: &mut Session, queryid: i64, userid: u32, text: &str) -> Result<()> {
    let text = text.replace('\'', "''");
    session.run(&format!(
        "INSERT INTO upkeep._query (queryid, userid, query, truncated, search_path)
         VALUES ({queryid}, {userid}, '{text}', false, 'public')"
    ))
}

/// An hour of the last days: `hours_ago` counts back from the hour that runs.
fn hour(session: &mut Session, hours_ago: i64, statements: &[Statement]) -> Result<()> {
    let started = format!("date_trunc('hour', now(), 'UTC') - interval '{hours_ago} hours'");
    insert(session, Level::Hours, &started, "1 hour", statements)
}

const LATELY: &str = "now() - interval '3 days', now()";

/// At most a ninth off from 4 us on.
#[test]
fn percentiles_of_known_latencies() -> Result<()> {
    let (db, mut session) = database()?;
    let (me, other) = (oid(&mut session, "current_user")?, db.role("other")?);
    let other = oid(&mut session, &format!("'{other}'"))?;
    let mut chance = Chance(7);
    let mut all = Vec::new();
    // Microseconds to minutes, two humps, in 20 hours.
    for hours_ago in 1..=20 {
        let latencies: Vec<u64> = (0..5000)
            .map(|i| if i % 10 == 0 { chance.latency(2e6, 1.0) } else { chance.latency(300.0, 1.2) }.max(4))
            .collect();
        let statement = Statement::new(-42, me).latencies(latencies.iter().copied());
        let theirs = Statement::new(-42, other).latencies([9_000_000]);
        let nested = Statement { nested: true, ..Statement::new(-42, me).latencies([5_000_000_000]) };
        hour(&mut session, hours_ago, &[statement, theirs, nested, Statement::new(3, me).latencies([1])])?;
        all.extend(latencies);
    }
    all.sort_unstable();
    assert_eq!(all.len(), 100_000);
    for fraction in [0.0, 0.001, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0] {
        let exact = all[((fraction * 100_000f64).ceil() as usize).max(1) - 1] as f64 / 1000.0;
        let found: f64 = session.value(&format!(
            "SELECT upkeep.query_percentile(-42, {fraction}, {LATELY}, role => current_user::text::regrole, toplevel => true)"
        ))?;
        assert!((found - exact).abs() <= exact / 9.0 + 1e-9, "{fraction}: {found} instead of {exact}");
    }
    // Without a role it is everybody's; and nothing ran then, or ever.
    let slowest = format!("SELECT upkeep.query_percentile(-42, 1, {LATELY})");
    assert_eq!(session.value::<f64>(&slowest)?, 5_000_000.0);
    let theirs = format!("SELECT upkeep.query_percentile(-42, 0.5, {LATELY}, role => {other}::oid::regrole)");
    assert_eq!(session.value::<f64>(&theirs)?, 9000.0);
    for nothing in ["-42, 0.5, now() - interval '9 days', now() - interval '8 days'", "5, 0.5"] {
        assert_eq!(session.text(&format!("SELECT upkeep.query_percentile({nothing}) IS NULL"))?, "t");
    }
    // The histogram holds each call once, in its bucket.
    let histogram = format!("upkeep.query_histogram(-42, {LATELY}, current_user::text::regrole, true)");
    assert_eq!(session.text(&format!("SELECT sum(calls) FROM {histogram}"))?, "100000");
    let below = all.iter().filter(|&&us| us < 1024).count();
    assert_eq!(
        session.text(&format!("SELECT sum(calls) FROM {histogram} WHERE upper_time <= 1.024"))?,
        below.to_string()
    );
    let sound = format!(
        "SELECT bool_and(lower_time < upper_time) AND max(cumulative_share) = 1
                AND count(DISTINCT lower_time) = count(*) FROM {histogram}"
    );
    assert_eq!(session.text(&sound)?, "t");
    Ok(())
}

/// A day is read from its own row, its ragged ends from finer ones; nothing is counted twice.
#[test]
fn coarse_and_fine_rows_add_up() -> Result<()> {
    let (_db, mut session) = database()?;
    let me = oid(&mut session, "current_user")?;
    let one = |calls: usize| [Statement::new(1, me).latencies(std::iter::repeat_n(1000, calls))];
    for h in 0..48 {
        let started = format!("timestamptz '2026-01-01 00:00Z' + interval '{h} hours'");
        insert(&mut session, Level::Hours, &started, "1 hour", &one(1))?;
    }
    for day in ["2026-01-01 00:00Z", "2026-01-02 00:00Z"] {
        insert(&mut session, Level::Days, &format!("timestamptz '{day}'"), "1 day", &one(24))?;
    }
    let calls = |session: &mut Session, since: &str, until: &str| {
        session.text(&format!("SELECT calls FROM upkeep.top_queries('total', '{since}', '{until}')"))
    };
    assert_eq!(calls(&mut session, "-infinity", "infinity")?, "48");
    assert_eq!(calls(&mut session, "2026-01-01 06:00Z", "2026-01-03 00:00Z")?, "42");
    assert_eq!(calls(&mut session, "2026-01-01 06:00Z", "2026-01-01 08:00Z")?, "2");
    let by = |session: &mut Session, bucket: &str| {
        session.text(&format!(
            "SELECT count(*) || ' ' || sum(calls) || ' ' || max(calls)
               FROM upkeep.query_history('2026-01-01 00:00Z', '2026-01-03 00:00Z', '{bucket}')"
        ))
    };
    assert_eq!(by(&mut session, "1 hour")?, "48 48 1");
    assert_eq!(by(&mut session, "6 hours")?, "8 48 6");
    assert_eq!(by(&mut session, "1 day")?, "2 48 24");
    // Nothing finer is kept: what there is says how long it is.
    assert_eq!(by(&mut session, "1 minute")?, "48 48 1");
    Ok(())
}

#[test]
fn the_top_and_the_others_are_all_there_is() -> Result<()> {
    let (_db, mut session) = database()?;
    let me = oid(&mut session, "current_user")?;
    let mut statements: Vec<_> =
        (1..=50).map(|i| Statement::new(i, me).latencies(vec![1000 * i as u64; (51 - i) as usize])).collect();
    statements[6].failures = [5, 4, 3, 2];
    // 8 kB blocks: hit, read, dirtied, written; local ones; temporary ones; times; WAL.
    statements[8].counters = (1..=19).collect();
    statements.push(Statement { rows: 1, ..Statement::new(0, 0).latencies([70_000; 3]) });
    statements.push(Statement { nested: true, ..Statement::new(90, me).latencies([1_000_000; 9]) });
    hour(&mut session, 2, &statements)?;
    text(&mut session, 26, me, "SELECT 26")?;

    let top = |session: &mut Session, order: &str, columns: &str| {
        session.rows(&format!("SELECT {columns} FROM upkeep.top_queries('{order}', {LATELY}, 3)"))
    };
    assert_eq!(
        top(&mut session, "calls", "rank, queryid, calls, query")?,
        ["1|1|50|", "2|2|49|", "3|3|48|", "|0|1131|<others>"]
    );
    let total = top(&mut session, "total", "rank, queryid, statements, calls, total_time, query")?;
    assert_eq!(total[..3], ["1|90|1|9|9000|", "2|25|1|26|650|", "3|26|1|25|650|SELECT 26"]);
    assert_eq!(total[3], "|0|48|1227|21010|<others>");
    // What runs within functions is in their callers' time already.
    let shares =
        "SELECT round(sum(share)::numeric, 9) FROM upkeep.top_queries('total', now() - interval '3 days', now(), 100)
                   WHERE toplevel";
    assert_eq!(session.text(shares)?, "1.000000000");
    let listed = "SELECT count(*) || ' ' || sum(statements) FROM upkeep.top_queries('total', now() - interval '3 days', now(), 100)";
    assert_eq!(session.text(listed)?, "52 51");
    assert_eq!(top(&mut session, "errors", "rank, errors, cancellations, timeouts, unknown_errors")?[0], "1|5|4|3|2");
    // Nothing that is not there is ranked.
    assert_eq!(top(&mut session, "errors", "rank")?, ["1", ""]);
    let io = top(&mut session, "io", "queryid, blks_read, blks_written, temp_blks_written, wal_bytes")?;
    assert_eq!(io[0], "9|8|12|10|17");
    for order in ["mean", "p95", "p99"] {
        assert_eq!(top(&mut session, order, "queryid")?, ["90", "50", "49", "0"], "{order}");
    }
    assert_eq!(top(&mut session, "rows", "queryid")?, ["1", "2", "3", "0"]);

    let slow = "SELECT queryid, slow_calls, calls, max_time FROM upkeep.slow_queries";
    assert_eq!(session.rows(slow)?, ["90|9|9|1000"]);
    session.run("SET upkeep.slow_query_min_duration = '60ms'")?;
    assert_eq!(session.rows("SELECT queryid, slow_calls FROM upkeep.slow_queries")?, ["90|9", "0|3"]);
    Ok(())
}

/// As pg_stat_statements: figures for everyone, queryids and texts for whoever may see the role's work.
#[test]
fn texts_are_for_members_and_figures_for_everyone() -> Result<()> {
    let (db, mut superuser) = database()?;
    let [author, member, stranger, monitor] = ["author", "member", "stranger", "monitor"].map(|name| db.role(name));
    let (author, member, stranger, monitor) = (author?, member?, stranger?, monitor?);
    superuser.run(&format!("GRANT {author} TO {member}; GRANT pg_read_all_stats TO {monitor}"))?;
    let userid = oid(&mut superuser, &format!("'{author}'"))?;
    for day in 0..15 {
        let ms = if day == 0 { 20_000_000 } else { 2_000_000 };
        for h in 0..24 {
            hour(&mut superuser, 24 * day + h + 1, &[Statement::new(-77, userid).latencies([ms; 9])])?;
        }
    }
    text(&mut superuser, -77, userid, "SELECT 'top secret'")?;

    let looks = [
        "SELECT queryid, query FROM upkeep.top_queries()",
        "SELECT DISTINCT queryid, query FROM upkeep.query_history()",
        "SELECT queryid, query FROM upkeep.slow_queries",
    ];
    let regressed =
        "SELECT queryid, query FROM upkeep.query_regressions(date_trunc('hour', now(), 'UTC') - interval '1 day')";
    for role in [&author, &member, &monitor] {
        let mut session = db.connect_as(role)?;
        for look in looks.iter().chain([&regressed]) {
            assert_eq!(session.rows(look)?, ["-77|SELECT 'top secret'"], "{role}: {look}");
        }
        assert_eq!(session.text("SELECT upkeep.query_percentile(-77, 0.5) = 20000")?, "t");
        assert!(session.text("SELECT upkeep.performance_report_html()")?.contains("top secret"));
    }
    let mut session = db.connect_as(&stranger)?;
    for look in looks {
        assert_eq!(session.rows(look)?, ["|<insufficient privilege>"], "{look}");
    }
    let calls: i64 = session.value("SELECT calls FROM upkeep.top_queries()")?;
    assert!((198..=216).contains(&calls), "figures are for everyone: {calls}");
    for nothing in [
        "SELECT upkeep.query_percentile(-77, 0.5) IS NULL",
        "SELECT count(*) = 0 FROM upkeep.query_histogram(-77)",
        "SELECT count(*) = 0 FROM upkeep.query_regressions()",
        "SELECT upkeep.performance_report()::text !~ 'top secret|-77'",
        "SELECT upkeep.performance_report_html() !~ 'top secret|-77'",
    ] {
        assert_eq!(session.text(nothing)?, "t", "{nothing}");
    }
    // A cheap function in WHERE sees no more than the rows.
    session.run(
        "CREATE FUNCTION tell(what text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
         $$BEGIN RAISE NOTICE '%', what; RETURN true; END$$",
    )?;
    session.rows("SELECT * FROM upkeep.slow_queries s WHERE tell(s::text)")?;
    assert!(session.notices().iter().all(|notice| !notice.message().contains("secret")));
    Ok(())
}

#[test]
fn regressions_are_found_and_chance_is_not() -> Result<()> {
    let (_db, mut session) = database()?;
    let me = oid(&mut session, "current_user")?;
    let mut chance = Chance(99);
    // A fortnight and a day, of which each has a slow night; statement 5 got slower, and 6 faster.
    for hours_ago in 1..=15 * 24 {
        let lately = hours_ago <= 24;
        let night = if hours_ago % 24 < 8 { 3.0 } else { 1.0 };
        let load = night * (1.0 + 0.1 * chance.uniform());
        let statements: Vec<_> = (1..=30)
            .map(|queryid| {
                let change = match queryid {
                    5 if lately => 1.4,
                    6 if lately => 0.7,
                    _ => 1.0,
                };
                let median = 100.0 * queryid as f64 * load * change;
                Statement::new(queryid, me).latencies((0..10).map(|_| chance.latency(median, 0.5)))
            })
            .chain([Statement::new(0, 0).latencies([if lately { 900_000 } else { 90 }; 10])])
            .collect();
        hour(&mut session, hours_ago, &statements)?;
    }
    let since = "date_trunc('hour', now(), 'UTC') - interval '24 hours'";
    let found = format!(
        "SELECT queryid, round(effect::numeric, 1), probability_slower > 0.6, adjusted_p_value < 0.05, same_hours,
                calls, baseline_calls, added_time > 0, p50_time > baseline_p50_time
           FROM upkeep.query_regressions({since})"
    );
    assert_eq!(session.rows(&found)?, ["5|0.4|t|t|t|240|3360|t|t"]);
    // Too small an effect, too few calls.
    for limits in ["min_effect => 0.6", "min_calls => 241"] {
        let none = format!("SELECT count(*) FROM upkeep.query_regressions({since}, {limits})");
        assert_eq!(session.text(&none)?, "0", "{limits}");
    }
    // Six hours of the night are no regression against days that had nights, too.
    let night = "SELECT count(*) FROM upkeep.query_regressions(
                     date_trunc('hour', now(), 'UTC') - interval '7 hours', date_trunc('hour', now(), 'UTC') - interval '1 hour')
                  WHERE queryid NOT IN (5)";
    assert_eq!(session.text(night)?, "0");
    let report =
        "SELECT string_agg(r->>'queryid', ' ') FROM jsonb_array_elements(upkeep.performance_report()->'regressions') r";
    assert_eq!(session.text(report)?, "5");
    Ok(())
}

#[test]
fn what_is_asked_wrongly_is_said() -> Result<()> {
    let (_db, mut session) = database()?;
    for (call, code) in [
        ("query_history(NULL)", "22004"),
        ("query_history(now(), now())", "22023"),
        ("query_history(bucket => NULL)", "22004"),
        ("query_history(bucket => '1 month')", "22023"),
        ("query_history(bucket => '59 seconds')", "22023"),
        ("query_history(bucket => '-1 day')", "22023"),
        ("query_percentile(NULL, 0.5)", "22004"),
        ("query_percentile(1, NULL)", "22004"),
        ("query_percentile(1, 95)", "22023"),
        ("query_percentile(1, 'NaN')", "22023"),
        ("query_percentile(1, 0.5, now(), now() - interval '1 day')", "22023"),
        ("query_percentile(1, 0.5, role => 'nobody')", "42704"),
        ("query_histogram(NULL)", "22004"),
        ("top_queries('total_time')", "22023"),
        ("top_queries(NULL)", "22004"),
        ("top_queries(max_rows => 0)", "22023"),
        ("top_queries(max_rows => NULL)", "22004"),
        ("query_regressions(min_calls => 9)", "22023"),
        ("query_regressions(min_effect => 'NaN')", "22023"),
        ("query_regressions(min_effect => -0.1)", "22023"),
        ("query_regressions(baseline_since => now(), baseline_until => now())", "22023"),
        ("performance_report(until => NULL)", "22004"),
        ("performance_report_html('infinity', '-infinity')", "22023"),
    ] {
        let error = session.error(&format!("SELECT * FROM upkeep.{call}"))?;
        assert_eq!(error.code().code(), code, "{call}: {error}");
    }
    let error = session.error("SELECT * FROM upkeep.top_queries('total_time')")?;
    let words =
        "order_by must be one of total, mean, p95, p99, calls, rows, errors, io, wal, temp, but is \"total_time\"";
    assert_eq!(error.message(), words);
    // Nothing stored is nothing to show, from the beginning of time as well.
    for (look, wanted) in [
        ("SELECT count(*) FROM upkeep.query_history('-infinity', 'infinity', '36500 days')", "0"),
        ("SELECT count(*) FROM upkeep.top_queries()", "0"),
        ("SELECT count(*) FROM upkeep.slow_queries", "0"),
        ("SELECT upkeep.performance_report('-infinity', 'infinity')->'series'", "[]"),
        ("SELECT upkeep.performance_report_html() LIKE '%Nothing is stored about this time.%'", "t"),
    ] {
        assert_eq!(session.text(look)?, wanted, "{look}");
    }
    Ok(())
}

/// LAW 11.
#[test]
fn a_page_of_hostile_names_is_a_page() -> Result<()> {
    let (_db, mut session) = database()?;
    let me = oid(&mut session, "current_user")?;
    hour(&mut session, 2, &[Statement::new(1, me).latencies([100, 2000, 30_000])])?;
    text(&mut session, 1, me, "SELECT '</pre><script>alert(1)</script><img src=x onerror=\"alert(2)\">\u{202e}'")?;
    let page = session.text("SELECT upkeep.performance_report_html()")?;
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(
        page.contains("&lt;script&gt;")
            && !page.contains("<script")
            && !page.contains("<img")
            && !page.contains('\u{202e}')
    );
    assert!(page.contains("default-src &#39;none&#39;; style-src &#39;sha256-"));
    // The policy lets through the page's own style sheet, and no other.
    let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap_or_default();
    let hash = session.text(&format!("SELECT encode(sha256(convert_to($css${style}$css$, 'UTF8')), 'base64')"))?;
    assert!(page.contains(&format!("style-src &#39;sha256-{hash}&#39;")), "{hash}");
    Ok(())
}

/// The steps of the series follow what is stored, not what was asked for: in the first minutes there is a line to look at.
#[test]
fn the_first_minutes_are_shown_by_the_minute() -> Result<()> {
    let (_db, mut session) = database()?;
    let me = oid(&mut session, "current_user")?;
    let steps = |session: &mut Session, asked: &str| {
        session.text(&format!(
            "SELECT count(*) || ' ' || sum((point ->> 'calls')::int)
               FROM jsonb_array_elements(upkeep.performance_report({asked}) -> 'series') point"
        ))
    };
    assert_eq!(steps(&mut session, "")?, "");
    for minute in 0..5 {
        let started = format!("timestamptz '2026-03-02 10:57Z' + interval '{minute} minutes'");
        insert(&mut session, Level::Minutes, &started, "1 minute", &[Statement::new(1, me).latencies([100; 3])])?;
    }
    for asked in ["'2026-03-01 11:02Z', '2026-03-02 11:02Z'", "'-infinity', 'infinity'"] {
        assert_eq!(steps(&mut session, asked)?, "5 15", "{asked}");
    }
    // An older interval, and the steps are longer.
    insert(
        &mut session,
        Level::Hours,
        "timestamptz '2026-03-02 02:00Z'",
        "1 hour",
        &[Statement::new(1, me).latencies([100])],
    )?;
    assert_eq!(steps(&mut session, "'2026-03-01 11:02Z', '2026-03-02 11:02Z'")?, "10 16");
    Ok(())
}

/// Looking writes nothing, and works where nothing can be written.
#[test]
fn reports_only_read() -> Result<()> {
    let (_db, mut session) = database()?;
    let me = oid(&mut session, "current_user")?;
    hour(&mut session, 2, &[Statement::new(1, me).latencies([100; 60])])?;
    session.run("BEGIN READ ONLY")?;
    for look in [
        "SELECT count(*) FROM upkeep.query_history()",
        "SELECT count(*) FROM upkeep.top_queries()",
        "SELECT count(*) FROM upkeep.slow_queries",
        "SELECT count(*) FROM upkeep.query_regressions()",
        "SELECT count(*) FROM upkeep.query_histogram(1)",
        "SELECT upkeep.query_percentile(1, 0.5)",
        "SELECT length(upkeep.performance_report_html())",
    ] {
        session.text(look)?;
        assert_eq!(session.text("SELECT current_user = session_user")?, "t", "{look}");
    }
    assert_eq!(session.text("SELECT pg_current_xact_id_if_assigned()")?, "");
    session.run("COMMIT")
}

/// From a statement to the report, with nothing made by hand.
#[test]
fn what_ran_is_in_the_report() -> Result<()> {
    let server = testing::server("reports").preloaded().set("upkeep.query_interval", "1s").start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run("CREATE TABLE seen (n int)")?;
    for n in 0..20 {
        session.run(&format!("INSERT INTO seen VALUES ({n})"))?;
    }
    session.error("SELECT 1 / (count(*) - 20) FROM seen")?;
    let calls = "SELECT calls || ' ' || rows FROM upkeep.top_queries('calls', max_rows => 1000) WHERE query LIKE 'INSERT INTO seen%'";
    wait_for_text(&mut session, calls, "20 20")?;
    let failed = "SELECT errors FROM upkeep.top_queries('errors', max_rows => 1000) WHERE query LIKE 'SELECT $1 / %'";
    wait_for_text(&mut session, failed, "1")?;
    let page = session.text("SELECT upkeep.performance_report_html(now() - interval '10 minutes')")?;
    assert!(page.contains("INSERT INTO seen VALUES ($1)"), "{page}");
    Ok(())
}
