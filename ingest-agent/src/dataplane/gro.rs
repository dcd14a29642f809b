//! Switches generic receive offload on in a pod: its end of the veth then polls, which `redirect` needs.
#![expect(unsafe_code, reason = "ethtool's ioctl takes pointers")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};

use super::{Error, raw};

/// What [`enable_gro`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroOutcome {
    /// It was off and is on now.
    Enabled,
    /// It was on.
    WasOn,
}

/// Switches GRO on at the interface `ifindex` of the network namespace bound at `netns`. Blocks for less than a
/// millisecond. Needs `CAP_SYS_ADMIN`.
pub fn enable_gro(netns: &Path, ifindex: u32) -> Result<GroOutcome, Error> {
    // A thread of its own, which ends in the pod's namespace: no other one ever leaves ours.
    thread::scope(|scope| {
        let work = thread::Builder::new()
            .name("pod-gro".to_owned())
            .spawn_scoped(scope, || enable(netns, ifindex))
            .map_err(|source| Error::System {
                operation: "starting a thread",
                source,
            })?;
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enable(netns: &Path, ifindex: u32) -> Result<GroOutcome, Error> {
    enter(netns)?;
    let gro = Gro::of(ifindex).map_err(failed("looking for the pod's interface in", netns))?;
    if gro.get().map_err(failed("reading GRO in", netns))? {
        return Ok(GroOutcome::WasOn);
    }
    gro.switch_on()
        .map_err(failed("switching GRO on in", netns))?;
    Ok(GroOutcome::Enabled)
}

fn failed(operation: &'static str, netns: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::PodGro {
        operation,
        netns: netns.to_owned(),
        source,
    }
}

/// Moves the calling thread into the pod's namespace.
fn enter(netns: &Path) -> Result<(), Error> {
    let namespace = File::open(netns).map_err(failed("opening", netns))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EPERM => Error::NotAdmin {
            netns: netns.to_owned(),
        },
        errno => failed("entering", netns)(errno.into()),
    })
}

/// As in linux/ethtool.h.
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;

/// `struct ethtool_value`
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// GRO of an interface in the calling thread's namespace.
struct Gro {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Gro {
    fn of(ifindex: u32) -> io::Result<Self> {
        let found = raw::interface_name(ifindex).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        let mut name = [0; libc::IFNAMSIZ];
        let bytes = found.bytes().take(libc::IFNAMSIZ - 1);
        name.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from.cast_signed() as libc::c_char);
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it for us, nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket, name })
    }

    fn get(&self) -> io::Result<bool> {
        self.ethtool(ETHTOOL_GGRO, 0).map(|data| data != 0)
    }

    fn switch_on(&self) -> io::Result<()> {
        self.ethtool(ETHTOOL_SGRO, 1).map(drop)
    }

    fn ethtool(&self, command: u32, data: u32) -> io::Result<u32> {
        let mut value = EthtoolValue { command, data };
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: std::ptr::from_mut(&mut value).cast(),
            },
        };
        // SAFETY: `request` names an interface by a string that ends in zero, and points at a value of the size that
        // both commands read and write; both live through the call.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL as _,
                &mut request,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value.data)
    }
}
