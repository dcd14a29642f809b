//! How the cost of an established session's packet grows with sessions and backends, what a new session costs, and
//! how much memory each takes.
//!
//! Generators visit the flows in an order that no prefetcher knows, each flow as often as any other: the worst
//! case. Real sessions come in bursts and are few.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

use anyhow::{Result, ensure};
use ingest_common::abi::{DeliveryMode, SERVICE_SRT, SERVICE_STREAM, Service, program};

use crate::clock::{self, Case, Effort, Named};
use crate::frames::{self, CLIENT_MAC, CLIENT_PORT, CLIENT_V4, NODE_MAC, POD_V4, PORT, pod};
use crate::prog::path;
use crate::real::Real;
use crate::reference::{Generator, Reference};
use crate::report::Row;
use crate::run::{
    LO, Run, TC_ACT_OK, TC_ACT_REDIRECT, Under, XDP_PASS, XDP_REDIRECT, XDP_TX, answers, generator,
    handshakes,
};

/// Name, flows (a power of two, for the generators) and backends.
const SIZES: [(&str, u32, u16); 4] = [
    ("1k_flows_8_backends", 1 << 10, 8),
    ("1k_flows_1000_backends", 1 << 10, 1000),
    ("100k_flows_8_backends", 1 << 17, 8),
    ("100k_flows_1000_backends", 1 << 17, 1000),
];
/// New sessions between two looks at the event ring, which holds twice as many.
const SESSIONS: u32 = 2048;
/// Clients before one comes again.
const CLIENTS: u32 = 1 << 20;

/// The client of a flow, as the generators count them.
fn client(index: u32) -> SocketAddrV4 {
    let address = Ipv4Addr::from_bits(CLIENT_V4.to_bits() + (index >> 10));
    SocketAddrV4::new(address, CLIENT_PORT + (index & 0x3ff) as u16)
}

fn flows(flows: u32) -> Generator {
    Generator {
        flows,
        ..Generator::one(CLIENT_PORT)
    }
}

/// A service with `backends`, and `count` sessions evenly on them.
fn populate(real: &mut Real, service: u16, count: u32, backends: u16) -> Result<()> {
    for slot in 0..backends {
        real.backend(
            slot,
            pod(false),
            DeliveryMode::Redirect,
            (NODE_MAC, CLIENT_MAC),
            LO,
        )?;
    }
    let entry = Service {
        id: service,
        pool: 0,
        flags: SERVICE_SRT,
    };
    real.service(pod(false), entry)?;
    for index in 0..count {
        let slot = (index % u32::from(backends)) as u16;
        real.flow_up(client(index).into(), service, slot, path())?;
    }
    Ok(())
}

/// Measures what begins with `only`.
pub(crate) fn measure(effort: &Effort, only: &str) -> Result<Vec<Row>> {
    let mut cases = Vec::new();
    let data = frames::data(client(0).into(), pod(false));
    let mut reals = Vec::new();
    for (name, count, backends) in SIZES {
        // Twice the room: an LRU map near its limit evicts.
        let mut real = Real::load(2 * count)?;
        populate(&mut real, 1, count, backends)?;
        let target = real.xdp(program::XDP_INGEST)?.fd()?.try_clone()?;
        let baseline = generator_name(count);
        cases.push(named(
            format!("scale/established_{name}"),
            &baseline,
            generator("xdp_gen_v4", flows(count), Some(&target))?,
            data.clone(),
            XDP_REDIRECT,
        ));
        reals.push((real, count));
    }
    for (name, count) in [("1k", 1 << 10), ("100k", 1 << 17)] {
        let baseline = generator_name(count);
        let under = generator("xdp_gen_v4", flows(count), None)?;
        cases.push(named(baseline.clone(), "", under, data.clone(), XDP_PASS));
        cases.push(named(
            format!("scale/minimal_{name}_flows"),
            &baseline,
            minimal(count)?,
            data.clone(),
            XDP_REDIRECT,
        ));
    }
    for way in [Way::Client, Way::Stream] {
        let sessions = Rc::new(RefCell::new(sessions_world(way)?));
        let (new, empty) = way.names();
        for (name, baseline, real) in [(new, empty, Some(&sessions)), (empty, "", None)] {
            cases.push(Named {
                name: name.to_owned(),
                baseline: baseline.to_owned(),
                case: Box::new(Sessions::new(way, real)?),
            });
        }
    }
    let rows = clock::measure(cases, effort, only)?;
    for (real, count) in &mut reals {
        for index in [0, *count / 3, *count - 1] {
            real.expect_in_order(client(index).into(), 1)?;
        }
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            if [Way::Client, Way::Stream]
                .iter()
                .any(|way| way.names().0 == row.name())
            {
                let rate = 1e9 / row.net_median();
                row.with("sessions_per_s_and_core", rate)
            } else {
                row
            }
        })
        .collect())
}

fn generator_name(flows: u32) -> String {
    format!(
        "scale/generator_{}k_flows",
        if flows > 1 << 10 { 100 } else { 1 }
    )
}

fn named(name: String, baseline: &str, under: Under, frame: Vec<u8>, expected: u32) -> Named {
    Named {
        name,
        baseline: baseline.to_owned(),
        case: Box::new(Run {
            under,
            frame,
            expected,
        }),
    }
}

/// The minimal program with as many flows.
fn minimal(count: u32) -> Result<Under> {
    let mut reference = Reference::load(2 * count)?;
    reference.generate(flows(count))?;
    let to = SocketAddrV4::new(POD_V4, PORT);
    reference.minimal_backend(0, to, (NODE_MAC, CLIENT_MAC), LO)?;
    for index in 0..count {
        reference.minimal_flow(client(index), to, 0)?;
    }
    let target = reference.xdp("xdp_minimal")?.fd()?.try_clone()?;
    reference.target_xdp(&target)?;
    Ok(Under::OwnXdp(reference, "xdp_gen_v4"))
}

/// One backend for all new sessions.
fn sessions_world(way: Way) -> Result<Real> {
    let mut real = Real::load(1 << 17)?;
    populate(&mut real, 1, 0, 1)?;
    if way == Way::Stream {
        let entry = Service {
            id: 1,
            pool: 0,
            flags: SERVICE_SRT | SERVICE_STREAM,
        };
        real.service(pod(false), entry)?;
    }
    real.table(0, 0)?;
    Ok(real)
}

/// Who answers a caller's handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The pod.
    Client,
    /// The program, which splices the session with the pod.
    Stream,
}

impl Way {
    /// Names of the case and of its baseline.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Client => ("scale/new_session", "scale/new_session_empty"),
            Self::Stream => ("scale/new_stream_session", "scale/new_stream_session_empty"),
        }
    }
}

/// New sessions: each step of [`SESSIONS`] callers in turn. Each of a caller's four packets is a run of its own, so
/// all callers are at the same step; maps are as full as with that many handshakes under way.
struct Sessions {
    steps: Vec<Run>,
    real: Option<Rc<RefCell<Real>>>,
}

impl Sessions {
    /// With the programs of `real`, or empty ones.
    fn new(way: Way, real: Option<&Rc<RefCell<Real>>>) -> Result<Self> {
        let (from, to): (SocketAddr, _) = (client(0).into(), pod(false));
        let clients = Generator {
            flows: CLIENTS,
            keep_sequence: true,
            ..Generator::one(CLIENT_PORT)
        };
        let conclusion = match way {
            Way::Client => frames::conclusion(from, to),
            Way::Stream => frames::stream_conclusion(from, to, 112),
        };
        let mut steps = vec![
            (true, frames::induction(from, to)),
            (false, frames::induction_answer(to, from)),
            (true, conclusion),
            (false, frames::conclusion_answer(to, from)),
        ];
        if way == Way::Stream {
            // The pod is asked only once the caller has proved its address.
            steps.swap(1, 2);
        }
        let steps: Result<Vec<Run>> = steps
            .into_iter()
            .enumerate()
            .map(|(number, (up, frame))| match (way, up) {
                (_, true) => Self::up(way, clients, number, frame, real),
                (_, false) => Self::down(way, clients, frame, real),
            })
            .collect();
        Ok(Self {
            steps: steps?,
            real: real.map(Rc::clone),
        })
    }

    fn up(
        way: Way,
        clients: Generator,
        number: usize,
        frame: Vec<u8>,
        real: Option<&Rc<RefCell<Real>>>,
    ) -> Result<Run> {
        let target = match real {
            Some(real) => Some(
                real.borrow_mut()
                    .xdp(program::XDP_INGEST)?
                    .fd()?
                    .try_clone()?,
            ),
            None => None,
        };
        let under = match way {
            Way::Client => generator("xdp_gen_v4", clients, target.as_ref())?,
            Way::Stream => handshakes(clients, &frame, number > 0, target.as_ref())?,
        };
        let expected = match (real, way, number) {
            (None, ..) => XDP_PASS,
            (Some(_), Way::Stream, 0) => XDP_TX,
            (Some(_), ..) => XDP_REDIRECT,
        };
        Ok(Run {
            under,
            frame,
            expected,
        })
    }

    fn down(
        way: Way,
        clients: Generator,
        frame: Vec<u8>,
        real: Option<&Rc<RefCell<Real>>>,
    ) -> Result<Run> {
        let target = match real {
            Some(real) => Some(real.borrow_mut().tc(program::TC_POD)?.fd()?.try_clone()?),
            None => None,
        };
        let under = match way {
            Way::Stream => answers(clients, &frame, target.as_ref())?,
            Way::Client => {
                let mut reference = Reference::load(16)?;
                reference.generate(clients)?;
                let empty = reference.tc("tc_empty")?.fd()?.try_clone()?;
                reference.target_tc(target.as_ref().unwrap_or(&empty))?;
                Under::OwnTc(reference, "tc_gen_v4")
            }
        };
        Ok(Run {
            under,
            frame,
            expected: if real.is_some() {
                TC_ACT_REDIRECT
            } else {
                TC_ACT_OK
            },
        })
    }
}

impl Case for Sessions {
    fn visit(&mut self, _effort: &Effort) -> Result<f64> {
        let mut total = 0.0;
        for step in &mut self.steps {
            total += step.run(SESSIONS)?.as_nanos() as f64;
        }
        if let Some(real) = &self.real {
            let accepted = real.borrow_mut().drain_events()?;
            ensure!(
                accepted == SESSIONS as usize,
                "of {SESSIONS} sessions {accepted} were accepted"
            );
        }
        Ok(total / f64::from(SESSIONS))
    }
}

/// Kernel memory of a session and of a backend.
pub(crate) fn memory() -> Result<Vec<(&'static str, f64)>> {
    let mut real = Real::load(1 << 17)?;
    let mut sum = |names: &[&str]| -> Result<f64> {
        names.iter().map(|name| real.bytes_per_entry(name)).sum()
    };
    Ok(vec![
        ("flow", sum(&["FLOWS", "RETURNS"])?),
        ("stream_id", sum(&["STREAM_IDS"])?),
        ("handshake", sum(&["HANDSHAKES"])?),
        ("splice", sum(&["SPLICES"])?),
        ("source", sum(&["SOURCE_RATES"])?),
        (
            "backend",
            sum(&["BACKENDS", "BACKEND_NAMES", "HEALTH", "BACKEND_STATS"])?,
        ),
    ])
}
