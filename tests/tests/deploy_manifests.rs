//! `deploy/`: the chart gives what kustomize gives, both are valid, and the agent takes what they hand it.

mod manifests;

use std::net::SocketAddr;

use ingest_agent::{
    cli::{Cli, Command, Source},
    cluster,
};
use serde_json::{Value, json};

use self::manifests::{
    Combination, command_line, container, daemonset, find, full_chart, helm, kustomize, objects,
    program, run, scratch, value_at,
};

/// Versions of Kubernetes whose schemas are checked; the first is the oldest that knows `appArmorProfile`.
const KUBERNETES: [&str; 8] = [
    "1.30.0", "1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0",
];

/// What can be had of both: components of kustomize, and values of the chart.
const COMBINATIONS: [Combination; 9] = [
    (&[], "{}"),
    (&["privileged"], "privileged: true"),
    (&["seccomp-unconfined"], "seccompProfile: Unconfined"),
    (&["mount-bpffs"], "mountBpffs: true"),
    (&["pod-gro"], "podGro: true"),
    (&["podmonitor"], "podMonitor: true"),
    (&["prometheusrule"], "prometheusRule: true"),
    (
        &["mount-bpffs", "pod-gro", "podmonitor", "prometheusrule"],
        "{mountBpffs: true, podGro: true, podMonitor: true, prometheusRule: true}",
    ),
    (
        &["pod-gro", "privileged"],
        "{podGro: true, privileged: true}",
    ),
];

#[test]
fn the_chart_gives_what_kustomize_gives() {
    for (components, values) in COMBINATIONS {
        let mut chart = helm(values);
        for object in &mut chart {
            let labels = object["metadata"]["labels"].as_object_mut().unwrap();
            assert_eq!(
                labels.remove("app.kubernetes.io/managed-by"),
                Some(json!("Helm"))
            );
            assert!(labels.remove("helm.sh/chart").is_some());
        }
        let mut kustomize = kustomize(components);
        // A chart cannot make the namespace that its own release is recorded in.
        let before = kustomize.len();
        kustomize.retain(|object| object["kind"] != "Namespace");
        assert_eq!(kustomize.len(), before - 1);
        // Helm's way with definitions: a folder of its own, from which nothing is rendered.
        kustomize.retain(|object| object["kind"] != "CustomResourceDefinition");
        assert_eq!(kustomize.len(), before - 2);
        let key = |object: &Value| object["kind"].to_string();
        chart.sort_by_key(key);
        kustomize.sort_by_key(key);
        assert_eq!(
            chart.iter().map(key).collect::<Vec<_>>(),
            kustomize.iter().map(key).collect::<Vec<_>>(),
            "{values}"
        );
        for (ours, theirs) in chart.iter().zip(&kustomize) {
            assert_eq!(ours, theirs, "{values}");
        }
    }
}

/// `cargo run -p ingest-agent --example crd` makes both.
#[test]
fn the_definition_of_routes_is_that_of_the_agent() {
    let agents = serde_json::to_value(cluster::stream_route::definition()).unwrap();
    let objects = kustomize(&[]);
    let name = agents["metadata"]["name"].as_str().unwrap();
    let kustomizes = find(&objects, "CustomResourceDefinition", name);
    // Numbers may have lost their decimals on the way.
    assert_eq!(normal(kustomizes), normal(&agents));
    let deploy = ingest_tests::workspace().join("deploy");
    let read = |folder: &str| {
        std::fs::read_to_string(deploy.join(folder).join("streamroutes.yaml")).unwrap()
    };
    assert_eq!(read("helm/ingest/crds"), read("kustomize/base"));
}

fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), normal(value)));
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

#[test]
fn the_sample_route_leads_to_the_sample_pool() {
    let samples = objects("samples");
    let route: cluster::stream_route::StreamRoute =
        serde_json::from_value(find(&samples, "StreamRoute", "acme").clone()).unwrap();
    let [parent] = &route.spec.parent_refs[..] else {
        panic!("not one parent");
    };
    let parent = find(&samples, "Service", &parent.name);
    assert_eq!(parent["metadata"]["labels"][cluster::STEER_LABEL], "true");
    let pools = route
        .spec
        .rules
        .iter()
        .filter_map(|r| r.backend_ref.as_ref());
    for pool in pools {
        let service = find(&samples, "Service", &pool.name);
        let server = find(&samples, "Deployment", &pool.name);
        let labels = value_at(server, "/spec/template/metadata/labels");
        assert_eq!(labels, &service["spec"]["selector"]);
        assert_eq!(service["spec"]["ports"][0]["name"], "srt");
        let annotations = value_at(server, "/spec/template/metadata/annotations");
        assert!(annotations[cluster::SESSION_LIMIT_ANNOTATION].is_string());
    }
}

#[test]
fn the_overlays_are_the_components() {
    for (components, _) in COMBINATIONS {
        if let [component] = components {
            let overlay = objects(&format!("overlays/{component}"));
            assert_eq!(overlay, kustomize(components), "{component}");
        }
    }
}

#[test]
fn the_schemas_of_kubernetes_take_them() {
    let validate = program("kubernetes-validate");
    let mut files = Vec::new();
    let mut write = |name: &str, mut objects: Vec<Value>| {
        // Not Kubernetes' own; no schema of it comes with the checker.
        objects.retain(|object| {
            !["PodMonitor", "PrometheusRule", "StreamRoute"]
                .iter()
                .any(|kind| object["kind"] == *kind)
        });
        for (index, object) in objects.iter().enumerate() {
            files.push(scratch(
                &format!("valid-{name}-{index}.yaml"),
                &object.to_string(),
            ));
        }
    };
    for (components, _) in COMBINATIONS {
        write(&components.join("-"), kustomize(components));
    }
    write("samples", objects("samples"));
    write("unload", objects("overlays/unload"));
    write("full-chart", full_chart());
    for version in KUBERNETES {
        let mut command = std::process::Command::new(&validate);
        command.args(["--kubernetes-version", version, "--strict", "--quiet"]);
        command.args(&files);
        assert_eq!(run(command), "", "Kubernetes {version}");
    }
}

#[test]
fn the_yaml_is_tidy() {
    // The definition is made of Rust types, and an expression of CEL is one line.
    let rules = "{extends: default, rules: {line-length: {max: 130, ignore: [streamroutes.yaml]}, document-start: disable, \
        braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}}}";
    let deploy = ingest_tests::workspace().join("deploy");
    let mut command = std::process::Command::new(program("yamllint"));
    command
        .args(["--strict", "--config-data", rules])
        .arg(deploy.join("kustomize"))
        .arg(deploy.join("prometheus/rules.yaml"))
        .arg(deploy.join("helm/ingest/values.yaml"))
        .arg(deploy.join("helm/ingest/Chart.yaml"));
    assert_eq!(run(command), "");
    let mut command = std::process::Command::new(program("helm"));
    command
        .args(["lint", "--strict", "--quiet"])
        .arg(deploy.join("helm/ingest"));
    run(command);
}

#[test]
fn the_chart_refuses_values_that_mean_nothing() {
    for (values, named) in [
        ("podgro: true", "podgro"),
        ("delivery: tunnel", "delivery"),
        ("uplinks: eth0", "uplinks"),
        ("uplinks: ['eth0,eth1']", "uplinks"),
        ("vipRanges: [192.0.2.1]", "vipRanges"),
        ("metricsAddr: localhost", "metricsAddr"),
        ("nodePorts: 'yes'", "nodePorts"),
        ("prometheusRule: {}", "prometheusRule"),
    ] {
        let error = manifests::template(values).unwrap_err().to_string();
        assert!(error.contains(named), "{values}: {error}");
    }
}

#[test]
fn the_agent_takes_its_command_line() {
    for (components, _) in COMBINATIONS {
        let Command::Run(run) = command_line(&kustomize(components)).command else {
            panic!("{components:?} does not run the agent");
        };
        assert_eq!(run.source, Source::Kubernetes);
        assert_eq!(run.cluster.node_name.as_deref(), Some("node-1"));
        assert_eq!(run.cluster.node_ip.len(), 2);
        assert_eq!(run.cluster.pod_gro, components.contains(&"pod-gro"));
    }
    assert!(matches!(
        command_line(&objects("overlays/unload")).command,
        Command::Unload
    ));
}

#[test]
fn every_value_of_the_chart_reaches_the_agent() {
    let Cli {
        command: Command::Run(run),
        ..
    } = command_line(&full_chart())
    else {
        panic!("the chart does not run the agent");
    };
    assert_eq!(run.cluster.uplink, ["eth0", "bond0.7"]);
    assert_eq!(run.cluster.vip_range.len(), 2);
    assert!(run.cluster.node_ports && run.cluster.allow_external_ips && run.cluster.pod_gro);
    assert_eq!(run.delivery, ingest_agent::cli::Delivery::Stack);
    assert_eq!(run.metrics_addr, "[::1]:9900".parse().unwrap());
    assert_eq!(run.max_flows, 4096);
}

#[test]
fn probes_ask_where_the_agent_answers() {
    let mut all: Vec<_> = COMBINATIONS
        .iter()
        .map(|(components, _)| kustomize(components))
        .collect();
    all.push(full_chart());
    all.push(helm("metricsAddr: 0.0.0.0:9465"));
    for objects in all {
        let Command::Run(run) = command_line(&objects).command else {
            panic!("does not run the agent");
        };
        let address: SocketAddr = run.metrics_addr;
        let container = container(&objects);
        let port = &container["ports"][0];
        assert_eq!(port["containerPort"], address.port());
        assert_eq!(port["hostPort"], address.port());
        // Without a host the kubelet asks the pod's address: the node's.
        let host = match address.ip() {
            ip if ip.is_loopback() => json!(ip.to_string()),
            _ => Value::Null,
        };
        for (probe, path) in [
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ] {
            let get = &container[probe]["httpGet"];
            assert_eq!(get["host"], host, "{probe}");
            assert_eq!((&get["path"], &get["port"]), (&json!(path), &port["name"]));
        }
    }
}

#[test]
fn the_pod_monitor_finds_the_pods() {
    let objects = kustomize(&["podmonitor"]);
    let monitor = find(&objects, "PodMonitor", "ingest-agent");
    let agent = daemonset(&objects);
    let labels = value_at(agent, "/spec/template/metadata/labels");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap()
    {
        assert_eq!(&labels[label], value);
    }
    assert_eq!(
        value_at(monitor, "/spec/podMetricsEndpoints/0/port"),
        &container(&objects)["ports"][0]["name"]
    );
}

/// `cargo xtask rules` makes the copies.
#[test]
fn the_operators_rules_are_those_of_prometheus() {
    let rules = ingest_tests::workspace().join("deploy/prometheus/rules.yaml");
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(rules).unwrap()).unwrap();
    for objects in [kustomize(&["prometheusrule"]), helm("prometheusRule: true")] {
        let object = find(&objects, "PrometheusRule", "ingest-agent");
        assert_eq!(object["spec"], rules, "run `cargo xtask rules`");
    }
}

#[test]
fn the_documentation_explains_every_verb_and_capability() {
    let text =
        std::fs::read_to_string(ingest_tests::workspace().join("docs/kubernetes.md")).unwrap();
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().unwrap().iter();
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    let objects = kustomize(&["pod-gro"]);
    for capability in words(&container(&objects)["securityContext"]["capabilities"]["add"]) {
        assert!(
            text.contains(&format!("| `{capability}` |")),
            "{capability}"
        );
    }
    for rule in find(&objects, "ClusterRole", "ingest-agent")["rules"]
        .as_array()
        .unwrap()
    {
        let resources = words(&rule["resources"]).join(", ");
        for verb in words(&rule["verbs"]) {
            let row = format!("| `{resources}` | `{verb}` |");
            assert!(text.contains(&row), "no row {row}");
        }
    }
}

#[test]
fn the_version_is_said_once() {
    let image = json!(concat!("ingest-agent:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container(&kustomize(&[]))["image"], image);
    assert_eq!(container(&helm("{}"))["image"], image);
}

#[test]
fn the_samples_are_steered() {
    let samples = objects("samples");
    let mut names = Vec::new();
    let is_pool = |object: &Value| object["metadata"]["name"] == "acme";
    let services = samples.iter().filter(|object| object["kind"] == "Service");
    for service in services.filter(|service| !is_pool(service)) {
        names.push(service["metadata"]["name"].as_str().unwrap());
        let labelled = service["metadata"]["labels"][cluster::STEER_LABEL] == "true";
        let ours = service["spec"]["loadBalancerClass"] == cluster::LOAD_BALANCER_CLASS;
        assert!(labelled != ours, "{service}");
        assert_eq!(
            ours,
            service["metadata"]["annotations"][cluster::VIPS_ANNOTATION].is_string()
        );
        let ports = service["spec"]["ports"].as_array().unwrap();
        let srt = ports
            .iter()
            .find(|port| port["appProtocol"] == "srt" || port["name"] == "srt")
            .unwrap();
        assert_eq!(srt["protocol"], "UDP");
        let server = samples
            .iter()
            .find(|object| {
                object["kind"] == "Deployment"
                    && value_at(object, "/spec/template/metadata/labels")
                        == &service["spec"]["selector"]
            })
            .unwrap();
        let container = value_at(server, "/spec/template/spec/containers/0");
        for port in ports {
            let target = container["ports"]
                .as_array()
                .unwrap()
                .iter()
                .find(|candidate| candidate["name"] == port["targetPort"])
                .unwrap();
            assert_eq!(target["protocol"], port["protocol"]);
            assert_eq!(target["containerPort"], port["port"]);
        }
        // Readiness is what steers.
        assert_eq!(value_at(container, "/readinessProbe/periodSeconds"), 1);
    }
    assert_eq!(names, ["mediamtx", "srs", "srs-own-class"]);
}
