//! The rules. Each is a function over one file, or over all of them, and says what to do instead.

use std::collections::BTreeSet;

use super::{
    Violation,
    source::{Source, has_word, is_word},
};

/// The kernel cuts longer names, and then bpftool and we disagree.
const LONGEST_NAME: usize = 15;
const LONGEST_FILE: usize = 500;

/// A dependency that only some folders may use.
struct Layer {
    rule: &'static str,
    words: &'static [&'static str],
    /// What follows the word.
    after: &'static str,
    /// Files it is about.
    within: &'static [&'static str],
    /// Of those, the files that may.
    allowed: &'static [&'static str],
    remedy: &'static str,
}

const LAYERS: [Layer; 6] = [
    Layer {
        rule: "aya stays in the dataplane",
        words: &["aya", "aya_obj", "aya_log"],
        after: "::",
        within: &["ingest-agent", "ingest-common", "xtask"],
        // The marker trait that lets user space copy the ABI structs.
        allowed: &[
            "ingest-agent/src/dataplane",
            "ingest-agent/src/dataplane.rs",
            "ingest-common/src/abi/mod.rs",
        ],
        remedy: "go through ingest_agent::dataplane, or move this there",
    },
    Layer {
        rule: "kube stays in the cluster source",
        words: &["kube", "k8s_openapi"],
        after: "::",
        within: &["ingest-agent", "ingest-common", "ingest-ebpf", "xtask"],
        allowed: &["ingest-agent/src/cluster"],
        remedy: "take plain data (reconcile's Desired), or move this to ingest-agent/src/cluster",
    },
    Layer {
        rule: "unsafe stays at the border to the kernel",
        words: &["unsafe"],
        after: "",
        within: &["ingest-agent", "ingest-common", "xtask"],
        allowed: &[
            "ingest-agent/src/dataplane",
            "ingest-agent/src/dataplane.rs",
            "ingest-common/src/abi/mod.rs",
            "ingest-common/src/packet",
            // Words of the workspace: by bytes, the kernel would load them one by one.
            "ingest-common/src/srt/stream_id.rs",
        ],
        remedy: "use a safe wrapper (nix, or one in ingest-agent/src/dataplane)",
    },
    Layer {
        rule: "reconcile is pure",
        words: &[
            "aya",
            "kube",
            "k8s_openapi",
            "tokio",
            "nix",
            "rtnetlink",
            "Instant",
            "SystemTime",
        ],
        after: "::",
        within: &["ingest-agent/src/reconcile"],
        allowed: &[],
        remedy: "take what it needs as an argument: no I/O and no clock in reconcile",
    },
    Layer {
        rule: "reconcile is pure",
        words: &["dataplane", "source", "cluster", "ports"],
        after: "::",
        within: &["ingest-agent/src/reconcile"],
        allowed: &[],
        remedy: "the others depend on reconcile, never the other way",
    },
    Layer {
        rule: "errors have types",
        words: &["anyhow"],
        after: "",
        within: &["ingest-agent/src", "ingest-common", "ingest-ebpf"],
        allowed: &["ingest-agent/src/main.rs"],
        remedy: "a thiserror enum of the module; anyhow is for binaries, xtask and tests",
    },
];

/// Everything that is wrong, in the files' order.
pub(super) fn check(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        if source.is_rust() {
            layers(source, &mut found);
            unfinished(source, &mut found);
            reasons(source, &mut found);
            names(source, &mut found);
            tiers(source, &mut found);
        }
        length(source, &mut found);
        marks(source, &mut found);
    }
    metrics(sources, &mut found);
    found
}

fn violation(
    source: &Source,
    line: usize,
    rule: &'static str,
    remedy: impl Into<String>,
) -> Violation {
    Violation {
        path: source.path.clone(),
        line,
        rule,
        remedy: remedy.into(),
    }
}

/// Who may use what.
fn layers(source: &Source, found: &mut Vec<Violation>) {
    let is_in = |folders: &[&str]| folders.iter().any(|folder| source.is_in(folder));
    for layer in LAYERS
        .iter()
        .filter(|layer| is_in(layer.within) && !is_in(layer.allowed))
    {
        let uses = |line: &str| {
            layer.words.iter().any(|word| {
                has_word(line, word, layer.after)
                    // `use aya;` and `use aya as …` reach the crate too.
                    || (line.trim_start().starts_with("use ") && has_word(line, word, ";"))
            })
        };
        for (line, _) in source.code_lines().filter(|(_, line)| uses(line)) {
            found.push(violation(source, line, layer.rule, layer.remedy));
        }
    }
}

/// What was meant to be finished.
fn unfinished(source: &Source, found: &mut Vec<Violation>) {
    for (number, line) in source.code_lines() {
        for word in ["todo", "unimplemented", "dbg"] {
            if has_word(line, word, "!") {
                found.push(violation(
                    source,
                    number,
                    "nothing unfinished",
                    format!("finish it and remove {word}!"),
                ));
            }
        }
    }
}

/// The same in comments and in other files.
fn marks(source: &Source, found: &mut Vec<Violation>) {
    // In two parts, or this file would break the rule.
    for mark in [concat!("FIX", "ME"), concat!("XX", "X")] {
        for (number, _) in source.lines().filter(|(_, line)| has_word(line, mark, "")) {
            found.push(violation(
                source,
                number,
                "nothing unfinished",
                "do it, or file an issue and say nothing here",
            ));
        }
    }
}

/// Exceptions say why.
fn reasons(source: &Source, found: &mut Vec<Violation>) {
    for (line, text) in source.attributes("ignore") {
        if !text.contains('"') {
            let remedy = "say why: #[ignore = \"needs root: cargo xtask test\"]";
            found.push(violation(
                source,
                line,
                "ignored tests have a reason",
                remedy,
            ));
        }
    }
    for name in ["allow", "expect"] {
        for (line, text) in source.attributes(name) {
            if !text.contains("reason") {
                let remedy = "#[expect(lint, reason = \"…\")], or mend what the lint is about";
                found.push(violation(
                    source,
                    line,
                    "lint exceptions have a reason",
                    remedy,
                ));
            }
        }
    }
}

/// Names in the kernel are short enough to stay whole.
fn names(source: &Source, found: &mut Vec<Violation>) {
    let mut too_long = |line: usize, name: &str| {
        if name.len() > LONGEST_NAME {
            let remedy = format!(
                "{name} has {} bytes, the kernel keeps {LONGEST_NAME}",
                name.len()
            );
            found.push(violation(source, line, "kernel names are short", remedy));
        }
    };
    if source.path == "ingest-common/src/abi/names.rs" {
        for (number, line) in source.lines() {
            for opening in ["map(\"", "&str = \""] {
                if let Some((name, _)) = line
                    .split_once(opening)
                    .and_then(|(_, rest)| rest.split_once('"'))
                {
                    too_long(number, name);
                }
            }
        }
    }
    if source.is_in("ingest-ebpf/src") {
        for attribute in ["btf_map", "map", "xdp", "classifier"] {
            for (line, _) in source.attributes(attribute) {
                let below = source.code_lines().skip(line - 1).take(4);
                let name = below
                    .flat_map(|(_, line)| ["static ", "fn "].map(|word| line.split_once(word)))
                    .flatten()
                    .next();
                if let Some((_, rest)) = name {
                    let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                    too_long(line, &rest[..end]);
                }
            }
        }
    }
}

/// A test that needs root is in a file whose name says so, or nobody runs it.
fn tiers(source: &Source, found: &mut Vec<Violation>) {
    let Some(name) = crate::test::integration_test(&source.path) else {
        return;
    };
    if crate::test::tier_of(name) == crate::test::Tier::Unit
        && let Some((line, _)) = source.attributes("ignore").next()
    {
        let remedy = "name the file prog_*.rs (kernel programs), netns_*.rs (namespaces) or cluster_*.rs: those tiers run as root";
        found.push(violation(source, line, "every test is run", remedy));
    }
}

/// A file is read in one sitting.
fn length(source: &Source, found: &mut Vec<Violation>) {
    let lines = source.text.lines().count();
    if source.extension() != "md" && lines > LONGEST_FILE {
        let remedy = format!("{lines} lines, at most {LONGEST_FILE}: find the seam and split it");
        found.push(violation(
            source,
            LONGEST_FILE + 1,
            "files are short",
            remedy,
        ));
    }
}

/// Operators find every metric in the table of docs/metrics.md.
fn metrics(sources: &[Source], found: &mut Vec<Violation>) {
    let Some(reference) = sources.iter().find(|source| source.path == METRICS) else {
        return;
    };
    let rows = || {
        reference
            .lines()
            .map(|(_, line)| line)
            .filter(|line| line.starts_with('|'))
    };
    let mut seen = BTreeSet::new();
    for source in sources.iter().filter(|source| is_metrics(source)) {
        for (number, stem) in metric_stems(source) {
            let forms = METRIC_SUFFIXES.map(|suffix| format!("{stem}{suffix}"));
            let is_documented = rows().any(|row| forms.iter().any(|form| has_word(row, form, "")));
            if !is_documented && seen.insert(stem.clone()) {
                let remedy = format!(
                    "name {stem} in {METRICS}: cargo run -p ingest-agent --example metrics > {METRICS}"
                );
                found.push(violation(source, number, "metrics are documented", remedy));
            }
        }
    }
}

/// Where they are listed; made of the code.
const METRICS: &str = "docs/metrics.md";

/// What the registry, or the format, adds to a metric's name.
const METRIC_SUFFIXES: [&str; 6] = ["", "_total", "_info", "_bucket", "_count", "_sum"];

fn is_metrics(source: &Source) -> bool {
    source.is_rust()
        && (source.is_in("ingest-agent/src/metrics")
            || source.path == "ingest-agent/src/metrics.rs")
}

/// The metrics that a file names, in full (`ingest_flows`) or as it registers them (`flows`): line, and name without suffix.
fn metric_stems(source: &Source) -> Vec<(usize, String)> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let line_of = |at: usize| {
        1 + source
            .text
            .bytes()
            .take(at)
            .filter(|&byte| byte == b'\n')
            .count()
    };
    let mut names = Vec::new();
    for (at, _) in source.text.match_indices("\"ingest_") {
        let rest = source.text.get(at + 1..).unwrap_or_default();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        names.extend(rest.get(..end).map(|name| (line_of(at), name.to_owned())));
    }
    for function in ["register", "counter", "gauge", "encode_descriptor"] {
        for (at, _) in source.code.match_indices(&format!("{function}(")) {
            let name = call(source, at)
                .and_then(|text| text.split('"').nth(1))
                .unwrap_or_default();
            if is_name(name) {
                names.push((line_of(at), format!("ingest_{name}")));
            }
        }
    }
    let stem = |name: String| {
        let suffix = METRIC_SUFFIXES
            .iter()
            .rev()
            .find(|suffix| name.ends_with(*suffix));
        suffix.map_or(name.clone(), |suffix| {
            name.trim_end_matches(suffix).to_owned()
        })
    };
    names
        .into_iter()
        .map(|(line, name)| (line, stem(name)))
        .collect()
}

/// The text of the call at `at`, up to its closing parenthesis.
fn call(source: &Source, at: usize) -> Option<&str> {
    let mut depth = 0_u32;
    let length = source.code.get(at..)?.find(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ')' && depth == 0
    })?;
    source.text.get(at..at + length)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
