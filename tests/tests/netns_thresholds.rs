//! Thresholds of the file are in the map, as long as somebody has them.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ingest_common::abi::{OFF, Thresholds};
use ingest_tests::agent::Agent;
use ingest_tests::config::Config;
use ingest_tests::netns::Layout;
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions};
use ingest_tests::scene::{LIMIT, Scene};
use serde_json::Value;

const ROUTE: &str = "live/acme";

/// What of the map is not zero: minimal bitrate, how long below it, stalled after, loss, round trip.
fn map(agent: &Agent) -> BTreeMap<u64, [u64; 5]> {
    let entries = agent.dump("THRESHOLDS").unwrap();
    let entry = |entry: &Value| {
        let fields = [
            "min_bitrate",
            "min_bitrate_for_ms",
            "stalled_after_ms",
            "max_loss",
            "max_rtt",
        ];
        let value = fields.map(|field| entry["value"][field].as_u64().unwrap());
        (entry["key"].as_u64().unwrap(), value)
    };
    let entries = entries.iter().map(entry);
    entries.filter(|(_, value)| *value != [0; 5]).collect()
}

#[track_caller]
fn wait_map(agent: &Agent, expected: &[(u32, [u64; 5])], limit: Duration) {
    let expected: BTreeMap<u64, _> = expected.iter().map(|(i, v)| (u64::from(*i), *v)).collect();
    let deadline = Instant::now() + limit;
    loop {
        let found = map(agent);
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?}, not {expected:?}; the agent said:\n{}",
            agent.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The id in the one row of `command` that is called `name`.
fn id(agent: &Agent, command: &str, name: &str) -> u16 {
    let rows = agent.json(&[command]).unwrap();
    let mut rows = rows.as_array().unwrap().iter();
    let row = rows.find(|row| row["name"] == name).unwrap();
    u16::try_from(row["id"].as_u64().unwrap()).unwrap()
}

fn thresholds(mut config: Config, service: &str, route: &str) -> Config {
    service.clone_into(&mut config.services[0].thresholds);
    route.clone_into(&mut config.routes[0].thresholds);
    config
}

/// * the map says what the file says of a service and of a route, and `services` and `routes` show it;
/// * it follows a reload, and a restart of the agent finds it as it is;
/// * a route that left keeps its entry as long as one of its streams is there, and then it is zeros;
/// * so is the service's, once the file says nothing of it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_map_says_what_the_file_says() {
    let options = ListenerOptions::default();
    let patient = ["--silence", "3s"];
    let first = "minBitrate: 2000000, minBitrateFor: 2s, maxLoss: 2.5%";
    let change = |config: Config, _: &[_]| {
        let matches = ["resource: { prefix: acme/ }"];
        let routed = config
            .stream()
            .with_route(ROUTE, &matches, Some("live/srt"), "");
        thresholds(routed, first, "maxRtt: off, stalledAfter: 500ms")
    };
    let mut scene = Scene::changed(Layout::default(), "auto", &options, &patient, change).unwrap();
    let service = Thresholds::of_service(id(&scene.agent, "services", "live/srt"));
    let route = Thresholds::of_route(id(&scene.agent, "routes", ROUTE));
    let of_route = [0, 0, 500, 0, OFF.into()];
    let expected = [(service, [2_000_000, 2000, 0, 250, 0]), (route, of_route)];
    wait_map(&scene.agent, &expected, LIMIT);
    let shown = |command: &str| scene.agent.json(&[command]).unwrap()[0]["thresholds"].clone();
    assert_eq!(
        shown("services"),
        "minBitrate=2000000,minBitrateFor=2s,maxLoss=2.5%"
    );
    assert_eq!(shown("routes"), "maxRtt=off,stalledAfter=500ms");

    let options = CallerOptions::lasting(1e6, 8.0);
    let target = scene.target("#!::r=acme/1,m=publish");
    let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
    scene
        .wait_accepted("#!::r=acme/1,m=publish", 0, LIMIT)
        .unwrap();
    let mut without = thresholds(scene.config.clone(), "maxRtt: 40%", "");
    without.routes.clear();
    scene.reload(&without).unwrap();
    let of_service = (service, [0, 0, 0, 0, 40]);
    wait_map(&scene.agent, &[of_service, (route, of_route)], LIMIT);
    scene.agent.kill().unwrap();
    scene.agent.run_with(&patient).unwrap();
    scene.agent.wait_ready().unwrap();
    wait_map(&scene.agent, &[of_service, (route, of_route)], LIMIT);

    caller.finish(2 * LIMIT).unwrap();
    wait_map(&scene.agent, &[of_service], 3 * LIMIT);
    let mut nothing = without;
    nothing.services[0].thresholds.clear();
    scene.reload(&nothing).unwrap();
    wait_map(&scene.agent, &[], LIMIT);
}
