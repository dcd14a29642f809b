//! How long to wait after a failure.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
/// A failover must not wait long for an API server that is back.
const LONGEST: Duration = Duration::from_secs(2);
/// An API server that says it has too much to do is given at least this.
const THROTTLED: Duration = Duration::from_secs(1);
/// A failure that comes this long after the one before is the first of its kind.
const FORGET: Duration = Duration::from_secs(10);

/// Doubles from 100 ms to 2 s, and adds up to half of it at random: all nodes fail at the same moment.
#[derive(Debug)]
pub(in crate::cluster) struct Backoff {
    next: Duration,
    failed: Option<Instant>,
    seed: RandomState,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: FIRST,
            failed: None,
            seed: RandomState::new(),
        }
    }
}

impl Backoff {
    /// A success: the next failure is the first.
    pub(in crate::cluster) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait now.
    pub(in crate::cluster) fn next(&mut self, throttled: bool) -> Duration {
        let now = Instant::now();
        if self
            .failed
            .is_some_and(|at| now.duration_since(at) > FORGET)
        {
            self.reset();
        }
        self.failed = Some(now);
        let wait = if throttled {
            self.next.max(THROTTLED)
        } else {
            self.next
        };
        self.next = (self.next * 2).min(LONGEST);
        let half = wait.as_micros() as u64 / 2;
        wait + Duration::from_micros(self.seed.hash_one(now) % half.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_two_seconds_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(backoff.next(false).as_millis());
        }
        for (wait, least) in waits
            .iter()
            .zip([100, 200, 400, 800, 1600, 2000, 2000, 2000])
        {
            assert!((least..=least * 3 / 2).contains(wait), "{waits:?}");
        }
        backoff.reset();
        assert!(backoff.next(false).as_millis() <= 150);
        assert!(backoff.next(true).as_millis() >= 1000);
        tokio::time::advance(FORGET * 2).await;
        assert!(backoff.next(false).as_millis() <= 150);
    }
}
