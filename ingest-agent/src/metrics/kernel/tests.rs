//! A scrape of plain data.

use super::*;
use crate::metrics::{AgentMetrics, StreamsState, render};

#[test]
fn a_scrape_has_every_family() {
    let agent = AgentMetrics::default();
    agent.set_flows(Flows {
        by_service: [(3, 7)].into(),
        entries: 8,
    });
    agent.config_read(true);
    agent.event(Some(abi::EventKind::FlowAccepted));
    agent.event(None);
    agent.applied(std::time::Duration::from_millis(2));
    let text = render(&agent, KernelState::sample(), StreamsState::sample()).unwrap();
    for line in [
        r#"ingest_service_packets_total{service="live/srt",vip="203.0.113.10:9000",direction="up"} 5"#,
        r#"ingest_service_bytes_total{service="live/srt",vip="203.0.113.10:9000",direction="down"} 0"#,
        r#"ingest_service_sessions_total{service="live/srt",vip="203.0.113.10:9000",event="accepted"} 2"#,
        r#"ingest_service_sequence_gaps_total{service="live/srt",vip="203.0.113.10:9000"} 4"#,
        r#"ingest_backend_bytes_total{backend="live/pod-a",address="10.0.1.2:9000",direction="down"} 9"#,
        r#"ingest_backend_up{backend="live/pod-a",address="10.0.1.2:9000"} 1"#,
        r#"ingest_backend_state{backend="live/pod-a",address="10.0.1.2:9000",state="draining"} 0"#,
        r#"ingest_backend_delivery{backend="live/pod-a",address="10.0.1.2:9000",mode="peer"} 1"#,
        r#"ingest_backend_deaths_total{backend="live/pod-a",address="10.0.1.2:9000"} 1"#,
        r#"ingest_drops_total{reason="no_backend"} 17"#,
        r#"ingest_passes_total{reason="fragment"} 0"#,
        r#"ingest_flows{service="live/srt",vip="203.0.113.10:9000"} 7"#,
        r#"ingest_handshakes_total{service="live/srt",vip="203.0.113.10:9000",result="forged"} 8"#,
        r#"ingest_handshakes_total{service="live/srt",vip="203.0.113.10:9000",result="spliced"} 6"#,
        r#"ingest_rejections_total{service="live/srt",vip="203.0.113.10:9000",code="2404"} 5"#,
        r#"ingest_rejections_unsaid_total{service="live/srt",vip="203.0.113.10:9000"} 3"#,
        r#"ingest_route_sessions{route="live/acme"} 4"#,
        r#"ingest_route_sessions_limit{route="live/acme"} 10"#,
        r#"ingest_route_accepted_total{route="live/acme"} 9"#,
        r#"ingest_route_refused_total{route="live/acme",reason="quota_streams"} 1"#,
        r#"ingest_route_dropped_packets_total{route="live/acme",reason="quota_route_bitrate"} 2"#,
        r#"ingest_route_dropped_bytes_total{route="live/acme",reason="quota_stream_bitrate"} 1316"#,
        r#"ingest_route_sessions{route="live/acme~8"} 0"#,
        "ingest_cookie_secret_age_seconds 60",
        "ingest_flow_table_capacity 1024",
        "ingest_ready_timestamp_seconds 5",
        r#"ingest_xdp_native{uplink="eth0"} 1"#,
        r#"ingest_dataplane_info{schema="1",xdp_mode="native",uplink="eth0",version="0.1.0"} 1"#,
        r#"ingest_config_reloads_total{result="applied"} 1"#,
        r#"ingest_config_reloads_total{result="refused"} 0"#,
        "ingest_config_last_reload_successful 1",
        r#"ingest_events_total{kind="flow_accepted"} 1"#,
        r#"ingest_events_total{kind="unknown"} 1"#,
        "ingest_apply_duration_seconds_count 1",
        "ingest_build_info{version=",
    ] {
        assert!(
            text.lines().any(|l| l.starts_with(line)),
            "{line} in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_family_is_described_once() {
    let text = render(
        &AgentMetrics::default(),
        KernelState::sample(),
        StreamsState::sample(),
    )
    .unwrap();
    let mut types: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all);
}

#[test]
fn no_series_comes_twice_and_a_route_without_a_bound_has_no_limit() {
    let text = render(
        &AgentMetrics::default(),
        KernelState::sample(),
        StreamsState::sample(),
    )
    .unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let mut series: Vec<_> = series.filter_map(|l| l.rsplit_once(' ')).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup_by_key(|(series, _)| *series);
    assert_eq!(series.len(), all);
    assert!(!text.contains(r#"ingest_route_sessions_limit{route="live/acme~8"}"#));
}

#[test]
fn no_secret_yet_is_no_age() {
    let state = KernelState {
        secret_since_ns: None,
        ..KernelState::sample()
    };
    let text = render(&AgentMetrics::default(), state, StreamsState::sample()).unwrap();
    let mut lines = text.lines();
    assert!(!lines.any(|line| line.starts_with("ingest_cookie_secret_age_seconds ")));
}
