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
            // Jumbo frames need the first, kernels before 5.18 the second.
            let fragments = load(&mut ebpf, "xdp_empty");
            let name = if fragments.is_ok() {
                "xdp_empty"
            } else {
                load(&mut ebpf, "xdp_pass")?;
                "xdp_pass"
            };
            program(&mut ebpf, name)?
                .attach(&interface, XdpMode::Driver)
                .with_context(|| format!("cannot attach XDP to {interface}"))?;
            Ok(Self { _ebpf: ebpf })
        })
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn load(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    program(ebpf, name)?
        .load()
        .with_context(|| format!("cannot load {name}"))
}
