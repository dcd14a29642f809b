//! Log lines of the kernel programs.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ingest_tests::netns::{Namespace, VIP_V4};
use ingest_tests::peers::PORT;
use ingest_tests::scene::{LIMIT, Scene};

/// Two bytes to the VIP: no SRT packet is that short.
fn send_runt(client: &Namespace) -> anyhow::Result<()> {
    client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(b"no", SocketAddr::new(IpAddr::V4(VIP_V4), PORT))?;
        Ok(())
    })
}

/// * with `--kernel-log debug` a dropped packet is a line of the agent's log, with its reason;
/// * without, the same packet is counted and says nothing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn kernel_log_lines_reach_the_agents_log_only_when_asked_for() {
    let mut scene = Scene::new(1, "auto").unwrap();
    send_runt(&scene.topology.client).unwrap();
    let dropped = |scene: &Scene| {
        scene
            .agent
            .metric("ingest_drops_total", r#"reason="srt_length""#)
            .unwrap()
    };
    let deadline = Instant::now() + LIMIT;
    while dropped(&scene) < 1.0 && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
    }
    assert!(dropped(&scene) >= 1.0);
    assert!(!scene.agent.said().contains("dropped: reason"));

    scene.agent.stop().unwrap();
    scene
        .agent
        .run_with(&["--kernel-log", "debug", "--log-level", "debug"])
        .unwrap();
    scene.agent.wait_ready().unwrap();
    let deadline = Instant::now() + LIMIT;
    while !scene.agent.said().contains("dropped: reason 3") {
        assert!(Instant::now() < deadline, "{}", scene.agent.said());
        send_runt(&scene.topology.client).unwrap();
        sleep(Duration::from_millis(50));
    }
}
