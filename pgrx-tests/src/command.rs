//! Running other programs, with errors that show what the program said.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Runs to the end and returns standard output. A failure carries both outputs.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("{} failed ({}){}", describe(command), output.status, said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end, whatever comes of it.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| describe(command))
}

/// What came of a program that was to say something now and then.
pub struct Watched {
    pub output: Output,
    /// What was to be seen when it was ended for its silence.
    pub hung: Option<String>,
}

/// Runs to the end, or until it has said nothing for so long: then `look` tells what is going on, and it is ended.
pub fn watch(command: &mut Command, silence: Duration, look: impl FnOnce() -> String) -> Result<Watched> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| describe(command))?;
    let (speaks, heard) = mpsc::channel();
    let stdout = listen(child.stdout.take().context("no pipe")?, speaks.clone());
    let stderr = listen(child.stderr.take().context("no pipe")?, speaks);
    let hung = loop {
        match heard.recv_timeout(silence) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {
                let seen = look();
                end(&child);
                break Some(seen);
            }
        }
    };
    let all = |listener: JoinHandle<Vec<u8>>| listener.join().unwrap_or_default();
    let (stdout, stderr) = (all(stdout), all(stderr));
    Ok(Watched { output: Output { status: child.wait()?, stdout, stderr }, hung })
}

fn listen(mut from: impl Read + Send + 'static, speaks: Sender<()>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = from.read(&mut some) {
            all.extend_from_slice(&some[..count]);
            let _ = speaks.send(());
        }
        all
    })
}

/// Ends it and what it runs: of a test program's own children, its guardians clear up after it.
fn end(child: &Child) {
    let parent = child.id() as i32;
    let children = children(parent);
    // The parent first, or it goes on to the next.
    for pid in [parent].into_iter().chain(children).filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn children(parent: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let line = format!("PPid:\t{parent}");
    let is_child = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|l| l == line)
    };
    pids.filter(is_child).collect()
}

/// Runs to the end with its output going to ours, for programs that show their own progress.
pub fn show(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| describe(command))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// The program's name and arguments, as a person would type them.
pub fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let args = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ")
}

/// Both outputs, indented below the message they explain.
pub fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s).trim_end().to_owned());
    text.iter().flat_map(|s| s.lines()).map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn who_speaks_is_left_alone() {
        let watched = watch(&mut shell("echo a; echo b >&2; exit 3"), Duration::from_secs(60), || unreachable!());
        let Watched { output, hung } = watched.unwrap();
        assert_eq!((&*output.stdout, &*output.stderr, output.status.code()), (&b"a\n"[..], &b"b\n"[..], Some(3)));
        assert_eq!(hung, None);
    }

    #[test]
    fn who_is_silent_is_ended_with_what_it_runs() {
        let start = Instant::now();
        // The second shell is a child that has the pipe open.
        let mut silent = shell("echo a; sh -c 'exec sleep 60'; echo b");
        let watched = watch(&mut silent, Duration::from_millis(100), || "it sleeps".to_owned()).unwrap();
        assert_eq!(watched.hung.as_deref(), Some("it sleeps"));
        assert_eq!(watched.output.stdout, b"a\n");
        assert!(!watched.output.status.success() && start.elapsed() < Duration::from_secs(30));
    }
}
