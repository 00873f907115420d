//! A server whose time of day a test can set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::shim;
use crate::user::ServerUser;

/// The shim and the file that tells it how wrong to go.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    shift: PathBuf,
}

impl Clock {
    /// Builds the shim in a directory that the server's user can read. The clock is right until it is set.
    pub fn build(dir: &Path, user: &ServerUser) -> Result<Self> {
        let clock = Self { library: shim::build("clock", dir, user)?, shift: dir.join("clock") };
        clock.write(0)?;
        user.own(&clock.shift)?;
        Ok(clock)
    }

    pub fn preload(&self, server: &mut Command) {
        server.env("LD_PRELOAD", &self.library).env("UPKEEP_CLOCK", &self.shift);
    }

    /// Lets the server believe that it is this many seconds after 1970-01-01 UTC.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
        self.write(seconds * 1_000_000 - now)
    }

    /// In place: servers have the file mapped.
    fn write(&self, shift: i64) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().write(true).create(true).truncate(false).open(&self.shift)?;
        file.write_all_at(&shift.to_ne_bytes(), 0).with_context(|| self.shift.display().to_string())
    }
}
