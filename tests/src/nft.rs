//! The same job as kube-proxy does it in its nftables mode: DNAT by a verdict map, conntrack for what follows.
//!
//! The comparison of the demo and the benchmarks. When an endpoint goes, kube-proxy writes the map anew and deletes
//! the endpoint's UDP conntrack entries; so does [`Dnat::set`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::command;
use crate::netns::Namespace;

/// A VIP in nftables.
#[derive(Debug)]
pub struct Dnat<'a> {
    node: &'a Namespace,
    vip: Ipv4Addr,
    port: u16,
}

impl<'a> Dnat<'a> {
    /// Sends `vip`:`port` on `node` to `endpoints` in turn.
    pub fn new(
        node: &'a Namespace,
        vip: Ipv4Addr,
        port: u16,
        endpoints: &[SocketAddr],
    ) -> Result<Self> {
        let dnat = Self { node, vip, port };
        dnat.write(endpoints)?;
        Ok(dnat)
    }

    /// Makes `endpoints` the only ones, and forgets every session (of the namespace, which has no other).
    pub fn set(&self, endpoints: &[SocketAddr]) -> Result<()> {
        self.write(endpoints)?;
        self.node.enter(flush_conntrack)
    }

    fn write(&self, endpoints: &[SocketAddr]) -> Result<()> {
        use std::fmt::Write as _;
        let (vip, port) = (self.vip, self.port);
        let mut rules =
            String::from("table ip ingest-comparison\ndelete table ip ingest-comparison\n");
        rules.push_str("table ip ingest-comparison {\n");
        for (index, endpoint) in endpoints.iter().enumerate() {
            let IpAddr::V4(address) = endpoint.ip() else {
                anyhow::bail!("{endpoint} is not IPv4")
            };
            let port = endpoint.port();
            writeln!(
                rules,
                " chain endpoint-{index} {{ meta l4proto udp dnat to {address}:{port}; }}"
            )?;
        }
        let choices: Vec<_> = (0..endpoints.len())
            .map(|i| format!("{i} : goto endpoint-{i}"))
            .collect();
        writeln!(
            rules,
            " chain service {{ numgen random mod {} vmap {{ {} }}; }}",
            endpoints.len().max(1),
            choices.join(", ")
        )?;
        writeln!(
            rules,
            " chain services {{ type nat hook prerouting priority dstnat;\n  ip daddr . meta l4proto . th dport \
             vmap {{ {vip} . udp . {port} : goto service }};\n }}\n}}"
        )?;
        let mut nft = self.node.command("nft");
        nft.args(["-f", "-"]);
        command::feed(nft, &rules).context("nftables refused the comparison's rules")
    }
}

/// Deletes every conntrack entry of the current namespace: an `IPCTNL_MSG_CT_DELETE` that names none
/// (linux/netfilter/nfnetlink_conntrack.h).
fn flush_conntrack() -> Result<()> {
    const LENGTH: usize = 20;
    const NFNL_SUBSYS_CTNETLINK: u16 = 1;
    const IPCTNL_MSG_CT_DELETE: u16 = 2;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    let mut message = [0_u8; LENGTH];
    message[0..4].copy_from_slice(&(LENGTH as u32).to_ne_bytes());
    message[4..6]
        .copy_from_slice(&(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE).to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .context("cannot open a netfilter socket")?;
    let socket = std::os::fd::AsRawFd::as_raw_fd(&socket);
    sendto(socket, &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 256];
    let size = recv(socket, &mut answer, MsgFlags::empty())?;
    // nlmsghdr, then the error number of NLMSG_ERROR.
    let error = answer
        .get(16..20)
        .filter(|_| size >= 20)
        .context("short netlink answer")?;
    let error = i32::from_ne_bytes([error[0], error[1], error[2], error[3]]);
    anyhow::ensure!(
        error == 0,
        "conntrack flush: {}",
        std::io::Error::from_raw_os_error(-error)
    );
    Ok(())
}
