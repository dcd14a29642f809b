//! Random edits.

use std::collections::{BTreeMap, BTreeSet};

use ingest_common::abi::{BackendState, ServiceKey};
use ipnet::IpNet;
use proptest::prelude::*;

use super::{
    super::{
        super::{Protocol, Service},
        *,
    },
    model::{ip, port, run},
};

/// A small world, so that edits meet each other.
fn desired() -> impl Strategy<Value = Desired> {
    let backend = (0_u8..12, any::<bool>(), 0_u8..8).prop_map(|(i, draining, renamed)| Backend {
        name: format!("live/pod-{i}{}", if renamed == 0 { "-new" } else { "" }),
        address: if i < 9 {
            ip(&format!("10.0.0.{}", i + 1))
        } else {
            ip(&format!("2001:db8:1::{i}"))
        },
        port: 9000 + u16::from(i % 2),
        draining,
        tenant: abi::Tenant::default(),
    });
    let service = (
        any::<[bool; 4]>(),
        prop::collection::vec(backend, 0..10),
        prop::collection::vec(0_u8..5, 0..3),
        any::<bool>(),
    );
    prop::collection::vec(service, 0..4).prop_map(|services| {
        let mut names = HashMap::new();
        let services =
            services
                .into_iter()
                .enumerate()
                .map(|(i, (vips, backends, ranges, srt))| {
                    let all = ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"];
                    let chosen = all
                        .into_iter()
                        .zip(vips)
                        .filter(|(_, chosen)| *chosen)
                        .map(|(v, _)| v);
                    let backends: BTreeMap<_, _> = backends
                        .into_iter()
                        .map(|b| ((b.address, b.port), b))
                        .collect();
                    Service {
                        name: format!("live/{i}"),
                        vips: chosen.map(ip).collect(),
                        port: 9000 + i as u16,
                        protocol: if srt { Protocol::Srt } else { Protocol::Udp },
                        source_ranges: ranges
                            .into_iter()
                            .collect::<BTreeSet<_>>()
                            .into_iter()
                            .map(|r| format!("198.51.{r}.0/24").parse().unwrap())
                            .collect(),
                        affinity: false,
                        elsewhere: false,
                        // One pod has one name, over all services.
                        backends: backends
                            .into_values()
                            .map(|b| {
                                let name = names
                                    .entry((b.address, b.port))
                                    .or_insert(b.name.clone())
                                    .clone();
                                Backend { name, ..b }
                            })
                            .collect(),
                    }
                });
        Desired {
            services: services.collect(),
        }
    })
}

/// What the maps say, in the words of the desired state.
fn assert_is_desired(maps: &Observed, desired: &Desired, ports: &HashMap<IpAddr, PodPort>) {
    let mut wanted_keys = BTreeSet::new();
    for service in &desired.services {
        for vip in &service.vips {
            let key = ServiceKey::new(to_abi(*vip), service.port, abi::UDP);
            let entry = maps.services[&key];
            wanted_keys.extend([key, ServiceKey::vip(key.address)]);
            assert_eq!(maps.service_names[&entry.id], service.name);
            assert_eq!(maps.vips[&entry.id].address, key.address);
            assert_eq!(
                entry.flags & abi::SERVICE_SRT != 0,
                service.protocol == Protocol::Srt
            );
            let sources: BTreeSet<IpNet> = maps
                .sources
                .iter()
                .filter(|(id, _)| *id == entry.id)
                .map(|(_, r)| *r)
                .collect();
            let ranges = service
                .source_ranges
                .iter()
                .copied()
                .filter(|_| vip.is_ipv4())
                .collect();
            assert_eq!(sources, ranges);
            let members: BTreeSet<IpAddr> = maps.tables[&entry.pool]
                .iter()
                .map(|slot| from_abi(&maps.backends[slot].address))
                .collect();
            let serving = service.backends.iter().filter(|b| !b.draining);
            let serving = serving
                .map(|b| b.address)
                .filter(|a| a.is_ipv4() == vip.is_ipv4());
            assert_eq!(members, serving.collect());
        }
    }
    assert_eq!(
        maps.services.keys().copied().collect::<BTreeSet<_>>(),
        wanted_keys
    );
    let backends: BTreeMap<_, _> = desired
        .services
        .iter()
        .flat_map(|s| &s.backends)
        .map(|b| (endpoint(b), b))
        .collect();
    for (key, wanted) in &backends {
        let slot = maps.endpoints[key];
        let entry = maps.backends[&slot];
        let serving = desired
            .services
            .iter()
            .flat_map(|s| &s.backends)
            .any(|b| endpoint(b) == *key && !b.draining);
        let state = if serving {
            BackendState::Serving
        } else {
            BackendState::Draining
        };
        assert_eq!(
            (entry.address, entry.port, entry.state),
            (key.address, key.port, state as u8)
        );
        assert_eq!(
            entry.ifindex,
            ports.get(&wanted.address).map_or(0, |p| p.ifindex)
        );
        assert_eq!(maps.backend_names[&slot], wanted.name);
    }
    for (slot, entry) in &maps.backends {
        let key = EndpointKey::new(entry.address, entry.port, entry.protocol);
        let left =
            entry.state == BackendState::Gone as u8 || entry.state == BackendState::Free as u8;
        assert_eq!(
            left,
            !backends.contains_key(&key) || maps.endpoints.get(&key) != Some(slot)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Random edits, one after the other:
    /// * every plan gives the desired state, and a second one nothing;
    /// * every step in between is consistent;
    /// * who stays keeps slot, incarnation and service id; a slot's new tenant gets another incarnation.
    #[test]
    fn applied_plans_give_the_desired_state(
        edits in prop::collection::vec((desired(), any::<[bool; 12]>(), any::<u16>()), 1..6),
    ) {
        let mut maps = Observed::default();
        for (desired, with_port, idle) in edits {
            let ports = (0..9_u32)
                .filter(|i| with_port[*i as usize])
                .map(|i| (ip(&format!("10.0.0.{}", i + 1)), port(i + 100)))
                .collect();
            let gone = maps.backends.iter().filter(|(_, b)| b.state == BackendState::Gone as u8);
            maps.idle_gone = gone.map(|(s, _)| *s).filter(|s| idle >> (s % 16) & 1 == 1).collect();
            let before = maps.clone();
            run(&mut maps, &desired, &ports);
            assert_is_desired(&maps, &desired, &ports);
            for (slot, entry) in &maps.backends {
                let Some(old) = before.backends.get(slot) else { continue };
                let moved = (old.address, old.port) != (entry.address, entry.port);
                let renamed = before.backend_names.get(slot) != maps.backend_names.get(slot);
                let live = entry.state != BackendState::Free as u8;
                let new_tenant = live && (moved || renamed);
                prop_assert_eq!(entry.incarnation != old.incarnation, new_tenant);
                prop_assert!(entry.incarnation >= old.incarnation);
            }
            for (key, service) in services::known(&maps) {
                if let Some(old) = before.services.get(key) {
                    prop_assert_eq!(service.id, old.id);
                }
            }
        }
    }
}
