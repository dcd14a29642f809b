//! Puts programs on interfaces, and takes over what an earlier agent left there. Every attachment is a pinned BPF
//! link (or, without tcx, a filter): a new program is swapped into it, so no packet meets an interface without one.

use std::{collections::BTreeSet, path::Path};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions},
        xdp::{XdpLink, XdpLinkId},
    },
};
use ingest_common::abi::program;

use super::{
    Dataplane, Error, UplinkState, XdpChoice, XdpHook, filters, object,
    pins::{Hook, Pins, make_directory},
    raw::interface_name,
};

const REMEDY_NATIVE: &str = "the driver, its MTU or its queues may not allow native XDP: set the XDP mode to auto or generic";
const REMEDY_GENERIC: &str =
    "look for another XDP program by `ip -d link show`, and for the reason in the kernel's log";
const REMEDY_TC: &str = "look for the reason in the kernel's log";

impl Dataplane {
    /// Puts the programs on the uplinks, or swaps them into the links of an earlier agent. Links of interfaces that
    /// are no uplinks any more are removed.
    pub fn attach(&mut self) -> Result<(), Error> {
        // XDP goes last: what it hands over, the others must already understand.
        self.adopt_pod_ports()?;
        for uplink in &self.uplinks {
            make_directory(&self.pins.uplink(&uplink.name))?;
            for (hook, name, direction, order) in [
                // Before others: what we deliver or answer is not theirs to see.
                (
                    Hook::TcIn,
                    program::TC_UPLINK_IN,
                    TcAttachType::Ingress,
                    LinkOrder::first(),
                ),
                (
                    Hook::TcOut,
                    program::TC_UPLINK_OUT,
                    TcAttachType::Egress,
                    LinkOrder::last(),
                ),
            ] {
                let pin = self.pins.link(&uplink.name, hook);
                let tc = object::tc(&mut self.ebpf, name)?;
                if self.filters {
                    live(&pin, uplink.ifindex)?;
                    set_filter(tc, name, &uplink.name, &pin)?;
                } else if live(&pin, uplink.ifindex)? {
                    swap_tc(tc, name, &pin)?;
                } else {
                    attach_tc(tc, name, &uplink.name, direction, order, &pin)?;
                }
            }
        }
        for uplink in &mut self.uplinks {
            attach_xdp(&mut self.ebpf, &self.pins, self.xdp_mode, uplink)?;
        }
        self.remove_former_uplinks()
    }

    /// Makes `tc_pod` run at the ingress of exactly these interfaces. One that vanished meanwhile is skipped.
    pub fn set_pod_ports(&mut self, ifindexes: &BTreeSet<u32>) -> Result<(), Error> {
        self.adopt_pod_ports()?;
        for ifindex in ifindexes {
            if self.pod_ports.contains(ifindex) {
                continue;
            }
            let Some(name) = interface_name(*ifindex) else {
                tracing::debug!(ifindex, "pod port is gone");
                continue;
            };
            let pin = self.pins.pod_port(*ifindex);
            let tc = object::tc(&mut self.ebpf, program::TC_POD)?;
            let set = if self.filters {
                set_filter(tc, program::TC_POD, &name, &pin)
            } else {
                let (direction, order) = (TcAttachType::Ingress, LinkOrder::first());
                attach_tc(tc, program::TC_POD, &name, direction, order, &pin)
            };
            match set {
                Ok(()) => self.pod_ports.insert(*ifindex),
                Err(error) if interface_name(*ifindex).is_none() => {
                    tracing::debug!(ifindex, %error, "pod port is gone");
                    continue;
                }
                Err(error) => return Err(error),
            };
        }
        let unwanted: Vec<u32> = self.pod_ports.difference(ifindexes).copied().collect();
        for ifindex in unwanted {
            Pins::remove_link(&self.pins.pod_port(ifindex))?;
            self.pod_ports.remove(&ifindex);
        }
        Ok(())
    }

    /// Swaps the program in the pod port links of an earlier agent, once.
    fn adopt_pod_ports(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.pod_ports_adopted, true) {
            return Ok(());
        }
        for ifindex in self.pins.pod_port_indexes()? {
            let pin = self.pins.pod_port(ifindex);
            if !live(&pin, ifindex)? {
                continue;
            }
            let tc = object::tc(&mut self.ebpf, program::TC_POD)?;
            if !self.filters {
                swap_tc(tc, program::TC_POD, &pin)?;
            } else if let Some(name) = interface_name(ifindex) {
                set_filter(tc, program::TC_POD, &name, &pin)?;
            }
            self.pod_ports.insert(ifindex);
        }
        Ok(())
    }

    fn remove_former_uplinks(&self) -> Result<(), Error> {
        for name in self.pins.uplinks()? {
            if self.uplinks.iter().any(|uplink| uplink.name == name) {
                continue;
            }
            tracing::warn!(interface = name, "no uplink any more: detaching");
            for hook in Hook::ALL {
                let pin = self.pins.link(&name, hook);
                if pin.exists() {
                    Pins::remove_link(&pin)?;
                }
            }
            let directory = self.pins.uplink(&name);
            std::fs::remove_dir(&directory).map_err(|source| Error::Files {
                operation: "removing directory",
                path: directory,
                source,
            })?;
        }
        Ok(())
    }
}

/// Whether the link pinned at `pin` is attached to `ifindex`; the pin of any other one is removed, since its device
/// was replaced or renamed.
fn live(pin: &Path, ifindex: u32) -> Result<bool, Error> {
    match Pins::attachment(pin)? {
        None => Ok(false),
        Some(found) if found.ifindex == ifindex => Ok(true),
        Some(found) => {
            tracing::info!(
                pin = %pin.display(), found = found.ifindex, wanted = ifindex,
                "pinned link belongs to an interface that was replaced: attaching anew"
            );
            Pins::remove_link(pin)?;
            Ok(false)
        }
    }
}

fn attach_tc(
    tc: &mut SchedClassifier,
    program: &'static str,
    interface: &str,
    direction: TcAttachType,
    order: LinkOrder,
    pin: &Path,
) -> Result<(), Error> {
    // `live` has removed a dead link's pin, but only where it was asked about.
    if pin.exists() {
        Pins::remove_link(pin)?;
    }
    let id = tc
        .attach_with_options(interface, direction, TcAttachOptions::TcxOrder(order))
        .map_err(|source| attach_failed(program, interface, REMEDY_TC, source))?;
    let link = take_tc(tc, program, id)?;
    let not_a_link = |_| Error::NotALink {
        program,
        interface: interface.to_owned(),
    };
    pin_link(FdLink::try_from(link).map_err(not_a_link)?, pin)
}

fn set_filter(
    tc: &mut SchedClassifier,
    program: &'static str,
    interface: &str,
    pin: &Path,
) -> Result<(), Error> {
    filters::set(tc, interface, pin)
        .map_err(|source| attach_failed(program, interface, REMEDY_TC, source))
}

fn swap_tc(tc: &mut SchedClassifier, program: &'static str, pin: &Path) -> Result<(), Error> {
    let link = SchedClassifierLink::try_from(open_link(pin)?).map_err(|source| Error::Link {
        operation: "taking over",
        path: pin.to_owned(),
        source: Box::new(source),
    })?;
    let id = tc
        .attach_to_link(link)
        .map_err(|source| swap_failed(program, source))?;
    // Only the descriptor goes; the pin keeps the link.
    take_tc(tc, program, id).map(drop)
}

fn take_tc(
    tc: &mut SchedClassifier,
    program: &'static str,
    id: SchedClassifierLinkId,
) -> Result<SchedClassifierLink, Error> {
    tc.take_link(id).map_err(|source| Error::Program {
        operation: "taking the link",
        program,
        source: Box::new(source),
    })
}

fn attach_xdp(
    ebpf: &mut Ebpf,
    pins: &Pins,
    choice: XdpChoice,
    uplink: &mut UplinkState,
) -> Result<(), Error> {
    let program = program::XDP_INGEST;
    let pin = pins.link(&uplink.name, Hook::Xdp);
    let xdp = object::xdp(ebpf, program)?;
    if live(&pin, uplink.ifindex)? {
        let wanted = match choice {
            XdpChoice::Auto => uplink.xdp,
            XdpChoice::Native => Some(XdpHook::Native),
            XdpChoice::Generic => Some(XdpHook::Generic),
        };
        if uplink.xdp == wanted {
            let link = XdpLink::try_from(open_link(&pin)?).map_err(|source| Error::Link {
                operation: "taking over",
                path: pin.clone(),
                source: Box::new(source),
            })?;
            let id = xdp
                .attach_to_link(link)
                .map_err(|source| swap_failed(program, source))?;
            uplink.adopted = true;
            return take_xdp(xdp, program, id).map(drop);
        }
        tracing::warn!(
            interface = uplink.name,
            "the XDP mode has changed: attaching anew, some packets will pass by"
        );
        Pins::remove_link(&pin)?;
    }
    let interface = uplink.name.clone();
    let attempt = |xdp: &mut Xdp, mode| xdp.attach_to_if_index(uplink.ifindex, mode);
    let (hook, id) = match choice {
        XdpChoice::Generic => (XdpHook::Generic, attempt(xdp, XdpMode::Skb)),
        XdpChoice::Native => (XdpHook::Native, attempt(xdp, XdpMode::Driver)),
        XdpChoice::Auto => match attempt(xdp, XdpMode::Driver) {
            Ok(id) => (XdpHook::Native, Ok(id)),
            Err(error) => {
                tracing::warn!(
                    interface, %error,
                    "native XDP does not work here, using generic XDP, which is several times slower"
                );
                (XdpHook::Generic, attempt(xdp, XdpMode::Skb))
            }
        },
    };
    let remedy = match hook {
        XdpHook::Native => REMEDY_NATIVE,
        XdpHook::Generic => REMEDY_GENERIC,
    };
    let id = id.map_err(|source| attach_failed(program, &interface, remedy, source))?;
    let link = take_xdp(xdp, program, id)?;
    let not_a_link = |_| Error::NotALink {
        program,
        interface: interface.clone(),
    };
    pin_link(FdLink::try_from(link).map_err(not_a_link)?, &pin)?;
    uplink.xdp = Some(hook);
    Ok(())
}

fn take_xdp(xdp: &mut Xdp, program: &'static str, id: XdpLinkId) -> Result<XdpLink, Error> {
    xdp.take_link(id).map_err(|source| Error::Program {
        operation: "taking the link",
        program,
        source: Box::new(source),
    })
}

fn open_link(pin: &Path) -> Result<FdLink, Error> {
    PinnedLink::from_pin(pin)
        .map(FdLink::from)
        .map_err(|source| Error::Link {
            operation: "opening pinned",
            path: pin.to_owned(),
            source: Box::new(source),
        })
}

fn pin_link(link: FdLink, pin: &Path) -> Result<(), Error> {
    link.pin(pin).map(drop).map_err(|source| Error::Pin {
        path: pin.to_owned(),
        source: Box::new(source),
    })
}

fn attach_failed(
    program: &'static str,
    interface: &str,
    remedy: &'static str,
    source: ProgramError,
) -> Error {
    Error::Attach {
        program,
        interface: interface.to_owned(),
        remedy,
        source: Box::new(source),
    }
}

fn swap_failed(program: &'static str, source: ProgramError) -> Error {
    Error::Program {
        operation: "swapping in",
        program,
        source: Box::new(source),
    }
}
