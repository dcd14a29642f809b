//! Which stream is meant: by its id, its whole Stream ID, or its client.

use std::net::SocketAddr;

use ingest_common::abi::{Flow, FlowKey, FlowState, StreamId};

use super::frame::Ends;
use crate::{
    dataplane::Reader,
    error::Error,
    output::socket,
    reconcile::{from_abi, to_abi},
    view::View,
};

/// A stream to capture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) key: FlowKey,
    pub(super) caller_id: u32,
    pub(super) ends: Ends,
}

/// The live stream that `wanted` means.
pub(super) fn choose(reader: &Reader, wanted: &str) -> Result<Chosen, Error> {
    // One look is enough to tell who is who.
    let mut view = View::default();
    view.observe(reader.reading()?, |key| {
        reader.stream_id(key).ok().flatten()
    });
    let mut fitting: Vec<_> = view
        .streams()
        .filter(|stream| FlowState::from_u8(stream.flow.state) == FlowState::Established)
        .filter(|stream| {
            let asked = stream.asked.as_deref();
            is_client(&stream.key, wanted)
                || stream.identity.id() == wanted
                || asked.is_some_and(|asked| asks(asked, &stream.flow, wanted))
        })
        .map(|stream| (&stream.key, &stream.flow))
        .collect();
    fitting.sort_by_key(|(key, _)| **key);
    let nothing = || Error::NoSuchStream {
        wanted: wanted.to_owned(),
    };
    let (key, flow) = match fitting[..] {
        [] => return Err(nothing()),
        [one] => one,
        _ => {
            let clients = fitting
                .iter()
                .map(|(key, _)| socket(&key.address, key.port));
            return Err(Error::WhichStream {
                wanted: wanted.to_owned(),
                clients: clients.collect::<Vec<_>>().join(", "),
            });
        }
    };
    let services = reader.services()?;
    let service = services.iter().find(|s| s.service.id == key.service);
    let vip = service.ok_or_else(nothing)?.key;
    Ok(Chosen {
        key: *key,
        caller_id: flow.caller_id,
        ends: Ends {
            client: SocketAddr::new(from_abi(&key.address), key.port),
            vip: SocketAddr::new(from_abi(&vip.address), vip.port),
            path: flow.path,
        },
    })
}

fn is_client(key: &FlowKey, wanted: &str) -> bool {
    wanted
        .parse::<SocketAddr>()
        .is_ok_and(|client| (to_abi(client.ip()), client.port()) == (key.address, key.port))
}

/// Whether that is the Stream ID of the flow's own caller. One that was not kept whole is nobody's.
fn asks(asked: &StreamId, flow: &Flow, wanted: &str) -> bool {
    asked.caller_id == flow.caller_id
        && usize::from(asked.length) == wanted.len()
        && asked.text.get(..wanted.len()) == Some(wanted.as_bytes())
}
