//! Renders `deploy/` by the real helm and kubectl, without a cluster, and reads what comes out.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics; clippy looks for #[test] only"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use clap::{CommandFactory as _, Parser as _};
use ingest_agent::cli::Cli;
use ingest_tests::{built, command, workspace};
use serde_json::Value;

/// Components of kustomize, and the values by which the chart gives the same.
pub(crate) type Combination = (&'static [&'static str], &'static str);

/// One of the checkers that `cargo xtask test` installs.
pub(crate) fn program(name: &str) -> PathBuf {
    let variable = format!("INGEST_{}", name.to_uppercase().replace('-', "_"));
    built(&variable, &format!("manifest-tools/bin/{name}")).unwrap()
}

/// What it prints, warnings included; panics where it fails.
pub(crate) fn run(command: Command) -> String {
    let output = command::output(command).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A file of this test's own.
pub(crate) fn scratch(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A name that no other file of this process has.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The objects of a folder under deploy/kustomize.
pub(crate) fn objects(folder: &str) -> Vec<Value> {
    build(&workspace().join("deploy/kustomize").join(folder))
}

/// The base with `components`, as a user would put them together.
pub(crate) fn kustomize(components: &[&str]) -> Vec<Value> {
    // kustomize takes no absolute paths.
    let up: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .ancestors()
        .map(|_| "..")
        .collect();
    let deploy = up.join(workspace().strip_prefix("/").unwrap());
    let deploy = deploy.join("deploy/kustomize");
    let deploy = deploy.display();
    let components: Vec<_> = components
        .iter()
        .map(|component| format!("{deploy}/components/{component}"))
        .collect();
    let text = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("{deploy}/base")],
        "components": components,
    });
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("kustomize"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("kustomization.yaml"), text.to_string()).unwrap();
    build(&folder)
}

fn build(folder: &Path) -> Vec<Value> {
    let mut kubectl = Command::new(program("kubectl"));
    kubectl.arg("kustomize").arg(folder);
    parse(&command::output(kubectl).unwrap().stdout)
}

/// The objects of the chart with `values`, or why it refuses them.
pub(crate) fn template(values: &str) -> anyhow::Result<Vec<Value>> {
    let mut helm = Command::new(program("helm"));
    helm.args(["template", "ingest", "--namespace", "ingest-system"])
        .arg(workspace().join("deploy/helm/ingest"))
        .arg("--values")
        .arg(scratch(&unique("values.yaml"), values));
    Ok(parse(&command::output(helm)?.stdout))
}

/// The objects of the chart with `values`.
pub(crate) fn helm(values: &str) -> Vec<Value> {
    template(values).unwrap()
}

/// The chart with every value that changes the command line.
pub(crate) fn full_chart() -> Vec<Value> {
    helm(
        "{uplinks: [eth0, bond0.7], vipRanges: [203.0.113.0/24, '2001:db8::/64'], nodePorts: true, \
        allowExternalIps: true, delivery: stack, podGro: true, metricsAddr: '[::1]:9900', \
        extraArgs: ['--max-flows=4096'], imagePullSecrets: [{name: pull}], mountBpffs: true}",
    )
}

fn parse(yaml: &[u8]) -> Vec<Value> {
    let yaml = std::str::from_utf8(yaml).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    objects.retain(|object| !object.is_null());
    assert!(!objects.is_empty());
    objects
}

/// The object of that kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

pub(crate) fn value_at<'a>(object: &'a Value, pointer: &str) -> &'a Value {
    object
        .pointer(pointer)
        .unwrap_or_else(|| panic!("no {pointer} in {object}"))
}

pub(crate) fn daemonset(objects: &[Value]) -> &Value {
    find(objects, "DaemonSet", "ingest-agent")
}

/// The agent's container.
pub(crate) fn container(objects: &[Value]) -> &Value {
    value_at(daemonset(objects), "/spec/template/spec/containers/0")
}

/// What the agent makes of its arguments and its environment.
pub(crate) fn command_line(objects: &[Value]) -> Cli {
    let container = container(objects);
    let mut arguments: Vec<String> = vec!["ingest-agent".into()];
    for argument in container["args"].as_array().unwrap() {
        arguments.push(argument.as_str().unwrap().to_owned());
    }
    let definition = Cli::command();
    let run = definition.find_subcommand("run").unwrap();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap();
        // As the kubelet would say.
        let value = match value_at(variable, "/valueFrom/fieldRef/fieldPath").as_str() {
            Some("spec.nodeName") => "node-1",
            Some("status.podIPs") => "192.0.2.1,2001:db8::1",
            Some("status.hostIP") => "192.0.2.1",
            other => panic!("{name} is {other:?}"),
        };
        let reference = format!("$({name})");
        if arguments
            .iter()
            .any(|argument| argument.contains(&reference))
        {
            for argument in &mut arguments {
                *argument = argument.replace(&reference, value);
            }
            continue;
        }
        // The process's own environment is shared with other tests: hand it over by the flag that reads it.
        let flag = run
            .get_arguments()
            .find(|flag| flag.get_env().is_some_and(|env| env == name))
            .unwrap_or_else(|| panic!("the agent does not read {name}"));
        arguments.push(format!("--{}={value}", flag.get_long().unwrap()));
    }
    assert!(!arguments.iter().any(|argument| argument.contains("$(")));
    Cli::try_parse_from(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}
