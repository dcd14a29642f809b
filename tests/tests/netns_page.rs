//! The page in headless Chromium, with made-up streams: what is seen, heard, and done by keyboard. Pictures are in
//! `target/screenshots`; with `INGEST_WRITE_IMAGES=1` those of the README are made anew.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::time::Duration;

use fantoccini::key::Key;
use ingest_agent::cli::PageShows;
use ingest_agent::view::{Stream, View};
use ingest_common::abi::StreamState;
use ingest_tests::browser::Browser;
use ingest_tests::workspace;
use serde_json::Value;

mod page;

use page::{reading, serve, shifted, stream, ten};

/// Rows of streams that are drawn.
const ROWS: &str = "document.querySelectorAll('#streams-body tr:not(.spacer)')";
/// The look-overs of a page that no person has to make.
const CHECKS: &str = include_str!("page/checks.js");

fn opened(view: View, shows: PageShows) -> (Browser, page::Served) {
    let served = serve(view, shows);
    let browser = Browser::start().unwrap();
    browser.show_as(1360, 900, false).unwrap();
    browser.open(&served.address).unwrap();
    browser
        .wait("document.getElementById('age').dataset.state === 'live'")
        .unwrap();
    (browser, served)
}

fn rows(browser: &Browser, many: usize) {
    browser.wait(&format!("{ROWS}.length === {many}")).unwrap();
}

/// Labels, headings, landmarks and contrast, and nothing wider than the window.
fn check(browser: &Browser, what: &str) {
    let found = browser.run(CHECKS).unwrap();
    assert_eq!(found, Value::Array(Vec::new()), "{what}: {found:#}");
    let complaints = browser.complaints().unwrap();
    assert!(complaints.is_empty(), "{what}: {complaints:#?}");
}

/// Light and dark, wide and narrow.
fn pictures(browser: &Browser, name: &str) {
    for (width, height, size) in [(1360, 1500, "wide"), (360, 1500, "narrow")] {
        for (dark, scheme) in [(false, "light"), (true, "dark")] {
            browser.show_as(width, height, dark).unwrap();
            // A second turn draws what the new size has room for.
            std::thread::sleep(Duration::from_millis(1500));
            browser
                .picture(&format!("page-{name}-{size}-{scheme}"))
                .unwrap();
            check(browser, &format!("{name}, {size}, {scheme}"));
        }
    }
    browser.show_as(1360, 900, false).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn ten_streams_are_seen_heard_and_worked_with_by_keyboard() {
    let (browser, _served) = opened(ten(), PageShows::Redacted);
    rows(&browser, 10);
    let first = browser
        .wait(&format!("{ROWS}[0].innerText.includes('stalled') && {ROWS}[0].innerText.includes('encoder stopped') && {ROWS}[1].innerText.includes('low bitrate')"))
        .unwrap();
    assert_eq!(first, Value::Bool(true));
    browser
        .wait("document.getElementById('failovers-body').innerText.includes('live/mediamtx-1')")
        .unwrap();
    browser
        .wait("document.getElementById('status').textContent.startsWith('10 streams, 1 stalled, 1 warning')")
        .unwrap();
    pictures(&browser, "ten");

    // To the first stream by Tab, down by arrow, in by Enter, out by Escape: where it was.
    browser
        .run("document.querySelector('#streams-head th:last-child button').focus()")
        .unwrap();
    browser.press(&[Key::Tab.into()]).unwrap();
    let row = "document.activeElement.closest('tr')?.getAttribute('aria-rowindex')";
    browser.wait(&format!("{row} === '2'")).unwrap();
    browser.press(&[Key::Down.into()]).unwrap();
    browser.wait(&format!("{row} === '3'")).unwrap();
    browser.press(&[Key::Enter.into()]).unwrap();
    browser
        .wait("document.getElementById('detail').open && document.querySelector('#chart-bitrate-words').textContent.includes('should be at least 2.00 Mbit/s')")
        .unwrap();
    browser
        .wait("document.getElementById('detail-reasons').innerText.includes('sends less than the threshold')")
        .unwrap();
    for (dark, scheme) in [(false, "light"), (true, "dark")] {
        browser.show_as(1360, 1100, dark).unwrap();
        browser.picture(&format!("page-detail-{scheme}")).unwrap();
        check(&browser, "detail");
    }
    browser.show_as(360, 800, false).unwrap();
    browser.picture("page-detail-narrow").unwrap();
    check(&browser, "detail, narrow");
    browser.press(&[Key::Escape.into()]).unwrap();
    browser
        .wait(&format!(
            "!document.getElementById('detail').open && {row} === '3'"
        ))
        .unwrap();

    // Sorted and filtered.
    browser.show_as(1360, 900, false).unwrap();
    let bitrate = "document.querySelector('th.c-bitrate')";
    browser
        .run(&format!("{bitrate}.querySelector('button').click()"))
        .unwrap();
    browser
        .wait(&format!(
            "{bitrate}.getAttribute('aria-sort') === 'descending'"
        ))
        .unwrap();
    let values = format!(
        "[...{ROWS}].map(row => parseFloat(row.querySelector('.c-bitrate .value').textContent))"
    );
    browser
        .wait(&format!(
            "(v => v[0] >= v[1] && v[1] >= v[2] && v[0] > v[7])({values})"
        ))
        .unwrap();
    browser
        .run("document.querySelector('.tile.warning').click()")
        .unwrap();
    rows(&browser, 1);
    browser
        .wait("document.querySelector('.tile.warning').ariaPressed === 'true'")
        .unwrap();
    browser
        .run("document.querySelector('.tile.warning').click(); document.getElementById('filter').focus()")
        .unwrap();
    rows(&browser, 10);
    browser
        .press(&['n', 'o', 't', 'h', 'i', 'n', 'g', '!'])
        .unwrap();
    browser
        .wait("document.getElementById('streams-empty').innerText.includes('matches the filter')")
        .unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_stream_id_that_is_html_stays_text() {
    let reading = reading();
    let hostile = [
        "<img src=x onerror=window.struck=1>",
        "<script>window.struck=1</script>",
        "\"><svg onload=window.struck=1>",
    ];
    let mut streams: Vec<Stream> = (0..)
        .zip(hostile)
        .map(|(number, name)| stream(number, name, StreamState::Active))
        .collect();
    shifted(&mut streams, &reading);
    let (browser, _served) = opened(View::made_up(reading, streams, []), PageShows::Full);
    rows(&browser, 3);
    for name in hostile {
        let quoted = Value::from(name).to_string();
        let shown = format!("document.getElementById('streams-body').innerText.includes({quoted})");
        browser.wait(&shown).unwrap();
    }
    browser
        .run(&format!("{ROWS}[0].querySelector('button').click()"))
        .unwrap();
    browser
        .wait("document.getElementById('detail-title').textContent.includes('<')")
        .unwrap();
    let struck = browser
        .run("return window.struck ?? document.querySelectorAll('img, main script, dialog script').length")
        .unwrap();
    assert_eq!(struck, 0);
    check(&browser, "hostile");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_streams_it_says_what_to_do() {
    let (browser, _served) = opened(View::made_up(reading(), [], []), PageShows::Redacted);
    browser
        .wait("document.getElementById('streams-empty').innerText.includes('No streams')")
        .unwrap();
    pictures(&browser, "none");
}

/// Rows in the document stay few, every place of the list can be reached, and no frame takes long.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn five_thousand_streams_scroll() {
    let reading = reading();
    let mut streams: Vec<Stream> = (0..5000)
        .map(|number| {
            let name = format!("live/camera-{number:04}");
            stream(number, &name, StreamState::Active)
        })
        .collect();
    shifted(&mut streams, &reading);
    let (browser, _served) = opened(View::made_up(reading, streams, []), PageShows::Full);
    browser
        .wait("document.getElementById('streams-count').textContent === '5,000 streams'")
        .unwrap();
    browser
        .run(
            "const scroll = document.getElementById('streams-scroll');
             window.frames = []; let last = performance.now();
             const step = now => {
                 window.frames.push(now - last); last = now; scroll.scrollTop += 90;
                 if (window.frames.length < 300) requestAnimationFrame(step); else window.done = true;
             };
             requestAnimationFrame(step);",
        )
        .unwrap();
    browser.wait("window.done").unwrap();
    let frames = browser
        .run("return window.frames.sort((a, b) => a - b)")
        .unwrap();
    let at = |share: usize| frames[300 * share / 100].as_f64().unwrap();
    let many = browser.run(&format!("return {ROWS}.length")).unwrap();
    println!(
        "frames of 5000 streams while scrolling: median {:.1} ms, 95 % {:.1} ms, {many} rows drawn",
        at(50),
        at(95)
    );
    assert!(many.as_u64().unwrap() < 80, "{many} rows drawn");
    // A busy machine's Chromium draws in software: what is bounded is that nothing takes time by the number of streams.
    assert!(at(50) < 100.0, "{} ms", at(50));
    browser.picture("page-5000").unwrap();
    browser.run("document.getElementById('streams-scroll').scrollTop = 1e9; document.querySelector('#streams-body tr:not(.spacer) button').focus({preventScroll: true})").unwrap();
    browser
        .wait("document.getElementById('streams-body').innerText.includes('live/camera-4999')")
        .unwrap();
    // And by keyboard from one end to the other.
    browser
        .run("document.querySelector('#streams-body button[tabindex=\"0\"]').focus()")
        .unwrap();
    browser.press(&[Key::Home.into()]).unwrap();
    let row = "document.activeElement.closest('tr')?.getAttribute('aria-rowindex')";
    browser.wait(&format!("{row} === '2'")).unwrap();
    browser.press(&[Key::End.into()]).unwrap();
    browser.wait(&format!("{row} === '5001'")).unwrap();
    browser.press(&[Key::Up.into()]).unwrap();
    browser.wait(&format!("{row} === '5000'")).unwrap();
}

/// Those of the README.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_readmes_pictures_can_be_made() {
    let (browser, _served) = opened(ten(), PageShows::Redacted);
    rows(&browser, 10);
    for (dark, scheme) in [(false, "light"), (true, "dark")] {
        browser.show_as(1200, 800, dark).unwrap();
        std::thread::sleep(Duration::from_millis(2500));
        let picture = browser.picture(&format!("page-{scheme}")).unwrap();
        assert!(picture.len() < 200 * 1024, "{} bytes", picture.len());
        if std::env::var_os("INGEST_WRITE_IMAGES").is_some() {
            let images = workspace().join("docs/images");
            std::fs::create_dir_all(&images).unwrap();
            std::fs::write(images.join(format!("page-{scheme}.png")), &picture).unwrap();
        }
    }
}
