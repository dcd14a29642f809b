//! Four real encoders, and the proof that what they sent has arrived.

use std::time::Duration;

use anyhow::Result;

use super::Cluster;
use crate::peers::{Accepted, Ffmpeg, LiveTransmit, Session};
use crate::scene::LIMIT;

/// Bytes a second that each sends at the least: a picture of bars is small.
const LEAST: [u64; 4] = [110_000, 110_000, 110_000, 20_000];

/// Three `srt-live-transmit` with verified payload, and one ffmpeg.
#[derive(Debug)]
pub struct Load {
    /// `live/cam1`, `live/cam2`, `live/cam3`.
    pub transmitters: Vec<LiveTransmit>,
    /// `live/cam4`.
    pub ffmpeg: Ffmpeg,
}

/// The streams of a [`Load`].
pub const STREAMS: [&str; 4] = ["live/cam1", "live/cam2", "live/cam3", "live/cam4"];

impl Load {
    /// Starts them at the client of `cluster`, and waits until all are at a pod.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let client = &cluster.topology.client;
        let mut transmitters = Vec::new();
        for (stream, number) in STREAMS.iter().zip(1..=3) {
            let target = cluster.target(stream);
            transmitters.push(LiveTransmit::start(client, &target, number, 1e6)?);
        }
        let ffmpeg = Ffmpeg::start(client, &cluster.target(STREAMS[3]))?;
        for stream in STREAMS {
            cluster.wait_accepted(stream, 0, LIMIT)?;
        }
        Ok(Self {
            transmitters,
            ffmpeg,
        })
    }
}

/// Where every stream is, and which session it has.
pub fn sessions(cluster: &Cluster) -> Result<Vec<(usize, Accepted)>> {
    STREAMS
        .iter()
        .map(|stream| {
            let mut all = cluster.accepted(stream, 0);
            all.pop()
                .ok_or_else(|| anyhow::anyhow!("{stream} reached no pod"))
        })
        .collect()
}

/// The last word of the listeners on a session of `stream`.
pub fn session(cluster: &Cluster, pod: usize, stream: &str) -> Option<Session> {
    let sessions = cluster.pods[pod].listener.sessions();
    sessions.into_iter().rfind(|s| s.streamid == stream)
}

/// Asserts that over `time` the sessions of all streams are those of `before`, go on, and lose nothing.
pub fn untouched(cluster: &Cluster, before: &[(usize, Accepted)], time: Duration) -> Result<()> {
    let bytes = || -> Vec<u64> {
        let places = before.iter().zip(STREAMS);
        places
            .map(|((pod, _), stream)| session(cluster, *pod, stream).map_or(0, |s| s.bytes))
            .collect()
    };
    let began = bytes();
    std::thread::sleep(time);
    let ended = bytes();
    let now = sessions(cluster)?;
    let places = before.iter().zip(&now);
    let bytes = began.iter().zip(&ended);
    for (((was, is), (stream, least)), (began, ended)) in
        places.zip(STREAMS.iter().zip(LEAST)).zip(bytes)
    {
        anyhow::ensure!(
            was.0 == is.0 && was.1.t == is.1.t,
            "{stream} moved: {was:?} became {is:?}; the agent said:\n{}",
            cluster.agent.said()
        );
        // Listeners report every second.
        let least = time.as_secs().saturating_sub(2) * least;
        anyhow::ensure!(
            ended - began >= least,
            "{stream}: {} bytes in {time:?}, fewer than {least}",
            ended - began
        );
        let session = session(cluster, was.0, stream);
        anyhow::ensure!(
            session.as_ref().is_some_and(Session::is_whole),
            "{stream}: {session:?}"
        );
    }
    Ok(())
}
