//! The node itself: kernel, rights, switches.

use std::{fs, path::Path};

use nix::sys::{
    statfs::{BPF_FS_MAGIC, statfs},
    utsname::uname,
};

use super::{Check, fail, ok, sysctl, warn};

/// `bpf_redirect_peer` came with it.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// XDP in several buffers and live test runs came with it.
const WHOLE_KERNEL: (u32, u32) = (5, 18);
/// tcx came with it.
const TCX_KERNEL: (u32, u32) = (6, 6);
/// Bit numbers in `CapEff` (linux/capability.h).
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
/// What the node is, but for its interfaces.
#[derive(Clone, Debug)]
pub(super) struct HostFacts {
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
    pub(super) fn gather(pin_root: &Path) -> Self {
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

impl HostFacts {
    /// Whether other network namespaces can be entered.
    pub(super) fn may_enter(&self) -> bool {
        self.capabilities >> SYS_ADMIN & 1 == 1
    }
}

pub(super) fn checks(facts: &HostFacts) -> Vec<Check> {
    let kernel = match version(&facts.kernel) {
        Some(found) if found >= TCX_KERNEL => ok("kernel", &facts.kernel),
        Some(found) if found >= WHOLE_KERNEL => ok(
            "kernel",
            &format!("{}: tc by clsact, not tcx", facts.kernel),
        ),
        Some(found) if found >= OLDEST_KERNEL => warn(
            "kernel",
            &format!(
                "{}: tc by clsact, no `redirect`, no jumbo frames",
                facts.kernel
            ),
            "boot 5.18 or newer where these are wanted",
        ),
        _ => fail(
            "kernel",
            &facts.kernel,
            "bpf_redirect_peer needs 5.10 or newer: boot a newer kernel",
        ),
    };
    let has = |bit: u32| facts.capabilities >> bit & 1 == 1;
    // CAP_SYS_ADMIN still stands for the two that were split from it in 5.8.
    let needed = [
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
    ];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| name)
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

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

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
        assert_eq!(grades(&checks(&good())), [Grade::Ok; 6]);
    }

    #[test]
    fn each_drawback_has_its_remedy() {
        let bad = HostFacts {
            kernel: "5.4.0-34".into(),
            capabilities: 1 << 12,
            bpffs: false,
            btf: false,
            jit: Some(0),
            forward_v4: false,
            forward_v6: true,
        };
        let checks = super::checks(&bad);
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
        assert_eq!(checks[1].found, "missing CAP_BPF, CAP_PERFMON");
        assert_eq!(checks[5].found.split(':').next(), Some("off for IPv4"));
    }

    #[test]
    fn kernels_are_compared_as_numbers() {
        let grade = |kernel: &str| {
            checks(&HostFacts {
                kernel: kernel.into(),
                ..good()
            })[0]
                .grade
        };
        assert_eq!(grade("6.6.0"), Grade::Ok);
        assert_eq!(grade("5.18.1"), Grade::Ok);
        assert_eq!(grade("5.15.0-91-generic"), Grade::Warn);
        assert_eq!(grade("5.9.16"), Grade::Fail);
        assert_eq!(grade("10.0.0-rc1+"), Grade::Ok);
        assert_eq!(grade("unknown"), Grade::Fail);
    }
}
