//! When the next secret of our cookies is due. The secrets themselves stay in the maps.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::dataplane::{self, Dataplane, SecretsState};

/// After a failed rotation: the old secret is as good for a while.
const RETRY: Duration = Duration::from_secs(10);

/// The time of the next rotation.
#[derive(Debug)]
pub(super) struct Rotation {
    every: Duration,
    due: Instant,
}

impl Rotation {
    /// Makes the first secret, or goes on with an earlier agent's at the age that it has.
    pub(super) fn begin(
        dataplane: &mut Dataplane,
        every: Duration,
    ) -> Result<Self, dataplane::Error> {
        let now_ns = dataplane::now_ns();
        let SecretsState { serial, since_ns } = dataplane.ensure_secrets(now_ns)?;
        let age = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        debug!(serial, ?age, "secret of cookies");
        Ok(Self {
            every,
            due: Instant::now() + every.saturating_sub(age),
        })
    }

    /// When to call [`Self::rotate`].
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Another secret; cookies of the last one stay valid until the next rotation.
    pub(super) fn rotate(&mut self, dataplane: &mut Dataplane) {
        let wait = match dataplane.rotate_secrets(dataplane::now_ns()) {
            Ok(SecretsState { serial, .. }) => {
                debug!(serial, "another secret for cookies");
                self.every
            }
            Err(error) => {
                warn!(%error, "the secret of cookies could not be replaced; the old one stays in use");
                RETRY
            }
        };
        self.due = Instant::now() + wait;
    }
}
