//! Which route a caller takes: the longest text that matches, of whatever field.

use crate::{
    abi::{Route, RouteField, SERVICE_ROUTES_MODE, StreamMode, words_from_address},
    srt,
    steer::Node,
};

/// The best match so far. Longer wins; of equally long ones the one that asks for a mode, then the field that comes first.
struct Best {
    route: Route,
    /// One more than the rank, 0: no match yet.
    rank: u32,
}

impl Best {
    #[inline(always)]
    fn offer(&mut self, found: Option<Route>, asks_mode: bool) {
        let Some(route) = found else {
            return;
        };
        let rank = 1 + u32::from(route.length) * 2 + u32::from(asks_mode);
        if rank > self.rank {
            *self = Self { route, rank };
        }
    }

    /// Looks up the key in the workspace; for routes that do not care for the mode, then for those that want `mode`.
    #[inline(always)]
    fn look_up<N: Node>(&mut self, node: &N, mode: StreamMode) {
        let Some(mut space) = node.workspace() else {
            return;
        };
        self.offer(node.route(&space.route), false);
        if mode as u8 != StreamMode::Any as u8 {
            space.route.key.mode = mode as u8;
            self.offer(node.route(&space.route), true);
        }
    }
}

/// The route of the caller in the workspace; index 0 where none matches. Only the fields that the service has routes of are
/// looked at.
#[must_use]
#[inline(always)]
pub fn find_route<N: Node>(node: &N) -> Route {
    let mut best = Best {
        route: Route::default(),
        rank: 0,
    };
    let Some(space) = node.workspace() else {
        return best.route;
    };
    let flags = space.request.flags;
    let mode = if flags & SERVICE_ROUTES_MODE == 0 {
        StreamMode::Any
    } else {
        srt::stream_mode(&space)
    };
    drop(space);
    let mut field = RouteField::StreamId as u8;
    while field <= RouteField::Mode as u8 {
        // [`RouteField::flag`].
        if flags >> (15 + u32::from(field)) & 1 == 1 && node.match_key(field) {
            best.look_up(node, mode);
        }
        field += 1;
    }
    if best.rank == 0 && flags & RouteField::Source.flag() != 0 {
        if let Some(mut space) = node.workspace() {
            let (service, client) = (
                space.request.key.service,
                words_from_address(space.request.key.address),
            );
            srt::match_source(&mut space, service, client, StreamMode::Any);
        }
        best.look_up(node, mode);
    }
    best.route
}

/// Builds the key of `ROUTES` for a field of the Stream ID (a [`RouteField`]'s number). Whether the caller has such a field.
#[inline(always)]
pub fn match_key<N: Node>(node: &N, field: u8) -> bool {
    let Some(mut space) = node.workspace() else {
        return false;
    };
    let field = match field {
        1 => RouteField::StreamId,
        2 => RouteField::Resource,
        3 => RouteField::User,
        4 => RouteField::Host,
        5 => RouteField::Mode,
        _ => return false,
    };
    let service = space.request.key.service;
    srt::match_key(&mut space, service, field, StreamMode::Any)
}
