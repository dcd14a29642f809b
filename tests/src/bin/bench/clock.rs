//! Time and rounds. What is read is the CPU time of this thread around the system call: wall time would count
//! whatever else the machine does meanwhile. Every round visits every case, so a slow minute hits all of them.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::report::Row;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Visits of each case.
    pub(crate) rounds: usize,
    /// Runs of a program in one visit.
    pub(crate) repeat: u32,
    /// Packets of one visit where they travel.
    pub(crate) packets: u32,
}

impl Effort {
    /// Minutes.
    pub(crate) const FULL: Self = Self {
        rounds: 31,
        repeat: 200_000,
        packets: 100_000,
    };
    /// Seconds.
    pub(crate) const QUICK: Self = Self {
        rounds: 9,
        repeat: 60_000,
        packets: 25_000,
    };
}

/// Keeps this thread on one CPU: `cpu`, or the last that it may use, since the first has the interrupts. Says which.
pub(crate) fn pin(cpu: Option<usize>) -> Result<usize> {
    let us = Pid::from_raw(0);
    let allowed = sched_getaffinity(us).context("cannot ask which CPUs we may use")?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .context("there is no CPU that we may use")?;
    let cpu = cpu.unwrap_or(last);
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("CPU {cpu}"))?;
    sched_setaffinity(us, &set).with_context(|| format!("cannot run on CPU {cpu}"))?;
    Ok(cpu)
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("cannot read this thread's CPU time")?
        .into())
}

/// Something that is measured by visits.
pub(crate) trait Case {
    /// Runs it once and says the ns of CPU time per packet.
    fn visit(&mut self, effort: &Effort) -> Result<f64>;
}

/// What the visits of a case took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    values: Vec<f64>,
}

impl Sample {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The middle.
    pub(crate) fn median(&self) -> f64 {
        ingest_tests::median(&mut self.values.clone())
    }

    /// The least: nearest to what a quiet machine would say.
    pub(crate) fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// A case, the name of its result, and of the result that is to be subtracted ("" for none).
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) baseline: String,
    pub(crate) case: Box<dyn Case>,
}

/// Measures the cases whose names begin with `only`, and their baselines.
pub(crate) fn measure(mut cases: Vec<Named>, effort: &Effort, only: &str) -> Result<Vec<Row>> {
    let mut wanted: Vec<String> = Vec::new();
    for case in cases.iter().filter(|case| case.name.starts_with(only)) {
        wanted.extend([case.name.clone(), case.baseline.clone()]);
    }
    // A baseline is net of another one.
    for case in &cases {
        if wanted.contains(&case.name) {
            wanted.push(case.baseline.clone());
        }
    }
    cases.retain(|case| wanted.contains(&case.name));
    let samples = rounds(&mut cases, effort)?;
    let rows = cases.iter().zip(&samples).map(|(case, sample)| {
        let row = Row::new(case.name.clone(), sample);
        let baseline = cases.iter().position(|other| other.name == case.baseline);
        match baseline.and_then(|index| samples.get(index)) {
            Some(baseline) => row.net_of(case.baseline.clone(), baseline),
            None => row,
        }
    });
    Ok(rows.collect())
}

/// Visits every case once a round, each round beginning with another case and running the other way. One round
/// beforehand warms caches up and is forgotten.
fn rounds(cases: &mut [Named], effort: &Effort) -> Result<Vec<Sample>> {
    let mut samples = vec![Sample::default(); cases.len()];
    for round in 0..=effort.rounds {
        for step in 0..cases.len() {
            let turn = (round * 7 + step) % cases.len();
            let index = if round % 2 == 0 {
                turn
            } else {
                cases.len() - 1 - turn
            };
            let (Some(named), Some(sample)) = (cases.get_mut(index), samples.get_mut(index)) else {
                continue;
            };
            let value = named
                .case
                .visit(effort)
                .with_context(|| format!("cannot measure {}", named.name))?;
            if round > 0 {
                sample.push(value);
            }
        }
    }
    Ok(samples)
}
