//! Small libraries that are preloaded into a server, so that the world looks to it as a test wants it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::user::ServerUser;
use crate::{command, paths};

/// Compiles `pgrx-tests/shim/NAME.c` in a directory that the server's user can read.
pub fn build(name: &str, dir: &Path, user: &ServerUser) -> Result<PathBuf> {
    let library = dir.join(format!("{name}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library);
    command::capture(cc.arg(paths::root().join(format!("pgrx-tests/shim/{name}.c"))))?;
    user.own(&library)?;
    Ok(library)
}
