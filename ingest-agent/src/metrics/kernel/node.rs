//! The node: what is attached, how full the maps are, who runs.

use std::{collections::BTreeSet, fmt};

use ingest_common::abi;
use prometheus_client::encoding::DescriptorEncoder;

use super::{KernelState, gauge, set};
use crate::{commands, output::padded};

/// Programs of an uplink.
const HOOKS: [&str; 3] = ["xdp", "tc_in", "tc_out"];

impl KernelState {
    pub(super) fn encode_node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut capacity = gauge(encoder, "flow_table_capacity", "Flows that fit")?;
        set(&mut capacity, &[], self.max_flows.into())?;
        let mut ready = gauge(
            encoder,
            "ready_timestamp_seconds",
            "When the configuration was first complete in the maps; 0: not yet",
        )?;
        set(
            &mut ready,
            &[],
            (self.node.ready_unix_ns / 1_000_000_000).cast_signed(),
        )?;
        let uplinks: Vec<_> = self
            .node
            .uplinks
            .iter()
            .filter(|u| u.ifindex != 0)
            .map(commands::uplink)
            .collect();
        let mut native = gauge(
            encoder,
            "xdp_native",
            "Whether XDP runs in the uplink's driver",
        )?;
        for uplink in &uplinks {
            let is_native = i64::from(uplink.xdp_mode == "native");
            set(&mut native, &[("uplink", &uplink.name)], is_native)?;
        }
        let (schema, version) = (
            self.node.schema.to_string(),
            padded(&self.node.agent_version),
        );
        let help = "The loaded programs, by uplink: 1";
        let mut info = gauge(encoder, "dataplane_info", help)?;
        for uplink in &uplinks {
            let labels = [
                ("schema", schema.as_str()),
                ("xdp_mode", uplink.xdp_mode),
                ("uplink", &uplink.name),
                ("version", &version),
            ];
            set(&mut info, &labels, 1)?;
        }
        let help = "Whether the program is attached to the uplink; 0: it was taken off, or the interface is another";
        let mut link_up = gauge(encoder, "link_up", help)?;
        for uplink in &uplinks {
            for hook in HOOKS {
                let is_up = self.links.iter().any(|link| {
                    link.hook == hook && link.ifindex == uplink.ifindex && link.program_id != 0
                });
                let labels = [("interface", uplink.name.as_str()), ("hook", hook)];
                set(&mut link_up, &labels, i64::from(is_up))?;
            }
        }
        Ok(())
    }

    pub(super) fn encode_maps(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let of_services = self.services.iter().map(|view| view.service.pool);
        let of_routes = self.routes.iter().flat_map(|view| view.pools.values());
        let pools: BTreeSet<u16> = of_services
            .chain(of_routes.copied())
            .filter(|pool| *pool != abi::NO_POOL)
            .collect();
        let matches = self.routes.iter().map(|view| view.matches).sum();
        let maps = [
            ("services", self.services.len(), abi::MAX_SERVICES),
            ("backends", self.backends.len(), abi::MAX_BACKENDS),
            ("pools", pools.len(), abi::MAX_POOLS),
            ("routes", self.routes.len(), abi::MAX_ROUTES),
            ("matches", matches, abi::MAX_MATCHES),
            ("sources", self.sources, abi::MAX_SOURCES),
            ("flows", self.flow_entries, self.max_flows as usize),
        ];
        let help = "What the maps hold; a full map refuses what is new, but for `flows`, which forgets the oldest";
        let mut entries = gauge(encoder, "map_entries", help)?;
        for (map, count, _) in maps {
            let count = count.try_into().unwrap_or(i64::MAX);
            set(&mut entries, &[("map", map)], count)?;
        }
        let help = "What fits into the maps";
        let mut capacity = gauge(encoder, "map_capacity", help)?;
        for (map, _, count) in maps {
            let count = count.try_into().unwrap_or(i64::MAX);
            set(&mut capacity, &[("map", map)], count)?;
        }
        Ok(())
    }
}
