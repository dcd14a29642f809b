//! Pods as container runtimes make them: a namespace, and a CNI plugin that joins it to the node.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cleanup::{self, Guard};
use crate::netns::{Namespace, Pod};

/// Where Debian's containernetworking-plugins are.
const PLUGINS: &str = "/usr/lib/cni";

/// A CNI plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// A routed veth each.
    Ptp,
    /// Ports of one bridge.
    Bridge,
}

impl Plugin {
    fn name(self) -> &'static str {
        match self {
            Self::Ptp => "ptp",
            Self::Bridge => "bridge",
        }
    }
}

/// The pod network of a node. Addresses are host-local's, of both families.
#[derive(Debug)]
pub struct Network {
    plugin: Plugin,
    /// The node's namespace, as an argument of nsenter.
    node: String,
    config: Value,
    _guard: Guard,
}

/// A pod on a [`Network`].
#[derive(Debug)]
pub struct CniPod {
    /// Its namespace and addresses.
    pub pod: Pod,
    /// Its interface on the node.
    pub port: String,
}

impl Network {
    /// One on `node`, whose pods `plugin` makes.
    pub fn new(node: &Namespace, plugin: Plugin) -> Result<Self> {
        let (directory, guard) = cleanup::scratch_directory("ipam")?;
        let config = config(plugin, &directory);
        Ok(Self {
            plugin,
            node: format!("--net={}", node.path().display()),
            config,
            _guard: guard,
        })
    }

    /// ADD.
    pub fn add(&self, name: &str) -> Result<CniPod> {
        let netns = Namespace::create(name)?;
        netns.shell("sysctl -qw net.ipv6.conf.default.accept_dad=0")?;
        let answer = self.run("ADD", &netns)?;
        let result: Value = serde_json::from_str(&answer)
            .with_context(|| format!("{:?} answered {answer}", self.plugin))?;
        let address = |v6: bool| {
            let ips = result["ips"].as_array()?.iter();
            ips.filter_map(|ip| ip["address"].as_str()?.split_once('/'))
                .find(|(address, _)| address.contains(':') == v6)
        };
        let v4: Ipv4Addr = address(false).context("no IPv4 address")?.0.parse()?;
        let v6: Ipv6Addr = address(true).context("no IPv6 address")?.0.parse()?;
        let interfaces = result["interfaces"].as_array().into_iter().flatten();
        let port = interfaces
            .filter_map(|i| {
                i["name"]
                    .as_str()
                    .filter(|_| i["sandbox"].is_null() || i["sandbox"] == "")
            })
            .find(|name| name.starts_with("veth"))
            .with_context(|| format!("no interface on the node: {answer}"))?
            .to_owned();
        Ok(CniPod {
            pod: Pod {
                name: name.to_owned(),
                netns,
                v4,
                v6,
            },
            port,
        })
    }

    /// DEL: the pod's interface goes, its namespace stays until it is dropped.
    pub fn delete(&self, pod: &CniPod) -> Result<()> {
        self.run("DEL", &pod.pod.netns).map(drop)
    }

    fn run(&self, verb: &str, netns: &Namespace) -> Result<String> {
        let mut command = std::process::Command::new("nsenter");
        command
            .args([
                &self.node,
                "--",
                "sh",
                "-c",
                "printf %s \"$CNI_CONFIG\" | exec \"$0\"",
            ])
            .arg(PathBuf::from(PLUGINS).join(self.plugin.name()))
            .env("CNI_CONFIG", self.config.to_string())
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", netns.name())
            .env("CNI_NETNS", netns.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS);
        let output = crate::command::output(command)
            .context("a CNI plugin failed: Debian's containernetworking-plugins brings them")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn config(plugin: Plugin, directory: &std::path::Path) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": plugin.name(),
        "mtu": 1500,
        "ipam": {
            "type": "host-local",
            "dataDir": directory,
            "ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:244::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    if plugin == Plugin::Bridge {
        config["bridge"] = json!("cni0");
        config["isDefaultGateway"] = json!(true);
        config["ipam"]["routes"] = json!([]);
    }
    config
}
