//! How packets get into pods of CNI plugins, which are made without a thought for us.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::{Cluster, SERVICE, objects};
use ingest_tests::peers::{Caller, CallerOptions};
use ingest_tests::scene::LIMIT;

fn gro(cluster: &Cluster) -> String {
    let netns = &cluster.pods[0].place.pod.netns;
    let features = netns.shell("ethtool -k eth0").unwrap();
    let line = features
        .lines()
        .find_map(|line| line.strip_prefix("generic-receive-offload: "));
    line.unwrap().to_owned()
}

/// * a pod without GRO cannot be reached by `redirect`: another way is taken, and its owner is told;
/// * the administrator lets the agent switch GRO on: it does, and `redirect` is proven;
/// * what is sent then arrives whole.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn gro_in_pods_makes_redirect_work() {
    for plugin in [Plugin::Ptp, Plugin::Bridge] {
        let mut cluster = Cluster::new(plugin).unwrap();
        cluster.install_agent("redirect").unwrap();
        let vip = cluster.target("").address.ip();
        cluster
            .client
            .apply(&objects::service(SERVICE, &[vip]))
            .unwrap();
        let pod = cluster.add_pod().unwrap();
        cluster.publish().unwrap();
        cluster.start_agent(&[]).unwrap();
        let name = &cluster.pods[pod].name;
        cluster
            .client
            .wait_event("Pod", name, "DeliveryFallback", LIMIT)
            .unwrap();
        assert_eq!(gro(&cluster), "off");
        let backends = cluster.agent.json(&["backends"]).unwrap();
        assert_ne!(backends[0]["mode"], "redirect", "{backends}");

        cluster.agent.stop().unwrap();
        cluster.start_agent(&["--pod-gro"]).unwrap();
        cluster.agent.wait_mode("redirect").unwrap();
        assert_eq!(gro(&cluster), "on");
        let target = cluster.target("live/cam1");
        let options = CallerOptions::lasting(2e6, 1.0);
        let caller = Caller::start(&cluster.topology.client, &target, &options).unwrap();
        let sent = caller.finish(LIMIT).unwrap();
        let listener = &cluster.pods[pod].listener;
        let session = listener.wait_closed("live/cam1", LIMIT).unwrap();
        assert!(
            session.is_whole() && session.messages == sent,
            "{plugin:?}: {session:?}"
        );
    }
}
