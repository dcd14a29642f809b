//! A namespace, an uplink and a pin root for tests of the agent's parts that need no agent process.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ingest_agent::{
    dataplane::{self, Dataplane, Error, Lock, Options, Reader, XdpChoice},
    reconcile::{Op, PoolName},
};
use ingest_common::abi::{self, BackendState, DeliveryMode};
use ingest_tests::cleanup::{BPFFS, unique_name};
use nix::sched::{CloneFlags, unshare};

pub const PATIENCE: Duration = Duration::from_secs(5);
pub const UPLINK: &str = "up0";
pub const VIP: [u8; 4] = [203, 0, 113, 10];
pub const VIP_PORT: u16 = 9000;

/// A pin root of a test's own, unloaded at its end.
pub struct PinRoot(pub PathBuf);

impl PinRoot {
    pub fn new(name: &str) -> Self {
        Self(PathBuf::from(BPFFS).join(unique_name(name)))
    }

    pub fn options(&self) -> Options {
        Options {
            pin_root: self.0.clone(),
            uplinks: vec![UPLINK.to_owned()],
            xdp_mode: XdpChoice::Auto,
            kernel_log: None,
            max_flows: 1024,
        }
    }

    pub fn map(&self, name: &str) -> PathBuf {
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

pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command}");
}

/// Runs `test` alone in a new network namespace, with `lo` up.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
        run("ip link set lo up");
        block_on(test());
    };
    std::thread::spawn(body).join().unwrap();
}

/// [`in_namespace`] with a veth uplink.
pub fn with_uplink<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_namespace(|| {
        make_uplink();
        test()
    });
}

pub fn make_uplink() {
    run(&format!("ip link add {UPLINK} type veth peer name client0"));
    run(&format!("ip link set {UPLINK} up"));
    run("ip link set client0 up");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The namespace of a pod: it lives as long as its process.
pub struct Pod(Child);

impl Pod {
    pub fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "120"])
            .spawn()
            .expect("unshare is installed");
        let pod = Self(child);
        // The child is in its own namespace only once unshare(1) has made it.
        let ours = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while fs::read_link(format!("/proc/{}/ns/net", pod.pid())).unwrap() == ours {
            assert!(
                Instant::now() < deadline,
                "the pod's namespace was not made"
            );
            std::thread::yield_now();
        }
        pod
    }

    /// A pod with `eth0`, whose host side is `port`.
    pub fn with_port(port: &str, mac: &str) -> Self {
        let pod = Self::new();
        let pid = pod.pid();
        run(&format!(
            "ip link add {port} type veth peer name eth0 address {mac} netns {pid}"
        ));
        run(&format!("ip link set {port} up"));
        pod.run("ip link set lo up");
        pod.run("ip link set eth0 up");
        pod
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs a command in its namespace.
    pub fn run(&self, command: &str) {
        run(&format!("nsenter --net --target {} {command}", self.pid()));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub async fn load(root: &PinRoot) -> Result<(Dataplane, Lock), Error> {
    let lock = Lock::acquire(&root.0)?;
    Ok((Dataplane::load(&root.options(), &lock).await?, lock))
}

pub async fn load_and_attach(root: &PinRoot) -> Result<(Dataplane, Lock), Error> {
    let (mut dataplane, lock) = load(root).await?;
    dataplane.attach()?;
    Ok((dataplane, lock))
}

/// What an agent leaves that has worked and is gone.
pub async fn leave(root: &PinRoot) {
    let (mut dataplane, _lock) = load_and_attach(root).await.unwrap();
    dataplane
        .apply(&service(0, DeliveryMode::Stack, 0, [0; 6]))
        .unwrap();
    dataplane.set_node(1).unwrap();
}

/// What a failed load says; a program that loads is a failure here.
pub async fn refusal(root: &PinRoot) -> Error {
    match load(root).await {
        Ok(_) => panic!("loaded"),
        Err(error) => {
            println!("refused: {error}");
            error
        }
    }
}

/// A service with one backend in slot 0, at 10.0.1.2:9000.
#[expect(clippy::large_stack_arrays, reason = "once, on a test's stack")]
pub fn service(ifindex: u32, mode: DeliveryMode, incarnation: u32, pod_mac: [u8; 6]) -> Vec<Op> {
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
            tenant: abi::Tenant::default(),
            fresh: true,
        },
        Op::SetTable {
            pool: 0,
            name: PoolName {
                service: "live/srt".into(),
                is_v4: true,
            },
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

/// Hook, link id and program id of every pinned link.
pub fn ids(root: &PinRoot) -> Vec<(String, u32, u32)> {
    let links = Reader::open(&root.0).unwrap().links().unwrap();
    links
        .into_iter()
        .map(|link| (link.hook.to_owned(), link.link_id, link.program_id))
        .collect()
}
