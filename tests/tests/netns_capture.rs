//! `ingest-agent capture`: one stream's packets in a file that tshark reads, in each delivery mode.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ingest_tests::cleanup;
use ingest_tests::command;
use ingest_tests::netns::{Layout, Topology};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions};
use ingest_tests::process::Process;
use ingest_tests::scene::{LIMIT, Scene};

const STREAM: &str = "#!::r=live/cam1,m=publish";
const OTHER: &str = "#!::r=live/cam2,m=publish";
/// Pauses of a busy machine are no hung pods.
const PATIENT: [&str; 2] = ["--silence", "3s"];
/// Of [`ingest_common::abi::Flow::marks`].
const CAPTURED: u64 = 2;

fn scene(mode: &str) -> Scene {
    let layout = Layout {
        pods: 1,
        ..Layout::default()
    };
    let options = ListenerOptions::default();
    let scene = Scene::changed(layout, mode, &options, &PATIENT, |config, _| {
        config.stream()
    });
    let scene = scene.unwrap();
    scene.agent.wait_mode(mode).unwrap();
    scene
}

/// A stream of a minute, which no test waits for.
fn stream(topology: &Topology, scene: &Scene, name: &str) -> Caller {
    let options = CallerOptions::lasting(2e6, 60.0);
    let caller = Caller::start(&topology.client, &scene.target(name), &options).unwrap();
    scene.wait_accepted(name, 0, LIMIT).unwrap();
    caller
}

fn capture(scene: &Scene, file: &Path, arguments: &[&str]) -> Output {
    let fixed = ["capture", STREAM, "-w", file.to_str().unwrap()];
    let output = scene.agent.cli(&[&fixed[..], arguments].concat()).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// These fields of every packet, as tshark dissects it.
fn dissect(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut words = vec!["-n", "-r", file.to_str().unwrap(), "-T", "fields"];
    words.extend([
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    words.extend(["-d", "udp.port==9000,srt"]);
    for field in fields {
        words.extend(["-e", field]);
    }
    command::run("tshark", &words)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn marks(scene: &Scene) -> Vec<u64> {
    let flows = scene.agent.dump("FLOWS").unwrap();
    flows
        .iter()
        .map(|entry| entry["value"]["marks"].as_u64().unwrap())
        .collect()
}

fn file(name: &str) -> (PathBuf, cleanup::Guard) {
    let (directory, guard) = cleanup::scratch_directory("capture").unwrap();
    (directory.join(name), guard)
}

/// * tshark takes every packet for SRT, of both directions, between the client and the VIP alone;
/// * their times are those of this test;
/// * the checksums of whole packets are right, and no packet is cut;
/// * of the other stream there is nothing, and no mark is left.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn tshark_reads_a_stream_of_each_mode() {
    for mode in ["redirect", "peer", "stack"] {
        let scene = scene(mode);
        let _stream = stream(&scene.topology, &scene, STREAM);
        let _other = stream(&scene.topology, &scene, OTHER);
        let (file, _guard) = file("whole.pcap");
        let began = unix();
        capture(&scene, &file, &["--payload", "--duration", "2s"]);
        let ended = unix();
        let packets = dissect(
            &file,
            &[
                "frame.protocols",
                "ip.src",
                "ip.dst",
                "udp.srcport",
                "udp.dstport",
                "frame.time_epoch",
                "udp.checksum.status",
                "ip.checksum.status",
                "frame.len",
                "frame.cap_len",
            ],
        );
        let vip = scene.target(STREAM).address.ip().to_string();
        let client = packets[0]
            .iter()
            .skip(1)
            .take(2)
            .find(|address| **address != vip)
            .unwrap()
            .clone();
        let (mut up, mut down) = (0, 0);
        let mut ports = Vec::new();
        for packet in &packets {
            let [
                protocols,
                source,
                destination,
                from,
                to,
                time,
                udp,
                ip,
                length,
                kept,
            ] = packet.as_slice()
            else {
                panic!("{mode}: {packet:?}");
            };
            assert!(protocols.contains(":srt"), "{mode}: {packet:?}");
            if *destination == vip {
                assert_eq!((source, to.as_str()), (&client, "9000"), "{mode}");
                ports.push(from.clone());
                up += 1;
            } else {
                assert_eq!((source, destination), (&vip, &client), "{mode}");
                assert_eq!(from, "9000", "{mode}");
                ports.push(to.clone());
                down += 1;
            }
            let time: f64 = time.parse().unwrap();
            assert!(
                (began - 0.1..ended + 0.1).contains(&time),
                "{mode}: {began} {time} {ended}"
            );
            assert_eq!(
                (udp.as_str(), ip.as_str()),
                ("1", "1"),
                "{mode}: {packet:?}"
            );
            assert_eq!(length, kept, "{mode}");
        }
        ports.dedup();
        assert_eq!(ports.len(), 1, "{mode}: another stream's packets");
        assert!(up > 100 && down > 20, "{mode}: {up} up, {down} down");
        assert_eq!(marks(&scene), [0, 0], "{mode}");
    }
}

/// * by default a packet is cut to its headers, and the length that it had is told;
/// * the count ends it, at once;
/// * every tenth packet is a tenth;
/// * the client's address names the stream as well as its Stream ID and its id; nothing else does.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_capture_is_bounded() {
    let scene = scene("peer");
    let _stream = stream(&scene.topology, &scene, STREAM);
    let (file, _guard) = file("some.pcap");
    let started = Instant::now();
    capture(&scene, &file, &["--count", "50", "--duration", "60s"]);
    assert!(started.elapsed() < Duration::from_secs(30));
    let lengths = dissect(&file, &["frame.len", "frame.cap_len"]);
    assert_eq!(lengths.len(), 50);
    for length in &lengths {
        let [length, kept] = [0, 1].map(|at| length[at].parse::<usize>().unwrap());
        assert_eq!(kept, length.min(96));
    }
    assert!(lengths.iter().any(|length| length[0] != length[1]));

    capture(&scene, &file, &["--every", "10", "--duration", "2s"]);
    let sequences = dissect(&file, &["srt.seqno"]);
    let sequences: Vec<u32> = sequences.iter().filter_map(|s| s[0].parse().ok()).collect();
    assert!(sequences.len() > 5, "{sequences:?}");
    let apart = sequences.windows(2).filter(|two| two[1] - two[0] >= 5);
    assert!(apart.count() * 2 > sequences.len(), "{sequences:?}");

    let row = scene.agent.streams().unwrap().remove(0);
    let names = [Some(&row["client"]), row.get("id")];
    for name in names.into_iter().flatten().filter_map(|name| name.as_str()) {
        let arguments = ["capture", name, "-w", "-", "--count", "5"];
        let output = scene.agent.cli(&arguments).unwrap();
        assert!(output.status.success(), "{name}");
        assert_eq!(output.stdout[..4], 0xa1b2_3c4d_u32.to_le_bytes(), "{name}");
    }
    let missing = ["capture", "192.0.2.1:5", "-w", "/dev/null"];
    let output = scene.agent.cli(&missing).unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// * while one captures, another is refused, and told which process it is;
/// * of one that is killed the kernel takes the mark away at its time;
/// * then another may.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_at_a_time_and_a_killed_one_costs_nothing() {
    let scene = scene("redirect");
    let _stream = stream(&scene.topology, &scene, STREAM);
    let (file, _guard) = file("killed.pcap");
    let mut command = scene.agent.command();
    command.args(["capture", STREAM, "--duration", "8s", "-w"]);
    command.arg(&file);
    let mut first = Process::spawn("capture", command).unwrap();
    wait("the mark", || marks(&scene) == [CAPTURED]);
    let arguments = ["capture", STREAM, "-w", "/dev/null"];
    let refused = scene.agent.cli(&arguments).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    first.kill().unwrap();
    wait("the kernel's end of it", || marks(&scene) == [0]);
    capture(&scene, &file, &["--count", "5"]);
    assert_eq!(dissect(&file, &["frame.number"]).len(), 5);
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn unix() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs_f64()
}
