//! Cleaning up after a process that could not: a test killed by its runner, or a static that is never dropped.
//!
//! A guardian is a small shell that reads from a pipe of ours. The pipe ends when we do, however we end; then it stops the
//! server and removes the directory.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

const SCRIPT: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
    kill -QUIT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
fi
rm -rf "$1"
"#;

pub struct Guardian {
    shell: Child,
}

impl Guardian {
    pub fn over(dir: &Path) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "guardian"]).arg(dir).current_dir("/");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A Ctrl-C that ends us must leave the guardian alive.
        shell.process_group(0);
        Ok(Self { shell: shell.spawn().context("sh")? })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
