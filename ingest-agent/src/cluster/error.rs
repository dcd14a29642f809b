//! Why the source cannot start. What goes wrong later is logged, counted and tried again.

use std::path::PathBuf;

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig is missing or makes no sense.
    #[error("cannot use the kubeconfig {}; give another by --kubeconfig", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// No kubeconfig was given, and this is no pod with a service account.
    #[error("not in a pod with a service account token; give a --kubeconfig")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The certificates, keys or credentials cannot be used.
    #[error("cannot set up the client of {server}; see its certificates and credentials")]
    Client {
        /// Its address.
        server: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not answer a question of `doctor`.
    #[error("the API server {server} does not answer")]
    Unreachable {
        /// Its address.
        server: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Nor in time.
    #[error("the API server {server} has not answered within {seconds} s")]
    Silent {
        /// Its address.
        server: String,
        /// How long it had.
        seconds: u64,
    },
}
