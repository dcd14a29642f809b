//! The object with reference programs and generators. Its map values are plain words: the kernel side's structs are
//! described there.

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, MapData, ProgramArray, xdp::DevMap};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use ingest_common::abi::Secrets;

use crate::{frames, real::object};

/// What a generator writes into packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generator {
    /// Flows; a power of two.
    pub(crate) flows: u32,
    /// Leaves the sequence number alone.
    pub(crate) keep_sequence: bool,
    /// First client address, host order (for IPv6 its last 32 bits).
    pub(crate) address: u32,
    /// First client port.
    pub(crate) port: u16,
}

impl Generator {
    /// One flow: the first client.
    pub(crate) fn one(port: u16) -> Self {
        Self {
            flows: 1,
            keep_sequence: false,
            address: frames::CLIENT_V4.to_bits(),
            port,
        }
    }
}

/// The reference object, loaded once per use: the generators keep their state in its maps.
pub(crate) struct Reference {
    ebpf: Ebpf,
}

/// A key of the minimal program.
type MinimalKey = [u32; 4];
/// A flow of the minimal program: backend in word 6.
type MinimalFlow = [u32; 8];
/// A backend of the minimal program.
type MinimalBackend = [u8; 20];
/// A packet to restore: length, whether it gets a cookie, bytes.
type Original = [u8; 1112];

/// Keys of the cookies, on both sides.
pub(crate) const SECRETS: Secrets = Secrets {
    keys: [[1, 2], [3, 4]],
    current: 0,
    serial: 1,
    since_ns: 1,
};

impl Reference {
    /// Loads it with room for `flows` of the minimal program.
    pub(crate) fn load(flows: u32) -> Result<Self> {
        let bytes = object("INGEST_BENCH_EBPF", "ingest-bench")?;
        let ebpf = EbpfLoader::new()
            .map_max_entries("MINI_FLOWS", flows)
            .load(&bytes)
            .context("cannot load the reference programs")?;
        Ok(Self { ebpf })
    }

    /// An XDP program, loaded.
    pub(crate) fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        crate::real::xdp(&mut self.ebpf, name)
    }

    /// A tc program, loaded.
    pub(crate) fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        crate::real::tc(&mut self.ebpf, name)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))
    }

    /// Sets a generator up.
    pub(crate) fn generate(&mut self, generator: Generator) -> Result<()> {
        let Generator {
            flows,
            keep_sequence,
            address,
            port,
        } = generator;
        // An odd step visits every flow once in `flows` packets.
        let state = [
            0,
            0,
            flows - 1,
            0x9e37_79b1,
            flows.trailing_zeros(),
            address,
            port.into(),
            keep_sequence.into(),
        ];
        let mut map: Array<&mut MapData, [u32; 8]> = self.map("GENERATOR")?.try_into()?;
        map.set(0, state, 0).context("cannot set a generator up")
    }

    /// Makes the XDP generators continue with `program`.
    pub(crate) fn target_xdp(&mut self, program: &ProgramFd) -> Result<()> {
        let mut map: ProgramArray<&mut MapData> = self.map("XDP_TARGET")?.try_into()?;
        map.set(0, program, 0)
            .context("cannot chain to the XDP program under test")
    }

    /// Makes the tc generators continue with `program`.
    pub(crate) fn target_tc(&mut self, program: &ProgramFd) -> Result<()> {
        let mut map: ProgramArray<&mut MapData> = self.map("TC_TARGET")?.try_into()?;
        map.set(0, program, 0)
            .context("cannot chain to the tc program under test")
    }

    /// Adds a flow of the minimal program.
    pub(crate) fn minimal_flow(
        &mut self,
        client: std::net::SocketAddrV4,
        vip: std::net::SocketAddrV4,
        backend: u32,
    ) -> Result<()> {
        let ports = u32::from(client.port()) << 16 | u32::from(vip.port());
        let key = [
            client.ip().to_bits().to_be(),
            vip.ip().to_bits().to_be(),
            ports.to_be(),
            17,
        ];
        let mut flow = MinimalFlow::default();
        flow[6] = backend;
        let mut map: HashMap<&mut MapData, MinimalKey, MinimalFlow> =
            self.map("MINI_FLOWS")?.try_into()?;
        map.insert(key, flow, 0)
            .context("cannot add a flow of the minimal program")
    }

    /// Sets a backend of the minimal program.
    pub(crate) fn minimal_backend(
        &mut self,
        index: u32,
        pod: std::net::SocketAddrV4,
        macs: ([u8; 6], [u8; 6]),
        ifindex: u32,
    ) -> Result<()> {
        let (destination, source) = macs;
        let mut backend: MinimalBackend = [0; 20];
        backend[..4].copy_from_slice(&pod.ip().octets());
        backend[4..6].copy_from_slice(&pod.port().to_ne_bytes());
        backend[6..12].copy_from_slice(&destination);
        backend[12..18].copy_from_slice(&source);
        let mut map: Array<&mut MapData, MinimalBackend> = self.map("MINI_BACKENDS")?.try_into()?;
        map.set(index, backend, 0)
            .context("cannot set a backend of the minimal program")?;
        let mut ports: DevMap<&mut MapData> = self.map("MINI_PORTS")?.try_into()?;
        ports
            .set(index, ifindex, None, 0)
            .context("cannot set a pod port of the minimal program")
    }

    /// Sets the packet that the handshake generators restore. Its client is the generator's first one.
    pub(crate) fn original(&mut self, frame: &[u8], cookie: bool) -> Result<()> {
        let mut value: Original = [0; 1112];
        value[..4].copy_from_slice(&u32::try_from(frame.len())?.to_ne_bytes());
        value[4..8].copy_from_slice(&u32::from(cookie).to_ne_bytes());
        value
            .get_mut(8..8 + frame.len())
            .context("no handshake is that long")?
            .copy_from_slice(frame);
        let mut map: Array<&mut MapData, Original> = self.map("ORIGINAL")?.try_into()?;
        map.set(0, value, 0).context("cannot set the handshake")?;
        let mut map: Array<&mut MapData, Secrets> = self.map("GEN_SECRETS")?.try_into()?;
        map.set(0, SECRETS, 0).context("cannot set the secrets")
    }

    /// Sets the first bytes of live frames.
    pub(crate) fn template(&mut self, frame: &[u8]) -> Result<()> {
        let bytes: &[u8; 64] = frame
            .first_chunk()
            .context("a live frame has at least 64 bytes")?;
        let mut map: Array<&mut MapData, [u8; 64]> = self.map("TEMPLATE")?.try_into()?;
        map.set(0, bytes, 0).context("cannot set the template")
    }

    /// Sets where live frames go. To be called in the interface's namespace.
    pub(crate) fn live_port(&mut self, ifindex: u32) -> Result<()> {
        let mut map: DevMap<&mut MapData> = self.map("LIVE_PORT")?.try_into()?;
        map.set(0, ifindex, None, 0)
            .context("cannot set the interface of live frames")
    }
}
