//! `ingest-agent drain`

use std::{net::SocketAddr, path::Path};

use ingest_common::abi;
use serde::Serialize;

use super::services::{address, is_live, is_of};
use crate::{
    cli::{Drain, Output},
    dataplane::{self, BackendView, Reader},
    error::Error,
    output::{self, print},
    reconcile::from_abi,
};

/// A backend that was drained, or whose drain was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainRow {
    /// `namespace/name` of the pod.
    pub name: String,
    /// `address:port`
    pub address: String,
    /// Index in `BACKENDS`.
    pub slot: u16,
    /// Whether it is drained now.
    pub drained: bool,
    /// Established flows that it still has.
    pub flows: usize,
    /// Milliseconds until they are ended; absent: they may stay.
    pub ends_in_ms: Option<u64>,
}

pub(super) fn run(pin_root: &Path, output: Output, args: &Drain) -> Result<(), Error> {
    let mut reader = Reader::open(pin_root)?;
    let (backends, flows) = (reader.backends()?, reader.flows()?);
    let chosen: Vec<_> = backends
        .iter()
        .filter(|b| is_meant(b, &args.backend))
        .collect();
    if chosen.is_empty() {
        return Err(Error::NoSuchBackend {
            wanted: args.backend.clone(),
        });
    }
    let deadline_ns = match args.deadline {
        // 0 means never, so "at once" is a time that has passed.
        Some(term) => dataplane::now_ns()
            .saturating_add(term.as_nanos() as u64)
            .max(1),
        None => 0,
    };
    let mut rows = Vec::new();
    for view in chosen {
        if args.cancel {
            reader.undrain(view.slot)?;
        } else {
            reader.drain(view.slot, deadline_ns, args.window.as_nanos() as u64)?;
        }
        rows.push(row(view, &flows, args));
    }
    print(output, &rows, |rows| table(rows))
}

/// By name (all its slots) or by address and port. What has gone is not meant.
fn is_meant(view: &BackendView, wanted: &str) -> bool {
    let by_address = wanted.parse::<SocketAddr>().is_ok_and(|socket| {
        (socket.ip(), socket.port()) == (from_abi(&view.backend.address), view.backend.port)
    });
    let gone = abi::BackendState::from_u8(view.backend.state) == abi::BackendState::Gone;
    !gone && (by_address || view.name == wanted)
}

fn row(view: &BackendView, flows: &[(abi::FlowKey, abi::Flow)], args: &Drain) -> DrainRow {
    DrainRow {
        name: view.name.clone(),
        address: address(&view.backend),
        slot: view.slot,
        drained: !args.cancel,
        flows: flows
            .iter()
            .filter(|(_, f)| is_live(f) && is_of(f, view))
            .count(),
        ends_in_ms: args
            .deadline
            .filter(|_| !args.cancel)
            .map(|d| d.as_millis() as u64),
    }
}

fn table(rows: &[DrainRow]) -> String {
    output::table(
        ["BACKEND", "ADDRESS", "NEW SESSIONS", ">FLOWS", "ITS FLOWS"],
        rows.iter().map(|r| {
            let fate = match r.ends_in_ms {
                Some(ms) => format!(
                    "are ended in {}",
                    output::age(std::time::Duration::from_millis(ms))
                ),
                None => "stay".to_owned(),
            };
            [
                r.name.clone(),
                r.address.clone(),
                if r.drained { "no" } else { "as before" }.to_owned(),
                r.flows.to_string(),
                fate,
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(slot: u16, state: abi::BackendState) -> BackendView {
        BackendView {
            slot,
            backend: abi::Backend {
                address: abi::v4_mapped([10, 0, 0, slot as u8]),
                port: 9000,
                state: state as u8,
                ..Default::default()
            },
            health: abi::Health::default(),
            name: "live/a".into(),
            traffic: abi::Traffic::default(),
            probe: abi::Probe::default(),
        }
    }

    #[test]
    fn backends_are_meant_by_name_or_by_address() {
        let serving = view(2, abi::BackendState::Serving);
        assert!(is_meant(&serving, "live/a"));
        assert!(is_meant(&serving, "10.0.0.2:9000"));
        assert!(!is_meant(&serving, "10.0.0.2:9001"));
        assert!(!is_meant(&serving, "live/b"));
        assert!(!is_meant(&view(2, abi::BackendState::Gone), "live/a"));
    }

    #[test]
    fn what_will_happen_is_told() {
        let mut args = Drain {
            backend: "live/a".into(),
            deadline: Some(std::time::Duration::from_secs(90)),
            window: std::time::Duration::from_secs(10),
            cancel: false,
        };
        let backend = view(2, abi::BackendState::Serving);
        assert!(table(&[row(&backend, &[], &args)]).contains("are ended in 1m30s"));
        args.deadline = None;
        assert!(table(&[row(&backend, &[], &args)]).contains("stay"));
    }
}
