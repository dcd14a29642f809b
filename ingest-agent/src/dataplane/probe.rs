//! Proves that a delivery mode works for a backend, by an echo request that takes the same way as its packets.
//!
//! The frame is run through `xdp_probe` as a live frame, so the kernel really redirects or passes it. The pod's kernel
//! answers, `tc_pod` at the pod port catches the answer and notes it in `PROBES`.

use std::net::IpAddr;

use aya::{
    TestRun,
    programs::{TestRunAttrs, TestRunOptions},
};
use ingest_common::abi::{self, program};

use super::{
    Dataplane, Error, now_ns, object,
    packet::{Ends, echo_request},
};

/// The kernel stamps by its coarse clock, a tick (at most 10 ms) behind ours: an answer may look older than its
/// question. An answer to an earlier agent's question of the same number is much older.
const COARSE_NS: u64 = 20_000_000;

/// A probe under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTicket {
    /// The backend's slot.
    pub slot: u16,
    /// The echo's sequence number.
    pub sequence: u16,
    /// When it was sent ([`now_ns`]).
    pub sent_ns: u64,
}

impl Dataplane {
    /// Sends one echo request into the backend of `slot` by `mode` (`Redirect` or `Peer`), as the packet path would.
    /// Its `POD_PORTS` entry and `tc_pod` on its pod port must be there, and [`Self::attach`] done.
    pub fn send_probe(&mut self, slot: u16, mode: abi::DeliveryMode) -> Result<ProbeTicket, Error> {
        let backend = self.maps.backends.get(slot.into())?;
        let impossible = Error::NoProbe {
            slot,
            mode: mode.as_str(),
        };
        let uplink = self.uplinks.first().filter(|_| backend.ifindex != 0);
        let Some(uplink) = uplink else {
            return Err(impossible);
        };
        let destination = match mode {
            // Without the pod's MAC its stack would drop the frame: no proof against the mode.
            abi::DeliveryMode::Redirect if backend.pod_mac != [0; 6] => backend.pod_mac,
            // As it is on the wire: addressed to the node.
            abi::DeliveryMode::Peer => uplink.mac,
            _ => return Err(impossible),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        // A locally administered address, whose last byte tells the program the mode.
        let source = [2, 0, 0, 0, 0, mode as u8];
        let pod = match abi::as_v4(&backend.address) {
            Some(address) => IpAddr::from(address),
            None => IpAddr::from(backend.address),
        };
        let frame = echo_request(
            Ends {
                source,
                destination,
            },
            pod,
            slot,
            sequence,
        );
        let context = context(frame.len(), uplink.ifindex);
        let options = TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context),
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::new()
        };
        let sent_ns = now_ns();
        object::xdp(&mut self.ebpf, program::XDP_PROBE)?
            .test_run(options)
            .map_err(|source| Error::Program {
                operation: "sending a probe",
                program: program::XDP_PROBE,
                source: Box::new(source),
            })?;
        Ok(ProbeTicket {
            slot,
            sequence,
            sent_ns,
        })
    }

    /// Whether the pod has answered the probe.
    pub fn probe_answered(&self, ticket: &ProbeTicket) -> Result<bool, Error> {
        let probe = self.maps.probes.get(ticket.slot.into())?;
        let answered_ns = probe.answered_ns.saturating_add(COARSE_NS);
        Ok(probe.sequence == u32::from(ticket.sequence) && answered_ns >= ticket.sent_ns)
    }
}

/// A `struct xdp_md` for a frame of `length` bytes that came in by `ifindex`.
fn context(length: usize, ifindex: u32) -> Vec<u8> {
    let (data, data_end, data_meta, queue, egress) = (0, length as u32, 0, 0, 0);
    [data, data_end, data_meta, ifindex, queue, egress]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}
