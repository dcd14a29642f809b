//! Bad input: a clear error that names the thing and the remedy, the right exit code, and nothing lost.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::fmt::Write as _;
use std::process::Command;

use ingest_tests::agent::Agent;
use ingest_tests::config::Config;
use ingest_tests::netns::{Layout, Topology};
use ingest_tests::process::Process;
use ingest_tests::scene::LIMIT;

/// Runs `command`, which must fail by itself, and returns its exit code and what it said.
fn failure(command: Command) -> (Option<i32>, String) {
    let mut process = Process::spawn("ingest-agent", command).unwrap();
    let status = process.wait(LIMIT).unwrap();
    (status.code(), process.said())
}

/// * each wrong file is refused at start with exit code 2;
/// * the message names file, line, thing and remedy;
/// * nothing was loaded or pinned.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn wrong_files_are_refused_at_start() {
    let topology = Topology::with(Layout {
        pods: 1,
        ..Layout::default()
    })
    .unwrap();
    let config = Config::of_family(&topology.pods, ingest_tests::netns::Family::V4);
    let agent = Agent::install(&topology.node, &config, "auto").unwrap();
    let good = config.to_string();
    let mut crowd = good.clone();
    for number in 0..1030_u32 {
        writeln!(
            crowd,
            "      - {{ name: live/pod-{number}, address: 10.9.{}.{}, port: 9000 }}",
            number / 250,
            number % 250 + 1
        )
        .unwrap();
    }
    let twice = format!(
        "{good}{}",
        good.lines().skip(2).fold(String::new(), |text, line| {
            text + &line
                .replace("live/srt", "live/other")
                .replace("port: 9000, serving", "port: 9001, serving")
                + "\n"
        })
    );
    let cases: [(&str, String, &[&str]); 9] = [
        (
            "no YAML",
            "uplink: [eth0\nservices: {".to_owned(),
            &["ingest.yaml", "README.md"],
        ),
        (
            "a tab",
            good.replace("    port: 9000\n", "\tport: 9000\n"),
            &["ingest.yaml:"],
        ),
        (
            "an unknown field",
            good.replace("protocol:", "protocl:"),
            &["ingest.yaml:", "protocl"],
        ),
        (
            "an interface that is not there",
            good.replace("eth0", "eth9"),
            &["eth9", "ip link"],
        ),
        (
            "families mixed up",
            good.replace("\"203.0.113.10\"", "\"2001:db8::10\""),
            &["ingest.yaml:10", "IPv4"],
        ),
        (
            "a VIP twice",
            twice,
            &["203.0.113.10", "live/srt", "another port or VIP"],
        ),
        ("too many backends", crowd, &["1024", "backends"]),
        (
            "no such port",
            good.replace("    port: 9000\n", "    port: 0\n"),
            &["ingest.yaml:5", "65535"],
        ),
        (
            "an unknown protocol",
            good.replace("protocol: srt", "protocol: rtmp"),
            &["ingest.yaml:6", "rtmp"],
        ),
    ];
    for (what, text, expected) in cases {
        assert_ne!(text, good, "{what}");
        agent.write(&text).unwrap();
        let (code, said) = failure(agent.run_command());
        assert_eq!(code, Some(2), "{what}: {said}");
        for part in expected {
            assert!(said.contains(part), "{what}: no {part:?} in\n{said}");
        }
        let link = topology.node.shell("ip link show dev eth0").unwrap();
        assert!(!link.contains("xdp"), "{what}: {link}");
    }
    let missing = agent.config().with_file_name("nowhere.yaml");
    let mut command = agent.command();
    command.args(["run", "--config"]).arg(&missing);
    let (code, said) = failure(command);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nowhere.yaml"), "{said}");
}

/// * without root every command says which rights it lacks;
/// * exit code 1;
/// * nothing was loaded.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_rights_it_says_so() {
    let topology = Topology::with(Layout {
        pods: 1,
        ..Layout::default()
    })
    .unwrap();
    let config = Config::new(&topology.pods);
    let agent = Agent::install(&topology.node, &config, "auto").unwrap();
    let run = agent.run_command();
    // Past nsenter and into the namespace as root, then as nobody.
    let words: Vec<_> = run.get_args().map(ToOwned::to_owned).collect();
    let split = words.iter().position(|word| word == "--").unwrap() + 1;
    let mut command = Command::new(run.get_program());
    command
        .args(&words[..split])
        .args([
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
        ])
        .args(["--inh-caps=-all", "--"])
        .args(&words[split..]);
    let (code, said) = failure(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("CAP_BPF") || said.contains("root"), "{said}");
    let link = topology.node.shell("ip link show dev eth0").unwrap();
    assert!(!link.contains("xdp"), "{link}");
}

/// * an XDP program of somebody else on the uplink is named and left alone, with exit code 1 and the remedy;
/// * metrics on an address that is taken: exit code 2, naming it;
/// * commands on pins that are not there say how to get some.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_taken_is_named() {
    let topology = Topology::with(Layout {
        pods: 1,
        ..Layout::default()
    })
    .unwrap();
    let config = Config::new(&topology.pods);
    let owner = Agent::start(&topology.node, &config, "auto").unwrap();
    let agent = Agent::install(&topology.node, &config, "auto").unwrap();

    let mut command = agent.command();
    command
        .args([
            "run",
            "--metrics-addr",
            "127.0.0.1:9466",
            "--page-addr",
            "none",
        ])
        .arg("--config")
        .arg(agent.config());
    let (code, said) = failure(command);
    assert_eq!(code, Some(1), "{said}");
    for part in ["eth0", "xdp_ingest", "xdp off"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    assert!(owner.get("/readyz").is_ok());

    topology
        .node
        .shell("ip link add dummy0 type veth peer name dummy1")
        .unwrap();
    let mut elsewhere = config;
    elsewhere.uplinks = vec!["dummy0".to_owned()];
    agent.write(&elsewhere.to_string()).unwrap();
    let (code, said) = failure(agent.run_command());
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("127.0.0.1:9464") && said.contains("--metrics-addr"),
        "{said}"
    );

    let fresh = Agent::install(&topology.node, &elsewhere, "auto").unwrap();
    let status = fresh.cli(&["status"]).unwrap();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(said.contains("ingest-agent run"), "{said}");
}
