//! `/api/v1`: one function a path.

use std::{
    fs,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use ingest_common::abi::{self, FlowState, Reason, StreamState};
use serde::Serialize;
use tracing::warn;

use super::{
    Node, Page, openapi,
    query::StreamQuery,
    rows::{
        BackendList, DropList, FailoverList, ListedStream, MapFill, Overview, Problem, ReasonRow,
        RouteList, ServiceList, Stamp, StreamCounts, StreamList, StreamSessions,
    },
};
use crate::{
    dataplane,
    view::{FailoverRow, History, Stream, StreamRow, View},
};

type Shared = State<Arc<Page>>;

pub(super) fn router(page: Arc<Page>) -> Router {
    let api = Router::new()
        .route("/overview", get(overview))
        .route("/streams", get(streams))
        .route("/streams/{id}", get(stream))
        .route("/services", get(services))
        .route("/backends", get(backends))
        .route("/routes", get(routes))
        .route("/drops", get(drops))
        .route("/failovers", get(failovers))
        .route("/openapi.json", get(|| async { Json(openapi::document()) }))
        .fallback(|| async { Failure::NoPath });
    Router::new().nest("/api/v1", api).with_state(page)
}

/// Why there is no answer.
enum Failure {
    NoPath,
    NoStream(String),
    Question(String),
    Maps(dataplane::Error),
    Ended,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NoPath => (
                StatusCode::NOT_FOUND,
                "no such path; /api/v1/openapi.json has all".to_owned(),
            ),
            Self::NoStream(id) => (
                StatusCode::NOT_FOUND,
                format!("no stream has the id {id}; it may have ended"),
            ),
            Self::Question(error) => (StatusCode::BAD_REQUEST, error),
            Self::Maps(error) => {
                warn!(%error, kind = error.kind(), "the page could not read the maps");
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            Self::Ended => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the answer was not finished; see the agent's log".to_owned(),
            ),
        };
        (status, Json(Problem { error })).into_response()
    }
}

type Answer<T> = Result<Json<T>, Failure>;

/// Answers off the runtime's threads: system calls, and rows of thousands of streams.
async fn answer<T: Serialize + Send + 'static>(
    page: Arc<Page>,
    make: impl FnOnce(&Page) -> Result<T, Failure> + Send + 'static,
) -> Answer<T> {
    tokio::task::spawn_blocking(move || make(&page))
        .await
        .map_err(|_| Failure::Ended)?
        .map(Json)
}

impl Page {
    fn with_view<T>(&self, make: impl FnOnce(&View) -> T) -> T {
        make(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stamp(&self) -> Stamp {
        self.with_view(stamp)
    }

    fn maps(&self) -> Result<Arc<Node>, Failure> {
        self.node().map_err(Failure::Maps)
    }
}

fn stamp(view: &View) -> Stamp {
    let read_ns = view.now_ns();
    let age = Duration::from_nanos(dataplane::now_ns().saturating_sub(read_ns));
    Stamp {
        at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        viewed_ms: (read_ns != 0).then_some(age.as_millis() as u64),
    }
}

async fn overview(State(page): Shared) -> Answer<Overview> {
    answer(page, |page| {
        let node = page.maps()?;
        let hour = Duration::from_hours(1).as_nanos() as u64;
        let status = node.status.clone();
        Ok(page.with_view(|view| Overview {
            stamp: stamp(view),
            node: host_name(),
            shows: if page.shown.clients {
                "full"
            } else {
                "redacted"
            },
            streams: counts(view),
            failovers_last_hour: view
                .failovers()
                .filter(|failover| view.now_ns().saturating_sub(failover.at_ns) < hour)
                .count(),
            drops: node.drops.iter().map(|(_, packets)| packets).sum(),
            maps: fills(&node),
            status,
        }))
    })
    .await
}

/// In a pod of the host's network, as the agent's is, the node's.
fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

fn counts(view: &View) -> StreamCounts {
    let mut counts = StreamCounts {
        states: StreamState::ALL.map(|state| (state.as_str(), 0)).into(),
        reasons: Reason::ALL.map(|reason| (reason.as_str(), 0)).into(),
        ..StreamCounts::default()
    };
    for stream in view.streams() {
        counts.total += 1;
        counts.established += usize::from(is_established(stream));
        counts.bitrate += stream.rates.bitrate;
        *counts.states.entry(stream.state.as_str()).or_default() += 1;
        for reason in Reason::ALL.into_iter().filter(|reason| stream.has(*reason)) {
            *counts.reasons.entry(reason.as_str()).or_default() += 1;
        }
    }
    counts
}

fn is_established(stream: &Stream) -> bool {
    FlowState::from_u8(stream.flow.state) == FlowState::Established
}

fn fills(node: &Node) -> Vec<MapFill> {
    let fill = |name, entries: usize, capacity: u64| MapFill {
        name,
        entries: entries as u64,
        capacity,
    };
    vec![
        fill("flows", node.status.flows, node.status.flow_capacity.into()),
        fill("services", node.services.len(), abi::MAX_SERVICES as u64),
        fill("backends", node.backends.len(), abi::MAX_BACKENDS as u64),
        fill("routes", node.routes.len(), abi::MAX_ROUTES as u64),
    ]
}

async fn streams(
    State(page): Shared,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Answer<StreamList> {
    let Query(query) = query.map_err(|error| Failure::Question(error.body_text()))?;
    answer(page, move |page| {
        page.with_view(|view| {
            let found = query.find(view, page.shown).map_err(Failure::Question)?;
            let streams = found.streams.into_iter();
            Ok(StreamList {
                stamp: stamp(view),
                total: found.total,
                offset: query.offset,
                streams: streams
                    .map(|(stream, row)| ListedStream {
                        row,
                        history: query.history.then(|| rounded(History::new(stream))),
                    })
                    .collect(),
            })
        })
    })
    .await
}

/// To what can be seen in a chart of some pixels: a page of streams has thousands of these numbers.
fn rounded(mut history: History) -> History {
    let to = |values: &mut Vec<f32>, steps: f32| {
        for value in values {
            *value = (*value * steps).round() / steps;
        }
    };
    to(&mut history.bitrate, 1.0);
    to(&mut history.loss, 10_000.0);
    to(&mut history.rtt_ms, 10.0);
    history
}

async fn stream(State(page): Shared, Path(id): Path<String>) -> Answer<StreamSessions> {
    answer(page, move |page| {
        page.with_view(|view| {
            let mut found: Vec<&Stream> = view
                .streams()
                .filter(|stream| stream.identity.id() == id)
                .collect();
            if found.is_empty() {
                return Err(Failure::NoStream(id));
            }
            found.sort_by_key(|stream| (is_established(stream), stream.flow.accepted_ns));
            let sessions = found.into_iter().rev();
            Ok(StreamSessions {
                stamp: stamp(view),
                sessions: sessions
                    .map(|stream| StreamRow::detailed(stream, view, page.shown))
                    .collect(),
            })
        })
    })
    .await
}

async fn services(State(page): Shared) -> Answer<ServiceList> {
    answer(page, |page| {
        Ok(ServiceList {
            stamp: page.stamp(),
            services: page.maps()?.services.clone(),
        })
    })
    .await
}

async fn backends(State(page): Shared) -> Answer<BackendList> {
    answer(page, |page| {
        Ok(BackendList {
            stamp: page.stamp(),
            backends: page.maps()?.backends.clone(),
        })
    })
    .await
}

async fn routes(State(page): Shared) -> Answer<RouteList> {
    answer(page, |page| {
        Ok(RouteList {
            stamp: page.stamp(),
            routes: page.maps()?.routes.clone(),
        })
    })
    .await
}

async fn drops(State(page): Shared) -> Answer<DropList> {
    answer(page, |page| {
        let node = page.maps()?;
        let drops = node.drops.iter().map(|(reason, packets)| ReasonRow {
            reason: reason.as_str(),
            explained: reason.explained(),
            packets: *packets,
        });
        let passes = node.passes.iter().map(|(reason, packets)| ReasonRow {
            reason: reason.as_str(),
            explained: reason.explained(),
            packets: *packets,
        });
        Ok(DropList {
            stamp: page.stamp(),
            drops: drops.collect(),
            passes: passes.collect(),
        })
    })
    .await
}

async fn failovers(State(page): Shared) -> Answer<FailoverList> {
    answer(page, |page| {
        Ok(page.with_view(|view| {
            let mut failovers: Vec<_> = view
                .failovers()
                .map(|failover| FailoverRow::new(failover, view, page.shown))
                .collect();
            failovers.reverse();
            FailoverList {
                stamp: stamp(view),
                failovers,
            }
        }))
    })
    .await
}
