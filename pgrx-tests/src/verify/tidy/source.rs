//! The files of the clone, as the checks read them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// What is read: the rest of a clone is not ours, or not text.
const ENDINGS: &[&str] = &["rs", "sql", "md", "toml", "sh", "control", "spec"];
/// Programs without an ending.
const PROGRAMS: &[&str] = &[".ci/run"];

pub struct File {
    /// From the top of the clone: `src/jobs/queue.rs`.
    pub path: String,
    pub text: String,
    /// Of a Rust file of the extension.
    tokens: Option<TokenStream>,
}

impl File {
    pub fn new(path: &str, text: &str) -> Result<Self> {
        let tokens = (path.starts_with("src/") && path.ends_with(".rs")).then(|| text.parse::<TokenStream>());
        let tokens = tokens.transpose().map_err(|error| anyhow!("{path} is no Rust: {error}"))?;
        Ok(Self { path: path.to_owned(), text: text.to_owned(), tokens })
    }

    pub fn ends(&self, ending: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == ending)
    }

    pub fn is_below(&self, directory: &str) -> bool {
        self.path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    pub fn tokens(&self) -> Vec<TokenTree> {
        self.tokens.clone().into_iter().flatten().collect()
    }
}

/// All files that are read, in order.
pub struct Clone {
    pub files: Vec<File>,
}

impl Clone {
    pub fn read(root: &Path) -> Result<Self> {
        let mut paths = PROGRAMS.iter().map(|path| (*path).to_owned()).collect();
        walk(root, "", &mut paths)?;
        paths.sort();
        let read = |path: &String| {
            let text = fs::read_to_string(root.join(path)).with_context(|| path.clone())?;
            File::new(path, &text)
        };
        Ok(Self { files: paths.iter().map(read).collect::<Result<_>>()? })
    }

    pub fn file(&self, path: &str) -> Result<&File> {
        self.files.iter().find(|file| file.path == path).with_context(|| format!("there is no {path}"))
    }

    /// The Rust files of the extension.
    pub fn extension(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_below("src") && file.ends("rs"))
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File::new(path, text).unwrap()).collect() }
    }
}

/// Everything but what is hidden, and what can be thrown away.
fn walk(root: &Path, below: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if name.starts_with('.') || name == "target" || name == "__pycache__" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &path, found)?;
        } else if name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending)) {
            found.push(path);
        }
    }
    Ok(())
}
