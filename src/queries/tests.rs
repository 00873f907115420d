//! The history in its tables: what it takes, and that adding up loses nothing.

use crate::error::Result;
use crate::in_server_tests::text;
use crate::queries::cover::{DAY, HOUR, Span};
use crate::queries::figures::{COUNTERS, Figures, Key, Record};
use crate::queries::raw::memory::{self, Presence};
use crate::queries::tidy::{add_up, advance};
use crate::queries::{packed, store};
use crate::server::raise::answer;
use crate::server::spi;
use pg_upkeep_memory::counters::{COMMITS, Eye, TRANSACTIONS};
use pg_upkeep_memory::histogram::index_of;
use std::collections::BTreeMap;

const MINUTE: i64 = HOUR / 60;
/// A tenth of what is promised for: 5,000 statements, 800 of them active in any five minutes.
const STATEMENTS: u64 = 500;
const ACTIVE: u64 = 80;

/// The same numbers each time, spread as if by chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A statement in a minute: a handful of calls around its own latency, and blocks read.
fn record(statement: u64, dice: &mut Dice) -> Record {
    let queryid = statement.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) as i64;
    let key = Key { queryid, user: 16_384 + (statement % 5) as u32, toplevel: true, by_job: false };
    let usual = 20_000 << (statement % 12);
    let mut figures = Figures { min: u64::MAX, ..Figures::default() };
    for _ in 0..1 + dice.roll(12) {
        let ns = usual + dice.roll(usual) + if dice.roll(20) == 0 { 4 * usual } else { 0 };
        figures.histogram.add(ns / 1000);
        figures.total += ns;
        figures.min = figures.min.min(ns);
        figures.max = figures.max.max(ns);
        figures.rows += 1 + statement % 3;
    }
    let mut counters = [0; COUNTERS];
    counters[0] = figures.rows * 5;
    counters[1] = dice.roll(3);
    Record { key, figures, counters }
}

/// Bytes that a level takes.
fn size(level: &str) -> f64 {
    let sql = format!(
        "SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid))::pg_catalog.float8 FROM pg_catalog.pg_class c
         WHERE c.relname LIKE '\\_query\\_{level}\\__' AND c.relkind OPERATOR(pg_catalog.=) 'r'"
    );
    answer(crate::in_server_tests::rows(&sql, |row| row.require::<f64>(1)))[0]
}

fn write_day() -> Result<u64> {
    let mut dice = Dice(1);
    let mut calls = 0;
    for minute in 0..DAY / MINUTE {
        // Others are active every five minutes.
        let first = (minute as u64 / 5 * 37) % STATEMENTS;
        let records: BTreeMap<Key, Record> = (0..ACTIVE)
            .map(|i| record((first + i * 13) % STATEMENTS, &mut dice))
            .map(|record| (record.key, record))
            .collect();
        calls += records.values().map(|record| record.figures.histogram.count()).sum::<u64>();
        let started = minute * MINUTE;
        let span = Span { level: 0, period: started, started, finished: started + MINUTE };
        advance(span)?;
        store::insert(&store::Interval { span, parts: 1, flags: 0, records: &records })?;
    }
    for hour in 0..24 {
        add_up(1, hour * HOUR)?;
    }
    add_up(2, 0)?;
    Ok(calls)
}

#[pgrx::pg_extern]
fn test_seven_days_take_less_than_15_mb_a_day() {
    let empty = ["minutes", "hours", "days"].map(size);
    let calls = answer(spi::bookkeeping(write_day));
    let [minutes, hours, days] =
        [0, 1, 2].map(|i| (size(["minutes", "hours", "days"][i]) - empty[i]) / f64::from(1 << 20) * 10.0);
    // Intervals are kept for a day and a seventh, hours and days for longer than seven days.
    let per_day = (minutes * (1.0 + 1.0 / 7.0) + 7.0 * (hours + days)) / 7.0;
    let message = format!("{per_day:.1} MB a day: minutes {minutes:.1}, hours {hours:.1}, days {days:.1} for each day");
    pgrx::log!("history of statements: {message}");
    assert!(per_day < 15.0, "{message}");

    // The day is the sum of its minutes, and so is what the hours of it give.
    for (level, expected) in [(0, 1440), (1, 24), (2, 1)] {
        let found = answer(spi::bookkeeping(|| {
            let spans = store::spans(0, DAY)?;
            let rows: Vec<Span> = spans.into_iter().filter(|span| span.level == level).collect();
            let mut sum = BTreeMap::new();
            for &row in &rows {
                let (records, _) = store::read(row, None)?.expect("a row that was just there");
                packed::merge(&mut sum, records);
            }
            let found: u64 = sum.values().map(|record: &Record| record.figures.histogram.count()).sum();
            Ok((rows.len(), found))
        }));
        assert_eq!(found, (expected, calls), "level {level}");
    }
}

#[pgrx::pg_extern]
fn test_a_database_taken_for_one_without_the_extension_says_so() {
    let advice = || answer(text("SELECT coalesce(advice, '') FROM upkeep.status"));
    let here = crate::server::catalog::my_database().to_u32();
    memory::set_presence(here, Presence::Absent);
    assert!(advice().contains("the extension was not here when a worker looked last"), "{}", advice());
    memory::set_presence(here, Presence::Present);
    assert!(!advice().contains("the extension was not here"), "{}", advice());
}

#[pgrx::pg_extern]
fn test_a_commit_is_counted_with_its_whole_transaction() {
    let mut eye = Eye::default();
    memory::look_at_clients(&mut eye, &mut |_, _| {});
    answer(text("SELECT pg_catalog.pg_sleep(0.05)::text"));
    memory::count_commit(3_000_000);
    let mut seen = [COMMITS, TRANSACTIONS].map(|whose| (whose, 0));
    memory::look_at_clients(&mut eye, &mut |whose, new| {
        let within = [(COMMITS, 3000..=3000), (TRANSACTIONS, 50_000..=60_000_000)];
        for ((_, us), (_, count)) in within.into_iter().zip(&mut seen).filter(|(_, (of, _))| *of == whose) {
            *count += new.0[index_of(*us.start())..=index_of(*us.end())].iter().sum::<u64>();
        }
    });
    assert!(seen.iter().all(|(_, count)| *count > 0), "{seen:?}");
}
