use std::{
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use ingest_common::abi;
use tokio::io::unix::AsyncFd;

use super::{Dataplane, Error, raw};

/// The map's name.
const EVENTS: &str = "EVENTS";

impl Dataplane {
    /// The reader of `EVENTS`; needs a tokio runtime. There is one: a second call gives `None`.
    pub fn events(&mut self) -> Result<Option<EventReader>, Error> {
        self.events.take().map(EventReader::new).transpose()
    }
}

/// A ring buffer, as tokio wants it.
pub(super) struct Ring(pub(super) RingBuf<MapData>);

impl Ring {
    /// Takes `EVENTS` out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = ebpf.take_map(EVENTS).ok_or(Error::NoMap { map: EVENTS })?;
        RingBuf::try_from(map)
            .map(Self)
            .map_err(|source| Error::Map {
                operation: "opening",
                map: EVENTS,
                source: Box::new(source),
            })
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ring").field(&self.0.as_fd()).finish()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads `EVENTS`. What happened while no agent ran comes first.
#[derive(Debug)]
pub struct EventReader {
    ring: AsyncFd<Ring>,
}

impl EventReader {
    fn new(ring: Ring) -> Result<Self, Error> {
        let ring = raw::readable(ring).map_err(|source| Error::System {
            operation: "waiting for kernel events",
            source,
        })?;
        Ok(Self { ring })
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<abi::Event, Error> {
        loop {
            let mut guard = self
                .ring
                .readable_mut()
                .await
                .map_err(|source| Error::System {
                    operation: "waiting for kernel events",
                    source,
                })?;
            // The ring's item ends with this statement: it gives the place back to the kernel.
            let record = guard
                .get_inner_mut()
                .0
                .next()
                .map(|item| raw::read::<abi::Event>(item.as_ref()).ok_or(item.len()));
            match record {
                Some(Ok(event)) => return Ok(event),
                Some(Err(bytes)) => tracing::warn!(bytes, "kernel event of unknown shape"),
                None => guard.clear_ready(),
            }
        }
    }
}
