//! An interface that clients' packets come in by.

use std::{fs, path::Path};

use super::{Check, fail, ok, sysctl, warn};
use crate::ports::LinkInfo;

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

/// What an uplink is.
#[derive(Clone, Debug)]
pub(super) struct UplinkFacts {
    name: String,
    info: Option<LinkInfo>,
    driver: Option<String>,
    strict_rp_filter: bool,
    /// Programs of our pinned XDP links on it.
    ours: Vec<u32>,
}

impl UplinkFacts {
    pub(super) fn gather(name: &str, info: Option<LinkInfo>, ours: Vec<u32>) -> Self {
        Self {
            name: name.to_owned(),
            info,
            driver: driver(name),
            strict_rp_filter: strict_rp_filter(name),
            ours,
        }
    }
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

pub(super) fn checks(facts: &UplinkFacts) -> Vec<Check> {
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
        checks.push(warn(
            &name,
            "is a veth: what XDP_TX sends is lost unless the far end has an XDP program",
            "nothing to do; handshakes are answered by tc (`run --answer-by auto`)",
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

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};
    use crate::ports::Xdp;

    fn grades(checks: &[Check]) -> Vec<Grade> {
        checks.iter().map(|c| c.grade).collect()
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

    fn with_xdp(program: u32, generic: bool) -> UplinkFacts {
        with(|i| i.xdp = Some(Xdp { program, generic }))
    }

    fn with(change: impl FnOnce(&mut LinkInfo)) -> UplinkFacts {
        let mut facts = eth0();
        change(facts.info.as_mut().unwrap());
        facts
    }

    #[test]
    fn uplinks() {
        use Grade::{Fail, Ok, Warn};
        assert_eq!(grades(&checks(&eth0())), [Ok, Ok, Ok]);
        let missing = checks(&UplinkFacts {
            info: None,
            ..eth0()
        });
        assert_eq!(
            (grades(&missing), missing[0].name.as_str()),
            (vec![Fail], "uplink eth0")
        );
        assert_eq!(grades(&checks(&with(|i| i.up = false))), [Fail, Ok, Ok]);
        assert_eq!(grades(&checks(&with(|i| i.mtu = 1400))), [Ok, Warn, Ok]);
        let foreign = with_xdp(9, false);
        assert_eq!(grades(&checks(&foreign)), [Ok, Ok, Fail]);
        assert!(checks(&foreign)[2].found.contains("id 9"));
        let ours = with_xdp(7, true);
        assert_eq!(grades(&checks(&ours)), [Ok, Ok, Warn]);
        let unknown = UplinkFacts {
            driver: Some("e1000e".into()),
            ..eth0()
        };
        assert_eq!(grades(&checks(&unknown)), [Ok, Ok, Warn]);
        let veth = UplinkFacts {
            driver: None,
            strict_rp_filter: true,
            ..with(|i| i.kind = "veth".into())
        };
        assert_eq!(grades(&checks(&veth)), [Ok, Ok, Ok, Warn, Warn, Warn]);
    }
}
