//! A bad network between a caller and the VIP: a relay of UDP with delay, jitter (and so reordering), loss and
//! duplication. Not every kernel has netem.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::Namespace;

/// What the network does to packets. Probabilities are of 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One way, at least.
    pub delay: Duration,
    /// Up to this much more, drawn for each packet.
    pub jitter: Duration,
    /// Loss of handshake packets.
    pub handshake_loss: f64,
    /// Loss of all others from the caller.
    pub loss: f64,
    /// Loss of all others to the caller.
    pub loss_down: f64,
    /// How many packets come twice, each at a time of its own.
    pub duplication: f64,
    /// The same seed draws the same lots.
    pub seed: u64,
}

/// What a [`Wan`] did so far.
#[derive(Debug, Default)]
struct Tally {
    lost: AtomicU64,
    doubled: AtomicU64,
    overtaken: AtomicU64,
}

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub struct Wan {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Wan {
    /// Starts one in `netns` that relays to `target`.
    pub fn start(netns: &Namespace, target: SocketAddr, weather: Weather) -> Result<Self> {
        let front = netns.enter(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
        let address = front.local_addr()?;
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
        let thread = {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            netns.spawn(move || Relay::new(front, target, weather, tally)?.run(&stop))?
        };
        Ok(Self {
            address,
            stop,
            tally,
            thread: Some(thread),
        })
    }

    /// What callers dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Packets lost, doubled and overtaken so far.
    pub fn tally(&self) -> [u64; 3] {
        [&self.tally.lost, &self.tally.doubled, &self.tally.overtaken]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                other => eprintln!("the relay ended badly: {other:?}"),
            }
        }
    }
}

/// A packet on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    due: Instant,
    number: u64,
    /// Index of the caller.
    caller: usize,
    up: bool,
    packet: Vec<u8>,
}

struct Relay {
    front: UdpSocket,
    target: SocketAddr,
    weather: Weather,
    tally: Arc<Tally>,
    /// Each caller has a socket towards the target, so a port of its own.
    callers: Vec<(SocketAddr, UdpSocket)>,
    known: HashMap<SocketAddr, usize>,
    flying: BinaryHeap<Reverse<Flight>>,
    number: u64,
    last_landed: u64,
    random: u64,
}

impl Relay {
    fn new(
        front: UdpSocket,
        target: SocketAddr,
        weather: Weather,
        tally: Arc<Tally>,
    ) -> Result<Self> {
        front.set_nonblocking(true)?;
        Ok(Self {
            front,
            target,
            weather,
            tally,
            callers: Vec::new(),
            known: HashMap::new(),
            flying: BinaryHeap::new(),
            number: 0,
            last_landed: 0,
            random: weather.seed,
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.wait()?;
            self.take()?;
            self.land();
        }
        Ok(())
    }

    /// Until a packet comes or is due.
    fn wait(&self) -> Result<()> {
        let now = Instant::now();
        let next = self.flying.peek().map_or(Duration::from_millis(20), |f| {
            f.0.due.saturating_duration_since(now)
        });
        let limit = next.min(Duration::from_millis(20)).as_millis() as u16;
        let mut sockets: Vec<_> = std::iter::once(&self.front)
            .chain(self.callers.iter().map(|(_, socket)| socket))
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut sockets, PollTimeout::from(limit)).context("cannot wait for packets")?;
        Ok(())
    }

    /// Takes in what has come.
    fn take(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        while let Ok((size, from)) = self.front.recv_from(&mut buffer) {
            let caller = match self.known.get(&from) {
                Some(&caller) => caller,
                None => self.meet(from)?,
            };
            self.launch(caller, true, &buffer[..size]);
        }
        for caller in 0..self.callers.len() {
            while let Ok(size) = self.callers[caller].1.recv(&mut buffer) {
                self.launch(caller, false, &buffer[..size]);
            }
        }
        Ok(())
    }

    fn meet(&mut self, from: SocketAddr) -> Result<usize> {
        let any = if self.target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).context("cannot open a socket for a caller")?;
        // So that nothing but the target's answers comes back.
        socket.connect(self.target)?;
        socket.set_nonblocking(true)?;
        self.callers.push((from, socket));
        self.known.insert(from, self.callers.len() - 1);
        Ok(self.callers.len() - 1)
    }

    fn launch(&mut self, caller: usize, up: bool, packet: &[u8]) {
        let is_handshake = packet.starts_with(&[0x80, 0, 0, 0]);
        let loss = if is_handshake {
            self.weather.handshake_loss
        } else if up {
            self.weather.loss
        } else {
            self.weather.loss_down
        };
        if self.draw() < loss {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let doubled = self.draw() < self.weather.duplication;
        self.tally
            .doubled
            .fetch_add(u64::from(doubled), Ordering::Relaxed);
        for _ in 0..=usize::from(doubled) {
            let late = self.weather.jitter.mul_f64(self.draw());
            self.number += 1;
            self.flying.push(Reverse(Flight {
                due: Instant::now() + self.weather.delay + late,
                number: self.number,
                caller,
                up,
                packet: packet.to_vec(),
            }));
        }
    }

    /// Hands over what is due.
    fn land(&mut self) {
        let now = Instant::now();
        while self.flying.peek().is_some_and(|f| f.0.due <= now) {
            let Some(Reverse(flight)) = self.flying.pop() else {
                return;
            };
            let overtaken = u64::from(flight.number < self.last_landed);
            self.tally.overtaken.fetch_add(overtaken, Ordering::Relaxed);
            self.last_landed = self.last_landed.max(flight.number);
            let (caller, upstream) = &self.callers[flight.caller];
            let sent = if flight.up {
                upstream.send(&flight.packet)
            } else {
                self.front.send_to(&flight.packet, caller)
            };
            // Refused by a caller that has closed: as on any network.
            drop(sent);
        }
    }

    /// 0 to 1 (SplitMix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}
