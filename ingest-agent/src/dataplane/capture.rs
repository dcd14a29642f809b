//! Capture of one flow's packets: its mark, the bounds in `CAPTURE`, the ring `CAPTURES`.
//!
//! Owns who may capture: one process at a time. Chooses no flow and understands no packet.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use aya::{
    Ebpf, TestRun,
    maps::{Map, MapData, RingBuf},
    programs::TestRunOptions,
};
use ingest_common::abi::{self, program};
use tokio::io::unix::AsyncFd;

use super::{
    Error, checks,
    events::Ring,
    maps::ArrayMap,
    now_ns,
    object::{self, Load},
    pins::{self, Pins},
    raw,
};

const CAPTURE: &str = "CAPTURE";
const CAPTURES: &str = "CAPTURES";
/// What `xdp_mark` returns where it has found the flow: `XDP_PASS`.
const DONE: u32 = 2;
/// The shortest frame that a test run takes is shorter than this.
const FRAME: usize = 64;

/// What to capture.
#[derive(Clone, Copy, Debug)]
pub struct CaptureRequest {
    /// The flow.
    pub key: abi::FlowKey,
    /// Its caller's socket id: another session on its address is not meant.
    pub caller_id: u32,
    /// Every nth packet of a direction.
    pub every: u32,
    /// At most so many.
    pub count: u32,
    /// For so long.
    pub duration: Duration,
    /// Whole packets, not only headers.
    pub whole: bool,
}

/// A packet as the programs copied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// When, [`now_ns`].
    pub time_ns: u64,
    /// Bytes of the frame; `bytes` may be fewer.
    pub length: u32,
    /// From the client.
    pub up: bool,
    /// The frame, with the pod's address where it came from the client.
    pub bytes: Vec<u8>,
}

impl CapturedPacket {
    fn read(record: &[u8]) -> Option<Self> {
        // Both lengths of a record begin alike, and this needs no struct of either.
        let (head, bytes) = record.split_first_chunk::<16>()?;
        let (time, rest) = head.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (kept, rest) = rest.split_first_chunk::<2>()?;
        Some(Self {
            time_ns: u64::from_ne_bytes(*time),
            length: u32::from_ne_bytes(*length),
            up: *rest.first()? == abi::CAPTURED_UP,
            bytes: bytes.get(..u16::from_ne_bytes(*kept).into())?.to_vec(),
        })
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureProgress {
    /// Packets of the stream that the programs have seen, copied or not.
    pub seen: u64,
    /// Packets that found the ring full.
    pub lost: u64,
    /// Nothing more is copied.
    pub over: bool,
}

/// A capture under way. The kernel ends it by itself where this process cannot.
#[derive(Debug)]
pub struct CaptureSession {
    /// Holds `xdp_mark`.
    ebpf: Ebpf,
    state: ArrayMap<abi::Capture>,
    ring: AsyncFd<Ring>,
    request: CaptureRequest,
    marked: bool,
    /// Closing it lets others capture.
    _lock: File,
}

impl CaptureSession {
    /// Begins. Needs a tokio runtime. `false` in the second place: there is no such flow any more, and nothing comes.
    pub fn start(pin_root: &Path, request: CaptureRequest) -> Result<(Self, bool), Error> {
        checks::preconditions()?;
        raw::lift_memory_limit();
        let pins = Pins::new(pin_root);
        if !pins.verify()?.is_empty() {
            return Err(Error::NotLoaded {
                pin_root: pin_root.to_owned(),
            });
        }
        let load = Load {
            pins: &pins,
            absent: &[],
            max_flows: 0,
            log_level: 0,
            dry_run: false,
        };
        let mut ebpf = load.load()?;
        object::xdp(&mut ebpf, program::XDP_MARK)?
            .load()
            .map_err(object::refused(program::XDP_MARK))?;
        let state = ArrayMap::<abi::Capture>::take(&mut ebpf, CAPTURE)?;
        let lock = lock(&pins, &state)?;
        let ring = Ring(ring(&pins)?);
        let ring = raw::readable(ring).map_err(|source| Error::System {
            operation: "waiting for captured packets",
            source,
        })?;
        let mut session = Self {
            ebpf,
            state,
            ring,
            request,
            marked: false,
            _lock: lock,
        };
        session.clear()?;
        let marked = session.begin()?;
        Ok((session, marked))
    }

    /// Takes away what a capture left that was killed.
    fn clear(&mut self) -> Result<(), Error> {
        let left = self.state.get(0)?;
        if left.pid != 0 {
            self.mark(&left.key, 0, false)?;
        }
        while self.ring.get_mut().0.next().is_some() {}
        Ok(())
    }

    fn begin(&mut self) -> Result<bool, Error> {
        let request = self.request;
        let duration = u64::try_from(request.duration.as_nanos()).unwrap_or(u64::MAX);
        let state = abi::Capture {
            key: request.key,
            every: request.every,
            until_ns: now_ns().saturating_add(duration),
            left: request.count.into(),
            whole: request.whole.into(),
            pid: std::process::id(),
            ..abi::Capture::default()
        };
        self.state.set(0, &state)?;
        self.marked = self.mark(&request.key, request.caller_id, true)?;
        Ok(self.marked)
    }

    /// Whether there was such a flow.
    fn mark(&mut self, key: &abi::FlowKey, caller_id: u32, on: bool) -> Result<bool, Error> {
        let mut frame = Vec::with_capacity(FRAME);
        frame.extend(key.address);
        frame.extend(key.port.to_ne_bytes());
        frame.extend(key.service.to_ne_bytes());
        frame.extend(caller_id.to_ne_bytes());
        frame.extend(u32::from(on).to_ne_bytes());
        frame.resize(FRAME, 0);
        let options = TestRunOptions {
            data_in: Some(&frame),
            ..TestRunOptions::new()
        };
        let program = program::XDP_MARK;
        let result = object::xdp(&mut self.ebpf, program)?
            .test_run(options)
            .map_err(|source| Error::Program {
                operation: "test run",
                program,
                source: Box::new(source),
            })?;
        Ok(result.return_value == DONE)
    }

    /// How far it is.
    pub fn progress(&self) -> Result<CaptureProgress, Error> {
        let state = self.state.get(0)?;
        let [up, down] = state.seen;
        Ok(CaptureProgress {
            seen: up.saturating_add(down),
            lost: state.lost,
            over: state.left == 0 || now_ns() >= state.until_ns,
        })
    }

    /// The next packet, if one is there.
    pub fn take(&mut self) -> Option<CapturedPacket> {
        loop {
            // The ring's item ends with this statement: it gives the place back to the kernel.
            let packet = CapturedPacket::read(&self.ring.get_mut().0.next()?);
            if packet.is_some() {
                return packet;
            }
            tracing::warn!("captured packet of unknown shape");
        }
    }

    /// Waits for the next packet. Cancel-safe.
    pub async fn next(&mut self) -> Result<CapturedPacket, Error> {
        loop {
            if let Some(packet) = self.take() {
                return Ok(packet);
            }
            let mut guard = self
                .ring
                .readable_mut()
                .await
                .map_err(|source| Error::System {
                    operation: "waiting for captured packets",
                    source,
                })?;
            // What came since `take` makes it readable again.
            let empty = guard
                .get_inner_mut()
                .0
                .next()
                .map(|item| CapturedPacket::read(&item));
            match empty {
                Some(Some(packet)) => return Ok(packet),
                Some(None) => {}
                None => guard.clear_ready(),
            }
        }
    }

    /// Ends it: from now on the stream's packets cost nothing again. What is in the ring can still be taken.
    pub fn stop(&mut self) -> Result<(), Error> {
        if self.marked {
            self.marked = false;
            let key = self.request.key;
            self.mark(&key, 0, false)?;
        }
        Ok(())
    }
}

impl Drop for CaptureSession {
    fn drop(&mut self) {
        let ended = self
            .stop()
            .and_then(|()| self.state.set(0, &abi::Capture::default()));
        if let Err(error) = ended {
            // The kernel ends it at its time.
            tracing::warn!(%error, "the capture could not be ended");
        }
    }
}

/// A ring has one reader: the lock goes with the process.
fn lock(pins: &Pins, state: &ArrayMap<abi::Capture>) -> Result<File, Error> {
    let path = pins.maps();
    let failed = |source| Error::Files {
        operation: "locking",
        path: path.clone(),
        source,
    };
    let directory = File::open(&path).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(Error::Capturing {
            pid: state.get(0)?.pid,
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn ring(pins: &Pins) -> Result<RingBuf<MapData>, Error> {
    let failed = |source| Error::Map {
        operation: "opening pinned",
        map: CAPTURES,
        source: Box::new(source),
    };
    debug_assert!(pins::shapes().any(|shape| shape.name == CAPTURES));
    let data = MapData::from_pin(pins.map(CAPTURES)).map_err(failed)?;
    RingBuf::try_from(Map::RingBuf(data)).map_err(failed)
}
