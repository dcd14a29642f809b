//! Which stream a CONCLUSION is for: its Stream ID finds a route, the route a pool, and the pool a backend.

use super::{
    admit,
    decision::{Decision, Step},
    keep, place,
};
use crate::{
    abi::{FlowKey, FlowState, NO_POOL, Route, SERVICE_AFFINITY, SERVICE_ROUTED_ONLY},
    maglev,
    reason::DropReason,
    srt::Rejection,
    steer::{Node, fate},
};

#[inline(always)]
pub(super) fn decide<N: Node>(node: &N) -> Result<Decision, Decision> {
    let bad = node.read_stream_id();
    if bad == DropReason::SrtStreamId as u8 {
        let reason = DropReason::SrtStreamId;
        return Err(Decision::reject(Rejection::BadRequest, reason, 0));
    }
    if bad != 0 {
        return Err(Decision::drop_by(bad));
    }
    let route = route(node)?;
    let (key, caller_id, charged) = match node.workspace() {
        Some(space) => (
            space.request.key,
            space.request.caller_id,
            space.request.charged,
        ),
        None => return Err(Decision::drop(DropReason::Undeliverable)),
    };
    let now = node.now();
    let established = established(node, &key, caller_id, route.route, now);
    if established == maglev::EMPTY && charged == 0 {
        admit::session(node, route.route)?;
    }
    place(node, &route, established, now)
}

/// The route, with index 0 and the service's own pool where none matches.
#[inline(always)]
fn route<N: Node>(node: &N) -> Result<Route, Decision> {
    let mut route = node.find_route();
    if route.route == 0 {
        let Some(space) = node.workspace() else {
            return Err(Decision::drop(DropReason::Undeliverable));
        };
        if space.request.flags & SERVICE_ROUTED_ONLY != 0 {
            let reason = DropReason::NoRoute;
            return Err(Decision::reject(Rejection::NotFound, reason, 0));
        }
        route.pool = space.request.pool;
    } else if route.pool == NO_POOL {
        node.count_route(route.route, |stats| stats.forbidden += 1);
        let reason = DropReason::Forbidden;
        return Err(Decision::reject(Rejection::Forbidden, reason, route.route));
    }
    Ok(route)
}

/// The slot of a session of this very caller on this very route: what was kept of its CONCLUSION is gone, but it need not
/// be placed again. Else [`maglev::EMPTY`].
#[inline(always)]
fn established<N: Node>(node: &N, key: &FlowKey, caller_id: u32, route: u16, now: u64) -> u16 {
    let Some(flow) = node.flow(key) else {
        return maglev::EMPTY;
    };
    let slot = flow.slot;
    if flow.caller_id != caller_id
        || flow.route != route
        || flow.state != FlowState::Established as u8
    {
        return maglev::EMPTY;
    }
    let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) else {
        return maglev::EMPTY;
    };
    if fate::fate(&flow, &backend, &health, now) == 0 {
        slot
    } else {
        maglev::EMPTY
    }
}

/// Chooses a backend, and keeps the CONCLUSION for it.
#[inline(always)]
fn place<N: Node>(
    node: &N,
    route: &Route,
    established: u16,
    now: u64,
) -> Result<Decision, Decision> {
    let Some(mut space) = node.workspace() else {
        return Err(Decision::drop(DropReason::Undeliverable));
    };
    if space.request.flags & SERVICE_AFFINITY != 0 || space.splice.stream.length == 0 {
        space.splice.stream.key = maglev::hash_client(&space.request.key.address, 0);
    }
    let hash = space.splice.stream.key;
    drop(space);
    let group = keep::group_key(node, route);
    let mut slot = established;
    if slot == maglev::EMPTY
        && let Some(group) = &group
    {
        slot = place::of_group(node, group, now);
    }
    if slot == maglev::EMPTY {
        slot = place::in_pool(node, route.pool, hash);
    }
    if slot == maglev::EMPTY {
        let reason = DropReason::NoBackend;
        return Err(Decision::reject(
            Rejection::Unavailable,
            reason,
            route.route,
        ));
    }
    if !node.dry_run() {
        let Some(incarnation) = node.backend(slot).map(|backend| backend.incarnation) else {
            return Err(Decision::drop(DropReason::Undeliverable));
        };
        if let Some(group) = &group {
            place::note_group(node, group, slot, incarnation, now);
        }
        keep::keep(node, slot, incarnation, route.route);
        keep::note(node, slot, route.route, now);
    }
    let by_flow = established != maglev::EMPTY;
    Ok(Decision::on(Step::Cut, slot, route.route, by_flow))
}
