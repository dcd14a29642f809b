//! The dataplane on a real kernel: loading, adoption, refusals, probes, the flow table, unloading. Each test has a
//! network namespace and a pin root of its own; none sends traffic anywhere else.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use ingest_agent::{
    dataplane::{
        self, Dataplane, Error, Lock, Options, ProbeTicket, Reader, XdpChoice, XdpHook,
        client_frame, now_ns,
    },
    reconcile::Op,
};
use ingest_common::abi::{self, BackendState, DeliveryMode, FlowState};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Tells the process that [`holder`] runs in what to hold.
const HOLD: &str = "INGEST_TEST_HOLD";
const UPLINK: &str = "up0";
const VIP: [u8; 4] = [203, 0, 113, 10];
const VIP_PORT: u16 = 9000;

/// A pin root of a test's own, unloaded at its end.
struct PinRoot(PathBuf);

impl PinRoot {
    fn new(name: &str) -> Self {
        Self(format!("/sys/fs/bpf/ingest-dataplane-{name}-{}", std::process::id()).into())
    }

    fn options(&self) -> Options {
        Options {
            pin_root: self.0.clone(),
            uplinks: vec![UPLINK.to_owned()],
            xdp_mode: XdpChoice::Auto,
            kernel_log: None,
            max_flows: 1024,
        }
    }

    fn map(&self, name: &str) -> PathBuf {
        self.0
            .join(format!("v{}", abi::SCHEMA_VERSION))
            .join("maps")
            .join(name)
    }
}

impl Drop for PinRoot {
    fn drop(&mut self) {
        if let Err(error) = dataplane::unload(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL, so that nothing is tidied up.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command}");
}

/// Runs `test` alone in a new network namespace with a veth uplink.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
        run("ip link set lo up");
        run(&format!("ip link add {UPLINK} type veth peer name client0"));
        run(&format!("ip link set {UPLINK} up"));
        run("ip link set client0 up");
        block_on(test());
    };
    std::thread::spawn(body).join().unwrap();
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

async fn load(root: &PinRoot) -> Result<(Dataplane, Lock), Error> {
    let lock = Lock::acquire(&root.0)?;
    Ok((Dataplane::load(&root.options(), &lock).await?, lock))
}

async fn load_and_attach(root: &PinRoot) -> Result<(Dataplane, Lock), Error> {
    let (mut dataplane, lock) = load(root).await?;
    dataplane.attach()?;
    Ok((dataplane, lock))
}

/// What a failed load says; a program that loads is a failure here.
async fn refusal(root: &PinRoot) -> Error {
    match load(root).await {
        Ok(_) => panic!("loaded"),
        Err(error) => {
            println!("refused: {error}");
            error
        }
    }
}

/// Not a test: the agent that others take over from. Attaches, says so and waits to be killed.
#[test]
#[ignore = "a process that other tests start"]
fn holder() {
    let Some(root) = env::var_os(HOLD) else {
        return;
    };
    let root = std::mem::ManuallyDrop::new(PinRoot(root.into()));
    block_on(async {
        let (mut dataplane, _lock) = load_and_attach(&root).await.unwrap();
        dataplane
            .apply(&service(0, DeliveryMode::Stack, 0, [0; 6]))
            .unwrap();
        dataplane.set_node(1).unwrap();
        println!("\nholding");
        std::thread::sleep(Duration::from_secs(60));
    });
}

/// Another agent in the same namespace, ready.
fn hold(root: &PinRoot) -> Killed {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["holder", "--exact", "--ignored", "--nocapture"])
        .env(HOLD, &root.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let killed = Killed(child);
    assert!(
        output.lines().any(|line| line.unwrap() == "holding"),
        "the holder failed"
    );
    killed
}

/// A service with one backend in slot 0, at 10.0.1.2:9000.
fn service(ifindex: u32, mode: DeliveryMode, incarnation: u32, pod_mac: [u8; 6]) -> Vec<Op> {
    // One backend holds every position.
    let table = Box::new(abi::MaglevTable { slots: [0; 16384] });
    let backend = abi::Backend {
        address: abi::v4_mapped([10, 0, 1, 2]),
        port: 9000,
        protocol: abi::UDP,
        state: BackendState::Serving as u8,
        mode: mode as u8,
        pod_mac,
        ifindex,
        incarnation,
        ..Default::default()
    };
    let address = abi::v4_mapped(VIP);
    vec![
        Op::SetBackend {
            slot: 0,
            backend,
            name: "live/pod-a".into(),
            fresh: true,
        },
        Op::SetTable {
            pool: 0,
            slots: vec![0],
            table,
        },
        Op::MarkVip {
            key: abi::ServiceKey::vip(address),
        },
        Op::AddSource {
            service: 0,
            range: "10.0.0.0/8".parse().unwrap(),
        },
        Op::SetService {
            key: abi::ServiceKey::new(address, VIP_PORT, abi::UDP),
            service: abi::Service {
                id: 0,
                pool: 0,
                flags: abi::SERVICE_SRT,
            },
            name: "live/srt".into(),
            fresh: true,
        },
    ]
}

fn ids(root: &PinRoot) -> Vec<(String, u32, u32)> {
    let links = Reader::open(&root.0).unwrap().links().unwrap();
    links
        .into_iter()
        .map(|link| (link.hook.to_owned(), link.link_id, link.program_id))
        .collect()
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn an_agent_takes_over_links_and_maps_of_a_killed_one() {
    in_namespace(|| async {
        let root = PinRoot::new("adopt");
        let first = hold(&root);
        assert!(Lock::is_held(&root.0));
        assert!(matches!(Lock::acquire(&root.0), Err(Error::Locked { .. })));
        assert!(matches!(
            dataplane::unload(&root.0),
            Err(Error::Locked { .. })
        ));
        drop(first);

        assert!(!Lock::is_held(&root.0));
        let before = ids(&root);
        assert_eq!(
            before
                .iter()
                .map(|(hook, ..)| hook.as_str())
                .collect::<Vec<_>>(),
            ["xdp", "tc_in", "tc_out"]
        );

        let start = Instant::now();
        let (mut dataplane, _lock) = load(&root).await.unwrap();
        println!("loaded in {:?}", start.elapsed());
        let start = Instant::now();
        dataplane.attach().unwrap();
        println!("attached in {:?}", start.elapsed());
        assert!(dataplane.uplinks()[0].adopted);
        assert_eq!(dataplane.uplinks()[0].xdp, Some(XdpHook::Native));
        let after = ids(&root);
        for ((hook, link, program), (_, same_link, new_program)) in before.iter().zip(&after) {
            assert_eq!(link, same_link, "{hook}: the link is the same");
            assert_ne!(program, new_program, "{hook}: the program is new");
        }

        let start = Instant::now();
        let seen = dataplane.observe().unwrap();
        println!("observed in {:?}", start.elapsed());
        assert_eq!(seen.service_names[&0], "live/srt");
        assert_eq!(seen.backend_names[&0], "live/pod-a");
        assert_eq!(seen.services.len(), 2);
        assert_eq!(seen.endpoints.len(), 1);
        assert_eq!(seen.sources, [(0, "10.0.0.0/8".parse().unwrap())]);
        assert!(seen.tables.is_empty(), "an adopted table is written anew");

        // Down to nothing again.
        let vip = abi::v4_mapped(VIP);
        dataplane
            .apply(&[
                Op::RemoveService {
                    key: abi::ServiceKey::new(vip, VIP_PORT, abi::UDP),
                },
                Op::RemoveService {
                    key: abi::ServiceKey::vip(vip),
                },
                Op::RemoveSource {
                    service: 0,
                    range: "10.0.0.0/8".parse().unwrap(),
                },
                Op::RemoveTable { pool: 0 },
                Op::RemoveTable { pool: 0 },
                Op::FreeBackend { slot: 0 },
            ])
            .unwrap();
        let seen = dataplane.observe().unwrap();
        assert!(seen.services.is_empty() && seen.vips.is_empty() && seen.sources.is_empty());
        assert!(seen.endpoints.is_empty() && seen.backend_names.is_empty());
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn an_uplink_that_was_replaced_is_attached_anew() {
    in_namespace(|| async {
        let root = PinRoot::new("replaced");
        drop(hold(&root));
        let before = ids(&root);
        run(&format!("ip link del {UPLINK}"));
        run(&format!("ip link add {UPLINK} type veth peer name client0"));
        run(&format!("ip link set {UPLINK} up"));
        let (dataplane, _lock) = load_and_attach(&root).await.unwrap();
        assert!(!dataplane.uplinks()[0].adopted);
        let after = ids(&root);
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| before.1 != after.1)
        );
        let links = Reader::open(&root.0).unwrap().links().unwrap();
        let ifindex = if_nametoindex(UPLINK).unwrap();
        assert!(
            links.iter().all(|link| link.ifindex == ifindex),
            "{links:?}"
        );
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn a_pinned_map_of_another_shape_is_refused_and_left_alone() {
    in_namespace(|| async {
        let root = PinRoot::new("shape");
        let _lock = Lock::acquire(&root.0).unwrap();
        let path = root.map("SERVICES");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let other = HashMap::<MapData, abi::ServiceKey, u64>::create(7, 0).unwrap();
        other.pin(&path).unwrap();
        drop(_lock);
        let error = refusal(&root).await;
        assert!(error.is_incompatible());
        let Error::PinIncompatible {
            map: "SERVICES",
            field: "max entries",
            found: 7,
            ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert!(path.exists() && !root.map("FLOWS").exists());
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn links_of_another_schema_are_refused_and_unloaded() {
    in_namespace(|| async {
        let root = PinRoot::new("schema");
        drop(hold(&root));
        let ours = root.0.join(format!("v{}", abi::SCHEMA_VERSION));
        let theirs = root.0.join("v9999");
        fs::rename(&ours, &theirs).unwrap();
        // Theirs runs on the uplink, so it is foreign; the schema is what explains it.
        let error = refusal(&root).await;
        assert!(error.is_incompatible(), "{error:?}");
        let removed = dataplane::unload(&root.0).unwrap();
        assert!(
            removed
                .iter()
                .any(|line| line.contains("v9999") && line.starts_with("link"))
        );
        assert!(!root.0.exists());
        load_and_attach(&root).await.unwrap();
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn a_foreign_xdp_program_is_named_and_left_alone() {
    in_namespace(|| async {
        let theirs = PinRoot::new("theirs");
        drop(hold(&theirs));
        let before = ids(&theirs);
        let root = PinRoot::new("foreign");
        let Error::ForeignProgram {
            interface,
            program,
            id,
        } = refusal(&root).await
        else {
            panic!("not refused as foreign")
        };
        assert_eq!(
            (interface.as_str(), program.as_str()),
            (UPLINK, "xdp_ingest")
        );
        assert_eq!(id, before[0].2);
        assert_eq!(ids(&theirs), before);
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn uplinks_that_cannot_be_are_refused() {
    in_namespace(|| async {
        let root = PinRoot::new("uplinks");
        let lock = Lock::acquire(&root.0).unwrap();
        for uplinks in [vec![], vec!["nosuch0"], vec![UPLINK, UPLINK]] {
            let uplinks = uplinks.into_iter().map(str::to_owned).collect();
            let error = Dataplane::load(
                &Options {
                    uplinks,
                    ..root.options()
                },
                &lock,
            )
            .await;
            println!("refused: {}", error.err().expect("refused"));
        }
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn xdp_modes_are_as_chosen_and_can_change() {
    in_namespace(|| async {
        let root = PinRoot::new("modes");
        let lock = Lock::acquire(&root.0).unwrap();
        for (choice, hook) in [
            (XdpChoice::Generic, XdpHook::Generic),
            (XdpChoice::Auto, XdpHook::Generic),
            (XdpChoice::Native, XdpHook::Native),
        ] {
            let options = Options {
                xdp_mode: choice,
                ..root.options()
            };
            let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
            dataplane.attach().unwrap();
            assert_eq!(dataplane.uplinks()[0].xdp, Some(hook), "{choice:?}");
            dataplane.set_node(0).unwrap();
            let node = Reader::open(&root.0).unwrap().node().unwrap();
            assert_eq!(XdpHook::from_u8(node.uplinks[0].xdp_mode), Some(hook));
        }
    });
}

/// A pod with a default route, its namespace held by a process.
fn pod(gro: bool) -> (Killed, u32, [u8; 6]) {
    let child = Command::new("unshare")
        .args(["--net", "sleep", "60"])
        .spawn()
        .unwrap();
    let pod = Killed(child);
    let pid = pod.0.id();
    let ours = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == ours {
        assert!(
            Instant::now() < deadline,
            "the pod's namespace was not made"
        );
        std::thread::yield_now();
    }
    run(&format!(
        "ip link add pod0 type veth peer name eth0 address 02:00:00:00:01:02 netns {pid}"
    ));
    run("ip link set pod0 up");
    run("ip addr add 10.0.1.1/32 dev pod0");
    let enter = format!("nsenter --net --target {pid}");
    run(&format!("{enter} ip link set eth0 up"));
    run(&format!("{enter} ip addr add 10.0.1.2/32 dev eth0"));
    run(&format!("{enter} ip route add 10.0.1.1/32 dev eth0"));
    run(&format!("{enter} ip route add default via 10.0.1.1"));
    if gro {
        run(&format!("{enter} ethtool -K eth0 gro on"));
    }
    (pod, if_nametoindex("pod0").unwrap(), [2, 0, 0, 0, 1, 2])
}

/// Three tries of 200 ms, as the run loop does.
async fn answers(dataplane: &mut Dataplane, mode: DeliveryMode) -> bool {
    for _ in 0..3 {
        let ticket: ProbeTicket = dataplane.send_probe(0, mode).unwrap();
        let deadline = Instant::now() + Duration::from_millis(200);
        while Instant::now() < deadline {
            if dataplane.probe_answered(&ticket).unwrap() {
                println!(
                    "{mode:?} answered after {} us",
                    (now_ns() - ticket.sent_ns) / 1000
                );
                return true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    false
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn probes_tell_which_modes_reach_a_pod() {
    for xdp_mode in [XdpChoice::Native, XdpChoice::Generic] {
        for gro in [false, true] {
            in_namespace(move || async move {
                let root = PinRoot::new("probe");
                let (_pod, ifindex, mac) = pod(gro);
                let lock = Lock::acquire(&root.0).unwrap();
                let options = Options {
                    xdp_mode,
                    ..root.options()
                };
                let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
                dataplane
                    .apply(&service(ifindex, DeliveryMode::Peer, 1, mac))
                    .unwrap();
                dataplane.set_pod_ports(&[ifindex].into()).unwrap();
                dataplane.attach().unwrap();
                println!("{xdp_mode:?}, GRO in the pod: {gro}");
                assert!(
                    answers(&mut dataplane, DeliveryMode::Peer).await,
                    "peer always works"
                );
                assert_eq!(answers(&mut dataplane, DeliveryMode::Redirect).await, gro);
                // The answers were ours: nothing was steered.
                let reader = Reader::open(&root.0).unwrap();
                assert_eq!(
                    reader.backends().unwrap()[0].traffic,
                    abi::Traffic::default()
                );
            });
        }
    }
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn pod_port_links_come_stay_and_go() {
    in_namespace(|| async {
        let root = PinRoot::new("ports");
        for name in ["pa", "pb", "pc"] {
            run(&format!("ip link add {name} type veth peer name {name}1"));
            run(&format!("ip link set {name} up"));
        }
        let [a, b, c] = ["pa", "pb", "pc"].map(|name| if_nametoindex(name).unwrap());
        let attached = || -> BTreeSet<u32> {
            let links = Reader::open(&root.0).unwrap().links().unwrap();
            let ports = links
                .iter()
                .filter(|link| link.hook == "tc_pod" && link.ifindex != 0);
            ports.map(|link| link.ifindex).collect()
        };
        let (mut dataplane, lock) = load_and_attach(&root).await.unwrap();
        dataplane.set_pod_ports(&[a, b, 4_000_000].into()).unwrap();
        assert_eq!(attached(), [a, b].into());
        let first = ids(&root);
        dataplane.set_pod_ports(&[a, b, c].into()).unwrap();
        assert_eq!(attached(), [a, b, c].into());
        drop(dataplane);

        // One goes while no agent runs; the others' programs are swapped.
        run("ip link del pb");
        let mut dataplane = Dataplane::load(&root.options(), &lock).await.unwrap();
        dataplane.attach().unwrap();
        assert_eq!(attached(), [a, c].into());
        let port = |ids: &[(String, u32, u32)]| {
            ids.iter()
                .find(|(hook, ..)| hook == "tc_pod")
                .cloned()
                .unwrap()
        };
        let (before, after) = (port(&first), port(&ids(&root)));
        assert_eq!(before.1, after.1, "the link is the same");
        assert_ne!(before.2, after.2, "the program is new");
        dataplane.set_pod_ports(&[c].into()).unwrap();
        assert_eq!(attached(), [c].into());
    });
}

/// Puts flows into the pinned map as the kernel would.
fn insert_flows(root: &PinRoot, flows: impl Iterator<Item = (abi::FlowKey, abi::Flow)>) {
    let map = Map::from_map_data(MapData::from_pin(root.map("FLOWS")).unwrap()).unwrap();
    let mut map = HashMap::<_, abi::FlowKey, abi::Flow>::try_from(map).unwrap();
    for (key, flow) in flows {
        map.insert(key, flow, 0).unwrap();
    }
}

fn flow(n: u32, state: FlowState, age_s: u64) -> (abi::FlowKey, abi::Flow) {
    let key = abi::FlowKey {
        address: abi::v4_mapped(Ipv4Addr::from(0x0a00_0000 + n).octets()),
        port: 1000,
        service: 0,
    };
    let then = now_ns().saturating_sub(age_s * 1_000_000_000).max(1);
    let mut flow = abi::Flow {
        accepted_ns: then,
        ended_ns: then,
        state: state as u8,
        incarnation: 1,
        ..Default::default()
    };
    flow.up.seen_ns = then;
    (key, flow)
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn a_sweep_forgets_what_is_over_and_counts_the_rest() {
    in_namespace(|| async {
        const MANY: u32 = 100_000;
        let root = PinRoot::new("sweep");
        let lock = Lock::acquire(&root.0).unwrap();
        let options = Options {
            max_flows: 131_072,
            ..root.options()
        };
        let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
        dataplane
            .apply(&service(0, DeliveryMode::Stack, 1, [0; 6]))
            .unwrap();
        insert_flows(&root, (0..MANY).map(|n| flow(n, FlowState::Established, 1)));
        insert_flows(
            &root,
            (MANY..MANY + 10).map(|n| flow(n, FlowState::Established, 61)),
        );
        insert_flows(
            &root,
            (MANY + 10..MANY + 20).map(|n| flow(n, FlowState::Cut, 11)),
        );
        insert_flows(
            &root,
            (MANY + 20..MANY + 30).map(|n| flow(n, FlowState::Cut, 9)),
        );

        let start = Instant::now();
        let report = dataplane.sweep(now_ns()).unwrap();
        println!(
            "swept {} flows in {:?}",
            report.kept + report.removed,
            start.elapsed()
        );
        assert_eq!((report.removed, report.kept), (20, MANY as usize + 10));
        assert_eq!(report.by_service[&0], MANY);
        assert_eq!(report.by_slot[&0], MANY);

        let reader = Reader::open(&root.0).unwrap();
        let start = Instant::now();
        assert_eq!(reader.flows().unwrap().len(), MANY as usize + 10);
        println!("read in {:?}", start.elapsed());
        assert_eq!(reader.max_flows(), 131_072);

        // A slot that is gone is idle only when its last flow is.
        let gone = |incarnation| {
            let Op::SetBackend {
                slot,
                mut backend,
                name,
                ..
            } = service(0, DeliveryMode::Stack, incarnation, [0; 6]).swap_remove(0)
            else {
                unreachable!()
            };
            backend.state = BackendState::Gone as u8;
            [Op::SetBackend {
                slot,
                backend,
                name,
                fresh: false,
            }]
        };
        dataplane.apply(&gone(1)).unwrap();
        dataplane.sweep(now_ns()).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_gone, [0_u16; 0]);
        dataplane.sweep(now_ns() + 120_000_000_000).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_gone, [0]);
        dataplane.apply(&[Op::FreeBackend { slot: 0 }]).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_gone, [0_u16; 0]);
        assert_eq!(dataplane.observe().unwrap().backends[&0].incarnation, 1);
    });
}

#[test]
#[ignore = "needs root, a BPF filesystem and network namespaces"]
fn the_cli_reads_drains_and_explains_without_an_agent() {
    in_namespace(|| async {
        let root = PinRoot::new("cli");
        assert!(matches!(
            Reader::open(&root.0),
            Err(Error::NotLoaded { .. })
        ));
        assert!(matches!(
            dataplane::explain(&root.0, &[0; 60]),
            Err(Error::NotLoaded { .. })
        ));
        drop(hold(&root));

        let mut reader = Reader::open(&root.0).unwrap();
        let services = reader.services().unwrap();
        assert_eq!(services.len(), 1);
        assert_eq!(services[0].name, "live/srt");
        assert_eq!(reader.backends().unwrap()[0].name, "live/pod-a");
        assert_eq!(reader.node().unwrap().schema, abi::SCHEMA_VERSION);
        assert!(reader.flows().unwrap().is_empty());
        assert!(reader.drops().unwrap().iter().all(|(_, count)| *count == 0));
        reader.drain(0, 7, 9).unwrap();
        let health = reader.backends().unwrap()[0].health;
        assert_eq!(
            (
                health.drain,
                health.drain_deadline_ns,
                health.drain_window_ns
            ),
            (1, 7, 9)
        );
        reader.undrain(0).unwrap();
        assert_eq!(reader.backends().unwrap()[0].health, abi::Health::default());

        // An INDUCTION: control type 0, version 4, socket id 1 (SRT draft §4.3.1.1).
        let mut induction = vec![0_u8; 64];
        induction[0] = 0x80;
        induction[16 + 3] = 4;
        induction[20 + 3] = 2;
        induction[24 + 3] = 1;
        induction[28 + 2..28 + 4].copy_from_slice(&1500_u16.to_be_bytes());
        induction[32 + 2..32 + 4].copy_from_slice(&8192_u16.to_be_bytes());
        induction[36 + 3] = 1;
        induction[40 + 3] = 1;
        let client: SocketAddr = "10.7.7.7:5000".parse().unwrap();
        let vip = SocketAddr::new(IpAddr::from(VIP), VIP_PORT);
        let frame = client_frame(client, vip, &induction);
        let (explained, out) = dataplane::explain(&root.0, &frame).unwrap();
        println!("{explained:?}");
        assert_eq!(
            (explained.verdict, explained.slot, explained.by_flow),
            (3, 0, 0)
        );
        assert_eq!(explained.mode, DeliveryMode::Stack as u8);
        assert_eq!(out[30..34], [10, 0, 1, 2], "addressed to the pod");
        // Nothing was counted or kept.
        assert_eq!(
            reader.services().unwrap()[0].traffic,
            abi::Traffic::default()
        );
        assert_eq!(reader.handshakes().unwrap(), 0);

        let removed = dataplane::unload(&root.0).unwrap();
        assert_eq!(
            removed
                .iter()
                .filter(|line| line.starts_with("link"))
                .count(),
            3
        );
        assert!(!Path::new(&root.0).exists());
    });
}
