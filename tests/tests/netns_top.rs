//! `top` on a terminal: the real program on a pty, real streams, and what an emulator shows of it.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use ingest_tests::netns::Layout;
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions};
use ingest_tests::scene::Scene;
use ingest_tests::terminal::Terminal;
use nix::sys::signal::Signal;

/// How long something may take to stand on the screen.
const LIMIT: Duration = Duration::from_secs(30);
/// How long callers stay, if they are not needed any more before.
const SECONDS: f64 = 180.0;

/// A node whose service wants 1 Mbit/s, one stream of 3 Mbit/s, one of 300 kbit/s, and one without data.
fn scene() -> (Scene, Vec<Caller>) {
    let layout = Layout {
        pods: 2,
        ..Layout::default()
    };
    let scene = Scene::changed(
        layout,
        "auto",
        &ListenerOptions::default(),
        &[],
        |config, _| {
            let config = config.stream();
            config.with_thresholds("minBitrate: 1000000, minBitrateFor: 2s")
        },
    )
    .unwrap();
    let silent = CallerOptions {
        count: 40,
        idle: SECONDS,
        ..CallerOptions::lasting(1e6, 1.0)
    };
    let streams = [
        (
            "#!::r=live/good,m=publish",
            CallerOptions::lasting(3e6, SECONDS),
        ),
        (
            "#!::r=live/thin,m=publish",
            CallerOptions::lasting(3e5, SECONDS),
        ),
        ("#!::r=live/mute,m=publish", silent),
    ];
    let callers = streams
        .iter()
        .map(|(id, options)| {
            let client = &scene.topology.client;
            let caller = Caller::start(client, &scene.target(id), options).unwrap();
            scene.wait_accepted(id, 0, LIMIT).unwrap();
            caller
        })
        .collect();
    (scene, callers)
}

fn top(scene: &Scene, arguments: &[&str], rows: u16, columns: u16) -> Terminal {
    let mut command = scene.agent.command();
    command.arg("top").args(arguments);
    command.env_remove("NO_COLOR");
    Terminal::start(&command, rows, columns).unwrap()
}

/// Waits until the streams stand on the screen in this order.
fn wait_order(terminal: &Terminal, names: &[&str]) {
    let found = terminal.wait(LIMIT, |text| {
        let places: Option<Vec<usize>> = names.iter().map(|name| text.find(name)).collect();
        places.filter(|places| places.is_sorted())
    });
    found.unwrap_or_else(|error| panic!("{names:?} in this order: {error:#}"));
}

/// * every stream is there with its state, its reason and its bitrate, the worst first;
/// * keys sort, filter, and show all about one;
/// * a smaller terminal has what fits; quitting gives the terminal back as it was.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn top_shows_sorts_filters_and_gives_the_terminal_back() {
    let (scene, _callers) = scene();
    let mut terminal = top(&scene, &["--stream-ids", "full"], 30, 170);
    terminal
        .wait_for("stalled: encoder_stopped", LIMIT)
        .unwrap();
    terminal.wait_for("warning: low_bitrate", LIMIT).unwrap();
    wait_order(
        &terminal,
        &["STATE▼", "live/mute", "live/thin", "live/good"],
    );
    let text = terminal.text();
    for part in [
        "3 streams",
        "eth0 (",
        "1 stalled  1 warning  1 active",
        "live/pod-",
        " ms",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!terminal.is_restored().unwrap(), "it has the screen");
    let rate = |text: &str| {
        let line = text.lines().find(|line| line.contains("live/good"))?;
        let (before, _) = line.split_once(" Mbit/s")?;
        before.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let is_right = |rate: &f64| (2.4..3.6).contains(rate);
    terminal
        .wait(LIMIT, |text| rate(text).filter(is_right))
        .unwrap();

    terminal.send("sssss").unwrap();
    wait_order(
        &terminal,
        &["BITRATE▼", "live/good", "live/thin", "live/mute"],
    );
    terminal.send("r").unwrap();
    wait_order(
        &terminal,
        &["BITRATE▲", "live/mute", "live/thin", "live/good"],
    );
    terminal.send("/THIN\r").unwrap();
    let text = terminal
        .wait_for("1 of 3 streams with “THIN”", LIMIT)
        .unwrap();
    assert!(!text.contains("live/good"), "{text}");

    terminal.send("\r").unwrap();
    let text = terminal
        .wait_for("the encoder sends less than the threshold", LIMIT)
        .unwrap();
    assert!(text.contains("at least 1.0 Mbit/s within 2s"), "{text}");
    assert!(text.contains("bitrate, up to "), "{text}");
    terminal.resize(24, 80).unwrap();
    let text = terminal
        .wait(LIMIT, |text| {
            let is_whole = text.contains("└") && text.contains("thresholds");
            is_whole.then(|| text.to_owned())
        })
        .unwrap();
    assert!(!text.contains("bitrate, up to "), "no room:\n{text}");
    terminal.send("\r\x1b").unwrap();
    wait_order(&terminal, &["live/mute", "live/thin", "live/good"]);

    terminal.send("q").unwrap();
    assert!(terminal.wait_end(LIMIT).unwrap().success());
    assert!(terminal.is_restored().unwrap());
    assert!(!terminal.text().contains("live/"), "{}", terminal.text());
    write_image(&scene);
}

/// The picture in the README, where one is asked for: a minute of streams, and one in detail.
fn write_image(scene: &Scene) {
    if std::env::var_os("INGEST_WRITE_IMAGES").is_none() {
        return;
    }
    let mut terminal = top(scene, &[], 46, 150);
    terminal
        .wait_for("stalled: encoder_stopped", LIMIT)
        .unwrap();
    std::thread::sleep(Duration::from_mins(1));
    terminal.send("j\r").unwrap();
    terminal.wait_for("bitrate, up to ", LIMIT).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images/top.svg");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, terminal.svg()).unwrap();
}

/// * with the agent stopped the streams are judged all the same, and the screen says by whom;
/// * what a caller asks for moves no cursor;
/// * SIGTERM gives the terminal back; without a terminal there is a clear error.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn top_needs_no_agent_and_heeds_sigterm() {
    let (mut scene, mut callers) = scene();
    // The kernel refuses ASCII's control characters; these are Unicode's: write leftwards, and CSI.
    let hostile = "#!::r=\u{202e}\u{9b}2Jevil,m=publish";
    let options = CallerOptions::lasting(2e6, SECONDS);
    let caller = Caller::start(&scene.topology.client, &scene.target(hostile), &options).unwrap();
    callers.push(caller);
    scene
        .agent
        .wait_json(&["streams", "--sample", "0s"], LIMIT, |rows| {
            (rows.as_array()?.len() == 4).then_some(())
        })
        .unwrap();
    scene.agent.stop().unwrap();

    let mut terminal = top(&scene, &["--stream-ids", "full"], 30, 170);
    terminal.wait_for("no agent: judged here", LIMIT).unwrap();
    terminal.wait_for("4 streams", LIMIT).unwrap();
    terminal
        .wait_for("stalled: encoder_stopped", LIMIT)
        .unwrap();
    terminal.wait_for("warning: low_bitrate", LIMIT).unwrap();
    let text = terminal.wait_for("\\u{202e}\\u{9b}2Je", LIMIT).unwrap();
    assert!(
        text.contains("STATE▼") && text.contains("live/good"),
        "{text}"
    );
    terminal.signal(Signal::SIGTERM).unwrap();
    assert!(terminal.wait_end(LIMIT).unwrap().success());
    assert!(terminal.is_restored().unwrap());

    let piped = scene.agent.cli(&["top"]).unwrap();
    assert_eq!(piped.status.code(), Some(2), "{piped:?}");
    let said = String::from_utf8_lossy(&piped.stderr);
    assert!(said.contains("needs a terminal"), "{said}");
}
