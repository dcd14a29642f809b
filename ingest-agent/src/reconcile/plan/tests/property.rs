//! Random edits.

use std::collections::{BTreeMap, BTreeSet};

use ingest_common::abi::{BackendState, ServiceKey};
use ipnet::IpNet;
use proptest::prelude::*;

use super::{
    super::{
        super::{Handshake, Match, PoolName, Protocol, Route, Service, Target, What},
        *,
    },
    model::{ip, port, run},
    worlds::desired,
};

/// What `ROUTES` should say of `vip`, as the first route that has the match says it.
fn wanted_routes<'a>(
    desired: &'a Desired,
    service: &Service,
    vip: IpAddr,
) -> Vec<(&'a Match, &'a Route)> {
    let mut seen = BTreeSet::new();
    let there = |name: &str| desired.services.iter().any(|s| s.name == name);
    let stream = service.protocol == Protocol::Srt && service.handshake == Handshake::Stream;
    desired
        .routes
        .iter()
        .filter(|r| stream && r.service == service.name)
        .filter(|r| !matches!(&r.target, Target::Pool(name) if !there(name)))
        .flat_map(|r| r.matches.iter().map(move |m| (m, r)))
        .filter(|(m, _)| match &m.what {
            What::Source(range) => range.addr().is_ipv4() == vip.is_ipv4(),
            _ => true,
        })
        .filter(|(m, _)| seen.insert((*m).clone()))
        .collect()
}

/// The route of this name, if its service has callers that are routed and its pool is there.
fn wanted_route<'a>(desired: &'a Desired, name: &str) -> Option<&'a Route> {
    let route = desired.routes.iter().find(|route| route.name == name)?;
    let service = desired.services.iter().find(|s| s.name == route.service)?;
    let stream = service.protocol == Protocol::Srt && service.handshake == Handshake::Stream;
    let there = |pool: &str| desired.services.iter().any(|s| s.name == pool);
    let leads = !matches!(&route.target, Target::Pool(pool) if !there(pool));
    (stream && leads && !service.vips.is_empty()).then_some(route)
}

fn assert_routes(maps: &Observed, desired: &Desired, before: &Observed) {
    let mut keys = BTreeSet::new();
    for service in &desired.services {
        for vip in &service.vips {
            let key = ServiceKey::new(to_abi(*vip), service.port, abi::UDP);
            let entry = maps.services[&key];
            let wanted = wanted_routes(desired, service, *vip);
            let mut flags = 0;
            for (m, route) in &wanted {
                let key = m.key(entry.id);
                let found = maps.routes[&key];
                assert_eq!(maps.route_names[&found.route], route.name);
                assert_eq!(
                    maps.quotas[&found.route].streams,
                    route.quota.streams.unwrap_or(0)
                );
                assert_eq!(usize::from(found.length), key.text.len());
                match &route.target {
                    Target::Reject => assert_eq!(found.pool, abi::NO_POOL),
                    Target::Pool(name) => assert_eq!(
                        maps.pools[&found.pool],
                        PoolName {
                            service: name.clone(),
                            is_v4: vip.is_ipv4()
                        }
                    ),
                }
                flags |= key.field.flag();
                if m.mode.is_some() {
                    flags |= abi::SERVICE_ROUTES_MODE;
                }
                keys.insert(key);
            }
            assert_eq!(entry.flags >> 16, flags >> 16);
        }
    }
    assert_eq!(maps.routes.keys().cloned().collect::<BTreeSet<_>>(), keys);
    // Who is wanted no more keeps its index until it is idle, and who is wanted as long as it is.
    for (index, name) in &before.route_names {
        match maps.route_names.get(index) {
            Some(now) => assert_eq!(now, name),
            None => assert!(before.idle_routes.contains(index)),
        }
    }
    let named: BTreeSet<&String> = maps.route_names.values().collect();
    assert_eq!(named.len(), maps.route_names.len(), "one index a route");
    for (pool, name) in &maps.pools {
        let service = desired.services.iter().find(|s| s.name == name.service);
        let Some(service) = service else { continue };
        let mut members: Vec<IpAddr> = service
            .backends
            .iter()
            .filter(|b| !b.draining && b.address.is_ipv4() == name.is_v4)
            .flat_map(|b| std::iter::repeat_n(b.address, b.weight.into()))
            .collect();
        let mut found: Vec<IpAddr> = maps.tables[pool]
            .iter()
            .map(|slot| from_abi(&maps.backends[slot].address))
            .collect();
        members.sort_unstable();
        found.sort_unstable();
        let used = services::known(maps).any(|(_, s)| s.pool == *pool && !services::is_closing(*s))
            || maps.routes.values().any(|r| r.pool == *pool);
        assert!(!used || members == found, "pool {pool} of {name:?}");
    }
}

/// Who is there has its thresholds, or where it is wanted no more those it had; nobody else has any.
fn assert_thresholds(maps: &Observed, desired: &Desired, before: &Observed) {
    let mut wanted = BTreeMap::new();
    for service in &desired.services {
        for vip in &service.vips {
            let key = ServiceKey::new(to_abi(*vip), service.port, abi::UDP);
            let index = abi::Thresholds::of_service(maps.services[&key].id);
            wanted.insert(index, service.thresholds);
        }
    }
    for (_, left) in services::known(maps) {
        let index = abi::Thresholds::of_service(left.id);
        let had = before.thresholds.get(&index).copied();
        wanted.entry(index).or_insert(had.unwrap_or_default());
    }
    for (&route, name) in &maps.route_names {
        let index = abi::Thresholds::of_route(route);
        let had = before.thresholds.get(&index).copied();
        let asked = wanted_route(desired, name).map(|route| route.thresholds);
        wanted.insert(index, asked.or(had).unwrap_or_default());
    }
    wanted.retain(|_, own| *own != abi::Thresholds::default());
    assert_eq!(maps.thresholds, wanted);
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
            let is_stream =
                service.protocol == Protocol::Srt && service.handshake == Handshake::Stream;
            let flags = [
                (abi::SERVICE_SRT, service.protocol == Protocol::Srt),
                (
                    abi::SERVICE_SOURCE_RANGES,
                    !service.source_ranges.is_empty(),
                ),
                (abi::SERVICE_STREAM, is_stream),
                (abi::SERVICE_ROUTED_ONLY, is_stream && service.routed_only),
                (abi::SERVICE_AFFINITY, service.affinity),
                (abi::SERVICE_ELSEWHERE, service.elsewhere),
            ];
            let flags = flags.into_iter().filter(|(_, set)| *set);
            assert_eq!(
                entry.flags & 0xffff,
                flags.fold(0, |all, (flag, _)| all | flag)
            );
            assert_eq!(u32::from(maps.vips[&entry.id].flags), entry.flags & 0xffff);
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
    let routed = maps.routes.values().map(|route| route.pool);
    let pools: BTreeSet<u16> = services::known(maps)
        .map(|(_, s)| s.pool)
        .chain(routed.filter(|pool| *pool != abi::NO_POOL))
        .collect();
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
            let unmatched = maps.quotas.keys().filter(|i| !maps.routes.values().any(|r| r.route == **i));
            maps.idle_routes = unmatched.copied().filter(|i| idle >> (i % 16) & 1 == 1).collect();
            let before = maps.clone();
            run(&mut maps, &desired, &ports);
            assert_is_desired(&maps, &before, &desired, &ports);
            assert_routes(&maps, &desired, &before);
            assert_thresholds(&maps, &desired, &before);
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
