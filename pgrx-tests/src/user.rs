//! Who runs the servers. PostgreSQL refuses to run as root, so root's children become an ordinary user; the switch is
//! made in the child itself, because sudo, su and runuser may be missing or want a password.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

#[derive(Clone, Debug)]
pub struct ServerUser {
    pub name: String,
    /// User and group to become; none when we already are an ordinary user.
    switch: Option<(u32, u32)>,
}

impl ServerUser {
    pub fn find() -> Result<Self> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if !we_are_root()? {
            let me = our_uid()?;
            let name = entries(&passwd).find(|&(_, uid, _)| uid == me).map(|(name, ..)| name.to_owned());
            return Ok(Self { name: name.unwrap_or_else(|| me.to_string()), switch: None });
        }
        let (name, uid, gid) = ["postgres", "nobody"]
            .iter()
            .find_map(|wanted| entries(&passwd).find(|(name, ..)| name == wanted))
            .context("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")?;
        Ok(Self { name: name.to_owned(), switch: Some((uid, gid)) })
    }

    /// A command that runs as this user.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = clean_command(program);
        if let Some((uid, gid)) = self.switch {
            // The standard library drops root's supplementary groups along with it.
            command.uid(uid).gid(gid);
        }
        command
    }

    pub fn is_switched(&self) -> bool {
        self.switch.is_some()
    }

    /// Hands over a file or an empty directory.
    pub fn own(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.switch {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// A command whose environment owes nothing to ours: no PG* variable that redirects a client, no RUST_BACKTRACE (it fills
/// the DETAIL of errors with frames and costs 275 ms for each), no locale that translates messages, and a working
/// directory that every user may enter.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("HOME", "/").current_dir("/");
    for kept in ["PATH", "TMPDIR", "TERM"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

pub fn we_are_root() -> Result<bool> {
    Ok(our_uid()? == 0)
}

pub fn our_uid() -> Result<u32> {
    Ok(fs::metadata("/proc/self").context("no /proc: this harness needs Linux")?.uid())
}

/// Name, user id and group id of each line of /etc/passwd.
fn entries(passwd: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut id = fields.skip(1).map(|f| f.parse().ok());
        Some((name, id.next()??, id.next()??))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nnobody:x:65534:65533::/:/bin/false\n";
        let found: Vec<_> = entries(passwd).collect();
        assert_eq!(found, [("root", 0, 0), ("nobody", 65534, 65533)]);
    }

    #[test]
    fn servers_never_run_as_root() {
        let out = ServerUser::find().unwrap().command("id").arg("-u").output().unwrap();
        assert_ne!(String::from_utf8_lossy(&out.stdout).trim(), "0");
    }
}
