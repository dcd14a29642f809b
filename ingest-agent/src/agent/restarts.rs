//! Backends whose process is another than it was: a restarted container, or another pod of the same name.

use std::collections::{BTreeMap, BTreeSet};

use ingest_common::abi::{MAX_BACKENDS, Tenant};

use crate::reconcile::{Observed, Op};

/// Who was behind each name and port last. Names that are gone stay: a StatefulSet's pod comes back under its own.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    known: BTreeMap<(String, u16), Tenant>,
    is_seeded: bool,
}

impl Restarts {
    /// Names of backends that `ops` give another process. `observed` is what was before them.
    pub(super) fn learn(&mut self, observed: &Observed, ops: &[Op]) -> BTreeSet<String> {
        if !self.is_seeded {
            self.is_seeded = true;
            for (slot, tenant) in &observed.tenants {
                if let (Some(name), Some(backend)) = (
                    observed.backend_names.get(slot),
                    observed.backends.get(slot),
                ) {
                    self.known.insert((name.clone(), backend.port), *tenant);
                }
            }
        }
        let mut restarted = BTreeSet::new();
        for op in ops {
            let Op::SetBackend {
                backend,
                name,
                tenant,
                fresh: true,
                ..
            } = op
            else {
                continue;
            };
            let before = self.known.insert((name.clone(), backend.port), *tenant);
            if before.is_some_and(|before| is_another(before, *tenant)) {
                restarted.insert(name.clone());
            }
        }
        if self.known.len() > 2 * MAX_BACKENDS {
            let names: BTreeSet<&String> = observed.backend_names.values().collect();
            self.known.retain(|(name, _), _| names.contains(name));
        }
        restarted
    }
}

/// 0 is not known, and nothing can be said.
fn is_another(before: Tenant, now: Tenant) -> bool {
    let differ = |a: u32, b: u32| a != 0 && b != 0 && a != b;
    differ(before.pod, now.pod) || differ(before.process, now.process)
}

#[cfg(test)]
mod tests {
    use ingest_common::abi::Backend;

    use super::*;

    fn set(slot: u16, name: &str, port: u16, pod: u32, process: u32) -> Op {
        Op::SetBackend {
            slot,
            backend: Backend {
                port,
                ..Backend::default()
            },
            name: name.to_owned(),
            tenant: Tenant { pod, process },
            fresh: true,
        }
    }

    #[test]
    fn another_process_under_the_same_name_is_a_restart() {
        let mut restarts = Restarts::default();
        let observed = Observed {
            backends: [(
                1,
                Backend {
                    port: 9000,
                    ..Backend::default()
                },
            )]
            .into(),
            backend_names: [(1, "live/old".to_owned())].into(),
            tenants: [(1, Tenant { pod: 1, process: 1 })].into(),
            ..Observed::default()
        };
        let mut learn =
            |ops: &[Op]| -> Vec<String> { restarts.learn(&observed, ops).into_iter().collect() };
        // New ones, and one more port of a pod.
        let new = [set(2, "live/a", 9000, 7, 7), set(3, "live/a", 9001, 7, 7)];
        assert!(learn(&new).is_empty());
        // The container was restarted: both ports, one restart.
        let again = [set(4, "live/a", 9000, 7, 8), set(5, "live/a", 9001, 7, 8)];
        assert_eq!(learn(&again), ["live/a"]);
        // A pod of the same name, after the first was gone.
        assert_eq!(learn(&[set(2, "live/a", 9000, 9, 9)]), ["live/a"]);
        assert_eq!(learn(&[set(6, "live/old", 9000, 2, 2)]), ["live/old"]);
        // Another place, the same process; and one that nothing is known of.
        assert!(learn(&[set(7, "live/a", 9000, 9, 9)]).is_empty());
        assert!(learn(&[set(7, "live/a", 9000, 0, 0)]).is_empty());
    }
}
