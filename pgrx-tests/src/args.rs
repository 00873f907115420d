//! Command-line arguments: a handful of flags needs no library.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

pub struct Args {
    rest: Vec<String>,
}

impl Args {
    /// The arguments of this process. The cargo aliases end in `--`, so `cargo demo -- --scale 1` brings a second one:
    /// every `--` is skipped.
    pub fn from_env() -> Self {
        Self::new(std::env::args().skip(1))
    }

    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let rest = args.into_iter().map(Into::into).filter(|a| a != "--").collect();
        Self { rest }
    }

    /// The next argument that is no flag.
    pub fn positional(&mut self) -> Option<String> {
        (self.rest.first().is_some_and(|a| !a.starts_with("--"))).then(|| self.rest.remove(0))
    }

    /// Whether `--name` was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|a| a != name);
        self.rest.len() < before
    }

    /// The value of `--name VALUE` or `--name=VALUE`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>> {
        let with_equals = format!("{name}=");
        let Some(at) = self.rest.iter().position(|a| a == name || a.starts_with(&with_equals)) else {
            return Ok(None);
        };
        let arg = self.rest.remove(at);
        if let Some(value) = arg.strip_prefix(&with_equals) {
            return Ok(Some(value.to_owned()));
        }
        if at == self.rest.len() {
            bail!("{name} needs a value");
        }
        Ok(Some(self.rest.remove(at)))
    }

    pub fn parsed<T>(&mut self, name: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let parse = |v: String| v.parse().map_err(|e| anyhow!("{e}")).with_context(|| format!("{name} {v}"));
        self.value(name)?.map(parse).transpose()
    }

    /// A list given as `--name a,b --name c`.
    pub fn list(&mut self, name: &str) -> Result<Vec<String>> {
        let mut items = Vec::new();
        while let Some(value) = self.value(name)? {
            items.extend(value.split(',').filter(|v| !v.is_empty()).map(str::to_owned));
        }
        Ok(items)
    }

    /// Call it last: whatever is left was not understood.
    pub fn finish(self) -> Result<()> {
        match self.rest.first() {
            Some(arg) => bail!("unknown argument {arg}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_values_and_lists() {
        let mut args = Args::new(["verify", "--", "--only", "a,b", "--scale=3", "--stop", "--only", "c"]);
        assert_eq!(args.positional().as_deref(), Some("verify"));
        assert_eq!(args.positional(), None);
        assert_eq!(args.list("--only").unwrap(), ["a", "b", "c"]);
        assert_eq!(args.parsed::<u32>("--scale").unwrap(), Some(3));
        assert!(args.flag("--stop"));
        assert!(args.finish().is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(Args::new(["--scale"]).value("--scale").is_err());
        assert!(Args::new(["--scale", "x"]).parsed::<u32>("--scale").is_err());
        assert!(Args::new(["--sclae", "3"]).finish().is_err());
    }
}
