//! What the maps say besides streams: read when somebody looks, at most once a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ingest_common::{
    abi,
    reason::{DropReason, PassReason},
};

use crate::{
    commands::{BackendRow, RouteRow, ServiceRow, Status, backends, routes, services, status},
    dataplane::{self, Reader},
};

/// Flows by client and service.
pub(super) type Flows = Vec<(abi::FlowKey, abi::Flow)>;

/// This node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Counts of everything.
    pub status: Status,
    /// Its services.
    pub services: Vec<ServiceRow>,
    /// Its backends.
    pub backends: Vec<BackendRow>,
    /// Its routes.
    pub routes: Vec<RouteRow>,
    /// Dropped packets, every reason.
    pub drops: Vec<(DropReason, u64)>,
    /// Packets to VIPs left to the host, every reason.
    pub passes: Vec<(PassReason, u64)>,
}

impl Node {
    /// Reads it. `flows` are counted, not read again.
    pub(super) fn read(reader: &Reader, flows: &Flows) -> Result<Self, dataplane::Error> {
        let found = reader.services()?;
        let now_ns = dataplane::now_ns();
        Ok(Self {
            // This process is the agent.
            status: status::read(reader, flows, true)?,
            backends: backends::rows(
                &reader.backends()?,
                flows,
                &reader.config()?,
                &reader.node()?,
                now_ns,
            ),
            routes: routes::rows(&reader.routes()?, &found),
            services: services::rows(&found, flows),
            drops: reader.drops()?,
            passes: reader.passes()?,
        })
    }
}

/// The last reading.
#[derive(Debug, Default)]
pub(super) struct Cached(Option<(Instant, Arc<Node>)>);

impl Cached {
    /// Somewhat less than a second, so that who asks once a second gets a new one each time.
    const FRESH: Duration = Duration::from_millis(900);

    /// The last one, or another where it is not fresh.
    pub(super) fn get(
        &mut self,
        read: impl FnOnce() -> Result<Node, dataplane::Error>,
    ) -> Result<Arc<Node>, dataplane::Error> {
        if let Some((at, node)) = &self.0
            && at.elapsed() < Self::FRESH
        {
            return Ok(node.clone());
        }
        let node = Arc::new(read()?);
        self.0 = Some((Instant::now(), node.clone()));
        Ok(node)
    }
}
