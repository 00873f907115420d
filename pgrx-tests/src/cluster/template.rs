//! New data directories. initdb takes seconds, copying its result a fraction of one, so each tree keeps one to copy from.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::pg::SUPERUSER;
use crate::tree::Tree;
use crate::{command, hostile};

pub fn copy(tree: &Tree, data: &Path) -> Result<()> {
    let name = if hostile::wanted() { "hostile-template" } else { "template" };
    let dir = tree.dir.join(name);
    {
        let lock = File::create(tree.dir.join("template.lock"))?;
        lock.lock()?;
        if !dir.join("done").exists() {
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            fs::DirBuilder::new().mode(0o700).create(&dir)?;
            tree.user.own(&dir)?;
            initdb(tree, &dir.join("data"), &[])?;
            fs::write(dir.join("done"), "")?;
        }
    }
    // As the server's user, who must own the copy.
    let mut cp = tree.user.command("cp");
    command::capture(cp.args(["-a", "--reflink=auto"]).arg(dir.join("data")).arg(data))?;
    Ok(())
}

pub fn initdb(tree: &Tree, data: &Path, options: &[String]) -> Result<()> {
    let mut initdb = tree.server_command("initdb");
    initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", SUPERUSER]);
    command::capture(initdb.args(options).arg("--pgdata").arg(data)).context("could not create a database cluster")?;
    if hostile::wanted() {
        hostile::prepare(tree, data)?;
    }
    Ok(())
}
