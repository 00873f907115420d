//! A private copy of a PostgreSQL's programs, libraries and shared files, into which the extension is installed.
//!
//! PostgreSQL finds its libraries and shared files relative to its own program, so a copy with the same relative layout is
//! an installation of its own: the installed one is never written to, and suites with different builds run side by side.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::extension::Artifacts;
use crate::pg::Installation;
use crate::room::Room;
use crate::user::{self, ServerUser};

#[derive(Clone, Debug)]
pub struct Tree {
    pub dir: PathBuf,
    /// The copy, as its own `pg_config` describes it.
    pub pg: Installation,
    pub user: ServerUser,
    pub room: Room,
}

impl Tree {
    /// Copies `pg` (and `libraries` beside it, where there are some) unless the copy is there already. `flavour` tells
    /// builds of the extension apart: one tree holds one build.
    pub fn copy(pg: &Installation, libraries: Option<&Path>, flavour: &str) -> Result<Self> {
        let user = ServerUser::find()?;
        let room = Room::open(&user)?;
        let dir = room.trees().join(format!("{}-{flavour}", pg.feature()));
        let sources: Vec<&Path> = [&*pg.bin, &*pg.pkglib, &*pg.share].into_iter().chain(libraries).collect();
        let base = common_ancestor(&sources);
        let bin = dir.join(pg.bin.strip_prefix(&base)?);

        let stamp = dir.join("copied-from");
        let origin = describe(pg)?;
        if !fs::read_to_string(&stamp).is_ok_and(|found| found == origin) {
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            for source in sources {
                copy_dir(source, &dir.join(source.strip_prefix(&base)?))?;
            }
            fs::write(stamp, origin)?;
        }
        let tree = Self { pg: Installation::from_pg_config(&bin.join("pg_config"))?, dir, user, room };
        tree.check_self_contained()?;
        Ok(tree)
    }

    /// A tree made earlier, named by its `pg_config`.
    pub fn open(pg_config: &Path) -> Result<Self> {
        let user = ServerUser::find()?;
        let room = Room::open(&user)?;
        let inside = pg_config.strip_prefix(room.trees()).context("this pg_config is not in a private tree")?;
        let dir = room.trees().join(inside.components().next().context("this is no tree")?);
        Ok(Self { pg: Installation::from_pg_config(pg_config)?, dir, user, room })
    }

    /// Puts the extension into the tree. Each file replaces its forerunner in one step, so a server that still runs on the
    /// old library keeps it, and one that other tests use at this moment misses none.
    pub fn install(&self, extension: &Artifacts) -> Result<()> {
        let shared = self.pg.share.join("extension");
        replace(&extension.library, &self.pg.pkglib.join("pg_upkeep.so"))?;
        let mut installed = Vec::new();
        for file in std::iter::once(&extension.control).chain(&extension.scripts) {
            let to = shared.join(file.file_name().context("no file name")?);
            replace(file, &to)?;
            installed.push(to);
        }
        for file in files_of_extension(&shared)?.into_iter().filter(|file| !installed.contains(file)) {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// The installed library.
    pub fn library(&self) -> PathBuf {
        self.pg.pkglib.join("pg_upkeep.so")
    }

    /// A program that must not run as root: the server and whatever writes its data directory.
    pub fn server_command(&self, program: &str) -> Command {
        self.with_libraries(self.user.command(self.pg.bin.join(program)))
    }

    /// Any other program, as the user that servers run as.
    pub fn command_of_server(&self, program: &str) -> Command {
        self.user.command(program)
    }

    /// A client program. It runs as ourselves, so that it can read the clone and write where it is told.
    pub fn client_command(&self, program: &str) -> Command {
        self.with_libraries(user::clean_command(self.pg.bin.join(program)))
    }

    /// PostgreSQL's test runner at this path.
    pub fn runner(&self, path: &Path) -> Command {
        self.with_libraries(user::clean_command(path))
    }

    /// The fetched versions' modules and test runners look for libpq where they were built, and then take the system's,
    /// which may be of an older version than they are.
    fn with_libraries(&self, mut command: Command) -> Command {
        command.env("LD_LIBRARY_PATH", &self.pg.lib);
        command
    }

    fn check_self_contained(&self) -> Result<()> {
        for dir in [&self.pg.pkglib, &self.pg.share] {
            if !dir.starts_with(&self.dir) {
                bail!("the copied PostgreSQL still looks for its files in {}", dir.display());
            }
        }
        // The server must come to the same conclusion, as the user it will run as.
        let shown = command::output(self.server_command("initdb").args(["--show", "--pgdata", "/nowhere"]))?;
        let shown = String::from_utf8_lossy(&shown.stderr).into_owned() + &String::from_utf8_lossy(&shown.stdout);
        if !shown.lines().any(|l| l.strip_prefix("share_path=").is_some_and(|p| Path::new(p).starts_with(&self.dir))) {
            bail!("initdb does not find its files in the private copy {}:\n{shown}", self.dir.display());
        }
        Ok(())
    }
}

/// What a copy was made from: it is made anew when any of this changes.
fn describe(pg: &Installation) -> Result<String> {
    let server = fs::metadata(pg.bin.join("postgres")).context("this PostgreSQL has no server")?;
    Ok(format!("{} {} {}.{}\n", pg.pg_config.display(), pg.version, server.mtime(), server.mtime_nsec()))
}

fn common_ancestor(paths: &[&Path]) -> PathBuf {
    let mut base = paths[0];
    while !paths.iter().all(|p| p.starts_with(base)) {
        base = base.parent().expect("absolute paths share the root");
    }
    base.to_owned()
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    // From "DIR/." on, cp fills the directory that is there instead of making one inside it.
    command::capture(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from.join(".")).arg(to))?;
    Ok(())
}

fn files_of_extension(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("pg_upkeep")) {
            found.push(path);
        }
    }
    Ok(found)
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("new");
    let mut source = File::open(from).with_context(|| from.display().to_string())?;
    io::copy(&mut source, &mut File::create(&fresh)?)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644))?;
    fs::rename(fresh, to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_kept_below_the_common_ancestor() {
        let debian = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/15/lib", "/usr/share/postgresql/15"];
        assert_eq!(common_ancestor(&debian.map(Path::new)), Path::new("/usr"));
        let wheel = ["/s/embedded/pg/bin", "/s/embedded/pg/lib", "/s/embedded.libs"];
        assert_eq!(common_ancestor(&wheel.map(Path::new)), Path::new("/s"));
    }
}
