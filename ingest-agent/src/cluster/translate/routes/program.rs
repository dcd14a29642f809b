//! From what was judged to pools and routes of this node, as far as the maps hold them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ingest_common::abi;

use super::{
    super::{ObjectName, hash, services::node_port_name},
    Judged, JudgedRoute, RouteState, Verdict,
};
use crate::reconcile::{Route, Service, Target};

/// What `fit` has let through.
type ByName<'a> = HashMap<&'a str, &'a Service>;

impl Judged<'_> {
    /// The pools that rules lead to: by full name, the full names of the ports whose callers may go there.
    pub(in super::super) fn pools(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut pools: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let accepted = self.0.iter().filter(|route| route.accepted.holds);
        for rule in accepted.flat_map(|route| &route.rules) {
            if let Some(Target::Pool(pool)) = &rule.target {
                let parents = rule.matches.iter().filter(|(_, own)| !own.is_empty());
                let parents = parents.map(|(parent, _)| parent.clone());
                pools.entry(pool.clone()).or_default().extend(parents);
            }
        }
        pools
    }

    /// The routes of `services`, as far as they fit, oldest first, and what is to be said of them all.
    pub(in super::super) fn program(
        self,
        services: &[Service],
    ) -> (Vec<Route>, BTreeMap<ObjectName, RouteState>) {
        let services: ByName<'_> = services.iter().map(|s| (s.name.as_str(), s)).collect();
        let services = &services;
        let mut room = Room::default();
        let mut routes = Vec::new();
        let mut states = BTreeMap::new();
        for judged in self.0 {
            let becomes = judged.becomes(services).and_then(|own| {
                room.take(&own, services)?;
                let names = own.iter().map(|route| route.name.clone()).collect();
                routes.extend(own);
                Ok(names)
            });
            let metadata = &judged.route.metadata;
            let state = RouteState {
                generation: metadata.generation.unwrap_or_default(),
                version: metadata.resource_version.clone().unwrap_or_default(),
                accepted: judged.accepted,
                resolved: judged.resolved,
                becomes,
                written: judged
                    .route
                    .status
                    .as_ref()
                    .map(|status| status.conditions.clone())
                    .unwrap_or_default(),
            };
            states.insert(judged.name, state);
        }
        (routes, states)
    }
}

impl JudgedRoute<'_> {
    fn becomes(&self, services: &ByName<'_>) -> Result<Vec<Route>, Verdict> {
        if !self.accepted.holds {
            let why = "It is not accepted.".to_owned();
            return Err(Verdict::no("NotAccepted", why));
        }
        let mut routes = Vec::new();
        for rule in &self.rules {
            let Some(target) = &rule.target else {
                continue;
            };
            let parents = rule.matches.iter().filter(|(_, own)| !own.is_empty());
            let here = parents.flat_map(|(parent, own)| {
                on_node(parent, services).map(move |service| (service, own))
            });
            for (index, (service, matches)) in here.enumerate() {
                if let Target::Pool(pool) = target
                    && !services.contains_key(pool.as_str())
                {
                    let why = format!("{pool} does not fit into the maps of a node.");
                    return Err(Verdict::no("LeftOut", why));
                }
                let name = if index == 0 {
                    rule.name.clone()
                } else {
                    let part = service.name.split_once('/').map_or("", |(_, part)| part);
                    format!("{}@{part}", rule.name)
                };
                routes.push(Route {
                    name: bounded(name),
                    service: service.name.clone(),
                    matches: matches.clone(),
                    target: target.clone(),
                    quota: rule.quota,
                    thresholds: rule.thresholds,
                });
            }
        }
        if routes.is_empty() {
            let why = if self.resolved.holds {
                "Its Services have no address that is steered."
            } else {
                "What it leads to is not there."
            };
            return Err(Verdict::no("Pending", why.to_owned()));
        }
        Ok(routes)
    }
}

/// The services that a Service's port has become, the one of its VIPs first.
fn on_node<'a>(port: &str, services: &ByName<'a>) -> impl Iterator<Item = &'a Service> {
    let steered = |name: &str| {
        let found = services.get(name).copied();
        found.filter(|service| !service.vips.is_empty())
    };
    let all = [steered(port), steered(&node_port_name(port))];
    all.into_iter().flatten()
}

/// The maps hold no longer names; what is cut off is told apart by its hash.
fn bounded(name: String) -> String {
    const LONGEST: usize = size_of::<abi::Name>();
    if name.len() <= LONGEST {
        return name;
    }
    let mark = format!("~{:08x}", hash::stable(&name));
    let end = (0..=LONGEST - mark.len())
        .rev()
        .find(|end| name.is_char_boundary(*end));
    format!("{}{mark}", &name[..end.unwrap_or_default()])
}

/// What the maps have taken so far.
#[derive(Default)]
struct Room {
    routes: usize,
    matches: usize,
}

impl Room {
    /// Takes all of a route, or nothing.
    fn take(&mut self, routes: &[Route], services: &ByName<'_>) -> Result<(), Verdict> {
        let vips = |name: &str| services.get(name).map_or(0, |service| service.vips.len());
        let count = self.routes + routes.len();
        let keys = routes.iter().map(|r| r.matches.len() * vips(&r.service));
        let matches = self.matches + keys.sum::<usize>();
        for (what, count, limit) in [
            // Index 0 is no route.
            ("routes", count, abi::MAX_ROUTES - 1),
            ("matches", matches, abi::MAX_MATCHES),
        ] {
            if count > limit {
                let why = format!("More {what} than the {limit} that fit.");
                return Err(Verdict::no("LeftOut", why));
            }
        }
        (self.routes, self.matches) = (count, matches);
        Ok(())
    }
}
