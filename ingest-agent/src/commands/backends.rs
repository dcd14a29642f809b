//! `ingest-agent backends`

use std::{path::Path, time::Duration};

use ingest_common::abi::{self, BackendState, DeliveryMode};
use schemars::JsonSchema;
use serde::Serialize;

use super::services::{address, is_live, is_of};
use crate::{
    cli::Output,
    dataplane::{self, BackendView, Reader},
    error::Error,
    output::{self, age, bytes, dash, print},
};

/// A backend that has a slot.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BackendRow {
    /// `namespace/name` of the pod.
    pub name: String,
    /// `address:port`
    pub address: String,
    /// Index in `BACKENDS`.
    pub slot: u16,
    /// `serving`, `draining` or `gone`: what the configuration says.
    pub state: &'static str,
    /// What the kernel saw or an operator said, where that differs: `unreachable`, `silent`, `drained`.
    pub health: Option<&'static str>,
    /// Whether it gets new sessions.
    pub up: bool,
    /// `redirect`, `peer`, `stack` or `none`.
    pub mode: &'static str,
    /// Why this mode.
    pub mode_reason: &'static str,
    /// Milliseconds since the pod last answered a probe by its mode; absent: never, or it is not probed (`stack`).
    pub probed_ms: Option<u64>,
    /// Interface index of its pod port; 0: none.
    pub ifindex: u32,
    /// Established flows.
    pub flows: u64,
    /// Sessions that it accepted.
    pub accepted: u64,
    /// Sessions cut because it could not go on.
    pub cut: u64,
    /// How often its process was seen dead.
    pub deaths: u32,
    /// UDP payload bytes from clients.
    pub up_bytes: u64,
    /// UDP payload bytes from the pod.
    pub down_bytes: u64,
    /// Milliseconds since its last packet; absent: none yet.
    pub heard_ms: Option<u64>,
    /// Milliseconds until its sessions end by a drain; absent: never.
    pub drain_ends_ms: Option<u64>,
}

pub(super) fn run(pin_root: &Path, output: Output) -> Result<(), Error> {
    let reader = Reader::open(pin_root)?;
    let (config, node) = (reader.config()?, reader.node()?);
    let rows = rows(
        &reader.backends()?,
        &reader.flows()?,
        &config,
        &node,
        dataplane::now_ns(),
    );
    print(output, &rows, |rows| table(rows))
}

pub(crate) fn rows(
    backends: &[BackendView],
    flows: &[(abi::FlowKey, abi::Flow)],
    config: &abi::Config,
    node: &abi::Node,
    now_ns: u64,
) -> Vec<BackendRow> {
    backends
        .iter()
        .map(|view| {
            let BackendView {
                slot,
                backend,
                health,
                name,
                traffic,
                probe,
            } = view;
            let ms_since =
                |at_ns: u64| (at_ns != 0).then(|| now_ns.saturating_sub(at_ns) / 1_000_000);
            let deadlines = [backend.drain_deadline_ns, health.drain_deadline_ns];
            let deadline = deadlines.into_iter().filter(|d| *d != 0).min();
            BackendRow {
                name: name.clone(),
                address: address(backend),
                slot: *slot,
                state: BackendState::from_u8(backend.state).as_str(),
                health: seen(health, config, now_ns),
                up: is_up(view, config, now_ns),
                mode: DeliveryMode::from_u8(backend.mode).as_str(),
                mode_reason: mode_reason(backend, node),
                probed_ms: ms_since(probe.answered_ns),
                ifindex: backend.ifindex,
                flows: flows
                    .iter()
                    .filter(|(_, f)| is_live(f) && is_of(f, view))
                    .count() as u64,
                accepted: traffic.accepted,
                cut: traffic.cut,
                deaths: health.deaths,
                up_bytes: traffic.up_bytes,
                down_bytes: traffic.down_bytes,
                heard_ms: ms_since(health.heard_ns),
                drain_ends_ms: deadline.map(|d| d.saturating_sub(now_ns) / 1_000_000),
            }
        })
        .collect()
}

/// What the kernel holds against the backend at the moment, or the operator.
pub(super) fn seen(
    health: &abi::Health,
    config: &abi::Config,
    now_ns: u64,
) -> Option<&'static str> {
    let against = |since: u64| {
        since != 0 && since > health.heard_ns && now_ns.saturating_sub(since) < config.distrust_ns
    };
    if health.drain != 0 {
        Some("drained")
    } else if against(health.unreachable_ns) {
        Some("unreachable")
    } else if against(health.silent_ns) {
        Some("silent")
    } else {
        None
    }
}

/// Whether the backend gets new sessions.
pub(crate) fn is_up(view: &BackendView, config: &abi::Config, now_ns: u64) -> bool {
    BackendState::from_u8(view.backend.state) == BackendState::Serving
        && DeliveryMode::from_u8(view.backend.mode) != DeliveryMode::None
        && seen(&view.health, config, now_ns).is_none()
}

/// As far as the maps tell; the agent's log has the rest.
fn mode_reason(backend: &abi::Backend, node: &abi::Node) -> &'static str {
    let veth_uplink = node
        .uplinks
        .iter()
        .any(|u| u.ifindex != 0 && u.is_veth != 0);
    match DeliveryMode::from_u8(backend.mode) {
        DeliveryMode::None => "no pod port found for its address: is the pod on this node?",
        DeliveryMode::Stack => "its address leads to no veth of this node, or --delivery stack",
        DeliveryMode::Peer if veth_uplink => {
            "veth; the uplink is a veth too, whose unfinished checksums rule out redirect"
        }
        DeliveryMode::Peer => "veth; redirect is not proven, or --delivery peer",
        DeliveryMode::Redirect => "veth; the pod answered a probe by redirect",
    }
}

fn table(rows: &[BackendRow]) -> String {
    if rows.is_empty() {
        return "no backends".to_owned();
    }
    output::table(
        [
            "BACKEND",
            "ADDRESS",
            ">SLOT",
            "STATE",
            "MODE",
            ">FLOWS",
            ">ACCEPTED",
            ">CUT",
            ">UP",
            ">DOWN",
            ">HEARD",
            ">PROBED",
            "WHY THIS MODE",
        ],
        rows.iter().map(|r| {
            [
                r.name.clone(),
                r.address.clone(),
                r.slot.to_string(),
                state_words(r),
                r.mode.to_owned(),
                r.flows.to_string(),
                r.accepted.to_string(),
                r.cut.to_string(),
                bytes(r.up_bytes),
                bytes(r.down_bytes),
                r.heard_ms
                    .map_or_else(dash, |ms| age(Duration::from_millis(ms))),
                r.probed_ms
                    .map_or_else(dash, |ms| age(Duration::from_millis(ms))),
                r.mode_reason.to_owned(),
            ]
        }),
    )
}

fn state_words(row: &BackendRow) -> String {
    match (row.state, row.health, row.drain_ends_ms) {
        ("gone", ..) => "gone".to_owned(),
        (state, None, None) => state.to_owned(),
        (state, Some(health), None) => format!("{state}, {health}"),
        (state, health, Some(0)) => format!("{}, sessions end now", health.unwrap_or(state)),
        (state, health, Some(ms)) => {
            let left = age(Duration::from_millis(ms));
            format!("{}, sessions end in {left}", health.unwrap_or(state))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100_000_000_000;

    fn view(mode: DeliveryMode, health: abi::Health) -> BackendView {
        BackendView {
            slot: 4,
            backend: abi::Backend {
                address: abi::v4_mapped([10, 0, 1, 2]),
                port: 9000,
                protocol: abi::UDP,
                state: BackendState::Serving as u8,
                mode: mode as u8,
                ifindex: 7,
                incarnation: 2,
                ..Default::default()
            },
            health,
            name: "live/pod-a".into(),
            traffic: abi::Traffic::default(),
            probe: abi::Probe::default(),
        }
    }

    fn row(view: BackendView) -> BackendRow {
        let flow = |incarnation| {
            let state = abi::FlowState::Established as u8;
            (
                abi::FlowKey::default(),
                abi::Flow {
                    slot: 4,
                    incarnation,
                    state,
                    ..Default::default()
                },
            )
        };
        let flows = [flow(2), flow(1)];
        let config = abi::Config::default();
        rows(&[view], &flows, &config, &abi::Node::default(), NOW).remove(0)
    }

    #[test]
    fn flows_of_a_slots_earlier_backend_do_not_count() {
        assert_eq!(
            row(view(DeliveryMode::Peer, abi::Health::default())).flows,
            1
        );
    }

    #[test]
    fn local_signals_expire_and_are_taken_back_by_the_pods_own_packets() {
        let second = 1_000_000_000;
        let health = |unreachable_ns, silent_ns, heard_ns| {
            let health = abi::Health {
                unreachable_ns,
                silent_ns,
                heard_ns,
                ..Default::default()
            };
            let row = row(view(DeliveryMode::Peer, health));
            (row.health, row.up)
        };
        assert_eq!(health(0, 0, 0), (None, true));
        assert_eq!(
            health(NOW - second, 0, NOW - 2 * second),
            (Some("unreachable"), false)
        );
        assert_eq!(health(NOW - second, 0, NOW), (None, true), "heard since");
        assert_eq!(health(NOW - 6 * second, 0, 0), (None, true), "long ago");
        assert_eq!(
            health(0, NOW - second, NOW - 2 * second),
            (Some("silent"), false)
        );
    }

    #[test]
    fn a_drain_is_shown_with_its_end() {
        let health = abi::Health {
            drain: 1,
            drain_deadline_ns: NOW + 30_000_000_000,
            ..Default::default()
        };
        let row = row(view(DeliveryMode::Peer, health));
        assert_eq!(
            (row.health, row.up, row.drain_ends_ms),
            (Some("drained"), false, Some(30_000))
        );
        assert!(table(&[row]).contains("drained, sessions end in 30s"));
    }

    #[test]
    fn what_has_gone_is_nothing_else() {
        let health = abi::Health {
            drain: 1,
            drain_deadline_ns: 1,
            ..Default::default()
        };
        let mut view = view(DeliveryMode::Peer, health);
        assert_eq!(state_words(&row(view.clone())), "drained, sessions end now");
        view.backend.state = BackendState::Gone as u8;
        assert_eq!(state_words(&row(view)), "gone");
    }

    #[test]
    fn no_way_to_the_pod_is_down() {
        let row = row(view(DeliveryMode::None, abi::Health::default()));
        assert!(!row.up && row.mode_reason.contains("no pod port"));
    }
}
