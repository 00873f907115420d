//! `upkeep-dev`: the one program behind `cargo demo`, `cargo verify` and `cargo measure`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use upkeep_tests::{args::Args, demo, measure, schema, verify};

const USAGE: &str = "\
usage: cargo demo     [--scale N] [--workers N] [--version N | --pg-config PATH] | [--stop]
       cargo verify   [--only STEP,..] [--skip STEP,..] [--accept] [--full] [--version N | --pg-config PATH]
       cargo measure NAME [--rows N] [--runs N] [--only ROW,..] [--version N | --pg-config PATH]
       cargo run -p pg_upkeep-tests -- schema      (writes sql/pg_upkeep--VERSION.sql)";

fn main() -> ExitCode {
    match run(Args::from_env()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Args) -> Result<ExitCode> {
    match args.positional().as_deref() {
        Some("demo") => demo::run(args),
        Some("verify") => verify::run(args),
        Some("measure") => measure::run(args),
        Some("schema") => schema::write(args),
        Some("help") | None => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("unknown command {other}\n{USAGE}"),
    }
}
