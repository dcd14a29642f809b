//! Whole sessions on the host's dataplane: connect, stream, end, and every way a backend can fail.

use std::time::Duration;

use ingest_common::abi::{BackendState, CutReason, FlowState};
use ingest_tests::fixtures::{
    given::{MS, SLOT_A, SLOT_B, SRT},
    model::World,
    packet::{CLIENT, Family, OTHER_CLIENT, POD_A, VIP, icmp_error, udp},
    plane::{At, Dataplane, Host, Verdict},
    session::{Caller, Pod, Sent},
    srt::{self, CALLER_ID, LISTENER_ID},
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn node(family: Family) -> Host {
    let mut host = Host::new();
    host.load(&World::node(family, host.now()));
    host
}

fn caller(family: Family) -> Caller {
    Caller::new(family, CLIENT, CALLER_ID)
}

/// A connected caller whose every other way leads to POD_B.
fn connected(family: Family) -> (Host, Caller) {
    let mut host = node(family);
    let mut caller = caller(family);
    assert_eq!(caller.connect(&mut host, LISTENER_ID), Pod::A);
    host.0.prefer_a_for(family, CLIENT.at(CLIENT.port + 1));
    (host, caller)
}

/// The caller heard SHUTDOWN and comes again from another port with another socket.
fn reconnect(family: Family, host: &mut Host) -> Pod {
    Caller::new(family, CLIENT.at(CLIENT.port + 1), CALLER_ID - 1).connect(host, LISTENER_ID - 1)
}

#[test]
fn a_session_lives_and_ends() {
    for family in FAMILIES {
        let (mut host, mut caller) = connected(family);
        for round in 0..100 {
            assert_eq!(caller.data(&mut host), Sent::Reached(Pod::A));
            host.wait(Duration::from_millis(10));
            if round % 10 == 9 {
                caller.acknowledge(&mut host, Pod::A);
            }
        }
        let sent = caller.send(&mut host, &srt::shutdown(LISTENER_ID));
        assert_eq!(sent, Sent::Reached(Pod::A));
        let flow = host.0.flow_of(family, CLIENT);
        assert_eq!(flow.state, FlowState::Ended as u8);
        assert_eq!((flow.up.data_packets, flow.up.packets), (100, 111));
        assert_eq!((flow.down.acks, flow.down.packets), (10, 11));
        assert_eq!(
            (flow.up.gaps, flow.up.out_of_order, flow.down.rtt_us),
            (0, 0, 20_000)
        );
    }
}

#[test]
fn a_caller_that_comes_again_from_its_port_is_a_new_session() {
    for family in FAMILIES {
        let (mut host, mut old) = connected(family);
        for _ in 0..10 {
            old.data(&mut host);
        }
        old.send(&mut host, &srt::shutdown(LISTENER_ID));
        let mut new = Caller::new(family, CLIENT, CALLER_ID - 1);
        let pod = new.connect(&mut host, LISTENER_ID - 1);
        assert_eq!(new.data(&mut host), Sent::Reached(pod));
        let flow = host.0.flow_of(family, CLIENT);
        assert_eq!((flow.caller_id, flow.up.data_packets), (CALLER_ID - 1, 1));
        // What was under way for the old socket has no receiver.
        assert_eq!(old.data(&mut host), Sent::Lost);
    }
}

#[test]
fn two_clients_do_not_meet() {
    for family in FAMILIES {
        let (mut host, mut one) = connected(family);
        let mut two = Caller::new(family, OTHER_CLIENT, CALLER_ID);
        let pod = two.connect(&mut host, LISTENER_ID);
        assert_eq!(pod, Pod::B);
        for _ in 0..20 {
            assert_eq!(one.data(&mut host), Sent::Reached(Pod::A));
            assert_eq!(two.data(&mut host), Sent::Reached(Pod::B));
            one.acknowledge(&mut host, Pod::A);
        }
        assert_eq!(host.0.flow_of(family, CLIENT).down.acks, 20);
        assert_eq!(host.0.flow_of(family, OTHER_CLIENT).down.acks, 0);
        // A pod that talks to another pod's caller is not heard.
        assert!(!two.answer(&mut host, Pod::A, &srt::keepalive(CALLER_ID)));
    }
}

#[test]
fn an_evicted_handshake_costs_a_retry() {
    for family in FAMILIES {
        let mut host = node(family);
        let mut caller = caller(family);
        let pod = caller.induce(&mut host);
        host.0.handshakes.get_mut().clear();
        let conclusion = srt::conclusion().bytes();
        assert_eq!(caller.send(&mut host, &conclusion), Sent::Reached(pod));
        host.0.handshakes.get_mut().clear();
        assert!(
            !caller.accept(&mut host, pod, LISTENER_ID),
            "the answer has no way"
        );
        host.wait(Duration::from_millis(250));
        assert_eq!(caller.send(&mut host, &conclusion), Sent::Reached(pod));
        assert!(caller.accept(&mut host, pod, LISTENER_ID));
        assert_eq!(caller.data(&mut host), Sent::Reached(pod));
    }
}

#[test]
fn an_evicted_flow_is_left_to_the_host() {
    for family in FAMILIES {
        let (mut host, caller) = connected(family);
        host.0.flows.get_mut().clear();
        let frame = udp(family, CLIENT, VIP, &srt::keepalive(caller.listener_id)).bytes();
        let outcome = host.run(At::Uplink, &frame);
        assert_eq!((outcome.verdict, outcome.frame), (Verdict::XdpPass, frame));
    }
}

#[test]
fn a_drained_pod_keeps_its_sessions_until_the_deadline() {
    for family in FAMILIES {
        let (mut host, mut caller) = connected(family);
        let now = host.now();
        let health = host.0.health_mut(SLOT_A);
        (health.drain, health.drain_deadline_ns) = (1, now + 1000 * MS);
        assert_eq!(reconnect(family, &mut host), Pod::B);
        for _ in 0..9 {
            assert_eq!(caller.data(&mut host), Sent::Reached(Pod::A));
            caller.acknowledge(&mut host, Pod::A);
            host.wait(Duration::from_millis(100));
        }
        host.wait(Duration::from_millis(101));
        assert!(matches!(caller.data(&mut host), Sent::Answered(_)));
        let flow = host.0.flow_of(family, CLIENT);
        assert_eq!(flow.cut_reason, CutReason::DrainDeadline as u8);
    }
}

#[test]
fn a_dead_process_costs_one_packet() {
    for family in FAMILIES {
        let (mut host, mut caller) = connected(family);
        assert_eq!(caller.data(&mut host), Sent::Reached(Pod::A));
        let refused = udp(family, CLIENT, POD_A, &srt::data(LISTENER_ID, srt::ISN));
        let icmp = icmp_error(family, POD_A, CLIENT, true, &refused.ip_bytes()[..60]).bytes();
        let port = At::PodPort(host.0.backend_mut(SLOT_A).ifindex);
        assert_eq!(host.run(port, &icmp).verdict, Verdict::TcShot);
        assert!(matches!(caller.data(&mut host), Sent::Answered(_)));
        assert_eq!(reconnect(family, &mut host), Pod::B);
        // The process is back: its first packet ends the doubt, its old sessions stay ended.
        host.wait(Duration::from_millis(50));
        host.0.asked(family, OTHER_CLIENT, 1);
        let other = Caller::new(family, OTHER_CLIENT, CALLER_ID);
        assert!(other.answer(&mut host, Pod::A, &srt::induction_answer().bytes()));
        assert!(matches!(caller.data(&mut host), Sent::Answered(_)));
        host.0.all_to(SLOT_A);
        let mut new = Caller::new(family, CLIENT.at(50_000), CALLER_ID - 2);
        assert_eq!(new.connect(&mut host, 77), Pod::A);
        assert_eq!(new.data(&mut host), Sent::Reached(Pod::A));
    }
}

#[test]
fn a_hung_pod_costs_three_hundred_milliseconds() {
    for family in FAMILIES {
        let (mut host, mut caller) = connected(family);
        let mut sent = Vec::new();
        for _ in 0..40 {
            host.wait(Duration::from_millis(10));
            sent.push(caller.data(&mut host));
        }
        let first = sent
            .iter()
            .position(|sent| matches!(sent, Sent::Answered(_)));
        // The first unanswered packet starts the clock.
        assert_eq!(first, Some(30), "{sent:?}");
        assert_eq!(reconnect(family, &mut host), Pod::B);
        assert_eq!(host.0.service_stats.borrow()[&SRT].cut, 1);
    }
}

#[test]
fn an_idle_session_is_never_cut() {
    for family in FAMILIES {
        let (mut host, mut caller) = connected(family);
        for _ in 0..30 {
            host.wait(Duration::from_secs(1));
            let sent = caller.send(&mut host, &srt::keepalive(LISTENER_ID));
            assert_eq!(sent, Sent::Reached(Pod::A));
            assert!(caller.answer(&mut host, Pod::A, &srt::keepalive(CALLER_ID)));
        }
        // A burst after the pause is not measured from before it.
        for _ in 0..20 {
            assert_eq!(caller.data(&mut host), Sent::Reached(Pod::A));
        }
    }
}

#[test]
fn no_backend_is_left() {
    for family in FAMILIES {
        let (mut host, mut caller) = connected(family);
        for slot in [SLOT_A, SLOT_B] {
            host.0.backend_mut(slot).state = BackendState::Gone as u8;
        }
        assert!(matches!(caller.data(&mut host), Sent::Answered(_)));
        let again = Caller::new(family, CLIENT.at(50_000), CALLER_ID - 2);
        assert_eq!(again.send(&mut host, &srt::induction().bytes()), Sent::Lost);
    }
}
