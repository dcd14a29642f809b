//! Nothing that the API server does, or the agent's end meanwhile, touches a stream.

use std::time::{Duration, Instant};

use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::load::{self, Load, STREAMS};
use ingest_tests::cluster::objects::{self, Endpoint};
use ingest_tests::cluster::{Cluster, SERVICE, SLICE};
use ingest_tests::milliseconds;
use ingest_tests::monotonic_ns;
use ingest_tests::netns::VIP_V4;
use ingest_tests::scene::LIMIT;

/// The slice of the last pod alone.
const ALONE: &str = "ingest-alone";

/// A change reaches an agent that has lost its server within its back-off.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// * the API server hangs for a minute, with all connections open: no stream notices;
/// * the agent stays alive and ready;
/// * a change that is made right after the minute arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_server_that_hangs_for_a_minute_stops_nothing() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 3).unwrap();
    let _load = Load::start(&cluster).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let before = load::sessions(&cluster).unwrap();
    cluster.server.hang().unwrap();
    load::untouched(&cluster, &before, Duration::from_mins(1)).unwrap();
    for page in ["/livez", "/readyz"] {
        cluster.agent.get(page).unwrap();
    }
    let resumed = cluster.server.resume().unwrap();
    let pod = before[0].0;
    cluster.pods[pod].endpoint = None;
    let published = Instant::now();
    while cluster.publish().is_err() {
        assert!(
            published.elapsed() < CATCHING_UP,
            "the server does not answer again"
        );
    }
    let (to, accepted) = cluster
        .wait_accepted(STREAMS[0], resumed, CATCHING_UP)
        .unwrap();
    assert_ne!(to, pod);
    println!(
        "SIGCONT to connected elsewhere: {:.0} ms",
        milliseconds(resumed, accepted.t)
    );
}

/// * the API server is killed; a slice is deleted in etcd, history is compacted, the server comes back: what the
///   agent resumes from is gone (410);
/// * the backend of that slice goes, though nobody ever said so;
/// * no other does, and no stream notices.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_vanished_while_the_server_was_down_goes_and_nothing_else() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 3).unwrap();
    let _load = Load::start(&cluster).unwrap();
    let before = load::sessions(&cluster).unwrap();
    // One more, that no stream is on.
    let alone = cluster.add_pod().unwrap();
    let endpoint = cluster.pods[alone].endpoint.clone().unwrap();
    cluster
        .client
        .apply(&objects::slice(SERVICE, ALONE, &[endpoint]))
        .unwrap();
    cluster.wait_backends(4).unwrap();

    cluster.server.kill().unwrap();
    cluster.server.forget_slice(ALONE).unwrap();
    cluster.server.compact().unwrap();
    cluster.server.run().unwrap();
    // So that the agent's version is older than the server's oldest.
    cluster
        .client
        .apply(&objects::service("other", &[]))
        .unwrap();
    let up = monotonic_ns();
    cluster.wait_backends(3).unwrap();
    println!(
        "server up to vanished backend gone: {:.0} ms",
        milliseconds(up, monotonic_ns())
    );
    load::untouched(&cluster, &before, Duration::from_secs(4)).unwrap();
    cluster.wait_backends(3).unwrap();
    let gone = cluster
        .agent
        .metric("ingest_watch_errors_total", "gone")
        .unwrap();
    assert!(gone > 0.0, "no watch was told 410");
}

/// * the server is down, and the agent is killed and started again: no stream notices, and what it had is kept;
/// * it lives, and is not ready before it has seen the cluster;
/// * a pod's interface goes in the outage: its sessions are elsewhere all the same;
/// * the server is back: the agent is ready, and a change arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_restarts_while_the_server_is_down() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 3).unwrap();
    let _load = Load::start(&cluster).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let before = load::sessions(&cluster).unwrap();
    cluster.server.kill().unwrap();
    cluster.agent.kill().unwrap();
    load::untouched(&cluster, &before, Duration::from_secs(3)).unwrap();
    cluster.agent.run().unwrap();
    wait_alive(&cluster);
    load::untouched(&cluster, &before, Duration::from_secs(5)).unwrap();
    let ready = cluster.agent.get("/readyz").unwrap_err();
    assert!(format!("{ready:#}").contains("503"), "{ready:#}");
    cluster.wait_backends(3).unwrap();

    let pod = before[0].0;
    let removed = monotonic_ns();
    cluster.network.delete(&cluster.pods[pod].place).unwrap();
    let soon = Duration::from_secs(3);
    let (to, accepted) = cluster.wait_accepted(STREAMS[0], removed, soon).unwrap();
    assert_ne!(to, pod);
    println!(
        "CNI DEL to connected elsewhere: {:.0} ms",
        milliseconds(removed, accepted.t)
    );

    cluster.server.run().unwrap();
    cluster.agent.wait_ready().unwrap();
    cluster.pods[pod].endpoint = None;
    cluster.publish().unwrap();
    cluster.wait_backends(2).unwrap();
}

/// * an agent starts with no server and no earlier state: it lives, is not ready, and steers nothing;
/// * once there is a server it is ready and steers.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_waits_for_its_first_server() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    cluster
        .client
        .apply(&objects::service(SERVICE, &[VIP_V4.into()]))
        .unwrap();
    let endpoint = Endpoint::new("10.9.0.1".parse().unwrap());
    cluster
        .client
        .apply(&objects::slice(SERVICE, SLICE, &[endpoint]))
        .unwrap();
    cluster.server.kill().unwrap();
    cluster.agent.run().unwrap();
    wait_alive(&cluster);
    std::thread::sleep(Duration::from_secs(1));
    let ready = cluster.agent.get("/readyz").unwrap_err();
    assert!(format!("{ready:#}").contains("503"), "{ready:#}");
    let services = cluster.agent.json(&["services"]).unwrap();
    assert_eq!(services.as_array().unwrap().len(), 0, "{services}");
    cluster.server.run().unwrap();
    cluster.agent.wait_ready().unwrap();
    let services = cluster.agent.json(&["services"]).unwrap();
    assert_eq!(services.as_array().unwrap().len(), 1, "{services}");
}

/// * the server comes back and does not know the agent's token any more (401): what was is kept, streams go on;
/// * an agent that starts then keeps it too;
/// * the token is known again: a change arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_rejected_token_keeps_the_last_state() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 2).unwrap();
    let _load = Load::start(&cluster).unwrap();
    let before = load::sessions(&cluster).unwrap();
    cluster.server.kill().unwrap();
    cluster.server.let_agent_in(false).unwrap();
    cluster.server.run().unwrap();
    load::untouched(&cluster, &before, Duration::from_secs(4)).unwrap();
    cluster.agent.kill().unwrap();
    cluster.agent.run().unwrap();
    wait_alive(&cluster);
    load::untouched(&cluster, &before, Duration::from_secs(3)).unwrap();
    cluster.wait_backends(2).unwrap();
    cluster.agent.get("/readyz").unwrap_err();

    cluster.server.kill().unwrap();
    cluster.server.let_agent_in(true).unwrap();
    cluster.server.run().unwrap();
    cluster.agent.wait_ready().unwrap();
    cluster.pods[0].endpoint = None;
    cluster.publish().unwrap();
    cluster.wait_backends(1).unwrap();
}

fn wait_alive(cluster: &Cluster) {
    let begun = Instant::now();
    while cluster.agent.get("/livez").is_err() {
        assert!(
            begun.elapsed() < LIMIT,
            "not alive:\n{}",
            cluster.agent.said()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
