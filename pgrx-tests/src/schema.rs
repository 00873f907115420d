use std::process::ExitCode; pub fn write(_args: crate::args::Args) -> anyhow::Result<ExitCode> { todo!() }
