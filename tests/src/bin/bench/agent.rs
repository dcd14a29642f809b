//! What the agent itself costs with many live streams: the real agent in a namespace of its own, on flows that are written
//! into its maps and whose counters move once a second, as the kernel programs would.
//!
//! CPU is the agent's own (`/proc/PID/stat`), so that whoever writes and asks does not count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use aya::Pod;
use aya::maps::{HashMap, Map, MapData};
use ingest_agent::dataplane::{Reader, now_ns};
use ingest_common::abi::{Flow, FlowKey, FlowState, StreamId, v4_mapped};
use ingest_tests::agent::Agent;
use ingest_tests::config::Config;
use ingest_tests::netns::{Family, Layout, Topology};

use crate::report::Figure;

/// Live streams.
const STREAMS: u32 = 10_000;
const PODS: usize = 8;
/// Every so manieth sends less than the threshold.
const POOR: u32 = 100;
/// SRT data packets of a stream a second: 2 Mb/s of payload. Of a poor one a quarter.
const PACKETS: u64 = 190;
/// UDP payload bytes of a data packet, and of a control packet.
const DATA: u64 = 1332;
const CONTROL: u64 = 20;
/// Control packets a second from a caller, and packets a second from its pod.
const ANSWERS: u64 = 100;
/// The agent counts CPU in these.
const TICKS: f64 = 100.0;

/// How long each phase is watched.
#[derive(Clone, Copy, Debug)]
struct Phases {
    settle: Duration,
    watch: Duration,
    scrapes: usize,
}

/// Measures. `quick`: shorter.
pub(crate) fn measure(quick: bool) -> Result<Vec<Figure>> {
    let phases = Phases {
        settle: Duration::from_secs(if quick { 8 } else { 15 }),
        watch: Duration::from_secs(if quick { 10 } else { 30 }),
        scrapes: if quick { 20 } else { 60 },
    };
    let topology = Topology::with(Layout {
        pods: PODS,
        ..Layout::default()
    })?;
    let config = Config::of_family(&topology.pods, Family::V4)
        .stream()
        .with_thresholds("minBitrate: 1000000");
    let mut agent = Agent::start(&topology.node, &config, "auto")?;
    let pid = agent.process()?.pid().as_raw();

    let idle = Usage::over(pid, phases.watch / 2)?;
    let streams = Streams::fill(agent.pin_root())?;
    let running = streams.run();
    thread::sleep(phases.settle);
    let shown = |state: &str| agent.metric("ingest_streams", &format!("state=\"{state}\""));
    let (active, warning) = (shown("active")?, shown("warning")?);
    ensure!(
        active + warning >= f64::from(STREAMS) * 0.99 && warning >= f64::from(STREAMS / POOR) * 0.9,
        "of {STREAMS} streams the agent sees {active} active and {warning} in warning"
    );
    let watched = Usage::over(pid, phases.watch)?;
    let (scrape, scrape_size) = times(phases.scrapes, || agent.get("/metrics"))?;
    let (page, page_size) = times(phases.scrapes / 3, || agent.page("/api/v1/streams"))?;
    let (overview, _) = times(phases.scrapes / 3, || agent.page("/api/v1/overview"))?;
    let began = Instant::now();
    let listed = agent.json(&["streams", "--sample", "0s"])?;
    let cli = began.elapsed();
    let rows = listed.as_array().map_or(0, Vec::len);
    ensure!(rows >= STREAMS as usize, "`streams` lists {rows}");
    let written = running.stop()?;
    ensure!(written > 0, "the counters did not move");

    Ok(vec![
        Figure::new("cpu_idle", "% of a CPU, without streams", idle.cpu),
        Figure::new("cpu", "% of a CPU, not asked", watched.cpu),
        Figure::new("memory_idle", "MiB resident, without streams", idle.memory),
        Figure::new("memory", "MiB resident", Usage::memory(pid, "VmRSS:")?),
        Figure::new("memory_peak", "MiB resident", Usage::memory(pid, "VmHWM:")?),
        Figure::new("scrape_median", "ms", scrape.median),
        Figure::new("scrape_max", "ms; wanted: below 100", scrape.max),
        Figure::new("scrape_size", "KiB", scrape_size),
        Figure::new("api_streams_median", "ms", page.median),
        Figure::new("api_streams_max", "ms", page.max),
        Figure::new("api_streams_size", "KiB", page_size),
        Figure::new("api_overview_median", "ms", overview.median),
        Figure::new(
            "cli_streams",
            "ms, all of them as JSON",
            cli.as_secs_f64() * 1e3,
        ),
    ])
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu: f64,
    memory: f64,
}

impl Usage {
    /// From now for `span`.
    fn over(pid: i32, span: Duration) -> Result<Self> {
        let (began, before) = (Instant::now(), Self::ticks(pid)?);
        thread::sleep(span);
        let used = Self::ticks(pid)?.saturating_sub(before) as f64 / TICKS;
        Ok(Self {
            cpu: used / began.elapsed().as_secs_f64() * 100.0,
            memory: Self::memory(pid, "VmRSS:")?,
        })
    }

    /// User and system time.
    fn ticks(pid: i32) -> Result<u64> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("no {path}"))?;
        // Behind the name, which may hold anything.
        let (_, fields) = text.rsplit_once(')').context("no stat")?;
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: Result<Vec<u64>, _> = fields.map(str::parse).collect();
        Ok(ticks
            .with_context(|| format!("{path} is of another form"))?
            .iter()
            .sum())
    }

    fn memory(pid: i32, field: &str) -> Result<f64> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("no {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.with_context(|| format!("no {field} in {path}"))? / 1024.0)
    }
}

struct Times {
    median: f64,
    max: f64,
}

/// Asks `count` times, a little apart. And the size of the last answer, KiB.
fn times(count: usize, ask: impl Fn() -> Result<String>) -> Result<(Times, f64)> {
    let (mut taken, mut size) = (Vec::new(), 0);
    for _ in 0..count {
        let began = Instant::now();
        size = ask()?.len();
        taken.push(began.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(110));
    }
    let max = taken.iter().copied().fold(0.0, f64::max);
    let median = ingest_tests::median(&mut taken);
    Ok((Times { median, max }, size as f64 / 1024.0))
}

/// The flows, and the map that they are in.
struct Streams {
    map: HashMap<MapData, FlowKey, Flow>,
    flows: Vec<(FlowKey, Flow)>,
}

fn open<K: Pod, V: Pod>(pins: &Path, name: &str) -> Result<HashMap<MapData, K, V>> {
    let found =
        ingest_tests::command::run("find", &[pins.as_os_str(), "-name".as_ref(), name.as_ref()])?;
    let path = found
        .lines()
        .next()
        .with_context(|| format!("no pin of {name}"))?;
    let data = MapData::from_pin(path).with_context(|| format!("cannot open {path}"))?;
    Ok(Map::from_map_data(data)?.try_into()?)
}

impl Streams {
    /// Writes them into the agent's maps.
    fn fill(pins: &Path) -> Result<Self> {
        let reader = Reader::open(pins)?;
        let services = reader.services()?;
        let service = services.first().context("no service")?.service.id;
        let backends = reader.backends()?;
        ensure!(backends.len() == PODS, "{} backends", backends.len());
        let mut map = open(pins, "FLOWS")?;
        let mut asked: HashMap<_, FlowKey, StreamId> = open(pins, "STREAM_IDS")?;
        let mut flows = Vec::new();
        for (number, pod) in (0..STREAMS).zip(backends.iter().cycle()) {
            let [_, high, middle, low] = number.to_be_bytes();
            let key = FlowKey {
                address: v4_mapped([10, high, middle, low]),
                port: 40_000,
                service,
            };
            let now = now_ns();
            let mut flow = Flow {
                accepted_ns: now,
                incarnation: pod.backend.incarnation,
                deaths: pod.health.deaths,
                caller_id: number + 1,
                listener_id: number + 1,
                slot: pod.slot,
                state: FlowState::Established as u8,
                flow_window: 8192,
                ..Flow::default()
            };
            flow.down.receiver_latency = 120;
            flow.down.sender_latency = 120;
            advance(number, &mut flow, now);
            asked.insert(key, stream_id(number), 0)?;
            map.insert(key, flow, 0)?;
            flows.push((key, flow));
        }
        Ok(Self { map, flows })
    }

    /// Moves them on once a second, until told to stop.
    fn run(mut self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut due, mut written) = (Instant::now(), 0);
            while !told.load(Ordering::Relaxed) {
                if Instant::now() < due {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
                due += Duration::from_secs(1);
                let now = now_ns();
                for (number, (key, flow)) in (0..).zip(&mut self.flows) {
                    advance(number, flow, now);
                    self.map.insert(*key, *flow, 0)?;
                }
                written += 1;
            }
            Ok(written)
        });
        Running { stop, thread }
    }
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32>>,
}

impl Running {
    /// Says how often the counters moved.
    fn stop(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the writer of the counters panicked"))?
    }
}

/// A second of a stream.
fn advance(number: u32, flow: &mut Flow, now: u64) {
    let share = if number.is_multiple_of(POOR) { 4 } else { 1 };
    let (data, lost) = (PACKETS / share, u64::from(number % 3));
    let up = &mut flow.up;
    up.packets += data + ANSWERS;
    up.data_packets += data;
    up.bytes += data * DATA + ANSWERS * CONTROL;
    up.retransmitted += lost;
    up.gaps += lost;
    up.seen_ns = now;
    let down = &mut flow.down;
    down.packets += ANSWERS;
    down.bytes += ANSWERS * 44;
    down.acks += ANSWERS;
    down.naks += lost;
    down.reported_lost += lost;
    down.rtt_us = 20_000 + number % 7 * 1000;
    down.rtt_variance_us = 2000;
    down.receive_buffer = 8000;
    down.seen_ns = now;
}

fn stream_id(number: u32) -> StreamId {
    let text = format!("#!::r=customer-{}/camera-{number},m=publish", number % 50);
    let mut asked = StreamId {
        caller_id: number + 1,
        version: 0x0001_0503,
        receiver_latency: 120,
        sender_latency: 120,
        length: text.len() as u16,
        handshake: 5,
        ..StreamId::default()
    };
    asked.text[..text.len()].copy_from_slice(text.as_bytes());
    asked
}
