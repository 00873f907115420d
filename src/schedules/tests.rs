//! In-server tests: the server's time zones, and what is refused.

use pgrx::prelude::*;

use crate::error::Result;
use crate::in_server_tests::{error, run, sqlstate, text};
use crate::server::zone::ServerZone;

/// Every zone of the server's own list, every week of two years: the same offset as the server shows, and
/// each change of it at the very second.
#[pg_extern]
fn test_zones_are_the_servers() -> Result<()> {
    let names = text("SELECT pg_catalog.string_agg(name, ' ' ORDER BY name) FROM pg_catalog.pg_timezone_names")?;
    for name in names.split(' ') {
        let zone = ServerZone::named(name).unwrap_or_else(|| panic!("{name}"));
        run("CREATE TEMP TABLE IF NOT EXISTS seen (moment bigint, east bigint); TRUNCATE seen")?;
        let mut values = Vec::new();
        let start = 1_798_761_600; // 2027-01-01
        for week in 0..105 {
            let moment = start + week * 7 * 86_400;
            let stretch = zone.at(moment);
            values.push(format!("({moment}, {})", stretch.offset));
            if let Some(end) = stretch.until {
                values.push(format!("({}, {})", end - 1, zone.at(end - 1).offset));
                values.push(format!("({end}, {})", zone.at(end).offset));
                assert_eq!(zone.at(end - 1).until, Some(end), "{name}");
            }
        }
        run(&format!("INSERT INTO seen VALUES {}", values.join(", ")))?;
        // Not AT TIME ZONE: that takes a name such as CET for an abbreviation.
        run(&format!("SELECT pg_catalog.set_config('TimeZone', '{name}', true)"))?;
        let wrong = text(
            "SELECT pg_catalog.count(*) FROM seen
             WHERE pg_catalog.date_part('timezone', pg_catalog.to_timestamp(moment)) <> east",
        )?;
        assert_eq!(wrong, "0", "{name}");
    }
    Ok(())
}

#[pg_extern]
fn test_a_schedule_knows_its_next_run() -> Result<()> {
    let next = |schedule: &str, zone: &str| {
        run(&format!("SELECT upkeep.schedule('t', '{schedule}', 'SELECT 1', timezone => '{zone}')"))?;
        let local = text(&format!(
            "SELECT pg_catalog.to_char(next_run AT TIME ZONE '{zone}', 'HH24:MI:SS') FROM upkeep.schedules WHERE name = 't'"
        ))?;
        assert_eq!(text("SELECT next_run > pg_catalog.now() FROM upkeep.schedules WHERE name = 't'")?, "true");
        run("SELECT upkeep.unschedule('t')")?;
        Result::Ok(local)
    };
    assert_eq!(next("30 3 * * *", "America/New_York")?, "03:30:00");
    assert_eq!(next("@daily", "Asia/Kathmandu")?, "00:00:00");
    assert_eq!(next("59 23 $ * *", "<+03>-3")?, "23:59:00");
    assert_eq!(next("0 12 29 2 *", "UTC")?, "12:00:00");
    Ok(())
}

#[pg_extern]
fn test_intervals_are_the_servers_own_text() -> Result<()> {
    let every = |schedule: &str| {
        run(&format!("SELECT upkeep.schedule('t', '{schedule}', 'SELECT 1')"))?;
        let every = text("SELECT every FROM upkeep._schedule WHERE name = 't'")?;
        run("SELECT upkeep.unschedule('t')")?;
        Result::Ok(every)
    };
    for (schedule, microseconds) in
        [("1 second", 1_000_000i64), ("90 minutes", 5_400_000_000), ("00:05", 300_000_000), ("PT1H30M", 5_400_000_000)]
    {
        assert_eq!(every(schedule)?, microseconds.to_string(), "{schedule}");
    }
    // Stored as it was meant, whatever IntervalStyle says later.
    assert_eq!(every("36 hours")?, "129600000000");
    for refused in ["1 day", "1 month", "999 milliseconds", "-5 minutes", "0 seconds", "9000 hours"] {
        let sql = format!("SELECT upkeep.schedule('t', '{refused}', 'SELECT 1')");
        assert_eq!(sqlstate(&sql), "22023", "{refused}");
    }
    Ok(())
}

#[pg_extern]
fn test_errors_point_into_the_schedule() -> Result<()> {
    for (schedule, character) in [("0 24 * * *", 3), ("@never", 1), ("soon", 1), ("0 0 * * mon,tue,wendsday", 17)] {
        let error = error(&format!("SELECT upkeep.schedule('t', '{schedule}', 'SELECT 1')"));
        assert_eq!(error.sqlstate.to_string(), "42601", "{schedule}");
        assert!(error.hint.is_some(), "{schedule}");
        assert_eq!(error.position.map(|position| position.character), Some(character), "{schedule}");
    }
    Ok(())
}

#[pg_extern]
fn test_arguments_of_a_schedule_are_checked() -> Result<()> {
    for (arguments, wanted) in [
        ("NULL, '@daily', 'SELECT 1'", "22004"),
        ("'t', NULL, 'SELECT 1'", "22004"),
        ("'t', '@daily', NULL", "22004"),
        ("' ', '@daily', 'SELECT 1'", "22023"),
        ("repeat('x', 201), '@daily', 'SELECT 1'", "22023"),
        ("'t', '@daily', 'SELECT 1', timezone => 'Europe/Nowhere'", "22023"),
        ("'t', '@daily', 'SELECT 1', timeout => '-1 second'", "22023"),
        ("'t', '@daily', 'SELECT 1', timeout => '1 year'", "22023"),
        ("'t', '@daily', 'SELECT 1', retries => -1", "22023"),
        ("'t', '@daily', 'SELECT 1', retries => 101", "22023"),
        ("'t', '@daily', 'SELECT 1', retry_backoff => '25 hours'", "22023"),
        ("'t', '0 0 31 2 *', 'SELECT 1'", "22023"),
        ("'t', '@reboot', 'SELECT 1'", "0A000"),
        ("'t', '@daily', 'SELECT 1; SELECT 2'", "42601"),
        ("'t', '@daily', ''", "42601"),
        ("'t', '@daily', 'COMMIT'", "0A000"),
        ("'t', '@daily', 'COPY x TO STDOUT'", "0A000"),
    ] {
        assert_eq!(sqlstate(&format!("SELECT upkeep.schedule({arguments})")), wanted, "{arguments}");
    }
    for verb in ["unschedule('nobody')", "run_now('nobody')", "alter_schedule('nobody', retries => 1)"] {
        assert_eq!(sqlstate(&format!("SELECT upkeep.{verb}")), "42704", "{verb}");
    }
    assert_eq!(sqlstate("SELECT upkeep.alter_schedule(NULL::text)"), "22004");
    Ok(())
}
