//! What happens: an encoder starts anew, a kill, a hang, a drain; and how long each stream was away.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ingest_tests::netns::NFT_VIP_V4;
use ingest_tests::nft::Dnat;
use ingest_tests::peers::{Listener, PORT};

use crate::stage::{COMPARISON, STREAMS, Stage};
use crate::table::Screen;

/// A stream's move.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    /// The stream.
    pub(crate) stream: &'static str,
    /// Name of the pod it left.
    pub(crate) from: String,
    /// Name of the pod it went to; `None`: it never came back.
    pub(crate) to: Option<String>,
    /// From the event to the encoder being connected there.
    pub(crate) took: Duration,
}

/// An event and what it did.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// For the summary.
    pub(crate) event: String,
    /// The affected streams.
    pub(crate) moves: Vec<Move>,
    /// What went wrong beside them.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    /// Whether every affected stream came back, and nothing else went wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.failure.is_none() && self.moves.iter().all(|moved| moved.to.is_some())
    }
}

/// Plays all events. About 40 s.
pub(crate) fn play(stage: &mut Stage, screen: &mut Screen) -> Result<Vec<Outcome>> {
    let node_name = stage.topology.node.name().to_owned();
    screen.say(&format!(
        "namespaces are named {}…",
        node_name.trim_end_matches("node")
    ));
    let mut outcomes = Vec::new();
    // The comparison runs beside ours, on the same node and pods, with its own VIP and listeners.
    let endpoints = stage.comparison_endpoints();
    {
        let node = &stage.topology.node;
        let dnat = Dnat::new(node, NFT_VIP_V4, PORT, &endpoints)?;
        dnat.set(&endpoints)?;
    }
    screen.watch(stage, Duration::from_secs(4));
    restart(stage, screen, &mut outcomes)?;
    screen.watch(stage, Duration::from_secs(2));
    let first = kill(stage, screen, &mut outcomes)?;
    screen.watch(stage, Duration::from_secs(3));
    screen.say(&format!(
        "a fresh listener comes up in {}",
        stage.pod_name(first)
    ));
    stage.refresh(first)?;
    screen.watch(stage, Duration::from_secs(2));
    let second = hang(stage, screen, &mut outcomes, first)?;
    screen.watch(stage, Duration::from_secs(3));
    screen.say(&format!(
        "the hung listener in {} is ended, as a liveness probe would, and a fresh one comes up",
        stage.pod_name(second)
    ));
    stage.refresh(second)?;
    screen.watch(stage, Duration::from_secs(2));
    drain(stage, screen, &mut outcomes, [first, second])?;
    screen.watch(stage, Duration::from_secs(3));
    Ok(outcomes)
}

/// The customer's encoder is started anew: its stream comes back to its pod.
fn restart(stage: &mut Stage, screen: &mut Screen, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let (stream, _) = STREAMS[0];
    let seat = stage
        .seat_of(stream)
        .with_context(|| format!("{stream} is nowhere"))?;
    let pod = stage.seats[seat].pod;
    screen.say(&format!(
        "the encoder of {stream} is started anew: it calls from another port"
    ));
    let restarted = stage.restart_encoder(stream)?;
    let event = "encoder restarted (another port)";
    let limit = Duration::from_secs(5);
    let outcome = observe(stage, screen, event, &[stream], restarted, limit);
    let back = stage.seat_of(stream).map(|seat| stage.seats[seat].pod);
    let failure = (back != Some(pod)).then(|| format!("{stream} did not come back to its pod"));
    outcomes.push(Outcome { failure, ..outcome });
    Ok(())
}

/// SIGKILL to the listener with the most streams, ours and, at the same time, the comparison's.
fn kill(stage: &mut Stage, screen: &mut Screen, outcomes: &mut Vec<Outcome>) -> Result<usize> {
    let seat = stage.busiest(&[])?;
    let pod = stage.seats[seat].pod;
    let streams = stage.streams_at(seat);
    screen.say(&format!(
        "SIGKILL to the listener in {} ({}), and to the nftables comparison's",
        stage.pod_name(pod),
        streams.join(", ")
    ));
    let victim = comparison_seat(stage)?;
    let killed = stage.seats[seat].listener.kill()?;
    let comparison_killed = stage.comparison[victim].kill()?;
    // kube-proxy would hear of it from a failed readiness probe, seconds later. Here it knows at once.
    let left: Vec<_> = stage
        .comparison_endpoints()
        .into_iter()
        .enumerate()
        .filter(|(pod, _)| *pod != victim)
        .map(|(_, endpoint)| endpoint)
        .collect();
    Dnat::new(&stage.topology.node, NFT_VIP_V4, PORT, &left)?.set(&left)?;
    outcomes.push(observe(
        stage,
        screen,
        "listener killed (SIGKILL)",
        &streams,
        killed,
        Duration::from_secs(5),
    ));

    let back = wait_for(stage, screen, Duration::from_secs(12), |stage| {
        stage
            .comparison
            .iter()
            .enumerate()
            .flat_map(|(pod, l)| l.accepted().into_iter().map(move |a| (pod, a)))
            .filter(|(_, a)| a.streamid == COMPARISON && a.t > comparison_killed)
            .min_by_key(|(_, a)| a.t)
    });
    let took = back.as_ref().map_or(Duration::from_secs(12), |(_, a)| {
        Duration::from_nanos(a.t - comparison_killed)
    });
    let comparison = Move {
        stream: COMPARISON,
        from: stage.pod_name(victim).to_owned(),
        to: back.map(|(pod, _)| stage.pod_name(pod).to_owned()),
        took,
    };
    screen.say_move(&comparison);
    outcomes.push(Outcome {
        event: "the same under nftables DNAT (told at once)".to_owned(),
        moves: vec![comparison],
        failure: None,
    });
    Ok(pod)
}

/// SIGSTOP to the listener with the most streams.
fn hang(
    stage: &mut Stage,
    screen: &mut Screen,
    outcomes: &mut Vec<Outcome>,
    avoid: usize,
) -> Result<usize> {
    let seat = stage.busiest(&[avoid])?;
    let pod = stage.seats[seat].pod;
    let streams = stage.streams_at(seat);
    screen.say(&format!(
        "SIGSTOP to the listener in {} ({}): it hangs",
        stage.pod_name(pod),
        streams.join(", ")
    ));
    let hung = stage.seats[seat].listener.hang()?;
    outcomes.push(observe(
        stage,
        screen,
        "listener hung (SIGSTOP)",
        &streams,
        hung,
        Duration::from_secs(5),
    ));
    Ok(pod)
}

/// The busiest pod (the third, where it has a stream) is told to go: its sessions stay, then it leaves.
fn drain(
    stage: &mut Stage,
    screen: &mut Screen,
    outcomes: &mut Vec<Outcome>,
    avoid: [usize; 2],
) -> Result<()> {
    let seat = stage.busiest(&avoid)?;
    let pod = stage.seats[seat].pod;
    let name = stage.pod_name(pod).to_owned();
    let streams = stage.streams_at(seat);
    screen.say(&format!(
        "{name} drains (terminating: true): {} stay there",
        streams.join(", ")
    ));
    let told = stage.configure(stage.config.clone().draining(&name))?;
    screen.watch(stage, Duration::from_secs(4));
    let moved: Vec<_> = stage
        .accepted()
        .into_iter()
        .filter(|(_, a)| a.t > told && streams.contains(&a.streamid.as_str()))
        .map(|(_, a)| a.streamid)
        .collect();
    let failure = (!moved.is_empty())
        .then(|| format!("{name} drained, and {} did not stay", moved.join(", ")));
    let stayed = format!("{name} drained for 4 s: every session stayed");
    screen.say(failure.as_deref().unwrap_or(&stayed));
    screen.say(&format!(
        "{name} is gone from the file: its sessions end now"
    ));
    let gone = stage.configure(stage.config.clone().without(&name))?;
    let event = "drained pod removed (file written)";
    let outcome = observe(stage, screen, event, &streams, gone, Duration::from_secs(5));
    outcomes.push(Outcome { failure, ..outcome });
    Ok(())
}

/// Waits until every one of `streams` is connected anew after `event_ns`.
fn observe(
    stage: &Stage,
    screen: &mut Screen,
    event: &str,
    streams: &[&'static str],
    event_ns: u64,
    limit: Duration,
) -> Outcome {
    let before: Vec<_> = stage
        .accepted()
        .into_iter()
        .filter(|(_, a)| a.t <= event_ns)
        .collect();
    let moves = streams
        .iter()
        .map(|&stream| {
            let from = before
                .iter()
                .rev()
                .find(|(_, a)| a.streamid == stream)
                .map_or(String::new(), |(seat, _)| {
                    stage.pod_name(stage.seats[*seat].pod).to_owned()
                });
            let found = wait_for(stage, screen, limit, |stage| {
                stage
                    .accepted()
                    .into_iter()
                    .find(|(_, a)| a.streamid == stream && a.t > event_ns)
            });
            let moved = Move {
                stream,
                from,
                took: found
                    .as_ref()
                    .map_or(limit, |(_, a)| Duration::from_nanos(a.t - event_ns)),
                to: found.map(|(seat, _)| stage.pod_name(stage.seats[seat].pod).to_owned()),
            };
            screen.say_move(&moved);
            moved
        })
        .collect();
    Outcome {
        event: event.to_owned(),
        moves,
        failure: None,
    }
}

/// The first answer of `find`, asked every 20 ms while the table goes on.
fn wait_for<T>(
    stage: &Stage,
    screen: &mut Screen,
    limit: Duration,
    mut find: impl FnMut(&Stage) -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = find(stage);
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        screen.watch(stage, Duration::from_millis(20));
    }
}

/// The pod where the comparison's stream is.
fn comparison_seat(stage: &Stage) -> Result<usize> {
    stage
        .comparison
        .iter()
        .enumerate()
        .flat_map(|(pod, l): (usize, &Listener)| l.accepted().into_iter().map(move |a| (a.t, pod)))
        .max()
        .map(|(_, pod)| pod)
        .context("the comparison's stream reached no pod")
}
