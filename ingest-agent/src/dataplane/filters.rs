//! tc programs on kernels without tcx (before 6.6): filters of a clsact qdisc.
//!
//! A filter cannot be pinned, and need not be: it stays with its interface. What is pinned in a link's place is the
//! program, as the mark that a filter of ours is there. A new program is put into the filter that is found, so no packet
//! meets an interface without one. The qdisc stays behind: others may use it, and empty it costs nothing.

use std::{io, path::Path};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    links::Link,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};

use super::{
    Error,
    pins::{Hook, remove_file},
    raw::interface_name,
};

/// Ours among the filters of one priority: "INGS".
const HANDLE: TcHandle = TcHandle::new(0x494e, 0x4753);

/// Where a filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Clients' packets.
    UplinkIn,
    /// Pods' packets that the host has routed.
    UplinkOut,
    /// Pods' packets.
    PodPort,
}

impl Place {
    /// The place whose pin is called `name`.
    fn of(name: &str) -> Self {
        if name == Hook::TcIn.as_str() {
            Self::UplinkIn
        } else if name == Hook::TcOut.as_str() {
            Self::UplinkOut
        } else {
            Self::PodPort
        }
    }

    fn direction(self) -> TcAttachType {
        match self {
            Self::UplinkOut => TcAttachType::Egress,
            Self::UplinkIn | Self::PodPort => TcAttachType::Ingress,
        }
    }

    /// The lower, the earlier, as with tcx: first at ingress, last at egress.
    fn priority(self) -> u16 {
        match self {
            Self::UplinkOut => 0xbfff,
            Self::UplinkIn | Self::PodPort => 1,
        }
    }

    /// A handle on what is there or not: `attached` asks nobody.
    fn filter(self, interface: &str) -> io::Result<SchedClassifierLink> {
        SchedClassifierLink::attached(interface, self.direction(), self.priority(), HANDLE, None)
    }
}

/// Whether the kernel lacks tcx.
pub(super) fn are_needed() -> bool {
    // EINVAL is an unknown hook; anything else is said by a kernel that knows it.
    matches!(
        SchedClassifier::query_tcx("lo", TcAttachType::Ingress),
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL)
    )
}

/// Makes `tc` the program of our filter at `interface`, and pins it at `pin`.
pub(super) fn set(
    tc: &mut SchedClassifier,
    interface: &str,
    pin: &Path,
) -> Result<(), ProgramError> {
    let place = place(pin);
    let system = |error| ProgramError::from(TcError::from(error));
    let id = if let Ok(id) = tc.attach_to_link(place.filter(interface).map_err(system)?) {
        id
    } else {
        // No qdisc, or no such filter in it.
        match qdisc_add_clsact(interface) {
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            other => other?,
        }
        let options = NlOptions {
            priority: place.priority(),
            handle: HANDLE,
            classid: None,
        };
        let options = TcAttachOptions::Netlink(options);
        tc.attach_with_options(interface, place.direction(), options)?
    };
    // Dropped, it would take the filter with it.
    std::mem::forget(tc.take_link(id)?);
    // The mark of an earlier agent is its program; where there is none, nothing is to be removed.
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
        _ => {}
    }
    tc.pin(pin).map_err(|error| system(io::Error::other(error)))
}

/// Removes the filter that `pin` is the mark of, and the mark.
pub(super) fn remove(pin: &Path) -> Result<(), Error> {
    if let Some(interface) = interface(pin) {
        let filter = place(pin).filter(&interface);
        if let Err(error) = filter
            .map_err(io::Error::other)
            .and_then(|filter| filter.detach().map_err(io::Error::other))
        {
            // Its interface is gone, or somebody has removed the qdisc.
            tracing::debug!(path = %pin.display(), %error, "filter was not attached");
        }
    }
    remove_file(pin)
}

/// Index of the interface that `pin` is about; 0: it is gone.
pub(super) fn ifindex(pin: &Path) -> u32 {
    interface(pin)
        .and_then(|name| nix::net::if_::if_nametoindex(name.as_str()).ok())
        .unwrap_or(0)
}

fn place(pin: &Path) -> Place {
    Place::of(&file_name(pin))
}

fn interface(pin: &Path) -> Option<String> {
    match place(pin) {
        Place::PodPort => interface_name(file_name(pin).parse().ok()?),
        _ => pin
            .parent()
            .map(|directory| super::pins::unescape(&file_name(directory))),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
