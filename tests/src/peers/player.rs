//! ffmpeg at both ends of a stream: as a caller or a listener, that sends a test picture or counts the frames it gets.

use std::time::Duration;

use anyhow::Result;

use super::{LATENCY_MS, PORT, Target};
use crate::netns::{Family, Namespace};
use crate::process::Process;

/// Frames a second of a [`TestPicture`].
const RATE: u32 = 25;

/// The URL of a caller or of a pod's listener.
fn url(target: Option<&Target>) -> String {
    target.map_or_else(
        || {
            format!(
                "srt://{}:{PORT}?mode=listener&transtype=live&latency={}",
                Family::V4.any(),
                LATENCY_MS * 1000
            )
        },
        |target| target.uri(1000),
    )
}

fn ffmpeg(netns: &Namespace) -> std::process::Command {
    let mut command = netns.command("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error"]);
    command.args(["-threads", "1"]);
    command
}

/// An ffmpeg that sends a test picture for some seconds and ends.
#[derive(Debug)]
pub struct TestPicture {
    process: Process,
}

impl TestPicture {
    /// Starts one in `netns`: a caller of `target`, or a listener. It begins when it is connected.
    pub fn start(netns: &Namespace, target: Option<&Target>, seconds: u32) -> Result<Self> {
        let mut command = ffmpeg(netns);
        command
            .args(["-re", "-f", "lavfi", "-i"])
            .arg(format!(
                "testsrc=size=320x180:rate={RATE}:duration={seconds}"
            ))
            .args([
                "-c:v",
                "mpeg2video",
                "-threads",
                "1",
                "-b:v",
                "800k",
                "-g",
                "25",
            ])
            .args(["-f", "mpegts", "-flush_packets", "1"])
            .arg(format!("{}&pkt_size=1316", url(target)));
        Ok(Self {
            process: Process::spawn("ffmpeg's test picture", command)?,
        })
    }

    /// Waits for its end. How many frames it has sent.
    pub fn finish(mut self, seconds: u32, limit: Duration) -> Result<u32> {
        self.process.finish(limit)?;
        Ok(seconds * RATE)
    }
}

/// An ffmpeg that receives a stream until it ends.
#[derive(Debug)]
pub struct Player {
    process: Process,
}

impl Player {
    /// Starts one in `netns`: a caller of `target`, or a listener.
    pub fn start(netns: &Namespace, target: Option<&Target>) -> Result<Self> {
        let mut command = ffmpeg(netns);
        command
            .args(["-analyzeduration", "500000", "-i"])
            .arg(url(target))
            // A line for each frame.
            .args(["-map", "0:v", "-c", "copy", "-f", "framecrc", "-"]);
        Ok(Self {
            process: Process::spawn("ffmpeg's player", command)?,
        })
    }

    /// Waits for the stream's end. How many frames came.
    pub fn finish(mut self, limit: Duration) -> Result<u32> {
        self.process.finish(limit)?;
        let lines = self.process.stdout();
        let frames = lines.iter().filter(|line| line.starts_with("0,")).count();
        Ok(u32::try_from(frames)?)
    }
}
