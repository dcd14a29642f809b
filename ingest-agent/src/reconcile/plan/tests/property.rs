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
    let backend = (0_u8..12, any::<bool>(), 0_u8..8, 0_u32..3, 0_u32..3);
    let backend = backend.prop_map(|(i, draining, renamed, pod, process)| Backend {
        name: format!("live/pod-{i}{}", if renamed == 0 { "-new" } else { "" }),
        address: if i < 9 {
            ip(&format!("10.0.0.{}", i + 1))
        } else {
            ip(&format!("2001:db8:1::{i}"))
        },
        port: 9000 + u16::from(i % 2),
        draining,
        weight: 1,
        limit: None,
        tenant: abi::Tenant { pod, process },
    });
    let service = (
        any::<[bool; 4]>(),
        prop::collection::vec(backend, 0..10),
        prop::collection::vec(0_u8..5, 0..3),
        any::<[bool; 3]>(),
    );
    prop::collection::vec(service, 0..4).prop_map(|services| {
        let mut names = HashMap::new();
        let services = services.into_iter().enumerate().map(
            |(i, (vips, backends, ranges, [srt, affinity, elsewhere]))| {
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
                    handshake: crate::reconcile::Handshake::Client,
                    routed_only: false,
                    balance: false,
                    source_ranges: ranges
                        .into_iter()
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .map(|r| format!("198.51.{r}.0/24").parse().unwrap())
                        .collect(),
                    affinity,
                    elsewhere,
                    // One pod has one name and one tenant, over all services.
                    backends: backends
                        .into_values()
                        .map(|b| {
                            let (name, tenant) = names
                                .entry((b.address, b.port))
                                .or_insert((b.name.clone(), b.tenant))
                                .clone();
                            Backend { name, tenant, ..b }
                        })
                        .collect(),
                }
            },
        );
        Desired {
            services: services.collect(),
            ..Desired::default()
        }
    })
}

/// What the maps say, in the words of the desired state.
fn assert_is_desired(
    maps: &Observed,
    before: &Observed,
    desired: &Desired,
    ports: &HashMap<IpAddr, PodPort>,
) {
    let mut wanted_keys = BTreeSet::new();
    for service in &desired.services {
        for vip in &service.vips {
            let key = ServiceKey::new(to_abi(*vip), service.port, abi::UDP);
            let entry = maps.services[&key];
            wanted_keys.extend([key, ServiceKey::vip(key.address)]);
            assert_eq!(maps.service_names[&entry.id], service.name);
            assert_eq!(maps.vips[&entry.id].address, key.address);
            let flags = [
                (abi::SERVICE_SRT, service.protocol == Protocol::Srt),
                (
                    abi::SERVICE_SOURCE_RANGES,
                    !service.source_ranges.is_empty(),
                ),
                (abi::SERVICE_AFFINITY, service.affinity),
                (abi::SERVICE_ELSEWHERE, service.elsewhere),
            ];
            let flags = flags.into_iter().filter(|(_, set)| *set);
            assert_eq!(entry.flags, flags.fold(0, |all, (flag, _)| all | flag));
            assert_eq!(u32::from(maps.vips[&entry.id].flags), entry.flags);
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
    // Who is wanted no more is closing until it is idle.
    for (key, old) in services::known(before).filter(|(key, _)| !maps.services.contains_key(key)) {
        assert!(
            services::is_closing(*old) && before.idle_closing.contains(&old.id),
            "{key:?}"
        );
    }
    for (key, entry) in services::known(maps).filter(|(_, s)| services::is_closing(**s)) {
        let old = before.services[key];
        assert!(!wanted_keys.contains(key));
        assert!(!services::is_closing(old) || !before.idle_closing.contains(&old.id));
        assert_eq!((entry.id, entry.pool), (old.id, old.pool));
        assert_eq!(
            maps.service_names[&entry.id],
            before.service_names[&entry.id]
        );
    }
    let closing = services::known(maps).filter(|(_, s)| services::is_closing(**s));
    wanted_keys.extend(closing.flat_map(|(key, _)| [*key, ServiceKey::vip(key.address)]));
    assert_eq!(
        maps.services.keys().copied().collect::<BTreeSet<_>>(),
        wanted_keys
    );
    let ids: BTreeSet<u16> = services::known(maps).map(|(_, s)| s.id).collect();
    assert_eq!(ids.len(), services::known(maps).count(), "one id a service");
    assert_eq!(ids, maps.vips.keys().copied().collect());
    assert!(maps.sources.iter().all(|(id, _)| ids.contains(id)));
    let pools: BTreeSet<u16> = services::known(maps).map(|(_, s)| s.pool).collect();
    assert_eq!(pools, maps.tables.keys().copied().collect());
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
        assert_eq!(maps.backend_names[&slot], wanted.name);
        let old = before
            .backends
            .get(&slot)
            .filter(|old| old.incarnation == entry.incarnation);
        let kept = old.is_some();
        // One that was not looked up stays where it was.
        let stays = old.map_or(0, |old| old.ifindex);
        assert_eq!(
            entry.ifindex,
            ports.get(&wanted.address).map_or(stays, |p| p.ifindex)
        );
        let seen = before
            .tenants
            .get(&slot)
            .filter(|_| kept)
            .copied()
            .unwrap_or_default();
        let known = |desired: u32, seen: u32| if desired == 0 { seen } else { desired };
        let tenant = abi::Tenant {
            pod: known(wanted.tenant.pod, seen.pod),
            process: known(wanted.tenant.process, seen.process),
        };
        assert_eq!(maps.tenants[&slot], tenant);
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
    /// * every step in between is consistent, and who can take sessions before and after can all the while;
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
            let closing = services::known(&maps).filter(|(_, s)| services::is_closing(**s));
            maps.idle_closing = closing.map(|(_, s)| s.id).filter(|id| idle >> (id % 16) & 1 == 1).collect();
            let before = maps.clone();
            run(&mut maps, &desired, &ports);
            assert_is_desired(&maps, &before, &desired, &ports);
            for (slot, entry) in &maps.backends {
                let Some(old) = before.backends.get(slot) else { continue };
                let moved = (old.address, old.port) != (entry.address, entry.port);
                let renamed = before.backend_names.get(slot) != maps.backend_names.get(slot);
                let live = entry.state != BackendState::Free as u8;
                let seen = before.tenants.get(slot).copied().unwrap_or_default();
                let now = maps.tenants.get(slot).copied().unwrap_or_default();
                // What was known and is known otherwise.
                let other = |seen: u32, now: u32| seen != 0 && now != seen;
                let replaced = other(seen.pod, now.pod) || other(seen.process, now.process);
                let new_tenant = live && (moved || renamed || replaced);
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
