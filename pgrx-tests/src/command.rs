//! Running other programs, with errors that show what the program said.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

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
