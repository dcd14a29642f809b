//! An SRT listener packet by packet, for what Debian's libsrt refuses, and to see every CONCLUSION that a pod gets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::fixtures::srt;
use crate::netns::Pod;
use crate::peers::PORT;

/// A CONCLUSION that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concluded {
    /// The caller.
    pub from: SocketAddr,
    /// The packet.
    pub packet: Vec<u8>,
}

/// A listener that accepts whatever has its cookie. Dropping it ends it.
#[derive(Debug)]
pub struct RawPod {
    stop: Arc<AtomicBool>,
    concluded: Arc<Mutex<Vec<Concluded>>>,
    thread: Option<JoinHandle<()>>,
}

impl RawPod {
    /// Listens in `pod` for IPv4.
    pub fn start(pod: &Pod) -> Result<Self> {
        let socket = pod
            .netns
            .enter(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let cookie = 0x7000_0000 | u32::from(pod.v4);
        let stop = Arc::new(AtomicBool::new(false));
        let concluded = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (stop, concluded) = (Arc::clone(&stop), Arc::clone(&concluded));
            std::thread::spawn(move || listen(&socket, cookie, &stop, &concluded))
        };
        Ok(Self {
            stop,
            concluded,
            thread: Some(thread),
        })
    }

    /// The CONCLUSIONs with its cookie so far.
    pub fn concluded(&self) -> Vec<Concluded> {
        self.concluded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for RawPod {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn listen(socket: &UdpSocket, cookie: u32, stop: &AtomicBool, concluded: &Mutex<Vec<Concluded>>) {
    let mut buffer = [0; 2048];
    let mut listener_id = srt::LISTENER_ID;
    while !stop.load(Ordering::Relaxed) {
        let Ok((size, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let packet = &buffer[..size];
        let word = |at: usize| {
            packet
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_be_bytes)
        };
        if word(0) != 0x8000_0000 || word(12) != 0 {
            continue;
        }
        let caller_id = word(40);
        let answer = if word(36) == super::caller::INDUCTION {
            srt::induction_answer().with(|answer| answer.cookie = cookie)
        } else if word(44) == cookie {
            let mut all = concluded.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Concluded {
                from,
                packet: packet.to_vec(),
            });
            listener_id -= 1;
            srt::conclusion_answer().with(|answer| answer.socket_id = listener_id)
        } else {
            continue;
        };
        // A caller that has gone is no failure.
        drop(socket.send_to(&answer.of(caller_id).bytes(), from));
    }
}
