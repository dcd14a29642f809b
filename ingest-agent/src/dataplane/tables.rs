//! Swaps Maglev tables in and out.
//!
//! A table is in force at once, but the kernel's call returns only when no program can still see the old one, tens of
//! milliseconds later. That is waited for by threads, so that what is to be written next need not wait.

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use ingest_common::abi;

use super::{Error, maps::Tables, raw};

/// Tables of one write, each of which is an open file until it is in force.
const BATCH: usize = 64;
/// Threads that wait, at most.
const WAITING: usize = 16;

/// Writes `TABLES`.
pub(super) struct TableWriter {
    outer: Arc<OwnedFd>,
    /// Of writes in force whose call has not returned, oldest first.
    waiting: VecDeque<JoinHandle<io::Result<()>>>,
}

impl fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableWriter")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl TableWriter {
    pub(super) fn new(tables: &Tables) -> Result<Self, Error> {
        let outer = tables.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(Self {
            outer: Arc::new(outer),
            waiting: VecDeque::new(),
        })
    }

    /// Puts tables in force. A reader sees a pool's old one or its new one, never a mixture.
    pub(super) fn set(&mut self, tables: &[(u16, &abi::MaglevTable)]) -> Result<(), Error> {
        tables
            .chunks(BATCH)
            .try_for_each(|tables| self.set_batch(tables).map_err(failed))
    }

    fn set_batch(&mut self, tables: &[(u16, &abi::MaglevTable)]) -> io::Result<()> {
        let pools: Vec<u32> = tables.iter().map(|(pool, _)| (*pool).into()).collect();
        let inner = tables
            .iter()
            .map(|(_, table)| {
                let map = raw::create_array::<abi::MaglevTable>()?;
                raw::update(&map, &0_u32, *table)?;
                Ok(map)
            })
            .collect::<io::Result<Vec<OwnedFd>>>()?;
        let wanted = inner
            .iter()
            .zip(&pools)
            .map(|(map, pool)| Ok((*pool, Some(raw::map_id(map)?))))
            .collect::<io::Result<Vec<_>>>()?;
        self.write(wanted, move |outer| {
            raw::update_inner_maps(outer, &pools, &inner)
        })
    }

    /// Takes pools' tables out of force.
    pub(super) fn remove(&mut self, pool: u16) -> Result<(), Error> {
        let pool = u32::from(pool);
        self.write(vec![(pool, None)], move |outer| {
            raw::delete(outer, &pool).map(drop)
        })
        .map_err(failed)
    }

    /// Has a thread make the call `write`, and returns when every pool has the inner map of `wanted`.
    fn write(
        &mut self,
        wanted: Vec<(u32, Option<u32>)>,
        write: impl FnOnce(&OwnedFd) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.reap()?;
        let outer = Arc::clone(&self.outer);
        let writer = thread::Builder::new()
            .name("tables".to_owned())
            .spawn(move || write(&outer))?;
        for (pool, id) in wanted {
            while raw::lookup::<u32, u32>(&*self.outer, &pool)? != id {
                if writer.is_finished() {
                    return join(writer);
                }
                thread::yield_now();
            }
        }
        self.waiting.push_back(writer);
        Ok(())
    }

    /// What became of earlier calls; waits where too many have not returned.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        while self
            .waiting
            .front()
            .is_some_and(|oldest| oldest.is_finished() || self.waiting.len() >= WAITING)
        {
            if let Some(oldest) = self.waiting.pop_front() {
                join(oldest)?;
            }
        }
        Ok(())
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        for writer in self.waiting.drain(..) {
            if let Err(error) = join(writer) {
                tracing::warn!(%error, "a table was written, and then the kernel said otherwise");
            }
        }
    }
}

fn join(writer: JoinHandle<io::Result<()>>) -> io::Result<()> {
    writer
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn failed(source: io::Error) -> Error {
    Error::Update {
        map: "TABLES",
        source,
    }
}
