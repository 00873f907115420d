//! `upkeep.throttle`: what is measured, for whoever wonders why jobs wait.

use std::time::Duration;

use pgrx::prelude::*;

use super::SLOWDOWN;
use super::inputs::{Facts, INPUTS, Input, Reading};
use super::policy::Policy;
use super::sample::Sample;
use crate::calls::standing;
use crate::error::Result;
use crate::jobs::activity;
use crate::jobs::limits::Limits;
use crate::jobs::slowdown::control::of_typical;
use crate::jobs::slowdown::pace;
use crate::server::{catalog, raise, system, worker};
use crate::settings;
use pg_upkeep_memory::board::Pace;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn throttle() -> TableIterator<
    'static,
    (
        name!(input, String),
        name!(subject, String),
        name!(value, f64),
        name!(threshold, Option<f64>),
        name!(unit, String),
        name!(throttling, bool),
        name!(reason, Option<String>),
        name!(age, f64),
    ),
> {
    TableIterator::new(raise::answer(readings()).into_iter().map(|(input, reading, age)| {
        let Reading { subject, value, unit, threshold, reason } = reading;
        (input.to_owned(), subject, value, threshold, unit.to_owned(), reason.is_some(), reason, age)
    }))
}

/// What was measured, and how many seconds ago. Nothing for those who may not see what they would have to be told (LAW 15).
fn readings() -> Result<Vec<(&'static str, Reading, f64)>> {
    if !catalog::may_see_statistics(catalog::current_user()) && !standing::caller_is_admin() || worker::in_recovery() {
        return Ok(Vec::new());
    }
    let Some(launcher) = activity::launcher()? else { return Ok(Vec::new()) };
    let (board, now) = (&launcher.segment.board, system::monotonic());
    let age = |at: Duration| now.saturating_sub(at).as_secs_f64();
    let of_sample = board.read().and_then(|(bytes, at)| Some((Sample::decode(&bytes)?, age(at))));
    let slowdown = board.pace().into_iter().flat_map(|pace| {
        let age = age(pace.at);
        of_pace(pace, settings::max_slowdown()).into_iter().map(move |reading| (SLOWDOWN, reading, age))
    });
    Ok(of_sample.into_iter().flat_map(of_inputs).chain(slowdown).collect())
}

fn of_inputs((sample, age): (Sample, f64)) -> Vec<(&'static str, Reading, f64)> {
    let policy = Policy::of(settings::throttles(), &Limits::default());
    let facts = Facts {
        sample: &sample,
        policy: &policy,
        wal: system::wal_insert_position(),
        database: catalog::my_database().to_u32(),
        relid: None,
        outwaited: &[],
        names: true,
    };
    let named = |input: &'static Input| (input.read)(&facts).into_iter().map(move |reading| (input.name, reading, age));
    INPUTS.iter().flat_map(named).collect()
}

/// How fast jobs go, and what others feel: a figure holds jobs back while it is above its limit.
fn of_pace(pace: Pace, limit: Option<f64>) -> Vec<Reading> {
    let reason = limit.and_then(|limit| pace::described(pace, limit));
    let felt = |subject: &str, value: f64, threshold: Option<f64>| Reading {
        subject: subject.to_owned(),
        value,
        unit: "times",
        threshold,
        reason: reason.clone().filter(|_| threshold.is_some_and(|threshold| value > threshold)),
    };
    let figures = pace
        .felt
        .map(|(typical, tail)| [felt("typical statement", typical, limit.map(of_typical)), felt("p95", tail, limit)]);
    let speed = Reading {
        subject: "pace of each worker".to_owned(),
        value: limit.map_or(100.0, |limit| pace::percent(pace::share(pace, limit, false))),
        unit: "percent",
        threshold: None,
        reason: reason.clone(),
    };
    figures.into_iter().flatten().chain([speed]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_feel_is_shown_beside_its_limit() {
        let pace = Pace { share: 0.76, workers: 2.0, felt: Some((1.01, 1.2)), ..Pace::default() };
        let read = of_pace(pace, Some(1.2));
        assert_eq!(read.iter().map(|reading| reading.value).collect::<Vec<_>>(), [1.01, 1.2, 38.0]);
        let holds_back = |read: &[Reading]| read.iter().map(|reading| reading.reason.is_some()).collect::<Vec<_>>();
        assert_eq!(holds_back(&read), [false, false, true]);
        assert_eq!(holds_back(&of_pace(Pace { felt: Some((1.01, 1.3)), ..pace }, Some(1.2))), [false, true, true]);
        assert_eq!(read[0].threshold, Some(1.1));
        assert_eq!(of_pace(pace, None)[1].threshold, None);
        assert_eq!(of_pace(pace, None)[2].value, 100.0, "nobody is given way to");
        assert_eq!(of_pace(Pace { felt: None, ..pace }, Some(1.2)).len(), 1);
    }
}
