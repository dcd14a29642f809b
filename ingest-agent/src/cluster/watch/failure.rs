//! What can go wrong between us and the API server, by kind.

use std::{error::Error as StdError, io};

use kube::core::Status;

/// Why a list or a watch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("listing failed")]
    List(#[source] kube::Error),
    #[error("the list has not ended within {seconds} s")]
    ListEndless { seconds: u64 },
    #[error("the list has no resource version")]
    ListUnversioned,
    #[error("watching failed")]
    Watch(#[source] kube::Error),
    #[error("the API server ended the watch: {message}")]
    WatchRefused { message: String, code: u16 },
    #[error("nothing was heard of the watch for {seconds} s")]
    WatchSilent { seconds: u64 },
    #[error("the watch ended as soon as it began")]
    WatchCut,
    #[error("an object has no name or no resource version")]
    ObjectUnnamed,
}

impl Failure {
    /// A label of few values.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::List(error) | Self::Watch(error) => of_client(error),
            Self::WatchRefused { code, .. } => of_code(*code),
            Self::ListEndless { .. } | Self::WatchSilent { .. } => "timeout",
            Self::ListUnversioned | Self::ObjectUnnamed => "decode",
            Self::WatchCut => "connection",
        }
    }

    /// Whether the watch cannot go on where it was: what it told last is too old, or something it told was lost.
    pub(super) fn needs_list(&self) -> bool {
        matches!(self.kind(), "gone" | "invalid" | "decode" | "missing")
    }
}

fn of_client(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => of_status(status),
        kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::LinesCodecMaxLineLengthExceeded => "decode",
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            if timed_out(error) {
                "timeout"
            } else {
                "connection"
            }
        }
        _ => "other",
    }
}

fn of_status(status: &Status) -> &'static str {
    of_code(status.code)
}

fn of_code(code: u16) -> &'static str {
    match code {
        // kube takes a line that it cannot read for a status that says nothing.
        0 => "decode",
        400 | 422 => "invalid",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "missing",
        408 | 504 => "timeout",
        410 => "gone",
        429 => "throttled",
        500.. => "server",
        _ => "other",
    }
}

/// Whether somewhere below is an I/O error that says so: the client's timeouts are told like that.
fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        next = error.source();
    }
    false
}
