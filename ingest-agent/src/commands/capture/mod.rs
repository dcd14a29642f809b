//! `ingest-agent capture`: one stream's packets, both directions, into a pcap file.

mod choose;
mod frame;
mod pcap;

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write, stderr, stdout},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    signal,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::{choose::Chosen, frame::Ends};
use crate::{
    cli::Capture,
    dataplane::{self, CaptureRequest, CaptureSession, CapturedPacket, Reader},
    error::Error,
};

/// How often it is looked at, and told on a terminal.
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn run(pin_root: &Path, args: &Capture) -> Result<(), Error> {
    let chosen = choose::choose(&Reader::open(pin_root)?, &args.stream)?;
    // Refused before the file is touched where another captures; nothing is lost, the ring holds it.
    let (session, live) = CaptureSession::start(pin_root, request(&chosen, args))?;
    if !live {
        return Err(Error::NoSuchStream {
            wanted: args.stream.clone(),
        });
    }
    let mut file = Sink::open(&args.write, chosen.ends)?;
    let told = capture(session, &mut file, args).await;
    file.flush()?;
    let lost = told?;
    let written = file.written;
    let lost = match lost {
        0 => String::new(),
        lost => format!("; {lost} more were lost, since they came too fast"),
    };
    // stdout may be the capture.
    eprintln!("{written} packets of {} written{lost}", chosen.ends.client);
    Ok(())
}

fn request(chosen: &Chosen, args: &Capture) -> CaptureRequest {
    CaptureRequest {
        key: chosen.key,
        caller_id: chosen.caller_id,
        every: args.every,
        count: args.count,
        duration: args.duration,
        whole: args.payload,
    }
}

/// Until the count is reached, the time is over or the user stops it. How many packets were lost.
async fn capture(
    mut session: CaptureSession,
    file: &mut Sink,
    args: &Capture,
) -> Result<u64, Error> {
    let deadline = Instant::now() + args.duration;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let terminal = stderr().is_terminal();
    let mut stop = std::pin::pin!(signal::ctrl_c());
    while file.written < args.count {
        tokio::select! {
            _ = &mut stop => break,
            () = sleep_until(deadline) => break,
            _ = look.tick() => {
                file.flush()?;
                let progress = session.progress()?;
                if terminal {
                    eprint!("\r{} written, {} seen ", file.written, progress.seen);
                }
                if progress.over {
                    break;
                }
            }
            packet = session.next() => file.write(packet?)?,
        }
    }
    if terminal {
        eprintln!();
    }
    let lost = session.progress()?.lost;
    session.stop()?;
    while file.written < args.count
        && let Some(packet) = session.take()
    {
        file.write(packet)?;
    }
    Ok(lost)
}

/// Where packets go.
struct Sink {
    out: BufWriter<Box<dyn Write + Send>>,
    path: PathBuf,
    ends: Ends,
    /// Of the maps' clock at the Unix epoch.
    offset_ns: u64,
    written: u32,
}

impl Sink {
    fn open(path: &Path, ends: Ends) -> Result<Self, Error> {
        let out: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(stdout())
        } else {
            let file = File::create(path).map_err(|source| Error::CaptureFile {
                path: path.to_owned(),
                source,
            })?;
            Box::new(file)
        };
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        let mut sink = Self {
            out: BufWriter::new(out),
            path: path.to_owned(),
            ends,
            offset_ns: unix.saturating_sub(dataplane::now_ns()),
            written: 0,
        };
        let begun = pcap::begin(&mut sink.out);
        sink.done(begun)?;
        sink.flush()?;
        Ok(sink)
    }

    fn write(&mut self, packet: CapturedPacket) -> Result<(), Error> {
        let CapturedPacket {
            time_ns,
            length,
            up,
            bytes,
        } = packet;
        let Some((bytes, tags)) = self.ends.restore(up, bytes, length) else {
            return Ok(());
        };
        let unix_ns = self.offset_ns.saturating_add(time_ns);
        let length = length.saturating_sub(tags as u32);
        let written = pcap::packet(&mut self.out, unix_ns, &bytes, length);
        self.done(written)?;
        self.written += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.out.flush();
        self.done(flushed)
    }

    fn done(&self, result: io::Result<()>) -> Result<(), Error> {
        result.map_err(|source| {
            if self.path == Path::new("-") {
                Error::Output(source)
            } else {
                Error::CaptureFile {
                    path: self.path.clone(),
                    source,
                }
            }
        })
    }
}
