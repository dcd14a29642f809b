//! Logs: to stderr, as text or JSON. stdout belongs to the commands' output.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::{cli::LogFormat, error::Error};

/// Starts logging for the whole process; a second call changes nothing.
pub fn init(filter: &str, format: LogFormat) -> Result<(), Error> {
    // A plain `debug` is about us: libraries log every relocation of a program and every netlink message at it. And
    // an API server that is away is told of once, not at each try.
    let filter = format!("aya=info,aya_obj=info,netlink_proto=info,kube_client=off,{filter}");
    let filter = EnvFilter::try_new(filter).map_err(Error::LogFilter)?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    let set = match format {
        LogFormat::Text => logs.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    // Only tests call it twice.
    set.or(Ok(()))
}
