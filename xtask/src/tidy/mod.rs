//! The rules of the house that no compiler knows: who may depend on what, what names may look like, what must not
//! be left behind. Checks on text, so they need no build.

mod rules;
mod source;

use std::fmt;

use anyhow::{Result, bail};

use self::source::Source;
use crate::workspace;

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// From 1.
    line: usize,
    rule: &'static str,
    remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            remedy,
        } = self;
        write!(f, "{path}:{line}: {rule}: {remedy}")
    }
}

/// Checks all files of the project.
pub(crate) fn run() -> Result<()> {
    let mut sources = Vec::new();
    for path in workspace::files()? {
        let checked = ["rs", "c", "h", "md", "toml", "yaml", "py"];
        if path
            .extension()
            .is_some_and(|found| checked.iter().any(|extension| found == *extension))
        {
            let text = workspace::read(&path)?;
            sources.push(Source::new(&path.to_string_lossy(), text));
        }
    }
    let violations = rules::check(&sources);
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("tidy: {} files", sources.len());
        Ok(())
    } else {
        bail!("{} places break the rules of the house", violations.len())
    }
}
