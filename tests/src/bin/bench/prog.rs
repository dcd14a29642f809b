//! ns per packet of each path through the programs, by `BPF_PROG_TEST_RUN` with many repeats.
//!
//! A repeated program meets the packet that its last run left. So every address that a run writes equals the one
//! that was there (see [`frames`]), and data packets get the next sequence number from a generator that tail-calls
//! the program; the same generator before an empty program is the baseline then.

use std::cell::RefCell;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ingest_common::abi::{
    DeliveryMode, Path, RouteField, SERVICE_SOURCE_RANGES, SERVICE_SRT, SERVICE_STREAM, Service,
    VLAN_NONE, program,
};

use crate::clock::{self, Effort, Named};
use crate::frames::{self, CLIENT_MAC, CLIENT_V4, NODE_MAC, POD_V4, PORT, client, pod};
use crate::real::Real;
use crate::reference::{Generator, Reference};
use crate::report::Row;
use crate::run::{
    LO, Run, TC_ACT_OK, TC_ACT_REDIRECT, Under, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX,
    generator, handshakes,
};

/// Service ids.
const V4: u16 = 1;
const V6: u16 = 2;
const RANGED: u16 = 3;
const STREAM: u16 = 4;
const ROUTED: u16 = 5;
/// Slots, each also a pool where sessions begin.
const REDIRECT: u16 = 2;
const PEER: u16 = 3;
const STACK: u16 = 4;
const REDIRECT_V6: u16 = 5;

/// Frames keep these addresses, so replies leave by them.
pub(crate) fn path() -> Path {
    Path {
        ifindex: LO,
        client_mac: CLIENT_MAC,
        node_mac: NODE_MAC,
        vlan_inner: VLAN_NONE,
        ..Path::default()
    }
}

/// The first client by another port: each case has its own session.
fn client_at(v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(client(v6).ip(), port)
}

/// The object under test with a service of each kind, and sessions in each delivery mode.
fn world() -> Result<Real> {
    let mut real = Real::load(4096)?;
    let macs = (NODE_MAC, CLIENT_MAC);
    for (slot, v6, mode) in [
        (PEER, false, DeliveryMode::Peer),
        (STACK, false, DeliveryMode::Stack),
        // Last, so that the pod's address leads back to it.
        (REDIRECT, false, DeliveryMode::Redirect),
        (REDIRECT_V6, true, DeliveryMode::Redirect),
    ] {
        real.backend(slot, pod(v6), mode, macs, LO)?;
        real.table(slot, slot)?;
    }
    let service = |id, pool, flags| Service { id, pool, flags };
    real.service(pod(false), service(V4, REDIRECT, SERVICE_SRT))?;
    real.service(pod(true), service(V6, REDIRECT_V6, SERVICE_SRT))?;
    let ranged = SocketAddr::new(pod(false).ip(), frames::RANGED_PORT);
    let flags = SERVICE_SRT | SERVICE_SOURCE_RANGES;
    real.service(ranged, service(RANGED, REDIRECT, flags))?;
    real.sources(RANGED)?;
    let streamed = |port| SocketAddr::new(pod(false).ip(), port);
    let flags = SERVICE_SRT | SERVICE_STREAM;
    real.service(
        streamed(frames::STREAM_PORT),
        service(STREAM, REDIRECT, flags),
    )?;
    let retry =
        frames::stream_conclusion(client_at(false, RETRY), streamed(frames::STREAM_PORT), 112);
    let payload = retry.get(42..).context("no payload")?;
    real.spliced(client_at(false, RETRY), STREAM, REDIRECT, payload)?;
    let flags = flags | RouteField::Resource.flag();
    real.service(
        streamed(frames::ROUTED_PORT),
        service(ROUTED, REDIRECT, flags),
    )?;
    real.routes(ROUTED, REDIRECT)?;
    Ok(real)
}

/// Client ports of the cases with sessions.
const PORTS: [(u16, u16, &str); 3] = [
    (20_001, REDIRECT, "redirect"),
    (20_002, PEER, "peer"),
    (20_003, STACK, "stack"),
];
const OUT_OF_ORDER: u16 = 20_004;
const REPLIES: u16 = 20_005;
const HANDSHAKES: u16 = 20_006;
const PORT_V6: u16 = 20_007;
const POLICED: u16 = 20_008;
const RETRY: u16 = 20_102;

/// Measures the paths whose names begin with `only`.
pub(crate) fn measure(effort: &Effort, only: &str) -> Result<Vec<Row>> {
    let real = Rc::new(RefCell::new(world()?));
    let rows = clock::measure(cases(&real)?, effort, only)?;
    check(&real)?;
    Ok(rows)
}

/// What was measured was what it was to be.
fn check(real: &Rc<RefCell<Real>>) -> Result<()> {
    let mut real = real.borrow_mut();
    for (port, ..) in PORTS {
        real.expect_in_order(client_at(false, port), V4)?;
    }
    real.expect_in_order(client_at(true, PORT_V6), V6)?;
    let replies = real.read_flow(client_at(false, REPLIES), V4)?;
    ensure!(
        replies.down.acks == replies.down.packets,
        "the pod's ACKs were not counted as such: {:?}",
        replies.down
    );
    let repeated = real.read_flow(client_at(false, OUT_OF_ORDER), V4)?;
    ensure!(
        repeated.up.out_of_order == repeated.up.packets.saturating_sub(1),
        "the repeated packet was not seen out of order: {:?}",
        repeated.up
    );
    Ok(())
}

/// The cases.
fn cases(real: &Rc<RefCell<Real>>) -> Result<Vec<Named>> {
    let mut cases = Vec::new();
    let named = |name: &str| match name {
        "" => String::new(),
        name => format!("prog/{name}"),
    };
    let mut add = |name, baseline, under, frame, expected| {
        cases.push(Named {
            name: named(name),
            baseline: named(baseline),
            case: Box::new(Run {
                under,
                frame,
                expected,
            }),
        });
    };
    let (service, service_v6) = (pod(false), pod(true));
    let data = |port| frames::data(client_at(false, port), service);
    let ingest = || Under::RealXdp(Rc::clone(real), program::XDP_INGEST);
    let own = |name| -> Result<Under> { Ok(Under::OwnXdp(Reference::load(16)?, name)) };

    add("empty", "", own("xdp_empty")?, data(1), XDP_PASS);
    add("minimal", "empty", minimal()?, data(1), XDP_REDIRECT);
    for (name, program, v6) in [
        ("generator_v4", "xdp_gen_v4", false),
        ("generator_v4_meta", "xdp_gen_meta_v4", false),
        ("generator_v6", "xdp_gen_v6", true),
    ] {
        let under = generator(program, Generator::one(1), None)?;
        let frame = frames::data(client_at(v6, 1), pod(v6));
        add(name, "empty", under, frame, XDP_PASS);
    }

    let target = real
        .borrow_mut()
        .xdp(program::XDP_INGEST)?
        .fd()?
        .try_clone()?;
    for (port, slot, mode) in PORTS {
        let from = client_at(false, port);
        real.borrow_mut().flow(from, V4, slot, path())?;
        let (name, program, baseline, expected) = match mode {
            "redirect" => ("established_v4", "xdp_gen_v4", "generator_v4", XDP_REDIRECT),
            "peer" => (
                "established_v4_peer",
                "xdp_gen_meta_v4",
                "generator_v4_meta",
                XDP_PASS,
            ),
            _ => (
                "established_v4_stack",
                "xdp_gen_v4",
                "generator_v4",
                XDP_PASS,
            ),
        };
        let under = generator(program, Generator::one(port), Some(&target))?;
        add(name, baseline, under, frames::data(from, service), expected);
    }
    let from = client_at(false, OUT_OF_ORDER);
    real.borrow_mut().flow(from, V4, REDIRECT, path())?;
    add(
        "established_v4_out_of_order",
        "empty",
        ingest(),
        data(OUT_OF_ORDER),
        XDP_REDIRECT,
    );
    let from = client_at(false, POLICED);
    real.borrow_mut().flow(from, V4, REDIRECT, path())?;
    real.borrow_mut().police(from, V4, 1)?;
    let under = generator("xdp_gen_v4", Generator::one(POLICED), Some(&target))?;
    let frame = frames::data(from, service);
    add(
        "established_v4_policed",
        "generator_v4",
        under,
        frame,
        XDP_REDIRECT,
    );
    let from = client_at(true, PORT_V6);
    real.borrow_mut().flow(from, V6, REDIRECT_V6, path())?;
    let under = generator("xdp_gen_v6", Generator::one(PORT_V6), Some(&target))?;
    let frame = frames::data(from, service_v6);
    add("established_v6", "generator_v6", under, frame, XDP_REDIRECT);

    let from = client_at(false, HANDSHAKES);
    for (name, frame) in [
        ("handshake_induction", frames::induction(from, service)),
        ("handshake_conclusion", frames::conclusion(from, service)),
    ] {
        add(name, "empty", ingest(), frame, XDP_REDIRECT);
    }
    let streams = streams();
    for (name, port, frame, cookie, expected) in &streams {
        let clients = Generator::one(*port);
        let under = handshakes(clients, frame, *cookie, Some(&target))?;
        let baseline = if *cookie {
            "generator_cookie"
        } else {
            "generator_handshake"
        };
        add(name, baseline, under, frame.clone(), *expected);
    }
    let frame = frames::induction(client_at(false, 1), service);
    let under = handshakes(Generator::one(1), &frame, false, None)?;
    add("generator_handshake", "empty", under, frame, XDP_PASS);
    let frame = frames::stream_conclusion(client_at(false, 1), service, 112);
    let under = handshakes(Generator::one(1), &frame, true, None)?;
    add("generator_cookie", "empty", under, frame, XDP_PASS);

    let elsewhere = SocketAddr::from(([10, 9, 9, 9], PORT));
    let ranged = SocketAddr::new(service.ip(), frames::RANGED_PORT);
    for (name, frame, expected) in [
        ("pass_not_ours", frames::data(from, elsewhere), XDP_PASS),
        ("pass_no_flow", data(1), XDP_PASS),
        ("drop_source", frames::data(from, ranged), XDP_DROP),
        ("drop_srt", frames::bad_data(from, service), XDP_DROP),
    ] {
        add(name, "empty", ingest(), frame, expected);
    }

    let to = client_at(false, REPLIES);
    real.borrow_mut().flow(to, V4, REDIRECT, path())?;
    let ack = frames::ack(service, to);
    let empty = Under::OwnTc(Reference::load(16)?, "tc_empty");
    add("empty_tc", "", empty, ack.clone(), TC_ACT_OK);
    let under = Under::RealTc(Rc::clone(real), program::TC_POD);
    add("reply_ack", "empty_tc", under, ack, TC_ACT_REDIRECT);
    Ok(cases)
}

/// Handshakes with services that answer them: name, client's port, frame, whether it gets a cookie, verdict.
fn streams() -> Vec<(String, u16, Vec<u8>, bool, u32)> {
    let to = |port| SocketAddr::new(pod(false).ip(), port);
    let (plain, routed) = (to(frames::STREAM_PORT), to(frames::ROUTED_PORT));
    let from = |port| client_at(false, port);
    let induction = frames::induction(from(20_100), plain);
    let forged = frames::forged_conclusion(from(20_101), plain);
    let retry = frames::stream_conclusion(from(RETRY), plain, 112);
    let mut cases = vec![
        (
            "stream_induction".to_owned(),
            20_100,
            induction,
            false,
            XDP_TX,
        ),
        ("stream_forged".to_owned(), 20_101, forged, false, XDP_DROP),
        ("stream_retry".to_owned(), RETRY, retry, true, XDP_REDIRECT),
    ];
    // A usual Stream ID, one as long as with key material, and libsrt's longest.
    for (length, port) in [(112, 20_103), (172, 20_104), (596, 20_105)] {
        let frame = frames::stream_conclusion(from(port), plain, length);
        let name = format!("stream_conclusion_{length}");
        cases.push((name, port, frame, true, XDP_REDIRECT));
    }
    let frame = frames::stream_conclusion(from(20_106), routed, 112);
    let name = "stream_conclusion_112_routed".to_owned();
    cases.push((name, 20_106, frame, true, XDP_REDIRECT));
    cases
}

/// The minimal program with the one flow of the first case.
fn minimal() -> Result<Under> {
    let mut reference = Reference::load(4096)?;
    let from = SocketAddrV4::new(CLIENT_V4, 1);
    let to = SocketAddrV4::new(POD_V4, PORT);
    reference.minimal_backend(0, to, (NODE_MAC, CLIENT_MAC), LO)?;
    reference.minimal_flow(from, to, 0)?;
    Ok(Under::OwnXdp(reference, "xdp_minimal"))
}
