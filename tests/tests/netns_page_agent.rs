//! The page of a real agent, with real streams: one throttled, one whose pod dies, the agent killed and back.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use ingest_tests::browser::Browser;
use ingest_tests::netns::{self, Layout};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions, LiveTransmit};
use ingest_tests::scene::{LIMIT, Scene};

/// Does `look` with a browser on the node. Where it fails, so does the test.
fn on_the_node(scene: &Scene, look: impl FnOnce(&Browser) -> anyhow::Result<()> + Send + 'static) {
    let browse = move || {
        let browser = Browser::start()?;
        browser.show_as(1360, 1200, false)?;
        browser.open("http://127.0.0.1:9465/")?;
        look(&browser)
    };
    let looked = netns::spawn_in(&scene.topology.node.path(), browse).unwrap();
    looked.join().unwrap().unwrap();
}

/// * without streams the page says so;
/// * ten streams come: they are active, with bitrate and round trip;
/// * one is throttled under its threshold: it is in warning, and why is said;
/// * the pod of another dies: the failover log has it;
/// * the agent is killed while the page is open: that is said, and when it is back, no more.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_happens_to_streams_and_agent_is_seen() {
    const ARGUMENTS: [&str; 2] = ["--silence", "3s"];
    let layout = Layout {
        pods: 3,
        ..Layout::default()
    };
    let thresholds = "minBitrate: 500000, minBitrateFor: 2s, maxLoss: off, maxRtt: off";
    let mut scene = Scene::changed(
        layout,
        "auto",
        &ListenerOptions::default(),
        &ARGUMENTS,
        |config, _| config.stream().with_thresholds(thresholds),
    )
    .unwrap();
    on_the_node(&scene, |browser| {
        browser
            .wait("document.getElementById('streams-empty').innerText.includes('No streams')")?;
        browser.picture("agent-none").map(drop)
    });
    let callers: Vec<Caller> = (0..9)
        .map(|number| {
            let target = scene.target(&format!("#!::r=studio/camera-{number},m=publish"));
            let options = CallerOptions::lasting(1e6, 600.0);
            Caller::start(&scene.topology.client, &target, &options).unwrap()
        })
        .collect();
    let target = scene.target("live/returns");
    let _encoder = LiveTransmit::start(&scene.topology.client, &target, 1, 1e6).unwrap();
    scene.wait_accepted("live/returns", 0, LIMIT).unwrap();
    on_the_node(&scene, |browser| {
        browser.wait("document.querySelector('.tile.active .number').textContent === '10'")?;
        browser.wait("[...document.querySelectorAll('#streams-body .c-rtt .value')].filter(v => v.textContent.endsWith(' ms')).length === 10")?;
        browser.picture("agent-ten").map(drop)
    });
    callers[0].throttle().unwrap();
    let pod = scene.seat("live/returns").unwrap();
    scene.listeners[pod].kill().unwrap();
    on_the_node(&scene, |browser| {
        browser.wait(
            "document.getElementById('streams-body').innerText.includes('failed over once')",
        )?;
        browser.wait("document.getElementById('failovers-body').rows[0].cells.length > 1")?;
        browser.wait(
            "/low bitrate|encoder stopped/.test(document.getElementById('streams-body').innerText)",
        )?;
        browser.picture("agent-warning").map(drop)
    });
    let watch = netns::spawn_in(&scene.topology.node.path(), || {
        let browser = Browser::start()?;
        browser.show_as(1360, 1200, false)?;
        browser.open("http://127.0.0.1:9465/")?;
        browser.wait("document.getElementById('age').dataset.state === 'live'")?;
        browser
            .wait("document.getElementById('alert').textContent.startsWith('Agent lost since')")?;
        browser.picture("agent-lost")?;
        browser.wait("document.getElementById('alert').textContent === ''")?;
        browser.wait("document.getElementById('status').textContent.length > 0")?;
        browser.picture("agent-back").map(drop)
    })
    .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(8));
    scene.agent.kill().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(8));
    scene.agent.run_with(&ARGUMENTS).unwrap();
    scene.agent.wait_ready().unwrap();
    watch.join().unwrap().unwrap();
}
