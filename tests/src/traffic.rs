//! The verified payload (peers/payload.h has the same) and a paced generator of it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::monotonic_ns;
use crate::netns::Namespace;

/// Seven MPEG-TS packets' worth: what live SRT sends.
pub const PAYLOAD_SIZE: usize = 1316;
const CRC_AT: usize = PAYLOAD_SIZE - 4;
const HEADER: usize = 24;

/// The payload with number `counter` of stream number `stream`.
pub fn payload(stream: u32, counter: u64) -> [u8; PAYLOAD_SIZE] {
    let mut data = [0; PAYLOAD_SIZE];
    data[..4].copy_from_slice(b"INGT");
    data[4..8].copy_from_slice(&stream.to_be_bytes());
    data[8..16].copy_from_slice(&counter.to_be_bytes());
    data[16..24].copy_from_slice(&monotonic_ns().to_be_bytes());
    for (index, byte) in data.iter_mut().enumerate().take(CRC_AT).skip(HEADER) {
        *byte = (counter as usize).wrapping_add(index) as u8;
    }
    let crc = crc32fast::hash(&data[..CRC_AT]);
    data[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    data
}

/// Sends payloads as datagrams at a steady rate, on a thread of its own, until dropped.
#[derive(Debug)]
pub struct Generator {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Generator {
    /// Sends `rate` bits per second from `netns` to `target`.
    pub fn start(netns: &Namespace, target: SocketAddr, stream: u32, rate: f64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            netns.spawn(move || send(target, stream, rate, &stop, &sent))?
        };
        Ok(Self {
            stop,
            sent,
            thread: Some(thread),
        })
    }

    /// Payloads sent so far; the next one's counter.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it. Returns the number of payloads sent.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the generator panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn send(
    target: SocketAddr,
    stream: u32,
    rate: f64,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<()> {
    let socket = UdpSocket::bind((target.ip(), 0))
        .or_else(|_| {
            UdpSocket::bind(if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            })
        })
        .context("cannot open the generator's socket")?;
    let interval = PAYLOAD_SIZE as f64 * 8.0 / rate;
    let began = Instant::now();
    let mut counter = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = began + Duration::from_secs_f64(counter as f64 * interval);
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait.min(Duration::from_millis(100)));
            continue;
        }
        // Refused while the encoder is not up yet: those are lost before they ever were a stream.
        if socket.send_to(&payload(stream, counter), target).is_err() && counter > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        counter += 1;
        sent.store(counter, Ordering::Relaxed);
    }
    Ok(())
}
