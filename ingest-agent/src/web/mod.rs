//! The page and its JSON API: streams, backends and drops of this node, for people and programs. Read-only, without a
//! password, on an address of its own.
//!
//! It shows what [`crate::view`] judged and what the maps say, redacted as asked; it judges nothing and keeps nothing but
//! the last reading of the maps. The page is one HTML file, a style sheet and ES modules, all in this program: a browser
//! loads nothing from elsewhere, and what strangers sent (Stream IDs) reaches it only as JSON strings.

mod api;
mod assets;
mod guard;
mod node;
mod openapi;
mod query;
mod rows;

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::Router;
use tokio::net::TcpListener;

use self::node::Cached;
pub use self::node::Node;
use crate::{
    cli::{PageShows, StreamIds},
    dataplane::{self, Reader},
    view::{Shared, Shown},
};

/// What is served.
pub struct Page {
    view: Shared,
    shown: Shown,
    node: Mutex<Cached>,
    read: Box<Read>,
}

/// Reads what the maps say besides streams.
type Read = dyn Fn(&node::Flows) -> Result<Node, dataplane::Error> + Send + Sync;

impl Page {
    /// The page of `view`, and of what `reader` finds.
    pub fn new(view: Shared, reader: Reader, shows: PageShows) -> Self {
        Self::with(view, shows, move |flows| Node::read(&reader, flows))
    }

    /// The page of `view`, and of what `read` says.
    pub fn with(
        view: Shared,
        shows: PageShows,
        read: impl Fn(&node::Flows) -> Result<Node, dataplane::Error> + Send + Sync + 'static,
    ) -> Self {
        let full = shows == PageShows::Full;
        let stream_ids = if full {
            StreamIds::Full
        } else {
            StreamIds::Redacted
        };
        Self {
            view,
            shown: Shown {
                stream_ids,
                clients: full,
            },
            node: Mutex::default(),
            read: Box::new(read),
        }
    }

    /// What the maps say, not older than a second: pages in many browsers cost no more than one.
    fn node(&self) -> Result<Arc<Node>, dataplane::Error> {
        let mut cached = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        cached.get(|| (self.read)(&self.flows()))
    }

    /// The flows that the view read last.
    fn flows(&self) -> node::Flows {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.streams().map(|s| (s.key, s.flow)).collect()
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// Serves on `listener` until `shutdown` is done.
pub async fn serve(
    listener: TcpListener,
    page: Page,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(page))
        .with_graceful_shutdown(shutdown)
        .await
}

fn router(page: Page) -> Router {
    guard::around(assets::router().merge(api::router(Arc::new(page))))
}

#[cfg(test)]
mod tests;
