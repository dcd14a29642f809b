//! The Prometheus of the tests, from Debian: unpacked, not installed. And the copies of its rules in `deploy/`.
//!
//! `target/prometheus/usr/bin/` holds `prometheus` and `promtool`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    command::output,
    debian::{self, Apt},
    workspace,
};

const SUITE: &str = "bookworm";
/// Carries promtool too; newer suites have a package of its own for that.
const PACKAGE: &str = "prometheus";

const RULES: &str = "deploy/prometheus/rules.yaml";
/// The chart cannot read what is outside of its folder, and kustomize cannot put a file into an object.
const CHART_COPY: &str = "deploy/helm/ingest/rules.yaml";
const OBJECT: &str = "deploy/kustomize/components/prometheusrule/prometheusrule.yaml";
const OBJECT_HEAD: &str = "\
# Made of deploy/prometheus/rules.yaml: cargo xtask rules
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ingest-agent
  namespace: ingest-system
  labels:
    app.kubernetes.io/name: ingest-agent
    app.kubernetes.io/part-of: ingest
spec:
";

/// Where the programs are.
pub(crate) fn directory() -> PathBuf {
    workspace::target_dir().join("prometheus/usr/bin")
}

/// Fetches them where they are missing.
pub(crate) fn install() -> Result<()> {
    let root = workspace::target_dir().join("prometheus");
    let stamp = root.join("fetched.txt");
    let wanted = format!("{PACKAGE} of {SUITE}\n");
    if fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == wanted) {
        return Ok(());
    }
    println!("setup: {PACKAGE} of Debian's {SUITE}, for the tests of metrics and alerts");
    if root.exists() {
        debian::remove(&root)?;
    }
    let apt = Apt::new(root.join("apt"), &[SUITE])?;
    let packages = apt.download(&root.join("apt/packages"), SUITE, &[PACKAGE])?;
    for package in &packages {
        debian::unpack(package, &root)?;
    }
    apt.remove()?;
    for program in ["prometheus", "promtool"] {
        let path = directory().join(program);
        if output(Command::new(&path).arg("--version")).is_none() {
            bail!("{} of Debian's {SUITE} does not run here", path.display());
        }
    }
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

/// Writes the copies that kustomize and the chart need.
pub(crate) fn copy_rules() -> Result<()> {
    let rules = workspace::read(RULES)?;
    let lines = rules.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    });
    let object = format!("{OBJECT_HEAD}{}", lines.collect::<String>());
    for (path, text) in [(CHART_COPY, &rules), (OBJECT, &object)] {
        let path = workspace::root().join(path);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
