//! What must hold of a pod's INDUCTION response to a service whose handshakes are answered here, whatever the maps hold: the
//! client never hears of it, and what the pod gets back is what was kept.

use ingest_common::{
    abi::{DeliveryMode, SERVICE_CLOSING, SERVICE_STREAM, Splice, StreamId},
    packet::COPY_MAX,
    reason::DropReason,
};
use ingest_tests::fixtures::{
    given::{PORT_A, SLOT_A, SLOT_B, SRT, flow_key, return_key},
    model::World,
    packet::{CLIENT, Family, POD_A, assert_checksums, udp},
    plane::{At, Dataplane, Host, Verdict},
    srt::{self, CALLER_ID, COOKIE},
};
use proptest::prelude::*;

/// What is kept: bytes, its length, whether the slot, the incarnation and the socket are the response's.
type Kept = (Vec<u8>, u16, [bool; 3]);

fn kept() -> impl Strategy<Value = Option<Kept>> {
    let length = prop_oneof![
        4 => (16..=256_u16).prop_map(|words| 4 * words),
        1 => any::<u16>(),
    ];
    let mostly = || prop::bool::weighted(0.9);
    let kept = (
        prop::collection::vec(any::<u8>(), COPY_MAX),
        length,
        [mostly(), mostly(), mostly()],
    );
    prop::option::weighted(0.9, kept)
}

/// Whether the handshake is noted, the response is its socket's, and the pod's cookie known; whether there is a flow, and
/// the service closes.
type State = [bool; 5];

fn state() -> impl Strategy<Value = State> {
    [0.9, 0.9, 0.1, 0.2, 0.1].map(prop::bool::weighted)
}

fn world(family: Family, kept: Option<&Kept>, state: State, now: u64) -> World {
    let [noted, own_socket, answered, flow, closing] = state;
    let mut world = World::node(family, now);
    world.flag(SERVICE_STREAM | if closing { SERVICE_CLOSING } else { 0 });
    if flow {
        world.session(family, CLIENT, |_, _| {});
    }
    if noted {
        world.asked(family, CLIENT, 5);
        let key = return_key(family, CLIENT, SLOT_A);
        if let Some(handshake) = world.handshakes.get_mut().get_mut(&key) {
            handshake.caller_id += u32::from(!own_socket);
            handshake.pod_cookie = u32::from(answered);
        }
    }
    if let Some((bytes, length, [slot, incarnation, socket])) = kept {
        let mut splice = Splice {
            slot: if *slot { SLOT_A } else { SLOT_B },
            length: *length,
            incarnation: 7 + u32::from(!incarnation),
            stream: StreamId {
                caller_id: CALLER_ID + u32::from(!socket),
                ..StreamId::default()
            },
            ..Splice::default()
        };
        splice.bytes.copy_from_slice(bytes);
        let key = flow_key(family, CLIENT, SRT);
        world.splices.get_mut().insert(key, splice);
    }
    world
}

proptest! {
    #[test]
    fn the_client_never_hears_of_it(
        v6 in any::<bool>(),
        stack in any::<bool>(),
        kept in kept(),
        state in state(),
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let mut host = Host::new();
        let mut world = world(family, kept.as_ref(), state, host.now());
        let mut at = At::PodPort(PORT_A);
        if stack {
            world.deliver_by(DeliveryMode::Stack);
            at = At::UplinkOut;
        }
        host.load(&world);
        let response = srt::induction_answer().bytes();
        let frame = udp(family, POD_A, CLIENT, &response).bytes();
        let outcome = host.run(at, &frame);

        let [noted, own_socket, answered, flow, closing] = state;
        let sound = kept.filter(|(_, length, same)| {
            (64..=1024).contains(length) && length % 4 == 0 && same.iter().all(|same| *same)
        });
        let waiting = noted && own_socket && !answered && !closing;
        match sound.filter(|_| waiting) {
            Some((mut bytes, length, _)) => {
                prop_assert_eq!(outcome.verdict, Verdict::TcRedirect);
                bytes.truncate(length.into());
                bytes[44..48].copy_from_slice(&COOKIE.to_be_bytes());
                prop_assert_eq!(&outcome.frame[frame.len() - 64..], &bytes);
                assert_checksums(&outcome.frame);
            }
            None if noted || flow => {
                prop_assert_eq!(outcome.verdict, Verdict::TcShot);
                let drops = host.world().drops;
                prop_assert_eq!(drops.borrow()[&(DropReason::InductionResponse as u8)], 1);
            }
            // Of no session at all: untouched, so it is not the VIP's.
            None => {
                prop_assert_eq!(outcome.verdict, Verdict::TcNext);
                prop_assert_eq!(outcome.frame, frame);
            }
        }
    }
}
