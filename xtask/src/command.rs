//! Running other programs: each one is printed before it runs, and named where it fails.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{prometheus, srt_versions, workspace};

/// Runs it; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("starting `{}`", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(anyhow!("`{}` failed: {status}", brief(command)))
    }
}

/// Becomes it, so that signals and the exit code are its own. Returns only where it could not be started.
pub(crate) fn become_it(command: &mut Command) -> anyhow::Error {
    eprintln!("$ {}", shown(command));
    let error = command.exec();
    anyhow::Error::new(error).context(format!("starting `{}`", shown(command)))
}

/// What it prints; `None` where it does not exist or fails. For detection only, hence not printed.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs this task, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    let object = workspace::ebpf_dir().join("ingest");
    // The agent's build script looks into `target/`; elsewhere it must be told.
    if workspace::target_dir() != workspace::root().join("target") && object.is_file() {
        command.env("INGEST_EBPF_OBJECT", object);
    }
    command
}

/// Tells a test, the demo or the benchmarks where the programs are that they start, unless the user said so.
pub(crate) fn with_built_programs(command: &mut Command) {
    let peers = workspace::target_dir().join("peers");
    for (variable, program) in [
        ("INGEST_AGENT", workspace::release_binary("ingest-agent")),
        ("INGEST_LISTENER", peers.join("listener")),
        ("INGEST_CALLER", peers.join("caller")),
        ("INGEST_SRT_VERSIONS", srt_versions::directory()),
        ("INGEST_PROMETHEUS", prometheus::directory()),
    ] {
        if env::var_os(variable).is_none() {
            command.env(variable, program);
        }
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // The owner of a process's own /proc entry is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// `program` as root: by sudo where this process is not root. The environment is kept.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if find("sudo").is_none() {
        bail!(
            "{} needs root, and there is no sudo: run this task as root",
            program.as_ref().to_string_lossy()
        );
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg("--").arg(program);
    Ok(command)
}

/// The full path of a program, looked for where root would find it too.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

/// Whether it is a program.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

/// Program and first arguments, for an error's text: the whole is printed above it.
fn brief(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words = [program].into_iter().chain(command.get_args().take(2));
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// As one would type it.
fn shown(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./,:@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    // 0x1f separates the words of CARGO_ENCODED_RUSTFLAGS.
    format!("'{}'", word.replace('\'', r"'\''").replace('\x1f', r"\x1f"))
}

/// `PATH` with `first` in front.
pub(crate) fn path_with(first: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [first.to_path_buf()]
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(folders).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_one_would_type_them() {
        let mut command = Command::new("cargo");
        command.args(["test", "--test", "prog_*"]).env("A", "b c");
        assert_eq!(shown(&command), "A='b c' cargo test --test 'prog_*'");
    }
}
