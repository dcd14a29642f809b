use super::*;
use crate::commands::explain::tests::service;

fn pod() -> BackendView {
    BackendView {
        slot: 4,
        backend: abi::Backend {
            address: abi::v4_mapped([10, 0, 1, 2]),
            port: 9000,
            incarnation: 1,
            ..Default::default()
        },
        health: abi::Health::default(),
        name: "live/pod-a".into(),
        traffic: abi::Traffic::default(),
        probe: abi::Probe::default(),
    }
}

#[test]
fn every_verdict_is_put_in_words() {
    let client = "198.51.100.7:40000".parse().unwrap();
    let srt = service("live/srt", "203.0.113.10:9000");
    let of = |decision: abi::Explain, flows: &[&(abi::FlowKey, abi::Flow)]| {
        let backends = &[pod()];
        let suspicion = (decision.reason == 99).then_some("silent");
        let question = Question {
            client,
            port_given: true,
            stream_id_given: false,
            service: &srt,
            backends,
            routes: &[],
            suspicion,
            flows,
        };
        explain(decision, &question)
    };
    let deliver = abi::Explain {
        verdict: 3,
        slot: 4,
        mode: DeliveryMode::Peer as u8,
        ..Default::default()
    };
    let e = of(deliver, &[]);
    assert_eq!(
        (e.verdict, e.backend.as_deref(), e.mode),
        ("deliver", Some("live/pod-a"), Some("peer"))
    );
    assert!(e.text[0].contains("goes to live/pod-a (10.0.1.2:9000): the service's Maglev table"));
    assert!(e.text.last().unwrap().contains("no flow"));

    let suspected = abi::Explain {
        reason: 99,
        ..deliver
    };
    assert!(of(suspected, &[]).text[0].contains("was silent lately"));

    let flow = (
        abi::FlowKey {
            address: abi::v4_mapped([198, 51, 100, 7]),
            port: 40000,
            service: 3,
        },
        abi::Flow {
            slot: 4,
            incarnation: 1,
            state: FlowState::Established as u8,
            ..Default::default()
        },
    );
    let e = of(
        abi::Explain {
            by_flow: 1,
            ..deliver
        },
        &[&flow],
    );
    assert!(e.text[0].contains("belongs to a flow there"));
    assert!(
        e.text[2].contains("established flow with live/pod-a"),
        "{:?}",
        e.text
    );

    let dropped = abi::Explain {
        verdict: 2,
        reason: DropReason::NoBackend as u8,
        ..Default::default()
    };
    let e = of(dropped, &[]);
    assert_eq!((e.reason, e.backend), (Some("no_backend"), None));
    assert!(e.text[0].contains("ingest-agent backends"));

    let passed = abi::Explain {
        verdict: 1,
        reason: PassReason::NoFlow as u8,
        ..Default::default()
    };
    assert_eq!(of(passed, &[]).reason, Some("no_flow"));
    let passed = abi::Explain {
        verdict: 1,
        reason: PassReason::Elsewhere as u8,
        ..Default::default()
    };
    let e = of(passed, &[]);
    assert_eq!((e.verdict, e.reason), ("pass", Some("elsewhere")));
    assert!(
        e.text[0].contains("left to this host's own network stack: elsewhere.")
            && e.text[0].contains("other nodes have ready ones"),
        "{:?}",
        e.text
    );
    assert!(
        of(
            abi::Explain {
                verdict: 4,
                slot: 4,
                ..Default::default()
            },
            &[]
        )
        .text[0]
            .contains("SHUTDOWN")
    );
    assert_eq!(of(abi::Explain::default(), &[]).verdict, "none");
}

#[test]
fn the_services_flags_are_put_in_words() {
    let of = |flags, port_given| {
        let mut srt = service("live/srt", "203.0.113.10:9000");
        srt.service.flags |= flags;
        let question = Question {
            client: "198.51.100.7:40000".parse().unwrap(),
            port_given,
            stream_id_given: false,
            service: &srt,
            backends: &[],
            routes: &[],
            suspicion: None,
            flows: &[],
        };
        let passed = abi::Explain {
            verdict: 1,
            reason: PassReason::NoFlow as u8,
            ..Default::default()
        };
        explain(passed, &question).text[0].clone()
    };
    assert!(of(abi::SERVICE_CLOSING, true).contains("The service was removed"));
    assert!(!of(0, true).contains("The service was removed"));
    assert!(of(abi::SERVICE_AFFINITY, false).contains("address alone"));
    assert!(of(0, false).contains("address and port"));
}

fn stream_service() -> ServiceView {
    let mut srt = service("live/srt", "203.0.113.10:9000");
    srt.service.flags |= abi::SERVICE_STREAM;
    srt.service.pool = 1;
    srt
}

fn of_stream(decision: abi::Explain, service: &ServiceView, stream_id_given: bool) -> Explanation {
    let acme = RouteView {
        route: 7,
        name: "live/acme".into(),
        pools: [(3, 5)].into(),
        quota: abi::Quota {
            streams: 10,
            in_use: 1,
            ..Default::default()
        },
        active: 10,
        ..Default::default()
    };
    let question = Question {
        client: "198.51.100.7:40000".parse().unwrap(),
        port_given: true,
        stream_id_given,
        service,
        backends: &[pod()],
        routes: &[acme],
        suspicion: None,
        flows: &[],
    };
    explain(decision, &question)
}

#[test]
fn the_route_and_the_pool_of_a_stream_are_told() {
    let routed = abi::Explain {
        verdict: 3,
        slot: 4,
        route: 7,
        ..Default::default()
    };
    let e = of_stream(routed, &stream_service(), true);
    assert_eq!(
        (e.route.as_deref(), e.pool, e.handshake),
        (Some("live/acme"), Some(5), "stream")
    );
    assert!(e.text[0].contains("answered here"), "{:?}", e.text);
    assert!(
        e.text[1].contains("session with this Stream ID")
            && e.text[1].contains("route live/acme matches, and its pool's (5) Maglev table"),
        "{:?}",
        e.text
    );
    let unrouted = abi::Explain { route: 0, ..routed };
    let e = of_stream(unrouted, &stream_service(), false);
    assert_eq!((e.route, e.pool), (None, Some(1)));
    assert!(
        e.text[1].contains("without a Stream ID") && e.text[1].contains("no route matches"),
        "{:?}",
        e.text
    );
}

#[test]
fn what_a_refused_caller_is_told_is_told() {
    let of = |reason: DropReason, rejection: Rejection, route| {
        let refused = abi::Explain {
            verdict: ANSWER,
            reason: reason as u8,
            rejection: rejection as u8 + 1,
            route,
            ..Default::default()
        };
        of_stream(refused, &stream_service(), true)
    };
    let e = of(DropReason::NoRoute, Rejection::NotFound, 0);
    assert_eq!(
        (e.verdict, e.reason, e.rejection),
        ("reject", Some("no_route"), Some(("not_found", 2404)))
    );
    assert!(
        e.text[1].contains("is told 2404 (not_found)"),
        "{:?}",
        e.text
    );
    let e = of(DropReason::QuotaStreams, Rejection::Overload, 7);
    assert!(
        e.text[1].contains("Route live/acme has as many sessions as it may (10 of 10)"),
        "{:?}",
        e.text
    );
    let e = of(DropReason::Forbidden, Rejection::Forbidden, 7);
    assert!(
        e.text[1].contains("Route live/acme rejects"),
        "{:?}",
        e.text
    );
    let answered = abi::Explain {
        verdict: ANSWER,
        ..Default::default()
    };
    assert_eq!(
        of_stream(answered, &stream_service(), true).verdict,
        "answer"
    );
}

#[test]
fn every_way_to_be_refused_has_words_of_its_own() {
    let mut seen = std::collections::HashSet::new();
    for reason in [
        DropReason::NoBackend,
        DropReason::SourceRate,
        DropReason::SrtStreamId,
        DropReason::NoRoute,
        DropReason::Forbidden,
        DropReason::QuotaStreams,
        DropReason::QuotaSessions,
    ] {
        assert!(seen.insert(drop_words(reason as u8, None)), "{reason:?}");
    }
    assert!(!seen.contains(&drop_words(DropReason::Malformed as u8, None)));
}

#[test]
fn where_a_stream_id_has_no_say_that_is_told() {
    let mut plain = service("live/srt", "203.0.113.10:9000");
    let told = |service: &ServiceView, given| {
        let e = of_stream(abi::Explain::default(), service, given);
        e.text.iter().any(|line| line.contains("has no say"))
    };
    assert!(told(&plain, true));
    assert!(!told(&plain, false));
    plain.service.flags = 0;
    assert!(told(&plain, true));
    assert!(!told(&stream_service(), true));
}
