//! The kernel objects inside the agent, which of them this kernel gets, and how it is loaded: on the pinned maps, with
//! its globals set.

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, ProgramType, SchedClassifier, Xdp},
    sys::is_helper_supported,
};
use aya_obj::generated::bpf_func_id;
use ingest_common::abi::{self, MapShape};

use super::{
    Error,
    pins::{self, Pins},
};

/// For Linux 5.18 and newer. Empty where the agent was built before its kernel object.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("INGEST_EBPF_OBJECTS"), "/ingest"));
/// The same sources for Linux 5.10 and newer: no packets in several buffers (jumbo frames), a dearer clock.
static OBJECT_5_10: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("INGEST_EBPF_OBJECTS"), "/ingest-linux-5.10"));

/// The object for the running kernel, told by the newest of what the better one needs: this helper came with XDP in
/// several buffers, after the coarse clock.
fn object() -> &'static [u8] {
    match is_helper_supported(ProgramType::Xdp, bpf_func_id::BPF_FUNC_xdp_load_bytes) {
        Ok(false) => OBJECT_5_10,
        Ok(true) => OBJECT,
        Err(error) => {
            tracing::debug!(%error, "the kernel does not tell of its helpers: taking it for a newer one");
            OBJECT
        }
    }
}

/// Lines of the verifier's log that an error shows.
const VERIFIER_TAIL: usize = 12;

/// How to load.
pub(super) struct Load<'a> {
    /// Maps are adopted from here, and created and pinned where they are not there yet.
    pub(super) pins: &'a Pins,
    /// What [`Pins::verify`] gave: the size of an adopted map cannot be set.
    pub(super) absent: &'a [&'static MapShape],
    /// Entries of new maps that this sizes.
    pub(super) max_flows: u32,
    /// aya-log's level, 0 for nothing: the verifier then removes every log statement.
    pub(super) log_level: u8,
    /// Decide and write `EXPLAIN`, count and keep nothing.
    pub(super) dry_run: bool,
}

impl Load<'_> {
    /// Creates or adopts the maps. No program is loaded yet.
    pub(super) fn load(&self) -> Result<Ebpf, Error> {
        let object = object();
        if object.is_empty() {
            return Err(Error::NoObject);
        }
        let dry_run = u32::from(self.dry_run);
        let mut loader = EbpfLoader::new();
        for shape in pins::shapes() {
            loader.map_pin_path(shape.name, self.pins.map(shape.name));
        }
        for shape in self.absent.iter().filter(|shape| shape.sized_by_flows) {
            loader.map_max_entries(shape.name, self.max_flows);
        }
        loader
            // Absent from an object that logs nothing; present, its default is to log everything.
            .override_global(aya_log::LEVEL, &self.log_level, false)
            .override_global(abi::DRY_RUN, &dry_run, true);
        loader.load(object).map_err(|source| Error::Object {
            source: Box::new(source),
        })
    }
}

/// The XDP program of this name.
pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, Error> {
    program(ebpf, name)
}

/// The tc program of this name.
pub(super) fn tc<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, Error> {
    program(ebpf, name)
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<P, Error>
where
    P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .and_then(|program| P::try_from(program).ok())
        .ok_or(Error::NoProgram { program: name })
}

/// Turns a failed load into an error that fits a line or two; the verifier's whole log goes to the debug level.
pub(super) fn refused(program: &'static str) -> impl Fn(ProgramError) -> Error {
    move |error| {
        let reason = match &error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                tracing::debug!(program, log, "verifier log");
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines
                    .get(lines.len().saturating_sub(VERIFIER_TAIL)..)
                    .unwrap_or(&[]);
                format!(
                    "{io_error}; the verifier's last words:\n{}",
                    tail.join("\n")
                )
            }
            other => other.to_string(),
        };
        Error::ProgramRefused { program, reason }
    }
}
