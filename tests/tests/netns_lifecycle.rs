//! The dataplane outlives its agent, and the next agent takes it over.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ingest_tests::agent::Agent;
use ingest_tests::command;
use ingest_tests::peers::{Caller, CallerOptions};
use ingest_tests::process::Process;
use ingest_tests::scene::{LIMIT, Scene};
use serde_json::Value;

/// Starts 20 Mbit/s for `seconds` and waits until it flows.
fn stream(scene: &Scene, seconds: f64) -> (Caller, usize) {
    let options = CallerOptions::lasting(20e6, seconds);
    let caller =
        Caller::start(&scene.topology.client, &scene.target("live/cam1"), &options).unwrap();
    let (pod, _) = scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    (caller, pod)
}

/// Asserts that the stream ended by itself, in one session, with every byte.
fn nothing_was_lost(scene: &Scene, caller: Caller, pod: usize) {
    let sent = caller.finish(Duration::from_secs(20)).unwrap();
    assert_eq!(
        scene.accepted("live/cam1", 0).len(),
        1,
        "the session was cut"
    );
    let session = scene.listeners[pod]
        .wait_closed("live/cam1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{sent} sent, {session:?}"
    );
}

/// What bpftool says of the object pinned at `path`.
fn bpftool(kind: &str, path: &Path) -> Value {
    let text = command::run(
        "bpftool",
        &["-j", kind, "show", "pinned", path.to_str().unwrap()],
    );
    serde_json::from_str(&text.unwrap()).unwrap()
}

/// Link pins of the uplink: path, link id, program id.
fn links(agent: &Agent) -> Vec<(PathBuf, u64, u64)> {
    ["xdp", "tc_in", "tc_out"]
        .iter()
        .flat_map(|hook| agent.pins(hook).unwrap())
        .map(|path| {
            let link = bpftool("link", &path);
            (
                path,
                link["id"].as_u64().unwrap(),
                link["prog_id"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// * the agent is killed under 20 Mbit/s, and a second later another starts: it adopts maps and links;
/// * each link is the same, each program is a new one: as an upgrade does it;
/// * the stream stays in its session and loses not a byte; its counters go on.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_killed_and_replaced_loses_nothing() {
    for mode in ["redirect", "peer", "stack"] {
        let mut scene = Scene::new(2, mode).unwrap();
        scene.agent.wait_mode(mode).unwrap();
        let (caller, pod) = stream(&scene, 4.0);
        let before = links(&scene.agent);
        assert_eq!(before.len(), 3, "{before:?}");
        let counted = scene.agent.streams().unwrap()[0]["up_packets"]
            .as_u64()
            .unwrap();
        scene.agent.kill().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        scene.agent.run().unwrap();
        scene.agent.wait_ready().unwrap();
        let after = links(&scene.agent);
        for ((path, link, program), (_, new_link, new_program)) in before.iter().zip(&after) {
            assert_eq!(link, new_link, "{mode}: {path:?} is another link");
            assert_ne!(
                program, new_program,
                "{mode}: {path:?} still has the old program"
            );
        }
        scene.agent.wait_mode(mode).unwrap();
        let streams = scene.agent.streams().unwrap();
        assert!(
            streams[0]["up_packets"].as_u64().unwrap() > counted,
            "{streams:?}"
        );
        assert_eq!(streams[0]["lost"], 0, "{streams:?}");
        nothing_was_lost(&scene, caller, pod);
    }
}

/// * the agent is stopped in order (SIGTERM, exit code 0): traffic goes on;
/// * the command line works without it: status, services, backends, streams, explain, drain;
/// * new callers get in.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn everything_works_with_the_agent_stopped() {
    let mut scene = Scene::new(2, "auto").unwrap();
    let (caller, pod) = stream(&scene, 4.0);
    scene.agent.stop().unwrap();
    let status = scene.agent.json(&["status"]).unwrap();
    assert_eq!(status["agent_running"], false, "{status}");
    assert_eq!(status["flows"], 1, "{status}");
    assert_eq!(
        scene.agent.json(&["services"]).unwrap()[0]["name"],
        "live/srt"
    );
    assert_eq!(
        scene
            .agent
            .json(&["backends"])
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let streams = scene.agent.streams().unwrap();
    assert_eq!(streams[0]["session"], "established", "{streams:?}");
    let client = streams[0]["client"].as_str().unwrap().to_owned();
    let explained = scene.agent.json(&["explain", &client]).unwrap();
    assert_eq!(
        (&explained["verdict"], &explained["by_flow"]),
        (&"deliver".into(), &true.into())
    );
    let other = 1 - pod;
    let backend = format!("live/{}", scene.topology.pods[other].name);
    scene.agent.json(&["drain", &backend]).unwrap();
    let target = scene.target("live/new");
    Caller::start(
        &scene.topology.client,
        &target,
        &CallerOptions::lasting(1e6, 0.1),
    )
    .unwrap()
    .finish(LIMIT)
    .unwrap();
    assert_eq!(scene.seat("live/new").unwrap(), pod, "the other is drained");
    nothing_was_lost(&scene, caller, pod);
}

/// * a pinned map of another shape is found at start: exit code 3, naming the map and the remedy;
/// * nothing is changed: the programs stay attached;
/// * `unload` clears it, and the agent starts again.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_incompatible_pin_is_refused() {
    let mut scene = Scene::new(1, "auto").unwrap();
    scene.agent.stop().unwrap();
    let flows = scene.agent.pins("FLOWS").unwrap().remove(0);
    std::fs::remove_file(&flows).unwrap();
    let path = flows.to_str().unwrap();
    command::shell(&format!(
        "bpftool map create {path} type lru_hash key 20 value 8 entries 1024 name FLOWS"
    ))
    .unwrap();
    let before = links(&scene.agent);
    let mut refused = Process::spawn("second agent", scene.agent.run_command()).unwrap();
    let status = refused.wait(LIMIT).unwrap();
    let said = refused.said();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("FLOWS") && said.contains("unload"), "{said}");
    assert_eq!(links(&scene.agent), before);

    let unloaded = scene.agent.cli(&["unload"]).unwrap();
    assert!(unloaded.status.success(), "{unloaded:?}");
    scene.agent.run().unwrap();
    scene.agent.wait_ready().unwrap();
}

/// * a second agent on the same pins is refused, with exit code 1;
/// * it says that another runs, rather than what else it would trip over;
/// * the first one and its stream are not disturbed.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_second_agent_is_refused() {
    let scene = Scene::new(1, "auto").unwrap();
    let (caller, pod) = stream(&scene, 2.0);
    let mut second = Process::spawn("second agent", scene.agent.run_command()).unwrap();
    let status = second.wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(1), "{}", second.said());
    assert!(
        second.said().contains("another ingest-agent"),
        "{}",
        second.said()
    );
    nothing_was_lost(&scene, caller, pod);
}

/// * `unload` while the agent runs is refused;
/// * with the agent stopped it removes programs, links and maps;
/// * nothing of us is left on the interfaces or in bpffs.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn unload_leaves_nothing() {
    let mut scene = Scene::new(2, "auto").unwrap();
    let refused = scene.agent.cli(&["unload"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    scene.agent.stop().unwrap();
    let unloaded = scene.agent.cli(&["unload"]).unwrap();
    assert!(unloaded.status.success(), "{unloaded:?}");
    let link = scene
        .topology
        .node
        .shell("ip -details link show dev eth0")
        .unwrap();
    assert!(!link.contains("xdp"), "{link}");
    let root = scene.agent.pin_root();
    let left = if root.exists() {
        std::fs::read_dir(root).unwrap().count()
    } else {
        0
    };
    assert_eq!(left, 0, "pins are left in {}", root.display());
    let attached = scene.topology.node.shell("bpftool -j net show").unwrap();
    assert!(
        !attached.contains("tc_uplink") && !attached.contains("tc_pod"),
        "{attached}"
    );
    let status = scene.agent.cli(&["status"]).unwrap();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
}

/// * `bpftool map dump` of services, backends and flows shows our field names;
/// * ports are readable numbers;
/// * addresses are bytes.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn map_dumps_read_like_tables() {
    let scene = Scene::new(1, "auto").unwrap();
    let (_caller, _) = stream(&scene, 3.0);
    let expected: [(&str, &[&str]); 3] = [
        (
            "SERVICES",
            &[
                "\"address\": [",
                "\"port\": 9000",
                "\"protocol\": 17",
                "\"pool\": ",
            ],
        ),
        (
            "BACKENDS",
            &[
                "\"address\": [",
                "\"port\": 9000",
                "\"state\": 1",
                "\"ifindex\": ",
            ],
        ),
        (
            "FLOWS",
            &[
                "\"listener_id\": ",
                "\"slot\": 0",
                "\"up\": {",
                "\"data_packets\": ",
            ],
        ),
    ];
    for (map, fields) in expected {
        let path = scene.agent.pins(map).unwrap().remove(0);
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["map", "dump", "pinned"]).arg(&path);
        let dump = command::output(bpftool).unwrap();
        let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
        for field in fields {
            assert!(dump.contains(field), "no {field} in {map}:\n{dump:.2000}");
        }
    }
}
