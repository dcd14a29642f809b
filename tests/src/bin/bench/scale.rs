//! How the cost of an established session's packet grows with sessions and backends, what a new session costs, and
//! how much memory each takes.
//!
//! Generators visit the flows in an order that no prefetcher knows, each flow as often as any other: the worst
//! case. Real sessions come in bursts and are few.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

use anyhow::{Result, ensure};
use ingest_common::abi::{DeliveryMode, SERVICE_SRT, Service, program};

use crate::clock::{self, Case, Effort, Named};
use crate::frames::{self, CLIENT_MAC, CLIENT_PORT, CLIENT_V4, NODE_MAC, POD_V4, PORT, pod};
use crate::prog::path;
use crate::real::Real;
use crate::reference::{Generator, Reference};
use crate::report::Row;
use crate::run::{LO, Run, TC_ACT_OK, TC_ACT_REDIRECT, Under, XDP_PASS, XDP_REDIRECT, generator};

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
    let sessions = Rc::new(RefCell::new(sessions_world()?));
    let (new, empty) = ("scale/new_session", "scale/new_session_empty");
    for (name, baseline, real) in [(new, empty, Some(&sessions)), (empty, "", None)] {
        cases.push(Named {
            name: name.to_owned(),
            baseline: baseline.to_owned(),
            case: Box::new(Sessions::new(real)?),
        });
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
            if row.name() == new {
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
fn sessions_world() -> Result<Real> {
    let mut real = Real::load(1 << 17)?;
    populate(&mut real, 1, 0, 1)?;
    real.table(0, 0)?;
    Ok(real)
}

/// New sessions: each step of [`SESSIONS`] callers in turn. Each of a caller's four packets is a run of its own, so
/// all callers are at the same step; maps are as full as with that many handshakes under way.
struct Sessions {
    steps: Vec<Run>,
    real: Option<Rc<RefCell<Real>>>,
}

impl Sessions {
    /// With the programs of `real`, or empty ones.
    fn new(real: Option<&Rc<RefCell<Real>>>) -> Result<Self> {
        let (from, to): (SocketAddr, _) = (client(0).into(), pod(false));
        let clients = Generator {
            flows: CLIENTS,
            keep_sequence: true,
            ..Generator::one(CLIENT_PORT)
        };
        let mut steps = Vec::new();
        for (up, frame) in [
            (true, frames::induction(from, to)),
            (false, frames::induction_answer(to, from)),
            (true, frames::conclusion(from, to)),
            (false, frames::conclusion_answer(to, from)),
        ] {
            let (under, expected) = if up {
                let target = match real {
                    Some(real) => Some(
                        real.borrow_mut()
                            .xdp(program::XDP_INGEST)?
                            .fd()?
                            .try_clone()?,
                    ),
                    None => None,
                };
                let under = generator("xdp_gen_v4", clients, target.as_ref())?;
                (
                    under,
                    if real.is_some() {
                        XDP_REDIRECT
                    } else {
                        XDP_PASS
                    },
                )
            } else {
                let mut reference = Reference::load(16)?;
                reference.generate(clients)?;
                let target = match real {
                    Some(real) => real.borrow_mut().tc(program::TC_POD)?.fd()?.try_clone()?,
                    None => reference.tc("tc_empty")?.fd()?.try_clone()?,
                };
                reference.target_tc(&target)?;
                let expected = if real.is_some() {
                    TC_ACT_REDIRECT
                } else {
                    TC_ACT_OK
                };
                (Under::OwnTc(reference, "tc_gen_v4"), expected)
            };
            steps.push(Run {
                under,
                frame,
                expected,
            });
        }
        Ok(Self {
            steps,
            real: real.map(Rc::clone),
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
        ("handshake", sum(&["HANDSHAKES"])?),
        (
            "backend",
            sum(&["BACKENDS", "BACKEND_NAMES", "HEALTH", "BACKEND_STATS"])?,
        ),
    ])
}
