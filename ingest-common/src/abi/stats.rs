use super::abi;

/// Value of `SERVICE_STATS` (by service id) and `BACKEND_STATS` (by slot), one per CPU. Written by XDP and tc,
/// summed by user space, never reset while the service or the slot's tenant stays. Bytes are UDP payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets steered to pods.
    pub up_packets: u64,
    /// UDP payload bytes of them.
    pub up_bytes: u64,
    /// Packets from pods.
    pub down_packets: u64,
    /// UDP payload bytes of them.
    pub down_bytes: u64,
    /// SRT INDUCTION requests placed.
    pub inductions: u64,
    /// Sessions accepted by a pod.
    pub accepted: u64,
    /// Sessions rejected by a pod.
    pub rejected: u64,
    /// Sessions ended by a SHUTDOWN of one of their ends.
    pub ended: u64,
    /// Sessions cut because their backend could not go on.
    pub cut: u64,
    /// SHUTDOWNs sent to callers.
    pub shutdowns: u64,
    /// As [`super::Up::retransmitted`].
    pub retransmitted: u64,
    /// As [`super::Up::gaps`].
    pub gaps: u64,
    /// As [`super::Up::out_of_order`].
    pub out_of_order: u64,
    /// As [`super::Down::naks`].
    pub naks: u64,
    /// As [`super::Down::reported_lost`].
    pub reported_lost: u64,
    #[doc(hidden)]
    pub _pad: u64,
}

impl Traffic {
    /// Adds `other` field by field: user space sums the CPUs with it.
    pub fn add(&mut self, other: &Self) {
        let Self {
            up_packets,
            up_bytes,
            down_packets,
            down_bytes,
            inductions,
            accepted,
            rejected,
            ended,
            cut,
            shutdowns,
            retransmitted,
            gaps,
            out_of_order,
            naks,
            reported_lost,
            _pad: _,
        } = other;
        self.up_packets += up_packets;
        self.up_bytes += up_bytes;
        self.down_packets += down_packets;
        self.down_bytes += down_bytes;
        self.inductions += inductions;
        self.accepted += accepted;
        self.rejected += rejected;
        self.ended += ended;
        self.cut += cut;
        self.shutdowns += shutdowns;
        self.retransmitted += retransmitted;
        self.gaps += gaps;
        self.out_of_order += out_of_order;
        self.naks += naks;
        self.reported_lost += reported_lost;
    }
}

abi! { Traffic: 128 / 8 }
