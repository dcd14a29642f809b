//! Unmodified encoders: `srt-live-transmit` fed by our generator, and ffmpeg.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Target;
use crate::monotonic_ns;
use crate::netns::Namespace;
use crate::process::Process;
use crate::traffic::Generator;

/// `srt-live-transmit`, which sends a [`Generator`]'s datagrams on and reconnects by itself.
#[derive(Debug)]
pub struct LiveTransmit {
    process: Process,
    generator: Generator,
}

impl LiveTransmit {
    /// Starts one in `netns` that sends `rate` bits per second of verified payload as stream number `stream`.
    pub fn start(netns: &Namespace, target: &Target, stream: u32, rate: f64) -> Result<Self> {
        let input = 20_000 + u16::try_from(stream).context("at most 45535 streams")?;
        let mut command = netns.command("srt-live-transmit");
        command
            .args(["-loglevel:error", "-autoreconnect:yes", "-chunk:1316"])
            .arg(format!("udp://127.0.0.1:{input}"))
            .arg(target.uri());
        let process = Process::spawn(format!("srt-live-transmit {}", target.stream_id), command)?;
        let generator = Generator::start(netns, ([127, 0, 0, 1], input).into(), stream, rate)?;
        Ok(Self { process, generator })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What feeds it.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }
}

/// One run of an [`Ffmpeg`].
#[derive(Clone, Copy, Debug)]
pub struct FfmpegRun {
    /// When it was started, ns of the monotonic clock.
    pub started_ns: u64,
    /// When it ended; 0: it runs.
    pub ended_ns: u64,
}

/// ffmpeg with a test picture in MPEG-TS, started again whenever it ends: it exits when its connection breaks, and
/// an encoder appliance restarts it.
#[derive(Debug)]
pub struct Ffmpeg {
    stop: Arc<AtomicBool>,
    runs: Arc<Mutex<Vec<FfmpegRun>>>,
    supervisor: Option<JoinHandle<()>>,
}

impl Ffmpeg {
    /// Starts one in `netns`.
    pub fn start(netns: &Namespace, target: &Target) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let runs = Arc::new(Mutex::new(Vec::new()));
        let name = format!("ffmpeg {}", target.stream_id);
        let (stream_id, uri) = target.ffmpeg_uri();
        let command = {
            let path = netns.path();
            let stream_id = stream_id.map(str::to_owned);
            move || {
                let mut command = std::process::Command::new("nsenter");
                command
                    .arg(format!("--net={}", path.display()))
                    .args([
                        "--",
                        "ffmpeg",
                        "-hide_banner",
                        "-loglevel",
                        "error",
                        "-nostdin",
                    ])
                    .args(["-threads", "1", "-re", "-f", "lavfi"])
                    .args(["-i", "testsrc=size=320x180:rate=25"])
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
                    .args(&stream_id)
                    .arg(format!("{uri}&pkt_size=1316"));
                command
            }
        };
        let first = Process::spawn(name.clone(), command())?;
        let supervisor = {
            let (stop, runs) = (Arc::clone(&stop), Arc::clone(&runs));
            std::thread::spawn(move || supervise(first, &name, command, &stop, &runs))
        };
        Ok(Self {
            stop,
            runs,
            supervisor: Some(supervisor),
        })
    }

    /// Its runs so far.
    pub fn runs(&self) -> Vec<FfmpegRun> {
        self.runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(supervisor) = self.supervisor.take() {
            drop(supervisor.join());
        }
    }
}

/// Restarts ffmpeg at once when it ends, until told to stop.
fn supervise(
    first: Process,
    name: &str,
    command: impl Fn() -> std::process::Command,
    stop: &AtomicBool,
    runs: &Mutex<Vec<FfmpegRun>>,
) {
    let mut process = first;
    loop {
        let started_ns = monotonic_ns();
        runs.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(FfmpegRun {
                started_ns,
                ended_ns: 0,
            });
        while !matches!(process.try_wait(), Ok(Some(_))) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended_ns = monotonic_ns();
        if let Some(run) = runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last_mut()
        {
            run.ended_ns = ended_ns;
        }
        // An encoder that cannot start at all must not eat the machine.
        if ended_ns - started_ns < 50_000_000 {
            std::thread::sleep(Duration::from_millis(200));
        }
        process = match Process::spawn(name, command()) {
            Ok(process) => process,
            Err(error) => {
                eprintln!("{error:#}");
                return;
            }
        };
    }
}
