//! Running one path of one program many times.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::TestRun;
use aya::programs::{ProgramFd, TestRunOptions};

use crate::clock::{Case, Effort, thread_cpu};
use crate::real::Real;
use crate::reference::{Generator, Reference};

/// Verdicts of XDP programs.
pub(crate) const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
pub(crate) const XDP_PASS: u32 = 2;
/// See [`XDP_DROP`].
pub(crate) const XDP_TX: u32 = 3;
/// See [`XDP_DROP`].
pub(crate) const XDP_REDIRECT: u32 = 4;
/// Verdicts of tc programs.
pub(crate) const TC_ACT_OK: u32 = 0;
/// See [`TC_ACT_OK`].
pub(crate) const TC_ACT_REDIRECT: u32 = 7;
/// The interface that test runs seem to come from: lo.
pub(crate) const LO: u32 = 1;

/// Which program a case runs.
pub(crate) enum Under {
    /// One of the object under test, as it is.
    RealXdp(Rc<RefCell<Real>>, &'static str),
    /// The same for tc.
    RealTc(Rc<RefCell<Real>>, &'static str),
    /// One of the references; a generator goes on with what its own copy of the maps says.
    OwnXdp(Reference, &'static str),
    /// The same for tc.
    OwnTc(Reference, &'static str),
}

/// A path through a program.
pub(crate) struct Run {
    /// The program.
    pub(crate) under: Under,
    /// The packet.
    pub(crate) frame: Vec<u8>,
    /// What it must return.
    pub(crate) expected: u32,
}

impl Case for Run {
    fn visit(&mut self, effort: &Effort) -> Result<f64> {
        let took = self.run(effort.repeat)?;
        Ok(took.as_nanos() as f64 / f64::from(effort.repeat))
    }
}

impl Run {
    /// Runs it so often; says the CPU time of all runs together.
    pub(crate) fn run(&mut self, repeat: u32) -> Result<Duration> {
        let mut out = vec![0; self.frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut out),
            repeat,
            ..TestRunOptions::new()
        };
        let began = thread_cpu()?;
        let result = match &mut self.under {
            Under::RealXdp(real, name) => real.borrow_mut().xdp(name)?.test_run(options),
            Under::RealTc(real, name) => real.borrow_mut().tc(name)?.test_run(options),
            Under::OwnXdp(reference, name) => reference.xdp(name)?.test_run(options),
            Under::OwnTc(reference, name) => reference.tc(name)?.test_run(options),
        };
        let took = thread_cpu()?.saturating_sub(began);
        let result = result.context("the test run failed")?;
        ensure!(
            result.return_value == self.expected,
            "the program returned {} in place of {}: this is not the path to be measured",
            result.return_value,
            self.expected
        );
        Ok(took)
    }
}

/// A generator in front of `target`, or of the empty program.
pub(crate) fn generator(
    name: &'static str,
    generator: Generator,
    target: Option<&ProgramFd>,
) -> Result<Under> {
    let mut reference = Reference::load(16)?;
    reference.generate(generator)?;
    if let Some(target) = target {
        reference.target_xdp(target)?;
    } else {
        let empty = reference.xdp("xdp_empty")?.fd()?.try_clone()?;
        reference.target_xdp(&empty)?;
    }
    Ok(Under::OwnXdp(reference, name))
}

/// A handshake generator that restores `frame` for `clients`, in front of `target` or of the empty program.
pub(crate) fn handshakes(
    clients: Generator,
    frame: &[u8],
    cookie: bool,
    target: Option<&ProgramFd>,
) -> Result<Under> {
    let mut reference = Reference::load(16)?;
    reference.generate(Generator {
        keep_sequence: true,
        ..clients
    })?;
    reference.original(frame, cookie)?;
    let empty = reference.xdp("xdp_empty")?.fd()?.try_clone()?;
    reference.target_xdp(target.unwrap_or(&empty))?;
    Ok(Under::OwnXdp(reference, "xdp_gen_shake"))
}

/// The same for a pod's answers.
pub(crate) fn answers(
    clients: Generator,
    frame: &[u8],
    target: Option<&ProgramFd>,
) -> Result<Under> {
    let mut reference = Reference::load(16)?;
    reference.generate(Generator {
        keep_sequence: true,
        ..clients
    })?;
    reference.original(frame, false)?;
    let empty = reference.tc("tc_empty")?.fd()?.try_clone()?;
    reference.target_tc(target.unwrap_or(&empty))?;
    Ok(Under::OwnTc(reference, "tc_gen_shake"))
}
