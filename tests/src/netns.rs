//! The topology: a client, a node and its pods, each a network namespace, joined by veths.
//!
//! ```text
//!  client                     node                         pod-a, pod-b, …
//!  eth0 10.1.0.2 ──────────── eth0 10.1.0.1 (uplink)
//!       fd00:1::2                  fd00:1::1
//!                             pod-a 10.2.1.1 ────────────── eth0 10.2.1.2
//!                                   fd00:2:1::1                  fd00:2:1::2
//! ```
//! The VIPs are on no interface: the client routes them to the node, as a router would that learnt them by BGP.
//! Namespaces are entered by setns or `nsenter --net` only: `ip netns exec` remounts /sys and so hides bpffs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::cleanup::{self, Guard, Resource};
use crate::command;

/// The IPv4 VIP.
pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The IPv6 VIP.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// The VIP of the nftables comparison ([`crate::nft`]): never a service of ours.
pub const NFT_VIP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// The client's addresses.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// See [`CLIENT_V4`].
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
/// The node's interface towards the client.
pub const UPLINK: &str = "eth0";

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The VIP of this family.
    pub fn vip(self) -> IpAddr {
        match self {
            Self::V4 => VIP_V4.into(),
            Self::V6 => VIP_V6.into(),
        }
    }

    /// The wildcard address of this family.
    pub fn any(self) -> &'static str {
        match self {
            Self::V4 => "0.0.0.0",
            Self::V6 => "::",
        }
    }
}

/// A network namespace of ours.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    _guard: Guard,
}

impl Namespace {
    /// Makes one; `what` is for people.
    pub fn create(what: &str) -> Result<Self> {
        let name = cleanup::unique_name(what);
        let guard = Guard::new(Resource::Namespace(name.clone()));
        command::run("ip", &["netns", "add", &name])?;
        command::run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        Ok(Self {
            name,
            _guard: guard,
        })
    }

    /// Its name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs `program` in this namespace, and in all else where we are.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `script` by `sh` in this namespace.
    pub fn shell(&self, script: &str) -> Result<String> {
        let mut command = self.command("sh");
        command.args(["-euc", script]);
        let output = command::output(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a thread in this namespace. Sockets that it opens stay there.
    pub fn spawn<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<std::thread::JoinHandle<Result<T>>> {
        spawn_in(&self.path(), run)
    }

    /// Runs `run` on a thread in this namespace and waits for it.
    pub fn enter<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.spawn(run)?
            .join()
            .map_err(|_| anyhow!("a thread in {} panicked", self.name))?
    }
}

/// Starts a thread in the namespace that `path` stands for.
pub fn spawn_in<T: Send + 'static>(
    path: &Path,
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<std::thread::JoinHandle<Result<T>>> {
    let namespace = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
        run()
    }))
}

/// A pod: a namespace and its veth on the node.
#[derive(Debug)]
pub struct Pod {
    /// `pod-a`: also the name of its port on the node.
    pub name: String,
    /// Its namespace.
    pub netns: Namespace,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pod {
    /// Its address of `family`.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// How the pods hang on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// A routed veth each (Calico, Cilium, kube-router).
    Routed,
    /// Ports of one bridge (CNI bridge, flannel, k3s).
    Bridge,
}

/// What a topology is made of.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How many pods.
    pub pods: usize,
    /// How they are wired.
    pub wiring: Wiring,
    /// GRO in the pods, which gives their veth the NAPI that `redirect` needs.
    pub pod_gro: bool,
    /// MTU of every link.
    pub mtu: u32,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            pods: 3,
            wiring: Wiring::Routed,
            pod_gro: true,
            mtu: 1500,
        }
    }
}

/// Client, node and pods. Dropping it removes them.
#[derive(Debug)]
pub struct Topology {
    /// Where encoders run.
    pub client: Namespace,
    /// Where the agent runs.
    pub node: Namespace,
    /// Where listeners run.
    pub pods: Vec<Pod>,
}

impl Topology {
    /// Three routed pods.
    pub fn new() -> Result<Self> {
        Self::with(Layout::default())
    }

    /// Builds `layout`, after removing what dead runs left.
    pub fn with(layout: Layout) -> Result<Self> {
        prepare_host()?;
        cleanup::sweep_leftovers()?;
        let client = Namespace::create("client")?;
        let node = Namespace::create("node")?;
        let mtu = layout.mtu;
        node.shell(&format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
             ip link add {UPLINK} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {client}
             ip address add 10.1.0.1/24 dev {UPLINK}
             ip address add fd00:1::1/64 dev {UPLINK} nodad
             ip link set {UPLINK} up",
            client = client.name()
        ))?;
        // A veth leaves UDP checksums to the device it does not have; a NIC would deliver whole ones.
        client.shell(&format!(
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0
             ip address add {CLIENT_V4}/24 dev eth0
             ip address add {CLIENT_V6}/64 dev eth0 nodad
             ip link set eth0 up
             ethtool -K eth0 tx off gro on >/dev/null
             ip route add default via 10.1.0.1
             ip -6 route add default via fd00:1::1"
        ))?;
        if layout.wiring == Wiring::Bridge {
            node.shell(&format!(
                "ip link add cni0 mtu {mtu} type bridge
                 ip address add 10.2.0.1/24 dev cni0
                 ip address add fd00:2::1/64 dev cni0 nodad
                 ip link set cni0 up"
            ))?;
        }
        let pods = (0..layout.pods)
            .map(|index| Self::add_pod(&node, index, layout))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { client, node, pods })
    }

    fn add_pod(node: &Namespace, index: usize, layout: Layout) -> Result<Pod> {
        let name = pod_name(index)?;
        let number = u8::try_from(index + 1).context("at most 254 pods")?;
        let netns = Namespace::create(&name)?;
        let mtu = layout.mtu;
        let (v4, v6, gateway_v4, gateway_v6);
        let port;
        match layout.wiring {
            Wiring::Routed => {
                v4 = Ipv4Addr::new(10, 2, number, 2);
                v6 = Ipv6Addr::new(0xfd00, 2, u16::from(number), 0, 0, 0, 0, 2);
                gateway_v4 = Ipv4Addr::new(10, 2, number, 1);
                gateway_v6 = Ipv6Addr::new(0xfd00, 2, u16::from(number), 0, 0, 0, 0, 1);
                port = format!(
                    "ip address add {gateway_v4}/24 dev {name}
                     ip address add {gateway_v6}/64 dev {name} nodad"
                );
            }
            Wiring::Bridge => {
                v4 = Ipv4Addr::new(10, 2, 0, number + 1);
                v6 = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, u16::from(number) + 1);
                gateway_v4 = Ipv4Addr::new(10, 2, 0, 1);
                gateway_v6 = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1);
                port = format!("ip link set {name} master cni0");
            }
        }
        node.shell(&format!(
            "ip link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {netns}
             {port}
             ip link set {name} up",
            netns = netns.name()
        ))?;
        let prefix = if layout.wiring == Wiring::Routed {
            "24"
        } else {
            "16"
        };
        let gro = if layout.pod_gro { "on" } else { "off" };
        netns.shell(&format!(
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0
             ip address add {v4}/{prefix} dev eth0
             ip address add {v6}/64 dev eth0 nodad
             ip link set eth0 up
             ethtool -K eth0 gro {gro} >/dev/null
             ip route add default via {gateway_v4}
             ip -6 route add default via {gateway_v6}"
        ))?;
        Ok(Pod {
            name,
            netns,
            v4,
            v6,
        })
    }
}

/// `pod-a`, `pod-b`, …
fn pod_name(index: usize) -> Result<String> {
    let letter = u8::try_from(index)
        .ok()
        .and_then(|i| b'a'.checked_add(i))
        .filter(u8::is_ascii_lowercase);
    Ok(format!(
        "pod-{}",
        char::from(letter.context("at most 26 pods")?)
    ))
}

/// bpffs where pins go, and root.
fn prepare_host() -> Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces and BPF need root: run it through `cargo xtask`, which uses sudo"
    );
    let bpffs = Path::new(cleanup::BPFFS);
    let kind = statfs(bpffs)
        .with_context(|| format!("{} is missing: this kernel has no BPF", bpffs.display()))?
        .filesystem_type();
    if kind != BPF_FS_MAGIC {
        mount(
            Some("bpf"),
            bpffs,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount bpffs on {}", bpffs.display()))?;
    }
    Ok(())
}

/// What `address` answers to GET `path` in the namespace of `netns`; any status but 200 is an error.
pub fn http(netns: &Path, address: &'static str, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let answer = spawn_in(netns, move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?
    .join()
    .map_err(|_| anyhow!("the HTTP request panicked"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    anyhow::ensure!(status.contains(" 200"), "{path}: {status}: {body}");
    Ok(body.to_owned())
}
