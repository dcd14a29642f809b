//! `ingest-agent doctor`: why it would not work on this node. Gathers facts, changes nothing.

use std::{fs, path::Path};

use nix::sys::{
    statfs::{BPF_FS_MAGIC, statfs},
    utsname::uname,
};
use serde::Serialize;

use crate::{
    cli::{Doctor, Output},
    dataplane::{self, Reader},
    error::Error,
    output::{self, print},
    ports::{self, LinkInfo},
    source::file,
};

/// tcx links came with it.
const OLDEST_KERNEL: (u32, u32) = (6, 6);
/// Bit numbers in `CapEff` (linux/capability.h).
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Drivers with native XDP in the oldest kernel that we run on. Not complete: an unknown one is a warning.
const NATIVE_DRIVERS: [&str; 27] = [
    "atlantic",
    "bnxt_en",
    "cpsw",
    "dpaa",
    "dpaa2",
    "ena",
    "enetc",
    "fec",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_core",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "octeontx2",
    "qede",
    "sfc",
    "stmmac",
    "virtio_net",
];

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, with the drawback that is named.
    Warn,
    /// It will not work.
    Fail,
}

pub(super) async fn run(pin_root: &Path, output: Output, args: &Doctor) -> Result<(), Error> {
    let mut checks = Vec::new();
    let mut uplinks = args.uplink.clone();
    if let Some(path) = &args.config {
        match file::read(path).and_then(|bytes| file::parse(path, &bytes)) {
            Ok(snapshot) => {
                checks.push(ok("configuration", &format!("{} is valid", path.display())));
                checks.extend(
                    snapshot
                        .warnings
                        .iter()
                        .map(|w| warn("configuration", w, "see whether that is meant")),
                );
                uplinks.extend(snapshot.uplinks);
            }
            Err(error) => {
                checks.push(fail(
                    "configuration",
                    &Error::from(error).chain(),
                    "correct the file",
                ));
            }
        }
    }
    checks.extend(host(&HostFacts::gather(pin_root)));
    let loaded = loaded(pin_root);
    checks.push(loaded_check(&loaded));
    let links = loaded
        .ok()
        .flatten()
        .and_then(|reader| reader.links().ok())
        .unwrap_or_default();
    for name in uplinks {
        let facts = UplinkFacts {
            info: ports::link_by_name(&name).await?,
            driver: driver(&name),
            strict_rp_filter: strict_rp_filter(&name),
            ours: links
                .iter()
                .filter(|l| l.interface == name && l.hook == "xdp")
                .map(|l| l.program_id)
                .collect(),
            name,
        };
        checks.extend(uplink(&facts));
    }
    print(output, &checks, |checks| table(checks))?;
    match checks.iter().filter(|c| c.grade == Grade::Fail).count() {
        0 => Ok(()),
        failures => Err(Error::Unfit {
            failures,
            checks: checks.len(),
        }),
    }
}

fn check(name: &str, grade: Grade, found: &str, remedy: Option<&str>) -> Check {
    let remedy = remedy.map(str::to_owned);
    Check {
        name: name.to_owned(),
        grade,
        found: found.to_owned(),
        remedy,
    }
}

fn ok(name: &str, found: &str) -> Check {
    check(name, Grade::Ok, found, None)
}

fn warn(name: &str, found: &str, remedy: &str) -> Check {
    check(name, Grade::Warn, found, Some(remedy))
}

fn fail(name: &str, found: &str, remedy: &str) -> Check {
    check(name, Grade::Fail, found, Some(remedy))
}

/// What the node is, but for its interfaces.
#[derive(Clone, Debug)]
struct HostFacts {
    /// As `uname -r` says.
    kernel: String,
    /// `CapEff`.
    capabilities: u64,
    /// Whether the pin root, or what is there of its path, is on a BPF filesystem.
    bpffs: bool,
    btf: bool,
    /// `net.core.bpf_jit_enable`; absent where it cannot be read.
    jit: Option<u32>,
    forward_v4: bool,
    forward_v6: bool,
}

impl HostFacts {
    fn gather(pin_root: &Path) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        let existing = pin_root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(pin_root);
        Self {
            kernel: uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            capabilities: capabilities.unwrap_or_default(),
            bpffs: statfs(existing).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            jit: sysctl("net/core/bpf_jit_enable"),
            forward_v4: sysctl("net/ipv4/ip_forward") == Some(1),
            forward_v6: sysctl("net/ipv6/conf/all/forwarding") == Some(1),
        }
    }
}

fn sysctl(name: &str) -> Option<u32> {
    fs::read_to_string(Path::new("/proc/sys").join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn host(facts: &HostFacts) -> Vec<Check> {
    let kernel = match version(&facts.kernel) {
        Some(found) if found >= OLDEST_KERNEL => ok("kernel", &facts.kernel),
        _ => fail(
            "kernel",
            &facts.kernel,
            "tcx links need 6.6 or newer: boot a newer kernel",
        ),
    };
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| facts.capabilities >> bit & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    let capabilities = if missing.is_empty() {
        ok("capabilities", "all there")
    } else {
        let found = format!("missing {}", missing.join(", "));
        fail(
            "capabilities",
            &found,
            "run as root or give the process these capabilities",
        )
    };
    let bpffs = if facts.bpffs {
        ok("bpffs", "the pin root is on a BPF filesystem")
    } else {
        warn(
            "bpffs",
            "the pin root is not on a BPF filesystem",
            "`run` mounts one on /sys/fs/bpf if it may; else `mount -t bpf bpf /sys/fs/bpf`",
        )
    };
    let btf = if facts.btf {
        ok("BTF", "the kernel has it")
    } else {
        warn(
            "BTF",
            "no /sys/kernel/btf/vmlinux",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        )
    };
    let jit = match facts.jit {
        Some(0) => {
            let remedy = "sysctl -w net.core.bpf_jit_enable=1";
            warn(
                "JIT",
                "off: every packet costs several times as much",
                remedy,
            )
        }
        Some(_) => ok("JIT", "on"),
        None => ok("JIT", "not to be seen from here"),
    };
    let forward = match (facts.forward_v4, facts.forward_v6) {
        (true, true) => ok("forwarding", "on for IPv4 and IPv6"),
        (v4, v6) => {
            let off = match (v4, v6) {
                (false, false) => "off",
                (false, true) => "off for IPv4",
                _ => "off for IPv6",
            };
            let remedy = "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1";
            warn(
                "forwarding",
                &format!("{off}: `stack` delivery will not work, `peer` and `redirect` will"),
                remedy,
            )
        }
    };
    vec![kernel, capabilities, bpffs, btf, jit, forward]
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn loaded(pin_root: &Path) -> Result<Option<Reader>, dataplane::Error> {
    match Reader::open(pin_root) {
        Ok(reader) => Ok(Some(reader)),
        Err(dataplane::Error::NotLoaded { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn loaded_check(loaded: &Result<Option<Reader>, dataplane::Error>) -> Check {
    match loaded {
        Ok(Some(_)) => ok("pins", "a dataplane of this version is loaded"),
        Ok(None) => ok("pins", "nothing is loaded"),
        Err(error) => fail(
            "pins",
            &error.to_string(),
            "`ingest-agent unload` drops them, and their streams",
        ),
    }
}

/// What an uplink is.
#[derive(Clone, Debug)]
struct UplinkFacts {
    name: String,
    info: Option<LinkInfo>,
    driver: Option<String>,
    strict_rp_filter: bool,
    /// Programs of our pinned XDP links on it.
    ours: Vec<u32>,
}

/// The driver, if the sysfs that is mounted here is that of our network namespace.
fn driver(name: &str) -> Option<String> {
    let class = Path::new("/sys/class/net").join(name);
    let ifindex = fs::read_to_string(class.join("ifindex")).ok()?;
    let ours = nix::net::if_::if_nametoindex(name).ok()?;
    if ifindex.trim() != ours.to_string() {
        return None;
    }
    let driver = fs::read_link(class.join("device/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// The kernel takes the stricter of the two.
fn strict_rp_filter(name: &str) -> bool {
    let of = |name: &str| sysctl(&format!("net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    of("all").max(of(name)) == 1
}

fn uplink(facts: &UplinkFacts) -> Vec<Check> {
    let name = format!("uplink {}", facts.name);
    let Some(info) = &facts.info else {
        return vec![fail(
            &name,
            "no such interface here",
            "`ip link` lists those of this node",
        )];
    };
    let mut checks = vec![if info.up {
        ok(&name, &format!("up, index {}", info.ifindex))
    } else {
        fail(&name, "down", &format!("ip link set {} up", facts.name))
    }];
    checks.push(match info.mtu {
        0..1500 => warn(
            &name,
            &format!("MTU {}", info.mtu),
            "SRT sends 1500 bytes by default: raise it, or set `mss` at the encoders",
        ),
        mtu => ok(&name, &format!("MTU {mtu}")),
    });
    checks.push(match info.xdp {
        Some(xdp) if !facts.ours.contains(&xdp.program) => fail(
            &name,
            &format!("runs a foreign XDP program (id {})", xdp.program),
            &format!(
                "stop its owner, or `ip link set dev {} xdp off`",
                facts.name
            ),
        ),
        Some(xdp) if xdp.generic => warn(
            &name,
            "our XDP program runs in generic mode",
            "use an interface whose driver has native XDP",
        ),
        Some(_) => ok(&name, "our XDP program runs in the driver"),
        None => native(&name, info, facts.driver.as_deref()),
    });
    if info.is_veth() {
        checks.push(warn(
            &name,
            "is a veth: its frames may have unfinished checksums, so `redirect` is not used of itself",
            "nothing to do; `peer` is used",
        ));
    }
    if facts.strict_rp_filter {
        checks.push(warn(
            &name,
            "rp_filter is strict: with `stack`, clients whose route back leaves elsewhere are dropped",
            &format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", facts.name),
        ));
    }
    checks
}

fn native(name: &str, info: &LinkInfo, driver: Option<&str>) -> Check {
    match (info.kind.as_str(), driver) {
        ("veth", _) => ok(name, "veth, which has native XDP"),
        (_, Some(driver)) if NATIVE_DRIVERS.contains(&driver) => {
            ok(name, &format!("driver {driver}, which has native XDP"))
        }
        (_, Some(driver)) => warn(
            name,
            &format!("driver {driver} is not known to have native XDP"),
            "`run` falls back to generic XDP, which is slower",
        ),
        ("", None) => warn(
            name,
            "driver not to be seen from here",
            "`status` shows the mode once it runs",
        ),
        (kind, None) => warn(
            name,
            &format!("is a {kind}, which may have no native XDP"),
            "name the physical interfaces below it as uplinks",
        ),
    }
}

fn table(checks: &[Check]) -> String {
    let grade = |g| match g {
        Grade::Ok => "ok",
        Grade::Warn => "warn",
        Grade::Fail => "FAIL",
    };
    output::table(
        ["", "CHECK", "FOUND", "REMEDY"],
        checks.iter().map(|c| {
            [
                grade(c.grade).to_owned(),
                c.name.clone(),
                c.found.clone(),
                c.remedy.clone().unwrap_or_default(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Xdp;

    fn good() -> HostFacts {
        HostFacts {
            kernel: "6.12.3-amd64".into(),
            capabilities: u64::MAX,
            bpffs: true,
            btf: true,
            jit: Some(1),
            forward_v4: true,
            forward_v6: true,
        }
    }

    fn grades(checks: &[Check]) -> Vec<Grade> {
        checks.iter().map(|c| c.grade).collect()
    }

    #[test]
    fn a_good_node_is_ok_throughout() {
        assert_eq!(grades(&host(&good())), [Grade::Ok; 6]);
    }

    #[test]
    fn each_drawback_has_its_remedy() {
        let bad = HostFacts {
            kernel: "5.10.0-34".into(),
            capabilities: 1 << 12,
            bpffs: false,
            btf: false,
            jit: Some(0),
            forward_v4: false,
            forward_v6: true,
        };
        let checks = host(&bad);
        assert_eq!(
            grades(&checks),
            [
                Grade::Fail,
                Grade::Fail,
                Grade::Warn,
                Grade::Warn,
                Grade::Warn,
                Grade::Warn
            ]
        );
        assert!(checks.iter().all(|c| c.remedy.is_some()));
        assert_eq!(checks[1].found, "missing CAP_PERFMON, CAP_BPF");
        assert_eq!(checks[5].found.split(':').next(), Some("off for IPv4"));
    }

    #[test]
    fn kernels_are_compared_as_numbers() {
        let grade = |kernel: &str| {
            host(&HostFacts {
                kernel: kernel.into(),
                ..good()
            })[0]
                .grade
        };
        assert_eq!(grade("6.6.0"), Grade::Ok);
        assert_eq!(grade("6.5.13"), Grade::Fail);
        assert_eq!(grade("10.0.0-rc1+"), Grade::Ok);
        assert_eq!(grade("unknown"), Grade::Fail);
    }

    fn eth0() -> UplinkFacts {
        UplinkFacts {
            name: "eth0".into(),
            info: Some(LinkInfo {
                name: "eth0".into(),
                ifindex: 2,
                kind: String::new(),
                mac: None,
                mtu: 1500,
                up: true,
                controller: None,
                xdp: None,
            }),
            driver: Some("ice".into()),
            strict_rp_filter: false,
            ours: vec![7],
        }
    }

    fn xdp(program: u32, generic: bool) -> Option<Xdp> {
        Some(Xdp { program, generic })
    }

    fn with(change: impl FnOnce(&mut LinkInfo)) -> UplinkFacts {
        let mut facts = eth0();
        change(facts.info.as_mut().unwrap());
        facts
    }

    #[test]
    fn uplinks() {
        use Grade::{Fail, Ok, Warn};
        assert_eq!(grades(&uplink(&eth0())), [Ok, Ok, Ok]);
        let missing = uplink(&UplinkFacts {
            info: None,
            ..eth0()
        });
        assert_eq!(
            (grades(&missing), missing[0].name.as_str()),
            (vec![Fail], "uplink eth0")
        );
        assert_eq!(grades(&uplink(&with(|i| i.up = false))), [Fail, Ok, Ok]);
        assert_eq!(grades(&uplink(&with(|i| i.mtu = 1400))), [Ok, Warn, Ok]);
        let foreign = with(|i| i.xdp = xdp(9, false));
        assert_eq!(grades(&uplink(&foreign)), [Ok, Ok, Fail]);
        assert!(uplink(&foreign)[2].found.contains("id 9"));
        let ours = with(|i| i.xdp = xdp(7, true));
        assert_eq!(grades(&uplink(&ours)), [Ok, Ok, Warn]);
        let unknown = UplinkFacts {
            driver: Some("e1000e".into()),
            ..eth0()
        };
        assert_eq!(grades(&uplink(&unknown)), [Ok, Ok, Warn]);
        let veth = UplinkFacts {
            driver: None,
            strict_rp_filter: true,
            ..with(|i| i.kind = "veth".into())
        };
        assert_eq!(grades(&uplink(&veth)), [Ok, Ok, Ok, Warn, Warn]);
    }
}
