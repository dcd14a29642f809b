//! Callers and listeners of every libsrt that Debian's suites carry, old and new, each with each.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::time::Duration;

use ingest_tests::agent::Agent;
use ingest_tests::config::{Backend, Config, Service};
use ingest_tests::milliseconds;
use ingest_tests::netns::{Family, Layout, Namespace, Topology};
use ingest_tests::peers::{
    Caller, CallerOptions, LIBSRT_VERSIONS, Listener, ListenerOptions, PORT, Target,
};
use ingest_tests::scene::{LIMIT, Scene};

const PASSPHRASE: &str = "correct horse battery";
/// libsrt by itself needs 5 s to give a silent peer up, in each of these versions.
const LIBSRT_GIVES_UP: Duration = Duration::from_millis(4500);

/// A caller on `libsrt` of `seconds` at 1 Mbit/s.
fn call(client: &Namespace, target: &Target, libsrt: &'static str, seconds: f64) -> Caller {
    let options = CallerOptions {
        libsrt: Some(libsrt),
        ..CallerOptions::lasting(1e6, seconds)
    };
    Caller::start(client, target, &options).unwrap()
}

/// Sends one stream from each version to each, and asserts that it arrives whole, with its Stream ID.
fn each_with_each(passphrase: Option<&str>) {
    let layout = Layout {
        pods: LIBSRT_VERSIONS.len(),
        ..Layout::default()
    };
    let topology = Topology::with(layout).unwrap();
    let options = LIBSRT_VERSIONS.map(|version| ListenerOptions {
        passphrase: passphrase.map(str::to_owned),
        libsrt: Some(version),
        ..ListenerOptions::default()
    });
    let listeners: Vec<_> = topology
        .pods
        .iter()
        .zip(&options)
        .map(|(pod, options)| Listener::start(&pod.netns, &pod.name, options).unwrap())
        .collect();
    // A port of the VIP for each listener: the caller chooses.
    let ports: Vec<_> = (PORT..).take(listeners.len()).collect();
    let mut config = Config::of_family(&topology.pods, Family::V4);
    let all = config.services.remove(0);
    config.services = topology
        .pods
        .iter()
        .zip(&ports)
        .map(|(pod, &port)| Service {
            name: format!("live/{}", pod.name),
            port,
            backends: vec![Backend::of(pod, Family::V4)],
            ..all.clone()
        })
        .collect();
    let agent = Agent::start(&topology.node, &config, "redirect").unwrap();
    agent.wait_mode("redirect").unwrap();
    let stream = |caller: &str| format!("#!::r=live/{caller},m=publish");
    let mut callers = Vec::new();
    for from in LIBSRT_VERSIONS {
        for &port in &ports {
            let mut target = Target::new(Family::V4.vip(), &stream(from));
            target.address.set_port(port);
            target.passphrase = passphrase.map(str::to_owned);
            callers.push(call(&topology.client, &target, from, 1.5));
        }
    }
    let mut callers = callers.into_iter();
    for from in LIBSRT_VERSIONS {
        for (to, listener) in LIBSRT_VERSIONS.iter().zip(&listeners) {
            let pair = format!("{from} to {to}");
            let sent = callers.next().unwrap().finish(LIMIT).expect(&pair);
            let session = listener.wait_closed(&stream(from), LIMIT).expect(&pair);
            assert!(session.is_whole(), "{pair}: {session:?}");
            assert_eq!(session.messages, sent, "{pair}");
        }
    }
    for (version, listener) in LIBSRT_VERSIONS.iter().zip(&listeners) {
        let sessions = listener.accepted().len();
        assert_eq!(sessions, LIBSRT_VERSIONS.len(), "{version}: reconnected");
    }
    let page = agent.get("/metrics").unwrap();
    let dropped: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("ingest_drops_total{") && !line.ends_with(" 0"))
        // The answers to the agent's own probes of the pods.
        .filter(|line| !line.contains("probe_reply"))
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

/// * each version calls each, 16 sessions at once, IPv4 in the clear;
/// * every listener gets the caller's Stream ID, and every message, whole and in one session;
/// * the filter drops nothing of it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_libsrt_reaches_every_libsrt() {
    each_with_each(None);
}

/// * the same with a passphrase: the key exchange of each version with each passes unharmed.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_libsrt_reaches_every_libsrt_encrypted() {
    each_with_each(Some(PASSPHRASE));
}

/// * a pod's listener is killed under a caller, for callers and listeners of every version;
/// * SHUTDOWN is sent, and the caller is connected to another pod within a second;
/// * all that arrives anywhere is what was sent.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_listeners_caller_of_every_libsrt_is_elsewhere_within_a_second() {
    for listeners in LIBSRT_VERSIONS {
        // A pod that died is not trusted for 5 s: enough of them, that a caller is never sent to a dead one.
        let mut scene = scene(10, listeners);
        let callers = LIBSRT_VERSIONS.map(|from| {
            let target = scene.target(&format!("live/{from}"));
            call(&scene.topology.client, &target, from, 60.0)
        });
        for (from, caller) in LIBSRT_VERSIONS.iter().zip(&callers) {
            let stream = format!("live/{from}");
            scene.wait_accepted(&stream, 0, LIMIT).unwrap();
            // So that the stream runs, also where it had to move with the one before.
            std::thread::sleep(Duration::from_millis(300));
            let pod = scene.seat(&stream).unwrap();
            let told = shutdowns(&scene);
            let killed = scene.listeners[pod].kill().unwrap();
            let (to, accepted) = scene.wait_accepted(&stream, killed, LIMIT).unwrap();
            assert_ne!(to, pod, "{from}");
            let broken = broken_after(caller, killed).unwrap();
            let (broken, connected) = (
                milliseconds(killed, broken),
                milliseconds(killed, accepted.t),
            );
            println!(
                "listener {listeners}, caller {from}: SIGKILL to broken {broken:.1} ms, to connected elsewhere {connected:.1} ms"
            );
            assert!(connected < 1000.0, "{from}: {connected} ms");
            assert!(shutdowns(&scene) > told, "{from} was not told SHUTDOWN");
            scene.refresh(pod).unwrap();
        }
        drop(callers);
        let retired = scene.retired.iter().map(|(_, listener)| listener);
        for session in scene
            .listeners
            .iter()
            .chain(retired)
            .flat_map(Listener::sessions)
        {
            assert!(session.is_whole(), "{session:?}");
        }
    }
}

/// * the same, but SHUTDOWN is lost on its way to the caller, each time;
/// * the caller of every version waits until libsrt itself gives up: nothing else ends its session.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_shutdown_every_libsrt_waits_for_its_own_timeout() {
    let mut scene = scene(1, "1.5.7");
    let callers = LIBSRT_VERSIONS.map(|from| {
        let target = scene.target(&format!("live/{from}"));
        call(&scene.topology.client, &target, from, 60.0)
    });
    for from in LIBSRT_VERSIONS {
        scene
            .wait_accepted(&format!("live/{from}"), 0, LIMIT)
            .unwrap();
    }
    // The control type comes after UDP's 8 bytes.
    let client = &scene.topology.client;
    client
        .shell(
            "nft add table ip lossy
             nft add chain ip lossy input '{ type filter hook input priority 0; }'
             nft add rule ip lossy input udp sport 9000 @th,64,16 0x8005 counter drop",
        )
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let killed = scene.listeners[0].kill().unwrap();
    for (from, caller) in LIBSRT_VERSIONS.iter().zip(&callers) {
        caller.wait("broken", 1, LIMIT).unwrap();
        let broken = milliseconds(killed, broken_after(caller, killed).unwrap());
        println!("caller {from}: SIGKILL to broken without SHUTDOWN {broken:.0} ms");
        let limit = LIBSRT_GIVES_UP.as_secs_f64() * 1000.0;
        assert!(broken > limit, "{from}: {broken} ms");
    }
    assert!(shutdowns(&scene) > 0.0, "none was sent");
}

/// `pods` listeners on `libsrt`.
fn scene(pods: usize, libsrt: &'static str) -> Scene {
    let layout = Layout {
        pods,
        ..Layout::default()
    };
    let options = ListenerOptions {
        libsrt: Some(libsrt),
        ..ListenerOptions::default()
    };
    Scene::with(layout, "auto", &options).unwrap()
}

/// SHUTDOWNs sent to callers so far.
fn shutdowns(scene: &Scene) -> f64 {
    scene
        .agent
        .metric("ingest_service_shutdowns_total", "")
        .unwrap()
}

/// When the caller found its session at an end.
fn broken_after(caller: &Caller, after_ns: u64) -> Option<u64> {
    let events = caller.events();
    let broken = |event: &&ingest_tests::peers::CallerEvent| event.event == "broken";
    events
        .iter()
        .filter(broken)
        .map(|event| event.t)
        .find(|&t| t > after_ns)
}
