//! ffmpeg at both ends of a stream: as a caller or a listener, that sends a test picture or counts the frames it gets.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{LATENCY_MS, PORT, Target};
use crate::netns::{Family, Namespace};
use crate::process::Process;

/// Frames a second of a [`TestPicture`].
const RATE: u32 = 25;

/// Options and the URI of a caller or of a pod's listener.
fn address(command: &mut Command, target: Option<&Target>) -> String {
    let Some(target) = target else {
        let (any, latency) = (Family::V4.any(), LATENCY_MS * 1000);
        return format!("srt://{any}:{PORT}?mode=listener&transtype=live&latency={latency}");
    };
    let (stream_id, uri) = target.ffmpeg_uri();
    command.args(stream_id);
    uri
}

fn ffmpeg(netns: &Namespace) -> Command {
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
            .args(["-f", "mpegts", "-flush_packets", "1"]);
        let uri = address(&mut command, target);
        command.arg(format!("{uri}&pkt_size=1316"));
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
        let uri = address(&mut command, target);
        command.args(["-analyzeduration", "500000", "-i", &uri]);
        // A line for each frame.
        command.args(["-map", "0:v", "-c", "copy", "-f", "framecrc", "-"]);
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
