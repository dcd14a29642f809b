//! `ingest-agent status`

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ingest_common::abi;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    backends,
    services::{Handshakes, handshake, is_live},
};
use crate::{
    cli::Output,
    dataplane::{self, Lock, Reader},
    error::Error,
    output::{self, age, padded, print},
};

/// The dataplane of this node.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    /// Whether an agent runs now. Traffic is steered either way.
    pub agent_running: bool,
    /// Version of the agent that wrote the maps last.
    pub agent_version: String,
    /// Its process id.
    pub agent_pid: u32,
    /// Seconds since its configuration was first complete in the maps; absent: not yet.
    pub ready_seconds: Option<u64>,
    /// Version of the maps' layout.
    pub schema: u32,
    /// Interfaces that clients' packets come in by.
    pub uplinks: Vec<UplinkRow>,
    /// Programs attached, by hook.
    pub links: BTreeMap<&'static str, usize>,
    /// By what the tc programs are attached: `tcx`, or `clsact` where the kernel has no tcx.
    pub tc: &'static str,
    /// VIP:port:protocols.
    pub services: usize,
    /// Those by who answers their callers' handshakes: `stream`, `client` or `none`.
    pub handshake_ways: BTreeMap<&'static str, usize>,
    /// What became of the handshakes that are answered here.
    pub splices: Handshakes,
    /// How the answers leave: `xdp` or `tc`.
    pub answer_by: &'static str,
    /// Secrets made so far. One at a time makes cookies.
    pub secrets: u32,
    /// Seconds since the present one does; absent: there is none yet, and nobody is answered.
    pub secret_age_seconds: Option<u64>,
    /// Routes.
    pub routes: usize,
    /// Backends by state.
    pub backends: BTreeMap<&'static str, usize>,
    /// Backends by delivery mode.
    pub modes: BTreeMap<&'static str, usize>,
    /// Backends that get no new sessions though the configuration says serving.
    pub backends_down: usize,
    /// Established flows.
    pub flows: usize,
    /// Flows that fit.
    pub flow_capacity: u32,
    /// Handshakes under way, stale ones included.
    pub handshakes: usize,
    /// A pod that gets data and sends nothing for this many milliseconds hangs.
    pub silence_ms: u64,
    /// Dropped packets by reason, where there were any.
    pub drops: BTreeMap<&'static str, u64>,
    /// Packets to VIPs left to the host, by reason, where there were any.
    pub passes: BTreeMap<&'static str, u64>,
}

/// An uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UplinkRow {
    /// Interface name.
    pub name: String,
    /// Interface index when the programs were attached.
    pub ifindex: u32,
    /// `native`, `generic` or `none`.
    pub xdp_mode: &'static str,
    /// Whether it is a veth.
    pub veth: bool,
}

pub(super) fn run(pin_root: &Path, output: Output) -> Result<(), Error> {
    let reader = Reader::open(pin_root)?;
    let status = read(&reader, &reader.flows()?, Lock::is_held(pin_root))?;
    print(output, &status, render)
}

pub(crate) fn read(
    reader: &Reader,
    flows: &[(abi::FlowKey, abi::Flow)],
    agent_running: bool,
) -> Result<Status, dataplane::Error> {
    let (node, config) = (reader.node()?, reader.config()?);
    let (services, secrets) = (reader.services()?, reader.secrets()?);
    let mut ways = BTreeMap::new();
    let mut splices = abi::SpliceStats::default();
    for view in &services {
        *ways.entry(handshake(view.service)).or_default() += 1;
        splices.add(&view.splices);
    }
    let secret_age_ns = dataplane::now_ns().saturating_sub(secrets.since_ns);
    let rows = backends::rows(
        &reader.backends()?,
        flows,
        &config,
        &node,
        dataplane::now_ns(),
    );
    let count = |of: fn(&backends::BackendRow) -> &'static str| {
        let mut counts = BTreeMap::new();
        for row in &rows {
            *counts.entry(of(row)).or_default() += 1;
        }
        counts
    };
    let mut links = BTreeMap::new();
    let mut tc = "tcx";
    for link in reader.links()? {
        *links.entry(link.hook).or_default() += 1;
        if link.link_id == 0 {
            tc = "clsact";
        }
    }
    Ok(Status {
        agent_running,
        agent_version: padded(&node.agent_version),
        agent_pid: node.agent_pid,
        ready_seconds: ready_seconds(node.ready_unix_ns, SystemTime::now()),
        schema: node.schema,
        uplinks: node
            .uplinks
            .iter()
            .filter(|u| u.ifindex != 0)
            .map(uplink)
            .collect(),
        links,
        tc,
        services: services.len(),
        handshake_ways: ways,
        splices: Handshakes::from(&splices),
        answer_by: if config.answer_by == abi::AnswerBy::Tc as u32 {
            "tc"
        } else {
            "xdp"
        },
        secrets: secrets.serial,
        secret_age_seconds: (secrets.serial != 0).then_some(secret_age_ns / 1_000_000_000),
        routes: reader.routes()?.len(),
        backends: count(|row| row.state),
        modes: count(|row| row.mode),
        backends_down: rows
            .iter()
            .filter(|row| row.state == "serving" && !row.up)
            .count(),
        flows: flows.iter().filter(|(_, flow)| is_live(flow)).count(),
        flow_capacity: reader.max_flows(),
        handshakes: reader.handshakes()?,
        silence_ms: config.silence_ns / 1_000_000,
        drops: reader
            .drops()?
            .into_iter()
            .filter(|d| d.1 > 0)
            .map(|(r, n)| (r.as_str(), n))
            .collect(),
        passes: reader
            .passes()?
            .into_iter()
            .filter(|p| p.1 > 0)
            .map(|(r, n)| (r.as_str(), n))
            .collect(),
    })
}

/// An uplink as the CLI and the metrics name it.
pub(crate) fn uplink(uplink: &abi::Uplink) -> UplinkRow {
    UplinkRow {
        name: padded(&uplink.name),
        ifindex: uplink.ifindex,
        xdp_mode: match uplink.xdp_mode {
            1 => "native",
            2 => "generic",
            _ => "none",
        },
        veth: uplink.is_veth != 0,
    }
}

fn ready_seconds(ready_unix_ns: u64, now: SystemTime) -> Option<u64> {
    let since = UNIX_EPOCH + Duration::from_nanos(ready_unix_ns);
    (ready_unix_ns != 0).then(|| now.duration_since(since).unwrap_or_default().as_secs())
}

fn render(status: &Status) -> String {
    let counts = |counts: &BTreeMap<&'static str, usize>| {
        let parts: Vec<_> = counts
            .iter()
            .map(|(word, n)| format!("{n} {word}"))
            .collect();
        parts.join(", ")
    };
    let agent = match (status.agent_running, status.ready_seconds) {
        (true, Some(s)) => {
            format!(
                "runs (pid {}), ready for {}",
                status.agent_pid,
                age(Duration::from_secs(s))
            )
        }
        (true, None) => format!("starts (pid {})", status.agent_pid),
        (false, _) => "does not run; traffic is steered by what is in the maps".to_owned(),
    };
    let uplinks: Vec<_> = status
        .uplinks
        .iter()
        .map(|u| {
            format!(
                "{} ({} XDP{})",
                u.name,
                u.xdp_mode,
                if u.veth { ", veth" } else { "" }
            )
        })
        .collect();
    let links: Vec<_> = status
        .links
        .iter()
        .map(|(hook, n)| format!("{n} {hook}"))
        .collect();
    let mut lines = vec![
        ("agent", agent),
        (
            "version",
            format!("{} (schema {})", status.agent_version, status.schema),
        ),
        ("uplinks", uplinks.join(", ")),
        (
            "programs",
            format!("{}; tc by {}", links.join(", "), status.tc),
        ),
        ("services", services(status)),
        ("routes", status.routes.to_string()),
        ("backends", counts(&status.backends)),
        ("delivery", counts(&status.modes)),
        (
            "flows",
            format!("{} of {}", status.flows, status.flow_capacity),
        ),
        ("handshakes", status.handshakes.to_string()),
        ("silence", age(Duration::from_millis(status.silence_ms))),
    ];
    if status.handshake_ways.contains_key("stream") {
        lines.extend(stream_lines(status));
    }
    if status.backends_down > 0 {
        lines.push((
            "down",
            format!(
                "{} serving backends get no new sessions; see `backends`",
                status.backends_down
            ),
        ));
    }
    for (title, reasons) in [("dropped", &status.drops), ("passed", &status.passes)] {
        let reasons: Vec<_> = reasons
            .iter()
            .map(|(reason, n)| format!("{n} {reason}"))
            .collect();
        lines.push((
            title,
            if reasons.is_empty() {
                "nothing".to_owned()
            } else {
                reasons.join(", ")
            },
        ));
    }
    let lines: Vec<_> = lines
        .into_iter()
        .map(|(title, text)| {
            format!(
                "{title:<11} {}",
                if text.is_empty() {
                    output::dash()
                } else {
                    text
                }
            )
        })
        .collect();
    lines.join("\n")
}

fn services(status: &Status) -> String {
    let ways = status.handshake_ways.iter();
    let ways: Vec<_> = ways
        .map(|(way, n)| match *way {
            "none" => format!("{n} udp"),
            way => format!("{n} srt by {way}"),
        })
        .collect();
    match status.services {
        0 => "none".to_owned(),
        _ => ways.join(", "),
    }
}

/// How the handshakes do that are answered here.
fn stream_lines(status: &Status) -> [(&'static str, String); 4] {
    let h = &status.splices;
    let secret = match status.secret_age_seconds {
        Some(s) => format!(
            "number {}, {} old",
            status.secrets,
            age(Duration::from_secs(s))
        ),
        None => "none yet: handshakes are not answered".to_owned(),
    };
    let mut refused: Vec<_> = h
        .rejections
        .iter()
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    if h.rejections_unsaid > 0 {
        refused.push(format!("{} without a word", h.rejections_unsaid));
    }
    if refused.is_empty() {
        refused.push("nobody".to_owned());
    }
    [
        ("secret", secret),
        (
            "cookies",
            format!(
                "{} sent by {}, {} valid, {} stale, {} forged",
                h.cookies_sent,
                status.answer_by,
                h.cookies_valid,
                h.cookies_stale,
                h.cookies_forged
            ),
        ),
        (
            "splices",
            format!(
                "{} at once, {} lazy, {} rewritten, {} surplus",
                h.splices, h.lazies, h.rewritten, h.surplus
            ),
        ),
        ("refused", refused.join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            agent_running: false,
            agent_version: "0.1.0".into(),
            agent_pid: 7,
            ready_seconds: Some(60),
            schema: 1,
            uplinks: vec![UplinkRow {
                name: "eth0".into(),
                ifindex: 2,
                xdp_mode: "generic",
                veth: true,
            }],
            links: BTreeMap::from([("xdp", 1)]),
            tc: "clsact",
            services: 3,
            handshake_ways: BTreeMap::from([("none", 1), ("stream", 2)]),
            splices: Handshakes {
                cookies_sent: 12,
                cookies_forged: 5,
                splices: 9,
                rejections: BTreeMap::from([("not_found", 2)]),
                rejections_unsaid: 7,
                ..Default::default()
            },
            answer_by: "tc",
            secrets: 4,
            secret_age_seconds: Some(187),
            routes: 6,
            backends: BTreeMap::from([("draining", 1), ("serving", 2)]),
            modes: BTreeMap::new(),
            backends_down: 1,
            flows: 3,
            flow_capacity: 131_072,
            handshakes: 0,
            silence_ms: 300,
            drops: BTreeMap::from([("no_backend", 4)]),
            passes: BTreeMap::new(),
        }
    }

    #[test]
    fn people_are_told_what_matters() {
        let text = render(&status());
        for part in [
            "does not run; traffic is steered",
            "eth0 (generic XDP, veth)",
            "1 xdp; tc by clsact",
            "1 draining, 2 serving",
            "3 of 131072",
            "4 no_backend",
            "passed      nothing",
            "down        1 serving",
            "services    1 udp, 2 srt by stream",
            "secret      number 4, 3m07s old",
            "12 sent by tc, 0 valid, 0 stale, 5 forged",
            "splices     9 at once",
            "refused     2 not_found, 7 without a word",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let running = Status {
            agent_running: true,
            ..status()
        };
        assert!(render(&running).contains("runs (pid 7), ready for 1m00s"));
        let without_secret = Status {
            secret_age_seconds: None,
            ..status()
        };
        assert!(render(&without_secret).contains("handshakes are not answered"));
        let by_client = Status {
            handshake_ways: BTreeMap::from([("client", 3)]),
            ..status()
        };
        assert!(!render(&by_client).contains("cookies"));
    }

    #[test]
    fn a_clock_set_back_is_no_failure() {
        assert_eq!(ready_seconds(0, UNIX_EPOCH), None);
        assert_eq!(
            ready_seconds(5_000_000_000, UNIX_EPOCH + Duration::from_secs(8)),
            Some(3)
        );
        assert_eq!(ready_seconds(5_000_000_000, UNIX_EPOCH), Some(0));
    }
}
