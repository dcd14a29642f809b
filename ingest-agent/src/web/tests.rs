use std::{collections::BTreeMap, net::SocketAddr};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use ingest_common::{
    abi::{self, CutReason, FlowState, Reason, StreamState},
    reason::{DropReason, PassReason},
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::{
    commands::{Handshakes, Status, UplinkRow},
    view::{BackendName, Failover, Identity, Moment, Rates, Reading, ServiceName, Stream, View},
};

const SECRET: &str = "#!::u=<img src=x onerror=alert(1)>,r=hunter2secret";
const NOW: u64 = 100_000_000_000;

fn asked(text: &str) -> Box<abi::StreamId> {
    let mut asked = abi::StreamId {
        length: text.len() as u16,
        caller_id: 7,
        version: 0x0001_0501,
        ..Default::default()
    };
    asked.text[..text.len()].copy_from_slice(text.as_bytes());
    Box::new(asked)
}

fn stream(number: u16, state: StreamState, reasons: u16) -> Stream {
    Stream {
        key: abi::FlowKey {
            address: abi::v4_mapped([198, 51, 100, number as u8]),
            port: 40_000 + number,
            service: 1 + number % 2,
        },
        flow: abi::Flow {
            state: FlowState::Established as u8,
            slot: 3,
            incarnation: 1,
            caller_id: 7,
            accepted_ns: u64::from(number) * 1_000_000_000,
            ..Default::default()
        },
        identity: Identity {
            service: 1,
            hash: number.into(),
        },
        asked: Some(asked(&format!("{SECRET}{number:02}"))),
        state,
        reasons,
        since_ns: NOW - 1_000_000_000,
        rates: Rates {
            bitrate: f64::from(number) * 1e6,
            packets: 100.0,
            loss: f64::from(number % 5) / 100.0,
            rtt_ms: (!number.is_multiple_of(3)).then(|| f64::from(number)),
            ..Rates::default()
        },
        reconnects: u32::from(number == 4),
        failovers: 0,
        history: vec![
            Moment {
                bitrate: 1_234_567.9,
                loss: 0.012_345,
                rtt_ms: 20.04
            };
            60
        ]
        .into(),
    }
}

/// Ten streams of two services: 2 is in warning, 5 stalled, 9 draining.
fn ten() -> View {
    let service = |id: u16| ServiceName {
        name: format!("live/srt-{id}"),
        vip: SocketAddr::from(([203, 0, 113, 10], 9000 + id)),
        is_srt: true,
    };
    let mut reading = Reading {
        now_ns: NOW,
        ..Reading::default()
    };
    reading.names.services = [(1, service(1)), (2, service(2))].into();
    let pod = BackendName {
        name: "live/pod-a".into(),
        address: SocketAddr::from(([10, 0, 1, 2], 9000)),
        incarnation: 1,
        draining: false,
    };
    reading.names.backends = [(3, pod)].into();
    let streams = (1..=10).map(|number| match number {
        2 => stream(number, StreamState::Warning, Reason::LowBitrate.bit()),
        5 => stream(number, StreamState::Stalled, Reason::EncoderStopped.bit()),
        9 => stream(number, StreamState::Draining, 0),
        _ => stream(number, StreamState::Active, 0),
    });
    let failover = |number: u64| Failover {
        identity: Identity {
            service: 1,
            hash: number,
        },
        asked: Some(asked(SECRET)),
        at_ns: NOW - 30_000_000_000 + number,
        took_ns: 120_000_000,
        reason: Some(CutReason::Unreachable),
        service: "live/srt-1".into(),
        from: Some("live/pod-b".into()),
        to: Some("live/pod-a".into()),
    };
    View::made_up(reading, streams, [failover(1), failover(2)])
}

fn node() -> Node {
    Node {
        status: Status {
            agent_running: true,
            agent_version: "0.1.0".into(),
            agent_pid: 7,
            ready_seconds: Some(60),
            schema: 1,
            uplinks: vec![UplinkRow {
                name: "eth0".into(),
                ifindex: 2,
                xdp_mode: "native",
                veth: false,
            }],
            links: BTreeMap::from([("xdp", 1)]),
            tc: "tcx",
            services: 0,
            handshake_ways: BTreeMap::new(),
            splices: Handshakes::default(),
            answer_by: "xdp",
            secrets: 1,
            secret_age_seconds: Some(1),
            routes: 0,
            backends: BTreeMap::new(),
            modes: BTreeMap::new(),
            backends_down: 0,
            flows: 10,
            flow_capacity: 131_072,
            handshakes: 0,
            silence_ms: 300,
            drops: BTreeMap::new(),
            passes: BTreeMap::new(),
        },
        services: Vec::new(),
        backends: Vec::new(),
        routes: Vec::new(),
        drops: vec![(DropReason::NoBackend, 4), (DropReason::Checksum, 3)],
        passes: vec![(PassReason::Icmp, 1)],
    }
}

fn page(shows: PageShows) -> Router {
    router(Page::with(Arc::new(ten().into()), shows, |flows| {
        assert_eq!(flows.len(), 10, "flows are counted, not read again");
        Ok(node())
    }))
}

async fn ask(router: &Router, method: Method, host: &str, path: &str) -> axum::response::Response {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .body(Body::empty())
        .unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn json(router: &Router, path: &str) -> (StatusCode, Value) {
    let answer = ask(router, Method::GET, "127.0.0.1:9465", path).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json = serde_json::from_slice(&body)
        .unwrap_or_else(|error| panic!("{path}: {error}: {}", String::from_utf8_lossy(&body)));
    (status, json)
}

/// Bitrates, in Mbit/s: the streams' numbers.
async fn numbers(router: &Router, query: &str) -> Vec<u64> {
    let (status, list) = json(router, &format!("/api/v1/streams{query}")).await;
    assert_eq!(status, StatusCode::OK, "{query}: {list}");
    let streams = list["streams"].as_array().unwrap();
    #[expect(clippy::cast_sign_loss, reason = "no bitrate is negative")]
    let number = |s: &Value| (s["bitrate"].as_f64().unwrap() / 1e6).round() as u64;
    streams.iter().map(number).collect()
}

#[tokio::test]
async fn streams_are_filtered() {
    let router = page(PageShows::Redacted);
    assert_eq!(numbers(&router, "?state=warning").await, [2]);
    assert_eq!(
        numbers(&router, "?state=warning,stalled").await,
        [5, 2],
        "what needs eyes first"
    );
    assert_eq!(
        numbers(&router, "?service=live/srt-2&sort=bitrate").await,
        [1, 3, 5, 7, 9]
    );
    assert_eq!(numbers(&router, "?q=POD-A").await.len(), 10);
    assert_eq!(numbers(&router, "?q=9001").await.len(), 5);
    let id = stream(8, StreamState::Active, 0).identity.id();
    assert_eq!(numbers(&router, &format!("?q={id}")).await, [8]);
    assert!(numbers(&router, "?q=nothing").await.is_empty());
}

#[tokio::test]
async fn streams_are_sorted_and_paged() {
    let router = page(PageShows::Redacted);
    let best = numbers(&router, "?sort=bitrate&order=desc&limit=3").await;
    assert_eq!(best, [10, 9, 8]);
    let next = numbers(&router, "?sort=bitrate&order=desc&limit=3&offset=3").await;
    assert_eq!(next, [7, 6, 5]);
    let beyond = numbers(&router, "?offset=10").await;
    assert!(beyond.is_empty());
    assert_eq!(numbers(&router, "?sort=age&limit=1").await, [10]);
    let by_rtt = numbers(&router, "?sort=rtt&order=desc").await;
    assert_eq!(by_rtt[..2], [10, 8]);
    assert!(by_rtt[7..].iter().all(|n| n % 3 == 0), "not measured: last");
    let returns = numbers(&router, "?sort=returns&order=desc&limit=1").await;
    assert_eq!(returns, [4]);
    let (_, list) = json(&router, "/api/v1/streams?limit=1").await;
    assert_eq!((&list["total"], &list["offset"]), (&10.into(), &0.into()));
    let mut pages = Vec::new();
    for offset in [0, 4, 8] {
        pages.extend(numbers(&router, &format!("?sort=service&limit=4&offset={offset}")).await);
    }
    pages.sort_unstable();
    assert_eq!(pages, (1..=10).collect::<Vec<_>>(), "each on one page");
}

#[tokio::test]
async fn nonsense_is_refused_with_a_sentence() {
    let router = page(PageShows::Redacted);
    for query in [
        "state=sick",
        "sort=colour",
        "order=up",
        "limit=1001",
        "limit=-1",
        "colour=red",
    ] {
        let (status, problem) = json(&router, &format!("/api/v1/streams?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(problem["error"].as_str().unwrap().len() > 10, "{problem}");
    }
    for path in ["/api/v1/streams/0", "/api/v1/nothing"] {
        assert_eq!(json(&router, path).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn histories_come_when_asked_for_and_rounded() {
    let router = page(PageShows::Redacted);
    let (_, list) = json(&router, "/api/v1/streams?limit=1").await;
    assert_eq!(list["streams"][0]["history"], Value::Null);
    let (_, list) = json(&router, "/api/v1/streams?limit=1&history=true").await;
    let history = &list["streams"][0]["history"];
    assert_eq!(history["bitrate"].as_array().unwrap().len(), 60);
    assert_eq!(history["bitrate"][0], 1_234_568.0);
    let loss = history["loss"][0].as_f64().unwrap();
    assert!((loss - 0.0123).abs() < 1e-6, "{loss}");
    let id = stream(2, StreamState::Active, 0).identity.id();
    let (_, one) = json(&router, &format!("/api/v1/streams/{id}")).await;
    let session = &one["sessions"][0];
    assert_eq!(session["reasons"], serde_json::json!(["low_bitrate"]));
    assert_eq!(
        session["detail"]["history"]["rtt_ms"]
            .as_array()
            .unwrap()
            .len(),
        60
    );
    assert_eq!(session["detail"]["thresholds"]["max_loss"], 0.05);
}

#[tokio::test]
async fn the_overview_counts() {
    let (_, overview) = json(&page(PageShows::Redacted), "/api/v1/overview").await;
    let streams = &overview["streams"];
    assert_eq!(
        (&streams["total"], &streams["established"]),
        (&10.into(), &10.into())
    );
    assert_eq!(streams["states"]["active"], 7);
    assert_eq!(streams["states"]["ending"], 0);
    assert_eq!(streams["reasons"]["encoder_stopped"], 1);
    assert_eq!(streams["bitrate"], 55e6);
    assert_eq!(overview["failovers_last_hour"], 2);
    assert_eq!(overview["drops"], 7);
    assert_eq!(overview["maps"][0]["capacity"], 131_072);
}

#[tokio::test]
async fn strangers_words_and_addresses_stay_hidden_unless_asked_for() {
    let paths = [
        "/api/v1/streams?history=true",
        "/api/v1/failovers",
        "/api/v1/overview",
        "/api/v1/streams/0001000000000002",
    ];
    for (shows, hidden) in [(PageShows::Redacted, true), (PageShows::Full, false)] {
        let router = page(shows);
        let mut all = String::new();
        for path in paths {
            let (status, json) = json(&router, path).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            all += &json.to_string();
        }
        for word in ["hunter2secret", "198.51.100.2:40002", "onerror"] {
            assert_eq!(all.contains(word), !hidden, "{word} with {shows:?}");
        }
        let network = all.contains("198.51.100.0/24");
        assert_eq!(network, hidden);
        // A filter that knew more than it shows would tell it, a guess at a time.
        let guess = numbers(&router, "?q=hunter2secret").await;
        assert_eq!(guess.is_empty(), hidden);
        let guess = numbers(&router, "?q=198.51.100.2:").await;
        assert_eq!(guess.is_empty(), hidden);
    }
}

#[tokio::test]
async fn only_get_only_our_host_and_the_same_headers_everywhere() {
    let router = page(PageShows::Redacted);
    for path in ["/", "/main.js", "/api/v1/streams", "/api/v1/overview"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = ask(&router, method.clone(), "localhost", path).await;
            assert_eq!(
                answer.status(),
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
        }
        let answer = ask(&router, Method::GET, "evil.example", path).await;
        assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    for path in ["/", "/style.css", "/api/v1/streams", "/api/v1/no", "/no"] {
        let answer = ask(&router, Method::GET, "[::1]:9465", path).await;
        let headers = answer.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"));
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}

#[tokio::test]
async fn maps_that_cannot_be_read_are_told_and_streams_shown_all_the_same() {
    let broken = Page::with(Arc::new(ten().into()), PageShows::Redacted, |_| {
        Err(dataplane::Error::NoObject)
    });
    let router = router(broken);
    let (status, problem) = json(&router, "/api/v1/backends").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(problem["error"].is_string());
    assert_eq!(json(&router, "/api/v1/streams").await.0, StatusCode::OK);
}

#[tokio::test]
async fn every_path_is_documented_and_answers_as_documented() {
    let router = page(PageShows::Redacted);
    let (_, document) = json(&router, "/api/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    // Whoever adds a route adds it there, or this list and the router disagree.
    let source = include_str!("api.rs");
    let routed = source.matches(".route(\"").count();
    assert_eq!(paths.len(), routed, "{:?}", paths.keys());
    for (path, item) in paths {
        assert!(source.contains(&format!(
            ".route(\"{}\"",
            path.trim_start_matches("/api/v1")
        )));
        let operation = &item["get"];
        assert!(operation["summary"].is_string() && operation["operationId"].is_string());
        let asked = [
            ("{id}", "0001000000000002", "200"),
            ("{id}", "none", "404"),
            ("", "?limit=0&history=true", "200"),
            ("", "?history=true", "200"),
            ("", "?limit=x", "400"),
        ];
        for (part, put, expected) in asked {
            if path.contains("{id}") != (part == "{id}")
                || operation["responses"].get(expected).is_none()
            {
                continue;
            }
            let asked = if part.is_empty() {
                format!("{path}{put}")
            } else {
                path.replace(part, put)
            };
            let (status, answer) = json(&router, &asked).await;
            assert_eq!(status.as_str(), expected, "{asked}: {answer}");
            let schema = &operation["responses"][expected]["content"]["application/json"]["schema"];
            let mut whole = schema.clone();
            whole["components"] = document["components"].clone();
            let validator = jsonschema::draft202012::new(&whole).unwrap();
            let errors: Vec<_> = validator
                .iter_errors(&answer)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{asked}: {errors:#?}");
        }
    }
    let parameters = document["paths"]["/api/v1/streams"]["get"]["parameters"]
        .as_array()
        .unwrap();
    let names: Vec<_> = parameters
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    for name in [
        "state", "service", "q", "sort", "order", "limit", "offset", "history",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(
        parameters.iter().all(|p| p["description"].is_string()),
        "{parameters:#?}"
    );
    // The check can fail: a required field is one.
    let mut whole = serde_json::json!({ "$ref": "#/components/schemas/StreamList" });
    whole["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    assert!(!validator.is_valid(&serde_json::json!({ "at": "", "offset": 0, "streams": [] })));
}
