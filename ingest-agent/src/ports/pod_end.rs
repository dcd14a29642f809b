//! The other end of a pod port: which network namespace it is in, and its index there. Found from outside: nothing is
//! entered, and no capability is needed.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use futures::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::LinkAttribute,
        nsid::{NsidAttribute, NsidMessage},
    },
};

use super::{Error, netlink::failed};

/// The end of a veth pair that is in the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEnd {
    /// Where its network namespace is bound.
    pub netns: PathBuf,
    /// Its index there.
    pub ifindex: u32,
}

/// The far end of the veth `ifindex`, if its namespace is bound in `netns_dir`.
pub async fn pod_end(ifindex: u32, netns_dir: &Path) -> Result<PodEnd, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    tokio::spawn(connection);
    let not_found = || Error::NoPodEnd {
        ifindex,
        netns_dir: netns_dir.to_path_buf(),
    };
    let (peer, nsid) = peer(&handle, ifindex).await?.ok_or_else(not_found)?;
    let files = fs::read_dir(netns_dir).map_err(|source| Error::NetnsDir {
        netns_dir: netns_dir.to_path_buf(),
        source,
    })?;
    for file in files.flatten() {
        let netns = file.path();
        // A namespace may go while we look; then it is not the one.
        let Ok(open) = File::open(&netns) else {
            continue;
        };
        if nsid_of(&handle, &open).await == Some(nsid) {
            return Ok(PodEnd {
                netns,
                ifindex: peer,
            });
        }
    }
    Err(not_found())
}

/// The far end's index and the id by which this namespace knows its.
async fn peer(handle: &Handle, ifindex: u32) -> Result<Option<(u32, i32)>, Error> {
    let mut answers = handle.link().get().match_index(ifindex).execute();
    let link = answers
        .try_next()
        .await
        .map_err(|source| failed(format!("interface {ifindex}"), source))?;
    let (mut peer, mut nsid) = (None, None);
    for attribute in link.iter().flat_map(|link| &link.attributes) {
        match attribute {
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(id) => nsid = Some(*id),
            _ => {}
        }
    }
    Ok(peer.zip(nsid))
}

/// The id by which this namespace knows the one that `file` is; none where it is no namespace, or has no id yet.
async fn nsid_of(handle: &Handle, file: &File) -> Option<i32> {
    let mut message = NsidMessage::default();
    let descriptor = u32::try_from(file.as_raw_fd()).ok()?;
    message.attributes.push(NsidAttribute::Fd(descriptor));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
    request.header.flags = NLM_F_REQUEST;
    let mut handle = handle.clone();
    let mut answers = handle.request(request).ok()?;
    let answer = futures::StreamExt::next(&mut answers).await?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) = answer.payload else {
        return None;
    };
    found
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        })
}
