use std::{fmt, io, path::PathBuf};

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file was read and is wrong. Nothing of it is applied.
    #[error("{}", list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file's lines.
        problems: Vec<Problem>,
    },
    /// The file is right, but what it changes cannot be changed while the agent runs.
    #[error(
        "{}: `uplink` changed from {from} to {to}, which needs new programs on other interfaces; \
         restart the agent to apply it, or undo the change",
        path.display()
    )]
    UplinkChanged {
        /// The file.
        path: PathBuf,
        /// The uplinks in use.
        from: String,
        /// The uplinks in the file.
        to: String,
    },
}

/// One thing wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 where the parser could not tell.
    pub line: u64,
    /// What is wrong, on what, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)
    }
}

/// Most problems shown: one wrong template repeats itself a thousand times.
const SHOWN: usize = 10;

fn list(path: &std::path::Path, problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems
        .iter()
        .take(SHOWN)
        .map(|p| match p.line {
            0 => format!("{}: {p}", path.display()),
            line => format!("{}:{line}: {p}", path.display()),
        })
        .collect();
    if problems.len() > SHOWN {
        lines.push(format!("… and {} more", problems.len() - SHOWN));
    }
    lines.join("\n")
}

/// The parser's own complaint, in one line and without the snippet of the file.
pub(super) fn from_yaml(error: &serde_saphyr::Error) -> Problem {
    let line = error.location().map_or(0, |l| l.line());
    let text = error.without_snippet().to_string();
    // The place is said in front already.
    let text = text
        .split(" at line ")
        .next()
        .and_then(|t| t.lines().next())
        .unwrap_or_default();
    Problem {
        line,
        reason: format!("{text}; see the format under \"Use\" in README.md"),
    }
}
