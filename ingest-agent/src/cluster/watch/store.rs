//! Copies of the objects of a kind.

use std::{collections::BTreeMap, sync::Arc};

use super::resource::Change;
use crate::cluster::translate::ObjectName;

#[derive(Debug)]
pub(super) struct Store<K> {
    objects: BTreeMap<ObjectName, Arc<K>>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
        }
    }
}

impl<K: PartialEq> Store<K> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &Arc<K>)> {
        self.objects.iter()
    }

    /// Takes a change up, and gives the objects that are new or other, with what they were. A list replaces all.
    pub(super) fn take(&mut self, change: Change<K>) -> Vec<Taken<K>> {
        match change {
            Change::Applied(name, now) => {
                let before = self.objects.insert(name, now.clone());
                vec![Taken { before, now }]
            }
            Change::Deleted(name, _) => {
                self.objects.remove(&name);
                Vec::new()
            }
            Change::Listed(objects) => {
                let mut before =
                    std::mem::replace(&mut self.objects, objects.into_iter().collect());
                let taken = self.objects.iter().map(|(name, now)| Taken {
                    before: before.remove(name),
                    now: now.clone(),
                });
                taken
                    .filter(|taken| taken.before.as_ref() != Some(&taken.now))
                    .collect()
            }
        }
    }

    pub(super) fn contains(&self, name: &ObjectName) -> bool {
        self.objects.contains_key(name)
    }

    pub(super) fn clear(&mut self) {
        self.objects.clear();
    }
}

/// An object that was taken up.
#[derive(Debug)]
pub(super) struct Taken<K> {
    pub(super) before: Option<Arc<K>>,
    pub(super) now: Arc<K>,
}
