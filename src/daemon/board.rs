//! Where every task of the daemon writes how things stand, and what the web reads.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::adapters::clock;
use crate::report::{ClusterReport, DaemonStatus, Freshness, SyncStatus};

/// How things stand.
pub struct Board {
    identity: String,
    started: Timestamp,
    fresh: Freshness,
    stand: Mutex<Stand>,
}

#[derive(Default)]
struct Stand {
    sync: SyncStatus,
    clusters: BTreeMap<String, ClusterReport>,
}

impl Board {
    /// Nothing known yet.
    pub(super) fn new(identity: &str, fresh: Freshness) -> Self {
        Self { identity: identity.to_owned(), started: clock::now(), fresh, stand: Mutex::default() }
    }

    /// How things stand now, judged by how old they are.
    pub fn status(&self) -> DaemonStatus {
        let stand = self.stand();
        let mut status = DaemonStatus {
            identity: self.identity.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            now: clock::now(),
            sync: stand.sync.clone(),
            clusters: stand.clusters.clone(),
            checks: Vec::new(),
        };
        drop(stand);
        status.judge(self.fresh);
        status
    }

    pub(super) fn sync(&self, update: impl FnOnce(&mut SyncStatus)) {
        update(&mut self.stand().sync);
    }

    pub(super) fn cluster(&self, name: &str, update: impl FnOnce(&mut ClusterReport)) {
        update(self.stand().clusters.entry(name.to_owned()).or_default());
    }

    pub(super) fn forget(&self, name: &str) {
        self.stand().clusters.remove(name);
    }

    fn stand(&self) -> MutexGuard<'_, Stand> {
        // An update only assigns: it is whole, or it was not made.
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
