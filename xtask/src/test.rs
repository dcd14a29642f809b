//! Runs the tests by tier.
//!
//! Tests are built with overflow checks and debug assertions (cargo's test profile); the programs that they start
//! (agent, peers) are the release builds that users run. Every call selects the same packages, so cargo unifies
//! features the same way and builds each dependency once.

use std::{
    env, fmt,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    assets, build,
    command::{cargo, find, is_root, output, with_built_programs},
    kernels, manifest_tools, prometheus,
    setup::{self, Scope},
    srt_versions, workspace,
};

/// What a test may use; see CONTRIBUTING.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tier {
    /// Pure code: unit, property and model tests. Needs no root.
    Unit,
    /// The real kernel programs, run on made packets. Needs root.
    Prog,
    /// Network namespaces with real peers. Needs root.
    Netns,
    /// A real API server, pods made by real CNI plugins. Needs root, and `KUBEBUILDER_ASSETS`.
    Cluster,
    /// The agent on other kernels, emulated, as well as on this one. Needs root, and the network at its first run.
    Kernels,
    /// All of them but `kernels`; `cluster` where there is an API server.
    All,
}

/// Results of some test binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u32,
    failed: u32,
    failures: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Tally {
    /// Tests that ran.
    pub(crate) fn total(&self) -> u32 {
        self.passed + self.failed
    }

    /// The same, with failures that say where.
    pub(crate) fn of(mut self, place: &str) -> Self {
        for failure in &mut self.failures {
            *failure = format!("{place}: {failure}");
        }
        self
    }

    /// Takes in a line of a test binary's output.
    pub(crate) fn read(&mut self, line: &str) {
        let count = |word: &str| -> u32 {
            let numbers = line.split(';').filter_map(|part| {
                let number = part.trim().strip_suffix(word)?.rsplit(' ').next()?;
                number.parse::<u32>().ok()
            });
            numbers.sum()
        };
        if line.starts_with("test result: ") {
            self.passed += count(" passed");
            self.failed += count(" failed");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|line| line.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

/// Sets up, builds, and runs the tiers asked for.
pub(crate) fn run(tier: Tier, filter: Option<&str>) -> Result<()> {
    // Before minutes of building.
    let cluster = match tier {
        Tier::Cluster => assets::require().map(Some)?,
        Tier::All => assets::find()?,
        _ => None,
    };
    if tier == Tier::All && cluster.is_none() && is_required("INGEST_REQUIRE_CLUSTER") {
        assets::require()?;
    }
    if tier == Tier::Unit {
        setup::run(Scope::Build)?;
    } else {
        build::run(Scope::All)?;
    }
    let mut tiers = match tier {
        Tier::All => vec![Tier::Unit, Tier::Prog, Tier::Netns],
        one => vec![one],
    };
    if tier == Tier::All && cluster.is_some() {
        tiers.push(Tier::Cluster);
    }
    let mut lines = Vec::new();
    let mut total = Tally::default();
    let mut broken = Vec::new();
    for tier in tiers {
        let begun = Instant::now();
        match run_tier(tier, filter, cluster.as_deref()) {
            Ok(tally) => {
                lines.push(format!("{tier:?}: {tally} in {}", seconds(begun.elapsed())));
                total.add(tally);
            }
            Err(error) => {
                lines.push(format!("{tier:?}: {error:#}"));
                broken.push(tier);
            }
        }
    }
    println!();
    for failure in &total.failures {
        println!("failed: {failure}");
    }
    for line in lines {
        println!("{line}");
    }
    println!("{total}");
    if tier == Tier::All && cluster.is_none() {
        println!("Cluster: NOT RUN: no API server ({})", assets::VARIABLE);
    }
    if total.failed > 0 || !broken.is_empty() {
        bail!("tests failed");
    }
    if total.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn run_tier(tier: Tier, filter: Option<&str>, cluster: Option<&Path>) -> Result<Tally> {
    let files = test_files()?;
    let of = |tier: Tier| {
        let found: Vec<_> = files.iter().filter(|name| tier_of(name) == tier).collect();
        // Without a name, cargo would run every test there is.
        (!found.is_empty())
            .then_some(found)
            .with_context(|| format!("no test of tier {tier:?}"))
    };
    let mut tally = Tally::default();
    match tier {
        Tier::Unit => {
            manifest_tools::install()?;
            or_say(prometheus::install());
            let mut tests = test_command(files.iter().filter(|name| tier_of(name) == Tier::Unit));
            tests.args(["--lib", "--bins"]);
            tally.add(count(&mut tests, filter, &[])?);
            let mut docs = test_command([]);
            docs.arg("--doc");
            tally.add(count(&mut docs, filter, &[])?);
        }
        Tier::Prog => {
            // Units that need root sit beside the code they test.
            let mut units = as_root(test_command([]))?;
            units.args(["--lib", "--bins"]);
            tally.add(count(
                &mut units,
                filter,
                &["--ignored", "--test-threads=1"],
            )?);
            let mut tests = as_root(test_command(of(Tier::Prog)?))?;
            tally.add(count(
                &mut tests,
                filter,
                &["--include-ignored", "--test-threads=1"],
            )?);
        }
        Tier::Netns | Tier::Cluster => {
            if tier == Tier::Netns {
                or_say(srt_versions::install());
                or_say(prometheus::install());
            }
            let mut tests = as_root(test_command(of(tier)?))?;
            if let Some(assets) = cluster {
                tests.env(assets::VARIABLE, assets);
            }
            tally.add(count(
                &mut tests,
                filter,
                &["--include-ignored", "--test-threads=1"],
            )?);
        }
        Tier::Kernels => {
            let tests = of(Tier::Kernels)?;
            let mut here = as_root(test_command(tests.iter().copied()))?;
            tally.add(count(
                &mut here,
                filter,
                &["--include-ignored", "--test-threads=1"],
            )?);
            tally.add(kernels::run(&binaries(test_command(tests))?, filter)?);
        }
        Tier::All => bail!("not one tier"),
    }
    Ok(tally)
}

/// The tests that need what could not be fetched fail, and the others are worth running.
fn or_say(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("error: {error:#}");
    }
}

/// The tier that an integration test belongs to, by its name.
pub(crate) fn tier_of(name: &str) -> Tier {
    if name.starts_with("prog_") {
        Tier::Prog
    } else if name.starts_with("netns_") {
        Tier::Netns
    } else if name.starts_with("cluster_") {
        Tier::Cluster
    } else if name.starts_with("kernels_") {
        Tier::Kernels
    } else {
        Tier::Unit
    }
}

/// Names of the integration tests of all packages.
fn test_files() -> Result<Vec<String>> {
    let names = workspace::files()?.into_iter().filter_map(|path| {
        let name = integration_test(path.to_str()?)?;
        Some(name.to_owned())
    });
    Ok(names.collect())
}

/// The name of an integration test, from its path in the workspace: `<package>/tests/<name>.rs`.
pub(crate) fn integration_test(path: &str) -> Option<&str> {
    let (_, in_package) = path.split_once('/')?;
    let name = in_package.strip_prefix("tests/")?.strip_suffix(".rs")?;
    (!name.contains('/')).then_some(name)
}

fn test_command<'a>(tests: impl IntoIterator<Item = &'a String>) -> Command {
    let mut command = cargo();
    command.args([
        "test",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "ingest-ebpf",
    ]);
    for test in tests {
        command.args(["--test", test]);
    }
    command
}

/// Names and paths of the test binaries that a command of [`test_command`] would run.
fn binaries(mut command: Command) -> Result<Vec<(String, PathBuf)>> {
    command.args(["--no-run", "--message-format", "json"]);
    let messages = output(&mut command).context("cargo test --no-run failed")?;
    Ok(messages.lines().filter_map(binary).collect())
}

/// A built integration test, from cargo's message about it.
fn binary(message: &str) -> Option<(String, PathBuf)> {
    let text = |field: &str| message.split_once(field)?.1.split('"').next();
    let path = PathBuf::from(text("\"executable\":\"")?);
    // Programs that tests run are built too, but are no tests.
    if !path.parent()?.ends_with("deps") {
        return None;
    }
    // Cargo's file names end in a hash.
    let name = path.file_name()?.to_str()?.rsplit_once('-')?.0.to_owned();
    Some((name, path))
}

/// Whether the caller wants a failure where something cannot run.
fn is_required(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}

/// Builds as the user, runs as root; what needs root may not be skipped.
fn as_root(mut command: Command) -> Result<Command> {
    command.env("INGEST_REQUIRE_BPF", "1");
    with_built_programs(&mut command);
    if is_root() {
        return Ok(command);
    }
    if find("sudo").is_none() {
        bail!("needs root, and there is no sudo: run this task as root");
    }
    let rustc = output(Command::new("rustc").arg("-vV")).context("rustc does not run")?;
    let host = rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    let variable = format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace('-', "_")
    );
    command.env(variable, "sudo --preserve-env --");
    Ok(command)
}

/// Runs tests, passing their output on, and counts.
fn count(command: &mut Command, filter: Option<&str>, arguments: &[&str]) -> Result<Tally> {
    command.arg("--").args(arguments).args(filter);
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    eprintln!("$ cargo {}", words.join(" "));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("reading the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.read(&line);
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    // A test binary that fails without having counted a failure crashed, or was never built.
    if !status.success() && tally.failed == 0 {
        bail!("cargo test failed ({status}) without a failed test: see above");
    }
    Ok(tally)
}

/// As people say it.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test steer::a ... ok",
            "test steer::b ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 4 ignored; 0 measured; 5 filtered out; finished in 0.01s",
            "test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.to_string(), "12 passed, 1 failed");
        assert_eq!(tally.failures, ["steer::b"]);
    }

    #[test]
    fn test_binaries_are_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"kind":["test"]},"executable":"/t/debug/deps/kernels_load-0a1b","fresh":true}"#;
        let (name, path) = binary(message).unwrap();
        assert_eq!(
            (name.as_str(), path.to_str()),
            ("kernels_load", Some("/t/debug/deps/kernels_load-0a1b"))
        );
        assert_eq!(
            binary(r#"{"reason":"build-finished","success":true}"#),
            None
        );
        assert_eq!(
            binary(r#"{"reason":"compiler-artifact","executable":null}"#),
            None
        );
    }

    #[test]
    fn integration_tests_are_found_in_every_package() {
        assert_eq!(
            integration_test("tests/tests/prog_reply.rs"),
            Some("prog_reply")
        );
        assert_eq!(integration_test("ingest-agent/tests/cli.rs"), Some("cli"));
        assert_eq!(integration_test("ingest-agent/tests/cli/helper.rs"), None);
        assert_eq!(integration_test("ingest-common/src/flow/tests.rs"), None);
        assert_eq!(integration_test("tests/src/lib.rs"), None);
    }

    #[test]
    fn files_belong_to_tiers_by_name() {
        assert_eq!(tier_of("prog_fixtures"), Tier::Prog);
        assert_eq!(tier_of("netns_failover"), Tier::Netns);
        assert_eq!(tier_of("cluster_steer"), Tier::Cluster);
        assert_eq!(tier_of("kernels_agent"), Tier::Kernels);
        assert_eq!(tier_of("captures"), Tier::Unit);
    }
}
