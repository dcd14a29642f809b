//! /metrics, /livez and /readyz.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tracing::warn;

use super::{AgentMetrics, KernelState, StreamSeries, StreamsState, render, to_classic};
use crate::{
    dataplane::{self, Reader},
    view,
};

/// A run loop that has not turned for this long hangs. It turns every few seconds with nothing to do.
const HUNG: Duration = Duration::from_mins(1);

/// What `/livez` and `/readyz` say. The run loop writes it, the server reads it.
#[derive(Debug, Default)]
pub struct Probes {
    ready: AtomicBool,
    /// The run loop's last turn; none before its first.
    turned: Mutex<Option<Instant>>,
}

impl Probes {
    /// The configuration is in the maps and the programs are attached.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether it was said.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The run loop has turned.
    pub fn turned(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the run loop turns, as far as that can be said: nothing outside this process is asked.
    fn is_alive(&self) -> bool {
        let turned = *self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        turned.is_none_or(|at| at.elapsed() < HUNG)
    }
}

/// What is read at a scrape.
#[derive(Debug)]
pub struct Read {
    /// The maps.
    pub reader: Reader,
    /// The streams.
    pub view: view::Shared,
    /// Which of them have series.
    pub series: Mutex<StreamSeries>,
}

impl Read {
    fn read(&self) -> Result<(KernelState, StreamsState), dataplane::Error> {
        let kernel = KernelState::read(&self.reader)?;
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((kernel, StreamsState::read(&view, &mut series)))
    }
}

type ReadAll = dyn Fn() -> Result<(KernelState, StreamsState), dataplane::Error> + Send + Sync;

struct Served {
    metrics: Arc<AgentMetrics>,
    probes: Arc<Probes>,
    read: Box<ReadAll>,
}

/// Serves on `listener` until `shutdown` is done.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<AgentMetrics>,
    probes: Arc<Probes>,
    read: Read,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let read = Box::new(move || read.read());
    serve_with(
        listener,
        Served {
            metrics,
            probes,
            read,
        },
        shutdown,
    )
    .await
}

async fn serve_with(
    listener: TcpListener,
    served: Served,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(Arc::new(served));
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn live(State(served): State<Arc<Served>>) -> impl IntoResponse {
    if served.probes.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the run loop hangs; streams go on, changes do not arrive\n",
        )
    }
}

async fn ready(State(served): State<Arc<Served>>) -> impl IntoResponse {
    if served.probes.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the first whole desired state is not in the maps yet\n",
        )
    }
}

async fn scrape(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, StatusCode> {
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let accept = String::from_utf8_lossy(accept.unwrap_or_default());
    let is_openmetrics = accept.contains("application/openmetrics-text");
    // System calls, some thousand of them on a large node.
    let text = tokio::task::spawn_blocking(move || {
        let (kernel, streams) = (served.read)()
            .inspect_err(|error| warn!(%error, kind = error.kind(), "scrape failed"))
            .ok()?;
        let text = render(&served.metrics, kernel, streams).ok()?;
        Some(if is_openmetrics {
            text
        } else {
            to_classic(&text)
        })
    })
    .await;
    let text = text
        .ok()
        .flatten()
        .ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    let content_type = if is_openmetrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::oneshot,
    };

    use super::*;

    async fn request(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (path, accept) = path.split_once(' ').unwrap_or((path, "*/*"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_and_scrapes_are_answered_until_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probes = Arc::new(Probes::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let fails = Arc::new(AtomicBool::new(false));
        let read = {
            let fails = fails.clone();
            Box::new(move || {
                if fails.load(Ordering::Relaxed) {
                    Err(dataplane::Error::NoObject)
                } else {
                    Ok(Default::default())
                }
            })
        };
        let served = Served {
            metrics: Arc::default(),
            probes: probes.clone(),
            read,
        };
        let server = tokio::spawn(serve_with(listener, served, async { drop(stopped.await) }));

        assert!(request(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(
            request(address, "/readyz")
                .await
                .starts_with("HTTP/1.1 503")
        );
        let long_ago = Instant::now().checked_sub(HUNG).unwrap();
        *probes.turned.lock().unwrap() = Some(long_ago);
        assert!(request(address, "/livez").await.starts_with("HTTP/1.1 500"));
        probes.turned();
        assert!(request(address, "/livez").await.starts_with("HTTP/1.1 200"));
        probes.set_ready();
        assert!(
            request(address, "/readyz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        let metrics = request(address, "/metrics").await;
        assert!(
            metrics.contains("text/plain; version=0.0.4")
                && metrics.contains("# TYPE ingest_apply_failures_total counter")
                && !metrics.contains("# EOF"),
            "{metrics}"
        );
        let accepts = "/metrics application/openmetrics-text;version=1.0.0,text/plain;q=0.3";
        let metrics = request(address, accepts).await;
        assert!(
            metrics.contains("openmetrics-text")
                && metrics.contains("# TYPE ingest_apply_failures counter")
                && metrics.contains("ingest_build_info")
                && metrics.ends_with("# EOF\n"),
            "{metrics}"
        );
        fails.store(true, Ordering::Relaxed);
        assert!(
            request(address, "/metrics")
                .await
                .starts_with("HTTP/1.1 500")
        );
        assert!(request(address, "/").await.starts_with("HTTP/1.1 404"));

        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(2), server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
