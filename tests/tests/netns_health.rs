//! What is wrong with a stream shows: in the CLI, on the page and in the metrics, in time and for as long as it is so.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::time::{Duration, Instant};

use ingest_tests::agent::Agent;
use ingest_tests::config::Config;
use ingest_tests::monotonic_ns;
use ingest_tests::netns::Layout;
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions, Target};
use ingest_tests::scene::{LIMIT, Scene};
use ingest_tests::wan::{Wan, Weather};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Pauses of a busy machine are no hung pods.
const PATIENT: [&str; 2] = ["--silence", "3s"];
/// A hung pod is to be seen before it is given up.
const VERY_PATIENT: [&str; 2] = ["--silence", "10s"];
/// Of the tests' services.
const MIN_BITRATE: &str = "minBitrate: 1500000, minBitrateFor: 3s, stalledAfter: 2s";
const MIN_BITRATE_FOR: Duration = Duration::from_secs(3);
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// What is so is seen this long after its threshold has passed.
const SEEN: Duration = Duration::from_secs(2);
/// libsrt gives a session up that it hears nothing of.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// Bits a second of a well encoder: some 285 packets.
const RATE: f64 = 3e6;

fn scene(pods: usize, arguments: &[&str], change: impl FnOnce(Config) -> Config) -> Scene {
    let layout = Layout {
        pods,
        ..Layout::default()
    };
    let options = ListenerOptions::default();
    Scene::changed(layout, "auto", &options, arguments, |config, _| {
        change(config.stream())
    })
    .unwrap()
}

/// A caller that streams until it is dropped; throttled, it sends `low` bits a second.
fn call(scene: &Scene, stream: &str, low: f64) -> Caller {
    let options = CallerOptions {
        low,
        ..CallerOptions::lasting(RATE, 300.0)
    };
    let target = scene.target(stream);
    let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
    caller.wait("connected", 1, LIMIT).unwrap();
    caller
}

/// What is asked about a stream, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Cli,
    Page,
    Count,
    Series,
}

impl Where {
    const ALL: [Self; 4] = [Self::Cli, Self::Page, Self::Count, Self::Series];
}

/// How the stream of this whole Stream ID is, by the CLI.
fn row(agent: &Agent, stream: &str) -> Option<Value> {
    let arguments = ["streams", "--sample", "0s", "--stream-ids", "full"];
    let rows = agent.json(&arguments).unwrap();
    let mut rows = rows.as_array()?.iter();
    rows.find(|row| row["stream_id"] == stream).cloned()
}

fn page(agent: &Agent, path: &str) -> Value {
    serde_json::from_str(&agent.page(path).unwrap()).unwrap()
}

/// Its row on the page.
fn page_row(agent: &Agent, id: &str) -> Option<Value> {
    let answer = page(agent, "/api/v1/streams");
    let mut rows = answer["streams"].as_array()?.iter();
    rows.find(|row| row["id"] == id).cloned()
}

fn is(row: Option<&Value>, state: &str, reason: Option<&str>) -> bool {
    row.is_some_and(|row| {
        let reasons = row["reasons"].as_array().unwrap();
        let named = match reason {
            Some(reason) => reasons.iter().any(|found| found == reason),
            None => reasons.is_empty(),
        };
        row["state"] == state && named
    })
}

/// A stream that is watched.
struct Watched<'a> {
    agent: &'a Agent,
    stream: &'a str,
    id: String,
}

impl<'a> Watched<'a> {
    fn new(scene: &'a Scene, stream: &'a str) -> Self {
        let agent = &scene.agent;
        let row = wait(LIMIT, || row(agent, stream)).unwrap();
        let id = row["id"].as_str().unwrap().to_owned();
        Self { agent, stream, id }
    }

    /// Whether it is in `state` for `reason` (`None`: for none) at this place. `count`: the only one.
    fn shows(&self, place: Where, state: &str, reason: Option<&str>) -> bool {
        let (state_label, id) = (format!("state=\"{state}\""), format!("id=\"{}\"", self.id));
        match place {
            Where::Cli => is(row(self.agent, self.stream).as_ref(), state, reason),
            Where::Page => is(page_row(self.agent, &self.id).as_ref(), state, reason),
            Where::Count => {
                let reason = reason.unwrap_or("none");
                let metric = |name: &str, label: &str| self.agent.metric(name, label).unwrap();
                metric("ingest_streams", &state_label) >= 1.0
                    && (reason == "none"
                        || metric("ingest_stream_reasons", &format!("reason=\"{reason}\"")) >= 1.0)
            }
            Where::Series => {
                let scrape = self.agent.get("/metrics").unwrap();
                scrape.lines().any(|line| {
                    line.starts_with("ingest_stream_state{")
                        && line.contains(&state_label)
                        && line.contains(&id)
                        && line.ends_with(" 1")
                })
            }
        }
    }

    /// Waits until it is so everywhere, and says how long after `since_ns` it was seen at each place.
    fn wait_everywhere(
        &self,
        state: &str,
        reason: Option<&str>,
        since_ns: u64,
        limit: Duration,
    ) -> Vec<(Where, Duration)> {
        let mut seen: Vec<(Where, Duration)> = Vec::new();
        let found = wait(limit + SEEN, || {
            for place in Where::ALL {
                if seen.iter().all(|(known, _)| *known != place) && self.shows(place, state, reason)
                {
                    seen.push((place, Duration::from_nanos(monotonic_ns() - since_ns)));
                }
            }
            (seen.len() == Where::ALL.len()).then_some(())
        });
        assert!(
            found.is_some(),
            "{}: {state} {reason:?} was seen only at {seen:?}; it is {:?}; log:\n{}",
            self.stream,
            row(self.agent, self.stream),
            self.agent.said()
        );
        println!("{} is {state} {reason:?}: {seen:.1?}", self.stream);
        seen
    }

    /// Waits for it in the CLI, on the page and in the metrics; each within `limit`.
    fn turns(&self, state: &str, reason: Option<&str>, since_ns: u64, limit: Duration) {
        let seen = self.wait_everywhere(state, reason, since_ns, limit);
        let late: Vec<_> = seen.iter().filter(|(_, after)| *after > limit).collect();
        assert!(
            late.is_empty(),
            "{state} {reason:?} within {limit:?}: {late:?}"
        );
    }
}

fn wait<T>(limit: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = find() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// * an encoder is throttled under its threshold: it is in `warning` for `low_bitrate` everywhere, within the threshold
///   and two seconds, and hardly before the threshold;
/// * it is unthrottled: it is well again everywhere;
/// * an encoder stops to send and stays connected: `stalled`, `encoder_stopped`; one that freezes: `encoder_unreachable`;
/// * the other streams are well all the while.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn encoders_that_send_too_little_or_nothing_show() {
    let scene = scene(2, &PATIENT, |config| config.with_thresholds(MIN_BITRATE));
    let streams = ["low", "idle", "frozen", "well"].map(|name| format!("#!::r=live/{name}"));
    let callers = [4e5, 0.0, 0.0, 0.0].map(|low| low);
    let mut callers: Vec<_> = streams
        .iter()
        .zip(callers)
        .map(|(stream, low)| call(&scene, stream, low))
        .collect();
    let watched = streams
        .each_ref()
        .map(|stream| Watched::new(&scene, stream));
    let [low, idle, frozen, well] = &watched;
    // Nobody is judged before that.
    std::thread::sleep(MIN_BITRATE_FOR + Duration::from_secs(1));
    for stream in &watched {
        stream.turns("active", None, monotonic_ns(), SEEN);
    }

    let throttled = callers[0].throttle().unwrap();
    let seen = low.wait_everywhere(
        "warning",
        Some("low_bitrate"),
        throttled,
        MIN_BITRATE_FOR + SEEN,
    );
    for (place, after) in seen {
        // A reading's second may have begun before.
        assert!(
            after + Duration::from_secs(1) > MIN_BITRATE_FOR,
            "{place:?}: {after:?}"
        );
        assert!(after <= MIN_BITRATE_FOR + SEEN, "{place:?}: {after:?}");
    }
    assert!(is(row(low.agent, well.stream).as_ref(), "active", None));
    let bitrate = row(low.agent, low.stream).unwrap()["bitrate"].as_f64();
    assert!(
        bitrate.is_none_or(|bitrate| (3e5..5e5).contains(&bitrate)),
        "{bitrate:?}"
    );
    let released = callers[0].release().unwrap();
    // Three seconds of being well.
    low.turns("active", None, released, Duration::from_secs(3) + SEEN);

    let stopped = callers[1].throttle().unwrap();
    let frozen_at = callers[2].process().signal(Signal::SIGSTOP).unwrap();
    idle.turns(
        "stalled",
        Some("encoder_stopped"),
        stopped,
        STALLED_AFTER + SEEN,
    );
    frozen.turns("stalled", Some("encoder_unreachable"), frozen_at, GIVEN_UP);
    assert!(is(row(low.agent, well.stream).as_ref(), "active", None));
    assert!(is(row(low.agent, low.stream).as_ref(), "active", None));
    let released = callers[1].release().unwrap();
    callers[2].process().signal(Signal::SIGCONT).unwrap();
    idle.turns("active", None, released, Duration::from_secs(3) + SEEN);
    let again = wait(LIMIT, || {
        is(row(frozen.agent, frozen.stream).as_ref(), "active", None).then_some(())
    });
    assert!(again.is_some(), "{:?}", row(frozen.agent, frozen.stream));
}

/// * a pod drains: its stream is `draining`, and well again when that is taken back;
/// * it is killed: the stream is at another pod, with a reconnect and a failover, in the log of failovers and in the metrics;
/// * that pod hangs: `pod_silent`, while it is not given up yet.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn pods_that_go_show() {
    let mut scene = scene(2, &VERY_PATIENT, |config| config);
    let stream = "#!::r=live/cam1";
    let caller = call(&scene, stream, 0.0);
    let pods = ["pod-a", "pod-b"].map(|name| format!("live/{name}"));
    let (at, _) = scene.wait_accepted(stream, 0, LIMIT).unwrap();
    let watched = Watched::new(&scene, stream);
    let id = watched.id.clone();
    watched.turns("active", None, monotonic_ns(), SEEN);

    let drained = monotonic_ns();
    scene.agent.json(&["drain", &pods[at]]).unwrap();
    watched.turns("draining", None, drained, SEEN);
    let back = monotonic_ns();
    scene.agent.json(&["drain", &pods[at], "--cancel"]).unwrap();
    watched.turns("active", None, back, SEEN);

    let killed = scene.listeners[at].kill().unwrap();
    let (to, _) = scene.wait_accepted(stream, killed, LIMIT).unwrap();
    let agent = &scene.agent;
    let counted = wait(LIMIT, || {
        let row = row(agent, stream)?;
        (row["reconnects"] == 1 && row["failovers"] == 1).then_some(row)
    });
    let counted = counted.unwrap_or_else(|| panic!("{:?}", row(agent, stream)));
    assert_eq!(counted["id"], id.as_str(), "the same stream");
    assert_eq!(counted["backend"], pods[to].as_str());
    let log = page(agent, "/api/v1/failovers");
    let entry = &log["failovers"][0];
    assert_eq!(entry["id"], id.as_str(), "{log}");
    assert_eq!(entry["from"], pods[at].as_str(), "{log}");
    assert_eq!(entry["to"], pods[to].as_str(), "{log}");
    assert_eq!(entry["reason"], "unreachable", "{log}");
    let took = entry["took_ms"].as_f64().unwrap();
    assert!((0.0..2000.0).contains(&took), "{log}");
    let metric = |name: &str, labels: &str| agent.metric(name, labels).unwrap();
    let unreachable = metric("ingest_failovers_total", "reason=\"unreachable\"");
    assert!((unreachable - 1.0).abs() < 0.1, "{unreachable}");
    let timed = metric("ingest_failover_duration_seconds_count", "");
    assert!((timed - 1.0).abs() < 0.1, "{timed}");

    let hung = scene.listeners[to].hang().unwrap();
    let agent = &scene.agent;
    let silent = |row: Option<Value>| {
        let row = row?;
        let reasons = row["reasons"].as_array()?;
        let told = ["warning", "stalled"]
            .iter()
            .any(|state| row["state"] == *state);
        (told && reasons.iter().any(|reason| reason == "pod_silent")).then_some(())
    };
    let seen = wait(GIVEN_UP, || silent(row(agent, stream)));
    assert!(seen.is_some(), "{:?}", row(agent, stream));
    println!(
        "pod_silent after {:.1?}",
        Duration::from_nanos(monotonic_ns() - hung)
    );
    assert!(silent(page_row(agent, &id)).is_some());
    assert!(metric("ingest_stream_reasons", "reason=\"pod_silent\"") >= 1.0);
    scene.listeners[to].resume().unwrap();
    drop(caller);
}

/// * 5 % of what an encoder sends is lost on its way: that is reported, give or take one percentage point, and so much is
///   sent again; the same in the per-stream counters;
/// * a round trip of 80 ms is reported, give or take a fifth;
/// * the latency shown is the greater one of what both ends want.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn loss_and_round_trip_are_those_of_the_path() {
    const LOSS: f64 = 0.05;
    const ROUND_TRIP_MS: f64 = 80.0;
    const LATENCY_MS: u32 = 800;
    let fair = Weather {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        handshake_loss: 0.0,
        loss: 0.0,
        loss_down: 0.0,
        duplication: 0.0,
        seed: 7,
    };
    let layout = Layout {
        pods: 1,
        ..Layout::default()
    };
    let options = ListenerOptions {
        latency_ms: LATENCY_MS,
        ..ListenerOptions::default()
    };
    let scene = Scene::changed(layout, "auto", &options, &PATIENT, |config, _| {
        config.stream().with_thresholds("maxLoss: 3%")
    });
    let scene = scene.unwrap();
    // Some 950 packets a second: in what counts, 4,000, whose standard deviation is a third of a point.
    let start = |stream: &str, rate: f64, weather: Weather| {
        let wan = Wan::start(&scene.topology.client, scene.vip(), weather).unwrap();
        let target = Target {
            address: wan.address(),
            latency_ms: LATENCY_MS / 2,
            ..Target::new(wan.address().ip(), stream)
        };
        let options = CallerOptions::lasting(rate, 300.0);
        let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
        caller.wait("connected", 1, LIMIT).unwrap();
        (wan, caller)
    };
    let (lossy, far) = ("#!::r=live/lossy", "#!::r=live/far");
    let _lossy = start(lossy, 1e7, Weather { loss: LOSS, ..fair });
    let delay = Duration::from_secs_f64(ROUND_TRIP_MS / 2000.0);
    let _far = start(far, 1e6, Weather { delay, ..fair });

    let watched = Watched::new(&scene, lossy);
    watched.wait_everywhere("warning", Some("loss"), monotonic_ns(), LIMIT);
    std::thread::sleep(Duration::from_secs(3));
    let mut readings = Vec::new();
    for _ in 0..5 {
        let row = page_row(&scene.agent, &watched.id).unwrap();
        let share = |name: &str| row[name].as_f64().unwrap();
        readings.push((
            share("loss"),
            share("retransmitted_share"),
            share("reported_loss"),
        ));
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("loss, retransmitted, reported: {readings:.4?}");
    for (loss, retransmitted, reported) in &readings {
        assert!((loss - LOSS).abs() <= 0.015, "{readings:?}");
        // Each lost packet again, and again where that is lost too, or where the report is repeated.
        assert!((0.03..0.2).contains(retransmitted), "{readings:?}");
        assert!((0.03..0.3).contains(reported), "{readings:?}");
    }
    let mean = readings.iter().map(|(loss, ..)| loss).sum::<f64>() / 5.0;
    assert!((mean - LOSS).abs() <= 0.01, "{mean} of {readings:?}");
    // Of the whole session, by the counters that Prometheus makes a rate of.
    let label = format!("id=\"{}\"", watched.id);
    let total = |name: &str| scene.agent.metric(name, &label).unwrap();
    let lost = total("ingest_stream_lost_packets_total");
    let again = total("ingest_stream_retransmitted_packets_total");
    let row = row(&scene.agent, lossy).unwrap();
    let first = row["data_packets"].as_f64().unwrap() - again;
    let share = lost / (first + lost);
    assert!((share - LOSS).abs() <= 0.01, "{share}: {lost} of {first}");

    let far = row_of(&scene.agent, far);
    let rtt = far["rtt_ms"].as_f64().unwrap();
    println!("round trip of {ROUND_TRIP_MS} ms: {rtt} ms");
    assert!((rtt - ROUND_TRIP_MS).abs() <= ROUND_TRIP_MS / 5.0, "{far}");
    assert_eq!(far["latency_ms"], LATENCY_MS, "{far}");
    assert_eq!(far["receiver_latency_ms"], LATENCY_MS / 2, "{far}");
}

fn row_of(agent: &Agent, stream: &str) -> Value {
    row(agent, stream).unwrap()
}
