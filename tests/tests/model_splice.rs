//! What must hold of handshakes that are answered here, whatever comes in whatever order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ingest_common::{
    abi::{FlowState, Load, SERVICE_STREAM, Secrets, words_from_address},
    maglev::{self, Cursor, Member},
    srt as wire,
};
use ingest_tests::fixtures::{
    given::{MACS_A, MACS_B, MS, POOL, PORT_A, PORT_B, SLOT_A, SLOT_B, SRT, flow_key},
    model::{World, differences},
    packet::{CLIENT, Family, OTHER_CLIENT, POD_A, POD_B, Peer, VIP, assert_checksums, udp},
    plane::{At, Dataplane, Host, Verdict},
    srt::{self, CALLER_ID, Handshake, conclusion, induction},
};
use proptest::prelude::*;

const SECRETS: Secrets = Secrets {
    keys: [[1, 2], [3, 4]],
    current: 1,
    serial: 2,
    since_ns: 1,
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const PODS: [Peer; 2] = [POD_A, POD_B];
const PORTS: [u32; 2] = [PORT_A, PORT_B];
const SLOTS: [u16; 2] = [SLOT_A, SLOT_B];

fn node(family: Family) -> Host {
    let mut host = Host::new();
    let mut world = World::node(family, host.now());
    world.flag(SERVICE_STREAM);
    *world.secrets.get_mut() = SECRETS;
    // As fast as it likes.
    (
        world.config.conclusion_interval_ns,
        world.config.induction_interval_ns,
    ) = (0, 0);
    host.load(&world);
    host
}

fn own_cookie(family: Family, client: Peer, caller_id: u32, now: u64) -> u32 {
    let words = words_from_address(client.address(family));
    wire::cookie(&SECRETS, words, client.port, caller_id, now)
}

fn word(payload: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&payload[at..at + 4]);
    u32::from_be_bytes(bytes)
}

/// The UDP payload of an untagged frame.
fn payload(family: Family, frame: &[u8]) -> Vec<u8> {
    let header = if family == Family::V4 { 42 } else { 62 };
    frame[header..].to_vec()
}

/// A CONCLUSION that callers could send.
fn any_conclusion() -> impl Strategy<Value = Handshake> {
    let text = prop::collection::vec(0x20..0x7f_u8, 1..512);
    let group = prop::option::of(1_u32..);
    let keys = prop::option::of(prop::sample::select(vec![14_usize, 26]));
    (text, group, keys, 1_u32.., 0..0x8000_0000_u32).prop_map(|(text, group, keys, id, isn)| {
        conclusion().with(|h| {
            let text = String::from_utf8_lossy(&text).replace(',', "-");
            h.blocks = vec![(1, srt::HSREQ.to_vec()), (5, srt::stream_id(&text))];
            h.blocks.extend(group.map(|id| (8, vec![id, 0x0100_000a])));
            h.blocks
                .extend(keys.map(|words| (3, srt::key_material(words))));
            (h.socket_id, h.initial_sequence) = (id, isn);
        })
    })
}

/// Slots of a pool's table.
fn table(members: &BTreeSet<u16>) -> Vec<u16> {
    let mut members: Vec<Member> = members
        .iter()
        .map(|slot| Member {
            slot: *slot,
            identity: maglev::identity(&slot.to_be_bytes()),
            weight: 1,
        })
        .collect();
    let mut slots = empty_table();
    let mut scratch = vec![Cursor::default(); members.len()];
    maglev::build(&mut members, &mut scratch, &mut slots);
    slots.slots[..maglev::TABLE_SIZE as usize].to_vec()
}

#[expect(clippy::large_stack_arrays, reason = "moved to the heap at once")]
fn empty_table() -> Box<ingest_common::abi::MaglevTable> {
    Box::new(ingest_common::abi::MaglevTable { slots: [0; 16_384] })
}

/// A pool of `count` backends that are all POD_A to the eye.
fn pool(host: &mut Host, count: u16, limit: u32) {
    let like = *host.0.backend_mut(SLOT_A);
    for slot in 0..count {
        *host.0.backend_mut(slot) = like;
        host.0.backend_mut(slot).limit = limit;
    }
    host.0.tables.insert(POOL, table(&(0..count).collect()));
}

/// The slot that stream number `number` is placed at; `None`: it is rejected.
fn place(host: &mut Host, number: u32) -> Option<u16> {
    let family = Family::V4;
    let client = CLIENT.at(1000 + (number % 60_000) as u16);
    let cookie = own_cookie(family, client, CALLER_ID, host.now());
    let request = conclusion().with(|h| {
        h.cookie = cookie;
        h.blocks[1].1 = srt::stream_id(&format!("#!::r=live/{number}"));
    });
    host.0.splices.get_mut().clear();
    let frame = udp(family, client, VIP, &request.bytes()).bytes();
    host.run(At::Uplink, &frame);
    let splices = host.0.splices.borrow();
    splices
        .get(&flow_key(family, client, SRT))
        .map(|kept| kept.slot)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_are_spread_evenly_and_stay_where_they_are(count in 2..8_u16, gone in any::<prop::sample::Index>()) {
        let mut host = node(Family::V4);
        pool(&mut host, count, 0);
        let streams = 200 * u32::from(count);
        let before: Vec<u16> = (0..streams).map(|n| place(&mut host, n).unwrap()).collect();
        let mut loads = BTreeMap::<u16, u32>::new();
        for slot in &before {
            *loads.entry(*slot).or_default() += 1;
        }
        // Of 200 expected; six standard deviations of a binomial are about 85.
        prop_assert!(loads.values().all(|load| (115..=285).contains(load)), "{:?}", loads);
        let gone = gone.index(usize::from(count)) as u16;
        host.0.tables.insert(POOL, table(&(0..count).filter(|slot| *slot != gone).collect()));
        let moved = before.iter().enumerate().filter(|(number, slot)| {
            let now = place(&mut host, *number as u32).unwrap();
            assert_ne!(now, gone);
            **slot != gone && now != **slot
        });
        // Maglev moves a few of the others: less than a tenth here.
        prop_assert!(moved.count() < streams as usize / 10);
    }

    #[test]
    fn a_load_is_never_over_its_bound(count in 1..6_u16, limit in 1..9_u32, streams in 1..80_u32) {
        let mut host = node(Family::V4);
        pool(&mut host, count, limit);
        let mut placed = 0;
        for number in 0..streams {
            let Some(slot) = place(&mut host, number) else { continue };
            placed += 1;
            let load = host.0.loads.get_mut().entry(slot).or_insert(Load { active: 0 });
            load.active += 1;
            prop_assert!(load.active <= u64::from(limit));
        }
        prop_assert!(placed <= u32::from(count) * limit);
        // Sixteen probes of so small a pool miss hardly anybody with room.
        prop_assert!(placed >= streams.min(u32::from(count) * limit / 2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_came_and_what_the_pod_gets(
        v6 in any::<bool>(),
        request in any_conclusion(),
        pods_cookie in 1_u32..,
        port in 1..=u16::MAX,
    ) {
        let family = FAMILIES[usize::from(v6)];
        let client = CLIENT.at(port);
        let mut host = node(family);
        let cookie = own_cookie(family, client, request.socket_id, host.now());
        let request = request.with(|h| h.cookie = cookie);
        let asked = request.bytes();
        let outcome = host.run(At::Uplink, &udp(family, client, VIP, &asked).bytes());
        prop_assert_eq!(outcome.verdict, Verdict::XdpPass);
        assert_checksums(&outcome.frame);
        let key = flow_key(family, client, SRT);
        let kept = host.0.splices.borrow()[&key];
        prop_assert_eq!(&kept.bytes[..usize::from(kept.length)], &asked[..]);

        // The pod gets what a caller would have sent it, and then the very CONCLUSION.
        let sent = induction().with(|h| {
            (h.socket_id, h.initial_sequence) = (request.socket_id, request.initial_sequence);
        });
        prop_assert_eq!(payload(family, &outcome.frame), sent.bytes());
        let answer = srt::induction_answer().of(request.socket_id).with(|h| h.cookie = pods_cookie);
        let frame = udp(family, POD_A, client, &answer.bytes()).macs(MACS_A[1], MACS_A[0]);
        let replayed = host.run(At::PodPort(PORT_A), &frame.bytes());
        prop_assert_eq!(replayed.verdict, Verdict::TcRedirect);
        assert_checksums(&replayed.frame);
        let expected = request.with(|h| h.cookie = pods_cookie).bytes();
        prop_assert_eq!(payload(family, &replayed.frame), expected);
    }

    #[test]
    fn who_shows_no_cookie_changes_nothing(
        v6 in any::<bool>(),
        request in any_conclusion(),
        flips in prop::collection::vec((0..1024_usize, 0..8_u8), 0..4),
        guess in any::<u32>(),
    ) {
        let family = FAMILIES[usize::from(v6)];
        let mut host = node(family);
        host.0.config.induction_interval_ns = MS;
        let before = host.0.clone();
        let mut payload = request.with(|h| h.cookie = guess).bytes();
        let length = payload.len();
        for (at, bit) in flips {
            payload[at % length] ^= 1 << bit;
        }
        let id = word(&payload, 40);
        prop_assume!(word(&payload, 44) != own_cookie(family, CLIENT, id, host.now()));
        prop_assume!(word(&payload, 12) == 0);
        let outcome = host.run(At::Uplink, &udp(family, CLIENT, VIP, &payload).bytes());
        prop_assert!(matches!(outcome.verdict, Verdict::XdpDrop | Verdict::XdpTx | Verdict::XdpPass));
        let mut after = host.0.clone();
        for counters in [&mut after.drops, &mut after.passes] {
            counters.get_mut().clear();
        }
        after.source_rates.get_mut().clear();
        after.splice_stats.get_mut().clear();
        after.service_stats.get_mut().clear();
        let trace = differences(&after.normalised(0), &before.normalised(0));
        prop_assert!(trace.is_empty(), "a trace:\n{}", trace);
    }
}

/// What is under way.
#[derive(Clone, Debug)]
enum Packet {
    /// From a caller (by number) to the VIP.
    Up(usize, Vec<u8>),
    /// From a pod to a caller's address.
    Down(usize, usize, Vec<u8>),
}

/// What a bad network does with the packet next in turn, and who else does something.
#[derive(Clone, Debug)]
enum Turn {
    Deliver,
    Lose,
    Duplicate,
    Delay,
    Retry(usize),
    Time(u16),
    Swap,
    Forget(u8),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        12 => Just(Turn::Deliver),
        2 => Just(Turn::Lose),
        2 => Just(Turn::Duplicate),
        2 => Just(Turn::Delay),
        4 => (0..3_usize).prop_map(Turn::Retry),
        3 => (1..400_u16).prop_map(Turn::Time),
        1 => Just(Turn::Swap),
        1 => (0..2_u8).prop_map(Turn::Forget),
    ]
}

/// A caller of libsrt: INDUCTION until it has a cookie, CONCLUSION until it is accepted.
#[derive(Debug)]
struct Client {
    peer: Peer,
    id: u32,
    cookie: u32,
    accepted: Option<u32>,
}

impl Client {
    fn request(&self) -> Vec<u8> {
        if self.cookie == 0 {
            induction().of(self.id).bytes()
        } else {
            conclusion()
                .of(self.id)
                .with(|h| h.cookie = self.cookie)
                .bytes()
        }
    }
}

/// A listener: one session a caller, the same answer to the same question.
#[derive(Debug, Default)]
struct Pod {
    sessions: BTreeMap<(u16, u32), u32>,
}

struct Net {
    family: Family,
    host: Host,
    callers: Vec<Client>,
    pods: [Pod; 2],
    under_way: VecDeque<Packet>,
}

impl Net {
    fn new(family: Family) -> Self {
        let ends = [
            (CLIENT, 11),
            (OTHER_CLIENT, 11),
            (CLIENT.at(CLIENT.port + 1), 12),
        ];
        let callers = ends.map(|(peer, id)| Client {
            peer,
            id,
            cookie: 0,
            accepted: None,
        });
        Self {
            family,
            host: node(family),
            callers: callers.into(),
            pods: Default::default(),
            under_way: VecDeque::new(),
        }
    }

    fn take(&mut self, turn: &Turn) {
        match turn {
            Turn::Retry(number) => {
                if self.callers[*number].accepted.is_none() {
                    let request = self.callers[*number].request();
                    self.under_way.push_back(Packet::Up(*number, request));
                }
            }
            Turn::Time(ms) => self
                .host
                .wait(std::time::Duration::from_millis(u64::from(*ms))),
            // The first choice of everybody is the other pod now.
            Turn::Swap => {
                let slot = self.host.0.tables[&POOL][0];
                self.host
                    .0
                    .all_to(if slot == SLOT_A { SLOT_B } else { SLOT_A });
            }
            Turn::Forget(0) => self.host.0.splices.get_mut().clear(),
            Turn::Forget(_) => self.host.0.handshakes.get_mut().clear(),
            on_the_wire => {
                let Some(packet) = self.under_way.pop_front() else {
                    return;
                };
                match on_the_wire {
                    Turn::Lose => return,
                    Turn::Delay => return self.under_way.push_back(packet),
                    Turn::Duplicate => self.under_way.push_back(packet.clone()),
                    _ => {}
                }
                match packet {
                    Packet::Up(caller, payload) => self.up(caller, &payload),
                    Packet::Down(pod, caller, payload) => self.down(pod, caller, &payload),
                }
            }
        }
    }

    fn up(&mut self, caller: usize, request: &[u8]) {
        let client = self.callers[caller].peer;
        let frame = udp(self.family, client, VIP, request).bytes();
        let outcome = self.host.run(At::Uplink, &frame);
        match outcome.verdict {
            Verdict::XdpTx => self.heard(caller, &payload(self.family, &outcome.frame)),
            Verdict::XdpPass => {
                let port = outcome.handover.expect("delivery is by peer").ifindex;
                let pod = usize::from(port == PORT_B);
                assert_checksums(&outcome.frame);
                self.pod_gets(pod, caller, &payload(self.family, &outcome.frame));
            }
            _ => {}
        }
    }

    /// A pod's answers are under way as long as the network likes.
    fn pod_gets(&mut self, pod: usize, caller: usize, request: &[u8]) {
        let (id, port) = (word(request, 40), self.callers[caller].peer.port);
        let pods_cookie = 0x0c00_0000 + pod as u32 + u32::from(port);
        let answer = if word(request, 36) == 1 {
            srt::induction_answer()
                .of(id)
                .with(|h| h.cookie = pods_cookie)
        } else {
            assert_eq!(word(request, 44), pods_cookie, "its own cookie");
            let next = 1000 * (pod as u32 + 1) + self.pods[pod].sessions.len() as u32;
            let listener = *self.pods[pod].sessions.entry((port, id)).or_insert(next);
            srt::conclusion_answer()
                .of(id)
                .with(|h| h.socket_id = listener)
        };
        self.under_way
            .push_back(Packet::Down(pod, caller, answer.bytes()));
    }

    fn down(&mut self, pod: usize, caller: usize, answer: &[u8]) {
        let [pod_mac, port_mac] = [MACS_A, MACS_B][pod];
        let client = self.callers[caller].peer;
        let frame = udp(self.family, PODS[pod], client, answer).macs(port_mac, pod_mac);
        let outcome = self.host.run(At::PodPort(PORTS[pod]), &frame.bytes());
        if outcome.verdict != Verdict::TcRedirect {
            return;
        }
        let payload = payload(self.family, &outcome.frame);
        if word(answer, 36) == 1 {
            // It never leaves: the pod gets the CONCLUSION.
            assert_eq!(word(&payload, 36), u32::MAX);
            self.pod_gets(pod, caller, &payload);
        } else {
            self.heard(caller, &payload);
        }
    }

    fn heard(&mut self, caller: usize, answer: &[u8]) {
        let caller = &mut self.callers[caller];
        assert_eq!(word(answer, 12), caller.id);
        if word(answer, 36) == 1 {
            // libsrt 1.5.7 ends a session when it is given one.
            assert!(
                caller.accepted.is_none(),
                "an INDUCTION response in a session"
            );
            caller.cookie = word(answer, 44);
            return;
        }
        assert_eq!(word(answer, 36), u32::MAX, "nobody is rejected here");
        let listener = word(answer, 40);
        let known = *caller.accepted.get_or_insert(listener);
        assert_eq!(known, listener, "one session, of one pod");
    }

    fn check(&self) {
        for caller in &self.callers {
            let flow = self.host.0.flow_on(self.family, caller.peer, SRT);
            let Some(listener) = caller.accepted else {
                continue;
            };
            let flow = flow.expect("who is accepted has a flow");
            assert_eq!((flow.caller_id, flow.listener_id), (caller.id, listener));
            assert_eq!(flow.state, FlowState::Established as u8);
        }
        let loads = self.host.0.loads.borrow();
        let flows = self.host.0.flows.borrow();
        for slot in SLOTS {
            let count = flows.values().filter(|flow| flow.slot == slot).count() as u64;
            assert_eq!(loads.get(&slot).map_or(0, |load| load.active), count);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bad_network_makes_one_session_a_caller(
        v6 in any::<bool>(),
        turns in prop::collection::vec(turn(), 1..250),
    ) {
        let mut net = Net::new(FAMILIES[usize::from(v6)]);
        for turn in &turns {
            net.take(turn);
            net.check();
        }
        // Once the network is good again, everybody is served soon.
        for _ in 0..20 {
            net.host.wait(std::time::Duration::from_millis(250));
            for caller in 0..3 {
                net.take(&Turn::Retry(caller));
            }
            while !net.under_way.is_empty() {
                net.take(&Turn::Deliver);
            }
        }
        net.check();
        prop_assert!(net.callers.iter().all(|caller| caller.accepted.is_some()));
    }
}
