//! How fast a job may be expected to go: as jobs went lately, or by what the last hour's load leaves.

use std::time::Duration;

use super::control::LEAST;
use super::pace;
use crate::error::Result;
use crate::jobs::{activity, registry};
use crate::server::system;
use crate::settings;

/// What jobs did so long ago still tells.
const LATELY: Duration = Duration::from_secs(3600);
/// Of the processors' time, nothing but this is left for certain.
const BUSIEST: f64 = 0.95;

/// Beside the application.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Of its speed alone.
    pub share: f64,
    /// For people: why.
    pub because: String,
}

/// No more of it than a job's owner sees of a job. `None`: nothing is known, or nobody is given way to.
pub fn expected() -> Result<Option<Expected>> {
    let Some(limit) = settings::max_slowdown() else { return Ok(None) };
    let board = activity::launcher()?.and_then(|launcher| launcher.segment.board.pace());
    let lately = board.filter(|pace| !pace.alone && system::monotonic().saturating_sub(pace.at) < LATELY);
    if let Some(pace) = lately {
        return Ok(Some(Expected {
            share: pace::share(pace, limit, false),
            because: "by the pace of the last job".to_owned(),
        }));
    }
    let Some(clients) = registry::clients() else { return Ok(None) };
    Ok(clients.load()?.map(|load| of_load(load, system::processors())))
}

/// Jobs give way, and nobody counts what statements take.
pub fn is_blind() -> bool {
    settings::max_slowdown().is_some() && registry::clients().is_none_or(|clients| clients.calls().is_none())
}

/// A rule of thumb: the square of what is idle. Half of the time busy leaves a quarter of the speed.
fn of_load(load: f64, processors: f64) -> Expected {
    let busy = (load / processors).min(BUSIEST);
    Expected { share: (1.0 - busy).powi(2).max(LEAST), because: "by the load of the last hour".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_is_left() {
        assert_eq!(of_load(0.0, 4.0).share, 1.0);
        assert_eq!(of_load(2.0, 4.0).share, 0.25);
        assert_eq!(of_load(400.0, 4.0).share, LEAST);
    }
}
