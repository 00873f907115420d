//! `upkeep.throttle`: what is measured, for whoever wonders why jobs wait.

use pgrx::prelude::*;

use super::inputs::{Facts, INPUTS, Reading};
use super::policy::Policy;
use super::sample::Sample;
use crate::calls::standing;
use crate::error::Result;
use crate::jobs::activity;
use crate::jobs::limits::Limits;
use crate::server::{catalog, raise, system, worker};
use crate::settings;

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
    let (readings, age) = raise::answer(readings());
    TableIterator::new(readings.into_iter().map(move |(input, reading)| {
        let Reading { subject, value, unit, threshold, reason } = reading;
        (input.to_owned(), subject, value, threshold, unit.to_owned(), reason.is_some(), reason, age)
    }))
}

/// What was measured, and how many seconds ago. Nothing for those who may not see what they would have to be told (LAW 15).
fn readings() -> Result<(Vec<(&'static str, Reading)>, f64)> {
    if !catalog::may_see_statistics(catalog::current_user()) && !standing::caller_is_admin() || worker::in_recovery() {
        return Ok((Vec::new(), 0.0));
    }
    let found = activity::launcher()?.and_then(|launcher| launcher.segment.board.read());
    let Some((sample, taken)) = found.and_then(|(bytes, taken)| Some((Sample::decode(&bytes)?, taken))) else {
        return Ok((Vec::new(), 0.0));
    };
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
    let readings =
        INPUTS.iter().flat_map(|input| (input.read)(&facts).into_iter().map(|reading| (input.name, reading)));
    Ok((readings.collect(), system::monotonic().saturating_sub(taken).as_secs_f64()))
}
