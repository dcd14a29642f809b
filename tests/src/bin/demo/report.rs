//! The summary, the verdict, and the lines to look further by.

use std::collections::BTreeSet;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use crate::events::{Move, Outcome};
use crate::stage::{CUSTOMER, STREAMS, Stage, may_be_at, sender_of};

/// Prints the summary. Returns whether every stream lived.
pub(crate) fn print(stage: &Stage, outcomes: &[Outcome], took: Duration) -> bool {
    println!("\nFrom the event to the encoder connected elsewhere:");
    let mut table = new_table(&["event", "stream", "encoder", "from", "to", "time"]);
    for outcome in outcomes {
        for moved in &outcome.moves {
            table.add_row([
                outcome.event.clone(),
                moved.stream.to_owned(),
                sender_of(moved.stream).to_owned(),
                moved.from.clone(),
                moved.to.clone().unwrap_or_else(|| "nowhere".to_owned()),
                time_of(moved),
            ]);
        }
    }
    println!("{table}");
    println!(
        "ffmpeg exits when its connection ends; a supervisor starts it again at once, as an encoder appliance does,\n\
         so its times hold its start-up. srt-live-transmit reconnects by itself. nftables: vmap and conntrack as\n\
         kube-proxy keeps them, the endpoint removed at the moment of the kill; its encoder waits for libsrt's own 5 s."
    );
    println!(
        "\nStreams, over all their sessions. By their Stream IDs those of {CUSTOMER} have pods of their own:"
    );
    let mut table = new_table(&[
        "stream",
        "encoder",
        "sessions",
        "pods",
        "messages",
        "bad",
        "lost in a session",
        "verdict",
    ]);
    let mut all_lived = outcomes.iter().all(Outcome::is_good);
    for failure in outcomes
        .iter()
        .filter_map(|outcome| outcome.failure.as_ref())
    {
        println!("NOT as it should be: {failure}");
    }
    // A listener reports once a second.
    let before: Vec<_> = STREAMS
        .iter()
        .map(|(stream, _)| last_count(stage, stream))
        .collect();
    std::thread::sleep(Duration::from_millis(2500));
    for ((stream, sender), before) in STREAMS.into_iter().zip(before) {
        let sessions = stage.sessions_of(stream);
        let (mut messages, mut bad, mut lost) = (0, 0, 0);
        for (_, session) in &sessions {
            messages += session.messages;
            bad += session.bad;
            lost += session.lost + session.reordered;
        }
        let pods: BTreeSet<_> = sessions
            .iter()
            .map(|(seat, _)| stage.seats[*seat].pod)
            .collect();
        let at_home = pods.iter().all(|&pod| may_be_at(stream, pod));
        let delivers = last_count(stage, stream) > before;
        let lived = delivers && at_home && bad == 0 && lost == 0;
        all_lived &= lived;
        let verdict = match (delivers, at_home, lived) {
            (_, _, true) => "lives",
            (_, false, _) => "AT ANOTHER CUSTOMER'S POD",
            (true, _, false) => "DAMAGED",
            (false, ..) => "DEAD",
        };
        let pods: Vec<_> = pods.iter().map(|&pod| stage.pod_name(pod)).collect();
        table.add_row([
            stream.to_owned(),
            sender.to_owned(),
            sessions.len().to_string(),
            pods.join(", "),
            messages.to_string(),
            bad.to_string(),
            lost.to_string(),
            verdict.to_owned(),
        ]);
    }
    println!("{table}");
    println!(
        "{} in {:.0} s.",
        if all_lived {
            "Every stream lived"
        } else {
            "NOT every stream lived"
        },
        took.as_secs_f64()
    );
    all_lived
}

/// Where to look while it runs.
pub(crate) fn print_inspection(stage: &Stage) {
    let node = stage.topology.node.name();
    let root = stage.agent.pin_root().display();
    let command = stage.agent.command();
    let agent: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let agent = agent.join(" ");
    println!("\nIt goes on running. To look at it from another terminal, as root:");
    for subcommand in [
        "status", "services", "routes", "backends", "streams", "doctor",
    ] {
        println!("  {agent} {subcommand}");
    }
    println!("  {agent} drain live/pod-a");
    for map in ["SERVICES", "BACKENDS", "FLOWS", "BACKEND_STATS"] {
        println!("  bpftool map dump pinned $(find {root} -name {map})");
    }
    println!("  curl -s http://127.0.0.1:9464/metrics    # after: nsenter --net=/run/netns/{node}");
    println!(
        "  $EDITOR {}    # applied live",
        stage.agent.config().display()
    );
    println!("To end it: Ctrl-C here, or `cargo xtask demo --down`.");
}

/// How long a move took, for people.
pub(crate) fn time_of(moved: &Move) -> String {
    if moved.to.is_none() {
        return format!("not within {:.0} s", moved.took.as_secs_f64());
    }
    let ms = moved.took.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// An empty table with this header.
pub(crate) fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_header(header.iter().copied());
    table
}

/// Messages of the stream's latest session, and the count of its sessions: both only grow while it lives.
fn last_count(stage: &Stage, stream: &str) -> (usize, u64) {
    let sessions = stage.sessions_of(stream);
    (
        sessions.len(),
        sessions.iter().map(|(_, s)| s.messages).sum(),
    )
}
