//! Random calls of everything in the schema: see [`crate::fuzz`].

use anyhow::Result;

use super::{Passed, Suite};
use crate::fuzz;

const CALLS: u32 = 2_000;
const CALLS_IN_FULL: u32 = 20_000;

pub fn run(suite: &Suite) -> Result<Passed> {
    let calls = if suite.full { CALLS_IN_FULL } else { CALLS };
    Ok(Passed::with(fuzz::run(suite.tree()?, calls)?))
}
