//! One file a subcommand. Each reads plain data, shapes it into documented rows (stable JSON field names) and prints.
//!
//! Only `run` keeps state; only `drain`, `unload` and `capture` change any.

pub(crate) mod backends;
mod begin;
mod capture;
mod doctor;
mod drain;
mod explain;
pub(crate) mod routes;
mod run;
pub(crate) mod services;
pub(crate) mod status;
mod streams;
mod top;
mod unload;
mod watch;

use tokio::runtime::Runtime;

pub use self::{
    backends::BackendRow,
    doctor::{Check, Grade},
    drain::DrainRow,
    explain::Explanation,
    routes::RouteRow,
    services::{Handshakes, ServiceRow},
    status::{Status, UplinkRow},
};
pub(crate) use self::{backends::is_up, status::uplink};
use crate::{
    cli::{Cli, Command},
    error::Error,
};

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Error> {
    let Cli {
        pin_root,
        output,
        command,
        ..
    } = cli;
    match command {
        Command::Run(args) => runtime()?.block_on(run::run(&pin_root, args)),
        Command::Status => status::run(&pin_root, output),
        Command::Services => services::run(&pin_root, output),
        Command::Backends => backends::run(&pin_root, output),
        Command::Streams(args) => streams::run(&pin_root, output, &args),
        Command::Top(args) => top::run(&pin_root, &args),
        Command::Capture(args) => runtime()?.block_on(capture::run(&pin_root, &args)),
        Command::Routes => routes::run(&pin_root, output),
        Command::Explain(args) => explain::run(&pin_root, output, &args),
        Command::Drain(args) => drain::run(&pin_root, output, &args),
        Command::Doctor(args) => runtime()?.block_on(doctor::run(&pin_root, output, &args)),
        Command::Unload => unload::run(&pin_root, output),
    }
}

fn runtime() -> Result<Runtime, Error> {
    // Two threads: a scrape or a walk over the flows does not hold up a change of the maps.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime {
            operation: "starting the runtime",
            source,
        })
}
