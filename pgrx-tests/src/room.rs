//! The directory where server trees, data and sockets live.
//!
//! An ordinary user's is in `target/`. Root's servers run as another user, who may be unable to enter the clone, so root's
//! is below the system's temporary directory; so is that of a clone so deep that a socket's path would not fit.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::user::{self, ServerUser};

/// A socket address holds 107 bytes; `/clusters/NAME/s/.s.PGSQL.5432` needs some of them.
const LONGEST_ROOM: usize = 55;
pub const LONGEST_SOCKET: usize = 100;

#[derive(Clone, Debug)]
pub struct Room {
    pub dir: PathBuf,
}

impl Room {
    pub fn open(user: &ServerUser) -> Result<Self> {
        let in_clone = paths::target().join("servers");
        let dir = if !user.is_switched() && in_clone.as_os_str().len() <= LONGEST_ROOM {
            in_clone
        } else {
            let mut clone = DefaultHasher::new();
            paths::target().hash(&mut clone);
            std::env::temp_dir().join(format!("pg_upkeep-{}-{:08x}", user::our_uid()?, clone.finish() as u32))
        };
        make_private(&dir)?;
        let room = Self { dir };
        make_private(&room.clusters())?;
        make_private(&room.trees())?;
        Ok(room)
    }

    pub fn clusters(&self) -> PathBuf {
        self.dir.join("clusters")
    }

    pub fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }
}

/// Makes a directory that others may pass through but not list. The temporary directory belongs to everyone, so what is
/// already there is used only when it is a real directory of ours.
fn make_private(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.parent().unwrap_or(Path::new("/")))?;
    if let Err(error) = DirBuilder::new().mode(0o711).create(dir)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| dir.display().to_string());
    }
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != user::our_uid()? || found.mode() & 0o022 != 0 {
        bail!("{} exists and is not ours alone; remove it", dir.display());
    }
    Ok(())
}
