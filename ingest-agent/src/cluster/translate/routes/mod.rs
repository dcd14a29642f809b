//! StreamRoutes: whose callers they are for, which matches are theirs, where these lead, and what is said of that.
//!
//! Two steps around `fit`. [`judge`] looks at objects that every node sees alike and says what is accepted and
//! resolved, so that all agents say the same. `program` turns that into routes of the services that this node has.
//! `spec` reads one rule.

mod program;
mod spec;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ingest_common::abi::Thresholds;
use k8s_openapi::{
    api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Condition as Written,
};

use super::{ObjectName, claim, ports, services};
use crate::{
    cluster::stream_route::{RouteRule, ServicePortRef, StreamRoute},
    reconcile::{Match, Protocol, Quota, Target},
};

/// What is to be said of a route.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct RouteState {
    pub(in crate::cluster) generation: i64,
    /// The version that all this was derived from.
    pub(in crate::cluster) version: String,
    pub(in crate::cluster) accepted: Verdict,
    pub(in crate::cluster) resolved: Verdict,
    /// The names of what it has become in the desired state, or why it has not.
    pub(in crate::cluster) becomes: Result<BTreeSet<String>, Verdict>,
    /// What its status says.
    pub(in crate::cluster) written: Vec<Written>,
}

/// A condition without its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) struct Verdict {
    pub(in crate::cluster) holds: bool,
    pub(in crate::cluster) reason: &'static str,
    pub(in crate::cluster) message: String,
}

impl Verdict {
    fn yes(reason: &'static str, message: String) -> Self {
        Self {
            holds: true,
            reason,
            message,
        }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self {
            holds: false,
            reason,
            message,
        }
    }
}

/// All Services by name.
pub(super) type Services<'a> = BTreeMap<(&'a str, &'a str), &'a Service>;

/// The routes, judged, in order of precedence.
pub(super) struct Judged<'a>(Vec<JudgedRoute<'a>>);

struct JudgedRoute<'a> {
    name: ObjectName,
    route: &'a StreamRoute,
    accepted: Verdict,
    resolved: Verdict,
    rules: Vec<JudgedRule>,
}

struct JudgedRule {
    /// Name of the services' routes, but for what tells services apart.
    name: String,
    /// By the full name of a parent's port, the matches that nobody had before. In the order of the parents.
    matches: Vec<(String, Vec<Match>)>,
    /// None: what it leads to is not there.
    target: Option<Target>,
    quota: Quota,
    thresholds: Thresholds,
}

/// The Services that the route's rules lead to.
pub(in crate::cluster) fn backends(route: &StreamRoute) -> impl Iterator<Item = ObjectName> {
    let namespace = route.metadata.namespace.clone().unwrap_or_default();
    let references = route
        .spec
        .rules
        .iter()
        .filter_map(|r| r.backend_ref.as_ref());
    references.map(move |reference| (namespace.clone(), reference.name.clone()))
}

/// Older is less. The same on every node.
fn age(route: &StreamRoute) -> impl Ord {
    let metadata = &route.metadata;
    let created = metadata.creation_timestamp.as_ref().map(|t| t.0);
    (
        created.is_none(),
        created,
        metadata.namespace.clone(),
        metadata.name.clone(),
    )
}

/// Says what of `routes` counts.
pub(super) fn judge<'a>(routes: &'a [Arc<StreamRoute>], services: &Services<'a>) -> Judged<'a> {
    let mut routes: Vec<&StreamRoute> = routes.iter().map(Arc::as_ref).collect();
    routes.sort_by_cached_key(|route| age(route));
    let mut taken = HashMap::new();
    let judged = routes
        .into_iter()
        .map(|route| one(route, services, &mut taken));
    Judged(judged.collect())
}

/// Who has a match of a parent's port.
type Taken = HashMap<(String, Match), String>;

fn one<'a>(route: &'a StreamRoute, services: &Services<'a>, taken: &mut Taken) -> JudgedRoute<'a> {
    let metadata = &route.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let full_name = format!("{namespace}/{name}");
    let (resolved, targets) = resolve(route, namespace, services);
    let mut judged = JudgedRoute {
        name: (namespace.to_owned(), name.to_owned()),
        route,
        accepted: Verdict::default(),
        resolved,
        rules: Vec::new(),
    };
    let read = |rule: &RouteRule| {
        Ok((
            spec::matches(rule)?,
            spec::quota(rule)?,
            spec::thresholds(rule)?,
        ))
    };
    let rules = route.spec.rules.iter().map(read);
    let rules = match rules.collect::<Result<Vec<_>, spec::SpecError>>() {
        Ok(rules) => rules,
        Err(error) => {
            judged.accepted = Verdict::no("Invalid", format!("{error}."));
            return judged;
        }
    };
    let parents = match parents(&route.spec.parent_refs, namespace, services) {
        Ok(parents) => parents,
        Err(why) => {
            judged.accepted = Verdict::no("NoMatchingParent", why);
            return judged;
        }
    };
    let several = rules.len() > 1;
    let mut lost = BTreeMap::new();
    let mut kept = 0;
    for (index, ((matches, quota, thresholds), target)) in
        rules.into_iter().zip(targets).enumerate()
    {
        let rule = if several {
            format!("{full_name}/{index}")
        } else {
            full_name.clone()
        };
        let of_parent = |parent: &String| {
            let mut own = Vec::new();
            for wanted in &matches {
                let key = (parent.clone(), wanted.clone());
                let winner = taken.entry(key).or_insert_with(|| rule.clone());
                if *winner == rule {
                    own.push(wanted.clone());
                } else {
                    *lost.entry(winner.clone()).or_insert(0_usize) += 1;
                }
            }
            (parent.clone(), own)
        };
        let matches: Vec<_> = parents.iter().map(of_parent).collect();
        kept += matches.iter().map(|(_, own)| own.len()).sum::<usize>();
        judged.rules.push(JudgedRule {
            name: rule,
            matches,
            target,
            quota,
            thresholds,
        });
    }
    let lost = lost
        .iter()
        .map(|(winner, count)| format!("{count} of {winner}"));
    let lost = lost.collect::<Vec<_>>().join(", ");
    judged.accepted = if kept == 0 {
        let why = format!("All matches belong to older routes or earlier rules: {lost}.");
        Verdict::no("Conflict", why)
    } else if lost.is_empty() {
        Verdict::yes("Accepted", format!("It is for {}.", parents.join(", ")))
    } else {
        let why = format!("But for matches that belong to older routes or earlier rules: {lost}.");
        Verdict::yes("Accepted", why)
    };
    judged
}

/// The full names of the parents' ports, in the order of the references; where there are none, why.
fn parents(
    references: &[ServicePortRef],
    namespace: &str,
    services: &Services<'_>,
) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut lacks = Vec::new();
    for ServicePortRef { name, port } in references {
        let Some(service) = services.get(&(namespace, name.as_str())) else {
            lacks.push(format!("there is no Service {name} in this namespace"));
            continue;
        };
        if !claim::is_claimed(service) {
            lacks.push(format!("Service {name} does not ask to be steered"));
            continue;
        }
        if !services::answers_handshakes(service) {
            lacks.push(format!(
                "Service {name} leaves handshakes to its pods (annotation {})",
                crate::cluster::HANDSHAKE_ANNOTATION
            ));
            continue;
        }
        let steered = ports::steered(service, &mut BTreeSet::new());
        let steered = steered.iter().filter(|steered| {
            steered.protocol == Protocol::Srt
                && port.is_none_or(|port| port == i32::from(steered.number))
        });
        let before = found.len();
        found.extend(steered.map(|steered| services::full_name(service, steered.name)));
        if found.len() == before {
            lacks.push(match port {
                Some(port) => format!("Service {name} has no SRT port {port}"),
                None => format!("Service {name} has no SRT port"),
            });
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|name| seen.insert(name.clone()));
    if found.is_empty() {
        return Err(format!("No parent can be had: {}.", lacks.join("; ")));
    }
    Ok(found)
}

/// Where the rules lead, by rule; none where that is not there, which is told.
fn resolve(
    route: &StreamRoute,
    namespace: &str,
    services: &Services<'_>,
) -> (Verdict, Vec<Option<Target>>) {
    let mut lacks: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut targets = Vec::new();
    for rule in &route.spec.rules {
        targets.push(match &rule.backend_ref {
            None => Some(Target::Reject),
            Some(reference) => match pool(reference, namespace, services) {
                Ok(pool) => Some(Target::Pool(pool)),
                Err((reason, why)) => {
                    lacks.entry(reason).or_default().push(why);
                    None
                }
            },
        });
    }
    let verdict = match lacks.iter().next() {
        None => Verdict::yes("ResolvedRefs", "All references lead somewhere.".to_owned()),
        Some((reason, _)) => {
            let mut all: Vec<_> = lacks.values().flatten().cloned().collect();
            all.dedup();
            let why = format!(
                "{}; what matches there is treated as unmatched.",
                all.join("; ")
            );
            Verdict::no(reason, why)
        }
    };
    (verdict, targets)
}

/// The full name of the port that `reference` means.
fn pool(
    reference: &ServicePortRef,
    namespace: &str,
    services: &Services<'_>,
) -> Result<String, (&'static str, String)> {
    let name = reference.name.as_str();
    let Some(service) = services.get(&(namespace, name)) else {
        let why = format!("there is no Service {name} in this namespace");
        return Err(("BackendNotFound", why));
    };
    if services::is_external_name(service) {
        let why = format!("Service {name} is of type ExternalName and has no endpoints");
        return Err(("BackendNotFound", why));
    }
    match ports::of_pool(service, reference.port) {
        Some(port) => Ok(services::full_name(service, port)),
        None => Err((
            "NoSuchPort",
            match reference.port {
                Some(port) => format!("Service {name} has no UDP port {port}"),
                None => format!("Service {name} has not exactly one SRT port: say which"),
            },
        )),
    }
}
