//! A small node, for the list of all metrics and for tests.

use ingest_common::{
    abi::{self, BackendState, DeliveryMode, Traffic},
    reason::{DropReason, PassReason},
};

use super::KernelState;
use crate::dataplane::{BackendView, LinkView, RouteView, ServiceView};

impl KernelState {
    /// One of everything.
    pub(in crate::metrics) fn sample() -> Self {
        let mut node = abi::Node {
            schema: 1,
            ready_unix_ns: 5_000_000_000,
            ..Default::default()
        };
        node.uplinks[0] = abi::Uplink {
            ifindex: 2,
            xdp_mode: 1,
            ..Default::default()
        };
        node.uplinks[0].name[..4].copy_from_slice(b"eth0");
        node.agent_version[..5].copy_from_slice(b"0.1.0");
        Self {
            services: vec![ServiceView {
                key: abi::ServiceKey::new(abi::v4_mapped([203, 0, 113, 10]), 9000, abi::UDP),
                service: abi::Service {
                    id: 3,
                    ..Default::default()
                },
                name: "live/srt".into(),
                traffic: Traffic {
                    up_packets: 5,
                    accepted: 2,
                    gaps: 4,
                    ..Default::default()
                },
                thresholds: abi::Thresholds::default(),
                splices: abi::SpliceStats {
                    cookies_forged: 8,
                    splices: 6,
                    rejected: [0, 0, 0, 5, 0, 0],
                    unsaid: 3,
                    ..Default::default()
                },
            }],
            backends: vec![BackendView {
                slot: 1,
                backend: abi::Backend {
                    address: abi::v4_mapped([10, 0, 1, 2]),
                    port: 9000,
                    state: BackendState::Serving as u8,
                    mode: DeliveryMode::Peer as u8,
                    ..Default::default()
                },
                health: abi::Health {
                    deaths: 1,
                    ..Default::default()
                },
                name: "live/pod-a".into(),
                traffic: Traffic {
                    down_bytes: 9,
                    ..Default::default()
                },
                probe: abi::Probe::default(),
            }],
            drops: DropReason::ALL.iter().map(|r| (*r, *r as u64)).collect(),
            passes: PassReason::ALL.iter().map(|r| (*r, 0)).collect(),
            routes: vec![
                RouteView {
                    route: 7,
                    name: "live/acme".into(),
                    quota: abi::Quota {
                        streams: 10,
                        in_use: 1,
                        ..Default::default()
                    },
                    active: 4,
                    stats: abi::RouteStats {
                        accepted: 9,
                        refused_streams: 1,
                        over_route_packets: 2,
                        over_stream_bytes: 1316,
                        ..Default::default()
                    },
                    ..Default::default()
                },
                RouteView {
                    route: 8,
                    name: "live/acme".into(),
                    ..Default::default()
                },
            ],
            secret_since_ns: Some(1_000_000_000),
            now_ns: 61_000_000_000,
            max_flows: 1024,
            sources: 2,
            links: vec![LinkView {
                interface: "eth0".into(),
                hook: "xdp",
                ifindex: 2,
                link_id: 5,
                program_id: 6,
            }],
            node,
            ..Default::default()
        }
    }
}
