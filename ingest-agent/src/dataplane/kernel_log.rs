//! What the kernel programs log, handed to the agent's own log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::task::JoinHandle;

use super::{Error, raw};

/// Reads the kernel's log records until dropped.
#[derive(Debug)]
pub(super) struct KernelLog(JoinHandle<()>);

impl KernelLog {
    /// Starts reading. Must come before the programs are loaded, in a tokio runtime. `None`: the object logs nothing.
    pub(super) fn start(ebpf: &mut Ebpf) -> Result<Option<Self>, Error> {
        let failed = |source| Error::System {
            operation: "waiting for the kernel's log",
            source,
        };
        let logger = match EbpfLogger::init(ebpf) {
            Ok(logger) => logger,
            Err(aya_log::Error::MapNotFound) => {
                tracing::warn!("the kernel object was built without logging");
                return Ok(None);
            }
            Err(error) => return Err(failed(std::io::Error::other(error))),
        };
        let mut logger = raw::readable(logger).map_err(failed)?;
        // A task of its own: aya-log panics on a record that it cannot read, and only the log shall end then.
        Ok(Some(Self(tokio::spawn(async move {
            while let Ok(mut guard) = logger.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        }))))
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        self.0.abort();
    }
}
