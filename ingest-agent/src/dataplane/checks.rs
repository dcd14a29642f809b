//! What must hold before anything is loaded: rights and kernel version.

use std::fs;

use aya::util::KernelVersion;

use super::Error;

/// The first kernel with all that the older kernel object needs: `bpf_redirect_peer`.
const NEEDED_KERNEL: (u8, u8) = (5, 10);

/// Checks the process's rights, then the kernel.
pub(super) fn preconditions() -> Result<(), Error> {
    let missing = missing_capabilities(effective_capabilities()?);
    if !missing.is_empty() {
        return Err(Error::Capabilities {
            capabilities: missing.join(", "),
        });
    }
    let running = nix::sys::utsname::uname().map_err(|errno| Error::System {
        operation: "uname",
        source: errno.into(),
    })?;
    // A version string that aya cannot read is a newer kernel's: let the loading itself decide.
    match KernelVersion::current() {
        Ok(found) => new_enough(found, &running.release().to_string_lossy()),
        Err(_) => Ok(()),
    }
}

/// Refuses a kernel that lacks helpers.
fn new_enough(found: KernelVersion, release: &str) -> Result<(), Error> {
    let (major, minor) = NEEDED_KERNEL;
    if found < KernelVersion::new(major, minor, 0) {
        return Err(Error::KernelTooOld {
            found: release.to_owned(),
            needed: "5.10",
        });
    }
    Ok(())
}

/// The effective capabilities of this process.
fn effective_capabilities() -> Result<u64, Error> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|source| Error::Files {
        operation: "reading",
        path: path.into(),
        source,
    })?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    Ok(line
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0))
}

/// The capabilities that are needed and not in `effective`.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    // CAP_SYS_ADMIN still stands for the two that were split from it in 5.8.
    [
        ("CAP_BPF", BPF | SYS_ADMIN),
        ("CAP_NET_ADMIN", NET_ADMIN),
        ("CAP_PERFMON", PERFMON | SYS_ADMIN),
    ]
    .into_iter()
    .filter(|(_, any)| effective & any == 0)
    .map(|(name, _)| name)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named_with_what_is_needed() {
        let error = new_enough(KernelVersion::new(5, 4, 13), "5.4.13-generic").unwrap_err();
        assert!(error.is_incompatible());
        assert_eq!(
            error.to_string(),
            "kernel 5.4.13-generic is too old: bpf_redirect_peer needs 5.10 or newer; boot a newer kernel on this node"
        );
        assert!(new_enough(KernelVersion::new(5, 10, 0), "5.10.0").is_ok());
    }

    #[test]
    fn root_misses_nothing() {
        assert!(missing_capabilities(u64::MAX).is_empty());
    }

    #[test]
    fn sys_admin_alone_misses_net_admin() {
        assert_eq!(missing_capabilities(1 << 21), ["CAP_NET_ADMIN"]);
    }

    #[test]
    fn an_ordinary_user_misses_all_three() {
        assert_eq!(
            missing_capabilities(0),
            ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]
        );
    }
}
