//! Which kinds of job and which chores there are: `src/lib.rs` says it when the library is loaded, in every process that does.

use std::sync::OnceLock;

use serde_json::Value;

use super::chore::Chore;
use super::kind::{Belonging, Kind, Nature};
use super::slowdown::Clients;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, Result};

type Registered = (&'static [&'static dyn Kind], &'static [&'static dyn Chore], &'static dyn Clients);

static REGISTERED: OnceLock<Registered> = OnceLock::new();

/// Later calls change nothing.
pub fn register(
    kinds: &'static [&'static dyn Kind],
    chores: &'static [&'static dyn Chore],
    clients: &'static dyn Clients,
) {
    REGISTERED.get_or_init(|| (kinds, chores, clients));
}

/// Whoever counts what clients execute.
pub fn clients() -> Option<&'static dyn Clients> {
    REGISTERED.get().map(|(.., clients)| *clients)
}

/// What a scheduler does on each look, in this order.
pub fn chores() -> &'static [&'static dyn Chore] {
    REGISTERED.get().map_or(&[], |(_, chores, _)| chores)
}

fn kinds() -> &'static [&'static dyn Kind] {
    REGISTERED.get().map_or(&[], |(kinds, ..)| kinds)
}

/// The kind of a job by its name and what it is to do.
pub fn kind(name: &str, params: &Value) -> Result<&'static dyn Kind> {
    kinds().iter().copied().find(|kind| kind.name() == name && kind.takes(params)).ok_or_else(|| {
        Error::new(FEATURE_NOT_SUPPORTED, format!("this version of pg_upkeep has no job kind \"{name}\""))
            .hint("ALTER EXTENSION pg_upkeep UPDATE;")
    })
}

/// What holds for jobs of this name. Kinds that share a name are alike in that.
pub fn nature(name: &str) -> Nature {
    kinds().iter().find(|kind| kind.name() == name).map(|kind| kind.nature()).unwrap_or_default()
}

/// The names of kinds of such a nature.
pub fn names(of: impl Fn(&Nature) -> bool) -> Vec<String> {
    kinds().iter().filter(|kind| of(&kind.nature())).map(|kind| kind.name().to_owned()).collect()
}

/// All tables with rows that belong to a job or to something else.
pub fn belongings() -> impl Iterator<Item = &'static Belonging> {
    kinds().iter().flat_map(|kind| kind.belongings())
}
