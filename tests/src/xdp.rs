//! An XDP program that passes everything. A veth gets what XDP sends back to it only where it has a program itself; a
//! NIC needs none.

use anyhow::{Context, Result};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::netns::Namespace;

/// The program, on an interface until it is dropped.
#[derive(Debug)]
pub struct PassAll {
    _ebpf: Ebpf,
}

impl PassAll {
    /// Attaches it to `interface` of `netns`.
    pub fn attach(netns: &Namespace, interface: &str) -> Result<Self> {
        let path = crate::built("INGEST_BENCH_EBPF", "ebpf/ingest-bench")?;
        let object =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let interface = interface.to_owned();
        netns.enter(move || {
            let mut ebpf = EbpfLoader::new()
                .load(&object)
                .context("cannot load the reference programs")?;
            let program: &mut Xdp = ebpf
                .program_mut("xdp_empty")
                .context("no program xdp_empty")?
                .try_into()?;
            program.load()?;
            program
                .attach(&interface, XdpMode::Driver)
                .with_context(|| format!("cannot attach XDP to {interface}"))?;
            Ok(Self { _ebpf: ebpf })
        })
    }
}
