use std::collections::{BTreeSet, HashMap};

use aya::{Ebpf, TestRun, programs::TestRunOptions};
use ingest_common::abi::{self, program};

use super::{
    Dataplane, Error, Lock, Options, UplinkState, XdpHook, checks,
    events::Ring,
    filters,
    kernel_log::KernelLog,
    maps::Maps,
    object::{self, Load},
    packet,
    pins::{Hook, Pins},
    raw,
    sweep::Idle,
    tables::TableWriter,
};
use crate::ports::{self, LinkInfo};

/// What a frame that is not for us must get.
const XDP_PASS: u32 = 2;
/// Uplinks that `NODE` has room for.
const MAX_UPLINKS: usize = size_of::<[abi::Uplink; 8]>() / size_of::<abi::Uplink>();

impl Dataplane {
    /// Checks the preconditions and the pins, loads maps (adopting pinned ones) and programs, runs the self-test.
    /// Nothing is attached yet. Blocks for about 100 ms.
    ///
    /// # Minimum kernel version
    /// 5.10; before 6.6 without tcx, by `filters`, before 5.18 by another object, see `object`.
    pub async fn load(options: &Options, lock: &Lock) -> Result<Self, Error> {
        checks::preconditions()?;
        raw::lift_memory_limit();
        let pins = Pins::new(lock.pin_root());
        // First, since it explains the program on the uplink.
        pins.refuse_other_schemas()?;
        let uplinks = uplinks(&options.uplinks, &pins).await?;
        let absent = pins.verify()?;
        pins.make()?;
        let load = Load {
            pins: &pins,
            absent: &absent,
            max_flows: options.max_flows,
            log_level: options.kernel_log.map_or(0, |level| level as u8),
            dry_run: false,
        };
        let mut ebpf = load.load()?;
        let kernel_log = match options.kernel_log {
            Some(_) => KernelLog::start(&mut ebpf)?,
            None => None,
        };
        load_programs(&mut ebpf)?;
        self_test(&mut ebpf)?;
        let max_flows = Maps::max_flows(&pins)?;
        if max_flows != options.max_flows {
            tracing::warn!(
                pinned = max_flows,
                wanted = options.max_flows,
                "the flow table keeps its size, since it holds live flows; `ingest-agent unload` drops it"
            );
        }
        let maps = Maps::take(&mut ebpf)?;
        Ok(Self {
            table_writer: TableWriter::new(&maps.tables)?,
            maps,
            events: Some(Ring::take(&mut ebpf)?),
            ebpf,
            pins,
            xdp_mode: options.xdp_mode,
            uplinks,
            max_flows,
            pod_ports: BTreeSet::new(),
            pod_ports_adopted: false,
            filters: filters::are_needed(),
            tables: HashMap::new(),
            idle: Idle::default(),
            sequence: 0,
            _kernel_log: kernel_log,
        })
    }
}

/// Looks the uplinks up, and refuses one with an XDP program that is not an earlier agent's.
async fn uplinks(names: &[String], pins: &Pins) -> Result<Vec<UplinkState>, Error> {
    if names.is_empty() || names.len() > MAX_UPLINKS {
        return Err(Error::UplinkCount {
            found: names.len(),
            most: MAX_UPLINKS,
        });
    }
    let mut states: Vec<UplinkState> = Vec::with_capacity(names.len());
    for name in names {
        if states.iter().any(|state| state.name == *name) {
            return Err(Error::UplinkTwice {
                interface: name.clone(),
            });
        }
        let info = ports::link_by_name(name)
            .await?
            .ok_or_else(|| Error::NoInterface {
                interface: name.clone(),
            })?;
        refuse_foreign(&info, pins)?;
        states.push(UplinkState {
            name: info.name.clone(),
            ifindex: info.ifindex,
            mac: info.mac.unwrap_or_default(),
            xdp: info.xdp.map(|xdp| {
                if xdp.generic {
                    XdpHook::Generic
                } else {
                    XdpHook::Native
                }
            }),
            is_veth: info.is_veth(),
            adopted: false,
        });
    }
    Ok(states)
}

fn refuse_foreign(info: &LinkInfo, pins: &Pins) -> Result<(), Error> {
    let Some(xdp) = info.xdp else { return Ok(()) };
    let ours = Pins::attachment(&pins.link(&info.name, Hook::Xdp))?;
    if ours.is_some_and(|link| link.ifindex == info.ifindex && link.program_id == xdp.program) {
        return Ok(());
    }
    // Needs CAP_SYS_ADMIN; the id alone must do without.
    let program = aya::programs::loaded_programs()
        .flatten()
        .find(|program| program.id() == xdp.program)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_default();
    Err(Error::ForeignProgram {
        interface: info.name.clone(),
        program,
        id: xdp.program,
    })
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), Error> {
    for name in [program::XDP_INGEST, program::XDP_PROBE] {
        object::xdp(ebpf, name)?
            .load()
            .map_err(object::refused(name))?;
    }
    for name in [
        program::TC_UPLINK_IN,
        program::TC_UPLINK_OUT,
        program::TC_POD,
    ] {
        object::tc(ebpf, name)?
            .load()
            .map_err(object::refused(name))?;
    }
    Ok(())
}

/// Runs the program on a frame that is nobody's, before any real one meets it.
fn self_test(ebpf: &mut Ebpf) -> Result<(), Error> {
    let program = program::XDP_INGEST;
    let frame = packet::nobodys_datagram();
    let options = TestRunOptions {
        data_in: Some(&frame),
        ..TestRunOptions::new()
    };
    let result = object::xdp(ebpf, program)?
        .test_run(options)
        .map_err(|source| Error::Program {
            operation: "self-test",
            program,
            source: Box::new(source),
        })?;
    if result.return_value == XDP_PASS {
        Ok(())
    } else {
        Err(Error::SelfTest {
            program,
            expected: XDP_PASS,
            found: result.return_value,
        })
    }
}
