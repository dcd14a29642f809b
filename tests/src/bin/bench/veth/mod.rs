//! What a packet costs on its whole way from a client's interface into a pod's IP stack, over veth.
//!
//! * [`stage`]: namespaces, programs, and the ways a packet can take.
//! * [`send`]: where packets come from: native frames, as a NIC's driver would hand them up, or sockets.
//!
//! Everything runs on one CPU: the sender, and in its softirqs the node and the pod. So CPU time per packet is the
//! whole way's, and its inverse the rate of one core. A way's own cost is that above `drop`, where the node's
//! interface throws every packet away.

mod send;
mod stage;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::send::{Frames, Sender, Sockets};
use self::stage::{Stage, Way};
use crate::clock::{self, Case, Effort, Named, thread_cpu};
use crate::report::Row;

/// The least share of packets that must arrive, or a way has not been measured.
const ARRIVAL_MIN: f64 = 0.95;

/// Packets sent and arrived, by name of the result.
type Tally = Rc<RefCell<HashMap<String, (u64, u64)>>>;

struct Travel {
    name: String,
    stage: Rc<RefCell<Stage>>,
    way: Way,
    sender: Box<dyn Sender>,
    tally: Tally,
    /// pid of the kernel thread that takes over when softirqs get too many.
    ksoftirqd: u32,
}

impl Case for Travel {
    fn visit(&mut self, effort: &Effort) -> Result<f64> {
        let mut stage = self.stage.borrow_mut();
        let set = stage.set(self.way, self.sender.needs_napi())?;
        let before = stage.arrived()?;
        let (began, kernel_began) = (thread_cpu()?, kernel_cpu(self.ksoftirqd)?);
        let sent = stage.in_client(|| self.sender.send(effort.packets))?;
        let took = thread_cpu()?.saturating_sub(began);
        let kernel = kernel_cpu(self.ksoftirqd)?.saturating_sub(kernel_began);
        let arrived = stage.arrived()?.saturating_sub(before);
        stage.unset(set)?;
        if self.way != Way::Drop {
            ensure!(
                arrived as f64 >= ARRIVAL_MIN * sent as f64,
                "of {sent} packets only {arrived} arrived in the pod"
            );
        }
        let mut tally = self.tally.borrow_mut();
        let counts = tally.entry(self.name.clone()).or_default();
        counts.0 += sent;
        counts.1 += arrived;
        Ok((took + kernel).as_nanos() as f64 / sent as f64)
    }
}

/// CPU time of a thread of the kernel.
fn kernel_cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse().ok());
    Ok(Duration::from_nanos(
        nanoseconds.with_context(|| format!("{path} holds no time"))?,
    ))
}

/// The pid of `ksoftirqd` of this CPU.
fn ksoftirqd(cpu: usize) -> Result<u32> {
    let name = format!("ksoftirqd/{cpu}");
    for entry in std::fs::read_dir("/proc")
        .context("cannot list /proc")?
        .flatten()
    {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim() == name
            && let Ok(pid) = entry.file_name().to_string_lossy().parse()
        {
            return Ok(pid);
        }
    }
    anyhow::bail!("no {name} in /proc: is CPU {cpu} online?")
}

/// Measures the ways whose names begin with `only`.
pub(crate) fn measure(effort: &Effort, only: &str, cpu: usize) -> Result<Vec<Row>> {
    let stage = Rc::new(RefCell::new(Stage::build()?));
    let tally = Tally::default();
    let ksoftirqd = ksoftirqd(cpu)?;
    let mut cases = Vec::new();
    for kind in ["frames", "sockets"] {
        for way in Way::ALL {
            let name = format!("veth/{kind}/{}", way.name());
            let baseline = match way {
                Way::Drop => String::new(),
                _ => format!("veth/{kind}/{}", Way::Drop.name()),
            };
            let sender: Box<dyn Sender> = if kind == "frames" {
                Box::new(Frames::new(&stage.borrow(), way)?)
            } else {
                Box::new(Sockets::new(&stage.borrow(), way)?)
            };
            let case = Box::new(Travel {
                name: name.clone(),
                stage: Rc::clone(&stage),
                way,
                sender,
                tally: Rc::clone(&tally),
                ksoftirqd,
            });
            cases.push(Named {
                name,
                baseline,
                case,
            });
        }
    }
    let rows = clock::measure(cases, effort, only)?;
    stage.borrow_mut().expect_in_order()?;
    let tally = tally.borrow();
    Ok(rows
        .into_iter()
        .map(|row| {
            let (sent, arrived) = tally.get(row.name()).copied().unwrap_or_default();
            let kpps = 1e6 / row.median();
            row.with("kpps_per_core", kpps).with(
                "arrived_percent",
                100.0 * arrived as f64 / sent.max(1) as f64,
            )
        })
        .collect())
}
