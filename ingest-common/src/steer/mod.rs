//! The decisions, pure: [`ingress()`] for packets from clients ([`handshake_of`] and [`carry_out`] for those that begin a session), [`caller_shutdown`] for what tc at the uplink adds to a cut,
//! [`egress()`] for packets from pods. Maps and clock come in through [`Node`], packets through
//! [`crate::packet::Frame`].
//!
//! Read [`ingress()`] first: it is the life of a packet.

mod account;
mod capture;
mod cut;
mod egress;
mod fate;
mod handshake;
mod icmp;
mod ingress;
mod place;
mod police;
mod session;
mod workspace;

use core::ops::DerefMut;

pub use capture::{Copied, capture};
pub use cut::{CallerShutdown, caller_shutdown, listener_shutdown};
pub use egress::{
    COOKIE_AT, Hook, Replay, Reply, Response, Rewrite, SOCKET_ID_AT, egress, egress_of,
};
pub use fate::{accepts, fate};
pub use handshake::{
    Decision, Part, carry_out, check_cookie, check_extensions, decide, find_route, handshake_of,
    is_repeated, match_key, payload_sum, read_stream_id,
};
pub use ingress::{ingress, ingress_of};
pub use place::{place, place_in_doubt};
pub use police::police;
pub use workspace::{Field, MatchKey, Request, Workspace};

use crate::{
    abi::{
        Backend, Capture, Config, DeliveryMode, EndpointKey, Event, Flow, FlowKey, Group, GroupKey,
        Handshake, Health, Load, Quota, ReturnKey, Route, RouteState, RouteStats, Secrets, Service,
        ServiceKey, SourceKey, SourceRate, SourceRateKey, Splice, SpliceStats, StreamId, Traffic,
        Vip,
    },
    packet::Truncated,
    reason::{DropReason, PassReason},
};

/// The node's maps and clock, as the decisions need them. Implemented over BPF maps in the kernel and over
/// collections on the host.
///
/// Nothing held by a `Ref` may be inserted or removed meanwhile: an LRU slot can be given away.
pub trait Node: Sized {
    /// Access to a map value in place.
    type Ref<'a, T: 'a>: DerefMut<Target = T>
    where
        Self: 'a;

    /// Now, `CLOCK_MONOTONIC`, in ns; a few ms coarse.
    fn now(&self) -> u64;
    /// `CONFIG`.
    fn config(&self) -> Config;
    /// `SERVICES`.
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// `VIPS`.
    fn vip(&self, service: u16) -> Option<Self::Ref<'_, Vip>>;
    /// `SOURCES`: whether a range of the service holds the address.
    fn source_allowed(&self, key: &SourceKey) -> bool;
    /// `TABLES`: the slot at a position of a pool's Maglev table.
    fn table(&self, pool: u16, position: u32) -> Option<u16>;
    /// `BACKENDS`. Never written through.
    fn backend(&self, slot: u16) -> Option<Self::Ref<'_, Backend>>;
    /// `HEALTH`.
    fn health(&self, slot: u16) -> Option<Self::Ref<'_, Health>>;
    /// `ENDPOINTS`.
    fn endpoint(&self, key: &EndpointKey) -> Option<u16>;
    /// `FLOWS`.
    fn flow(&self, key: &FlowKey) -> Option<Self::Ref<'_, Flow>>;
    /// `FLOWS` and `RETURNS`: inserts or replaces an accepted flow.
    fn insert_flow(&self, key: &FlowKey, flow: &Flow);
    /// `RETURNS`: the service of an established flow.
    fn returns(&self, key: &ReturnKey) -> Option<u16>;
    /// `HANDSHAKES`.
    fn handshake(&self, key: &ReturnKey) -> Option<Self::Ref<'_, Handshake>>;
    /// `HANDSHAKES`: inserts or replaces.
    fn insert_handshake(&self, key: &ReturnKey, handshake: &Handshake);
    /// `SERVICE_STATS` and `BACKEND_STATS`: adds to both.
    fn count(&self, service: u16, slot: u16, add: impl Fn(&mut Traffic));
    /// `EVENTS`: a zeroed record, filled where it stands.
    fn emit(&self, fill: impl FnOnce(&mut Event));
    /// `PROBES`: the pod answered the agent's probe.
    fn probe_answered(&self, slot: u16, sequence: u32);
    /// `SECRETS`. Never written through.
    fn secrets(&self) -> Option<Self::Ref<'_, Secrets>>;
    /// `SPLICES`.
    fn splice(&self, key: &FlowKey) -> Option<Self::Ref<'_, Splice>>;
    /// `SPLICES`: inserts or replaces.
    fn insert_splice(&self, key: &FlowKey, splice: &Splice);
    /// `STREAM_IDS`: inserts or replaces.
    fn insert_stream_id(&self, key: &FlowKey, stream: &StreamId);
    /// `SOURCE_RATES`.
    fn source_rate(&self, key: &SourceRateKey) -> Option<Self::Ref<'_, SourceRate>>;
    /// `SOURCE_RATES`: inserts or replaces.
    fn insert_source_rate(&self, key: &SourceRateKey, rate: &SourceRate);
    /// `GROUPS`.
    fn group(&self, key: &GroupKey) -> Option<Self::Ref<'_, Group>>;
    /// `GROUPS`: inserts or replaces.
    fn insert_group(&self, key: &GroupKey, group: &Group);
    /// `ROUTES`: the longest prefix of `key`.
    fn route(&self, key: &MatchKey) -> Option<Route>;
    /// `QUOTAS`. Never written through.
    fn quota(&self, route: u16) -> Option<Self::Ref<'_, Quota>>;
    /// `ROUTE_STATES`. Other CPUs write it as well: a lost update lets a packet or two more through.
    fn route_state(&self, route: u16) -> Option<Self::Ref<'_, RouteState>>;
    /// `LOADS`.
    fn load(&self, slot: u16) -> Option<Self::Ref<'_, Load>>;
    /// `LOADS` and `ROUTE_STATES`: a session of the slot, and of the route where it has one, begins.
    fn session_began(&self, slot: u16, route: u16);
    /// The same: it is no longer established. Never below zero.
    fn session_ended(&self, slot: u16, route: u16);
    /// `CAPTURE`.
    fn capture(&self) -> Option<Self::Ref<'_, Capture>>;
    /// `SPLICE_STATS`.
    fn count_splice(&self, service: u16, add: impl Fn(&mut SpliceStats));
    /// `ROUTE_STATS`.
    fn count_route(&self, route: u16, add: impl Fn(&mut RouteStats));
    /// Space to take a CONCLUSION apart in, one per CPU.
    fn workspace(&self) -> Option<Self::Ref<'_, Workspace>>;
    /// Space to build a new flow in, one per CPU: the kernel's stack is too small for it. Zero at first, and nothing else
    /// writes it.
    fn new_flow(&self) -> Option<Self::Ref<'_, Flow>>;
    /// The same for a handshake. Who builds one writes every field.
    fn new_handshake(&self) -> Option<Self::Ref<'_, Handshake>>;
    /// The slot for a new session whose key hashes to `hash`, or [`crate::maglev::EMPTY`]. The kernel overrides it by
    /// a call to the same code as a function that the verifier checks once, not at every call.
    fn place(&self, pool: u16, hash: u32) -> u16 {
        place(self, pool, hash)
    }
    /// [`Self::place`] among backends that were seen dead or silent.
    fn place_in_doubt(&self, pool: u16, hash: u32) -> u16 {
        place_in_doubt(self, pool, hash)
    }
    /// Checks the extensions of the CONCLUSION in the workspace: 0, or the number of a [`DropReason`]. Overridden in the
    /// kernel like `place`, as is what follows.
    fn check_extensions(&self) -> u8 {
        check_extensions(self)
    }
    /// Checks the cookie of the request in the workspace: 0, or the number of a [`DropReason`].
    fn check_cookie(&self) -> u8 {
        check_cookie(self)
    }
    /// The sum of the payload in the workspace, folded.
    fn payload_sum(&self) -> u16 {
        payload_sum(self)
    }
    /// Whether `SPLICES` keeps the very CONCLUSION that is in the workspace.
    fn is_repeated(&self) -> bool {
        is_repeated(self)
    }
    /// Reads the Stream ID of the CONCLUSION in the workspace: 0, or the number of a [`DropReason`].
    fn read_stream_id(&self) -> u8 {
        read_stream_id(self)
    }
    /// Builds the key of `ROUTES` for a field (a [`crate::abi::RouteField`]'s number). Whether the caller has such a
    /// field.
    fn match_key(&self, field: u8) -> bool {
        match_key(self, field)
    }
    /// The route of the caller in the workspace; index 0 where none matches.
    fn find_route(&self) -> Route {
        find_route(self)
    }
    /// Decides about the request in the workspace.
    fn decide(&self, part: Part) -> Decision {
        decide(self, part)
    }
    /// Decide only: count nothing, keep nothing.
    fn dry_run(&self) -> bool;
}

/// What becomes of a packet from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// Number of the [`DropReason`] or [`PassReason`]; 0: none.
    pub reason: u8,
    /// The way into the pod, for `Deliver` and `Cut`.
    pub way: Delivery,
}

/// What to do with a packet from a client.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it to the host. Without a reason: it was not for a VIP.
    Pass = 1,
    /// Drop and count it.
    Drop = 2,
    /// It is rewritten; on to the pod.
    Deliver = 3,
    /// It is now a SHUTDOWN for the pod; tc at the uplink sends the caller's and forwards or drops this one.
    Cut = 4,
    /// It is now our answer to the client: an INDUCTION response, or a rejection, which has a reason.
    Answer = 5,
}

/// A [`Verdict`] in two words.
///
/// Not an enum: its unset payload would travel through registers that the verifier has never seen written. And not the
/// struct: each of the many exits would set each of its fields on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the lowest byte: action, reason, mode, bytes to strip; bits: a flow decided, it is captured; then the route (16 bits, from
    /// bit 40) and the place of the rejection in [`crate::srt::Rejection::ALL`], from 1.
    what: u64,
    /// From the lowest bits: pod port (32), slot (16), service (16).
    way: u64,
}

impl Outcome {
    /// Not for a VIP.
    pub const NOT_OURS: Self = Self {
        what: Action::Pass as u64,
        way: 0,
    };
    /// A caller's handshake: [`handshake_of`] is to be asked. A stack of its own makes room for both.
    const HANDSHAKE: Self = Self { what: 0, way: 0 };

    /// Whether it is for [`handshake_of`] to decide.
    #[must_use]
    #[inline(always)]
    pub const fn is_handshake(self) -> bool {
        self.what == 0
    }

    /// Left to the host although it is for a VIP.
    #[inline(always)]
    const fn pass(reason: PassReason) -> Self {
        Self {
            what: Action::Pass as u64 | (reason as u64) << 8,
            way: 0,
        }
    }

    #[inline(always)]
    const fn drop(reason: DropReason) -> Self {
        Self {
            what: Action::Drop as u64 | (reason as u64) << 8,
            way: 0,
        }
    }

    /// No packet for a pod, but something to tell of it.
    #[inline(always)]
    const fn told(action: Action, reason: u8, route: u16, rejection: u8) -> Self {
        Self {
            what: action as u64
                | (reason as u64) << 8
                | (route as u64) << 40
                | (rejection as u64) << 56,
            way: 0,
        }
    }

    #[inline(always)]
    const fn deliver(way: &Delivery) -> Self {
        Self::on(Action::Deliver, way)
    }

    #[inline(always)]
    const fn cut(way: &Delivery) -> Self {
        Self::on(Action::Cut, way)
    }

    #[inline(always)]
    const fn on(action: Action, way: &Delivery) -> Self {
        Self {
            what: action as u64
                | (way.mode as u64) << 16
                | (way.strip as u64) << 24
                | (way.by_flow as u64) << 32
                | (way.captured as u64) << 33
                | (way.route as u64) << 40
                | (way.rejection as u64) << 56,
            way: way.ifindex as u64 | (way.slot as u64) << 32 | (way.service as u64) << 48,
        }
    }

    /// The verdict.
    #[must_use]
    #[inline(always)]
    pub const fn unpack(self) -> Verdict {
        Verdict {
            action: match self.what as u8 {
                2 => Action::Drop,
                3 => Action::Deliver,
                4 => Action::Cut,
                5 => Action::Answer,
                _ => Action::Pass,
            },
            reason: (self.what >> 8) as u8,
            way: Delivery {
                service: (self.way >> 48) as u16,
                slot: (self.way >> 32) as u16,
                mode: DeliveryMode::from_u8((self.what >> 16) as u8),
                ifindex: self.way as u32,
                strip: (self.what >> 24) as u8,
                by_flow: self.what >> 32 & 1 == 1,
                captured: self.what >> 33 & 1 == 1,
                route: (self.what >> 40) as u16,
                rejection: (self.what >> 56) as u8,
            },
        }
    }
}

/// The way into a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The service.
    pub service: u16,
    /// The backend's slot.
    pub slot: u16,
    /// The mode.
    pub mode: DeliveryMode,
    /// The pod port (0 with `stack`).
    pub ifindex: u32,
    /// Bytes of VLAN tags to remove; the Ethernet addresses already stand behind them.
    pub strip: u8,
    /// An established flow decided, not placement.
    pub by_flow: bool,
    /// Its flow is marked for capture: [`capture`](capture()) is to be asked.
    pub captured: bool,
    /// Index of the route that chose the pool, 0: none did.
    pub route: u16,
    /// Of `Answer`: the place of the rejection in [`crate::srt::Rejection::ALL`], from 1; 0: it is none.
    pub rejection: u8,
}

impl From<Truncated> for DropReason {
    #[inline(always)]
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}
