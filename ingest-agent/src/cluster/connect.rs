//! The client: where the API server is, and how long it may take.

use std::{path::Path, time::Duration};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time;
use tower::util::MapResponseLayer;

use super::{Error, Options, stream_route::GROUP};
use crate::metrics::ClusterMetrics;

/// The API server watches end after this long, and are made again: also how soon a dead connection is found out.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence on a connection that has something to say. Above [`WATCH_TIMEOUT`], or quiet watches would fail.
const READ_TIMEOUT: Duration = Duration::from_secs(36);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A person waits for `doctor`.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What the agent may do, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The verb, as `list`.
    pub verb: &'static str,
    /// The resource with its group, as `endpointslices.discovery.k8s.io`.
    pub resource: String,
    /// Whether RBAC allows it.
    pub allowed: bool,
}

/// All that is asked of an API server: group, resource, subresource, verbs.
const NEEDED: [(&str, &str, &str, &[&str]); 7] = [
    ("", "services", "", &["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", "", &["list", "watch"]),
    ("", "pods", "", &["list", "watch"]),
    ("events.k8s.io", "events", "", &["create", "patch"]),
    ("", "services", "status", &["patch"]),
    (GROUP, "streamroutes", "", &["list", "watch"]),
    (GROUP, "streamroutes", "status", &["patch"]),
];

/// Asks the API server what this agent may do. An error: it cannot be reached.
pub async fn check(options: &Options) -> Result<Vec<Access>, Error> {
    let config = config(options.kubeconfig.as_deref()).await?;
    let server = config.cluster_url.to_string();
    let client = build(config, &ClusterMetrics::default())?;
    match time::timeout(CHECK_TIMEOUT, review(client)).await {
        Ok(Ok(access)) => Ok(access),
        Ok(Err(source)) => Err(Error::Unreachable {
            server,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Silent {
            server,
            seconds: CHECK_TIMEOUT.as_secs(),
        }),
    }
}

async fn review(client: Client) -> kube::Result<Vec<Access>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let mut all = Vec::new();
    for (group, resource, subresource, verbs) in NEEDED {
        for verb in verbs {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        group: Some(group.to_owned()),
                        resource: Some(resource.to_owned()),
                        subresource: Some(subresource.to_owned()).filter(|s| !s.is_empty()),
                        verb: Some((*verb).to_owned()),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                ..Default::default()
            };
            let answer = reviews.create(&PostParams::default(), &review).await?;
            let part = [resource, subresource]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("/");
            all.push(Access {
                verb,
                resource: if group.is_empty() {
                    part
                } else {
                    format!("{part}.{group}")
                },
                allowed: answer.status.is_some_and(|status| status.allowed),
            });
        }
    }
    Ok(all)
}

/// The client of all tasks.
pub(super) async fn client(
    kubeconfig: Option<&Path>,
    metrics: &ClusterMetrics,
) -> Result<Client, Error> {
    build(config(kubeconfig).await?, metrics)
}

async fn config(kubeconfig: Option<&Path>) -> Result<Config, Error> {
    let mut config = match kubeconfig {
        Some(path) => read(path).await.map_err(|source| Error::Kubeconfig {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?,
        None => Config::incluster().map_err(|source| Error::InCluster(Box::new(source)))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // It waits up to 80 s between tries. The watches and the publisher have their own back-off.
    config.default_retry = false;
    Ok(config)
}

/// `KUBECONFIG` may name several files, which are one.
async fn read(path: &Path) -> Result<Config, KubeconfigError> {
    let mut merged: Option<Kubeconfig> = None;
    for file in std::env::split_paths(path) {
        let next = Kubeconfig::read_from(file)?;
        merged = Some(match merged {
            Some(first) => first.merge(next)?,
            None => next,
        });
    }
    Config::from_custom_kubeconfig(merged.unwrap_or_default(), &KubeConfigOptions::default()).await
}

fn build(mut config: Config, metrics: &ClusterMetrics) -> Result<Client, Error> {
    let server = config.cluster_url.to_string();
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_static(concat!("ingest-agent/", env!("CARGO_PKG_VERSION"))),
    ));
    let metrics = metrics.clone();
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::Client {
        server,
        source: Box::new(source),
    })?;
    // Watches are made anew every 30 s, so that this says whether the API server lives even if nothing changes.
    let heard = MapResponseLayer::new(move |response: http::Response<_>| {
        if response.status().is_success() {
            metrics.heard();
        }
        response
    });
    Ok(builder.with_layer(&heard).build())
}
