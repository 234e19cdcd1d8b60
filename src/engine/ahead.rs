//! Clusters that are looked at while the rest of the state is still being read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::pass::{Observed, observe_live};
use crate::error::Failure;
use crate::model::{ClusterManifest, ClusterName, ClusterSpec};

/// Looks that were begun. The documents of clusters are few and come first, and an API server takes as long for its
/// answer as drover takes for a thousand files.
pub(super) struct Ahead {
    wanted: BTreeSet<String>,
    root: Option<PathBuf>,
    runtime: Handle,
    begun: Mutex<Vec<Look>>,
}

struct Look {
    name: ClusterName,
    spec: ClusterSpec,
    answer: JoinHandle<Result<Observed, Failure>>,
}

impl Ahead {
    /// None where there is no runtime to look with. All clusters are wanted where `wanted` is empty.
    pub(super) fn new(wanted: &BTreeSet<String>, root: Option<&Path>) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        Some(Self { wanted: wanted.clone(), root: root.map(Path::to_path_buf), runtime, begun: Mutex::default() })
    }

    /// Begins to look at a cluster, if it is wanted and live.
    pub(super) fn begin(&self, cluster: &ClusterManifest) {
        let (name, spec) = (cluster.metadata.name.clone(), cluster.spec.clone());
        let wanted = self.wanted.is_empty() || self.wanted.contains(name.as_str());
        if !wanted || spec.connection.file.is_some() {
            return;
        }
        let root = self.root.clone();
        let answer = {
            let (name, spec) = (name.clone(), spec.clone());
            self.runtime.spawn(async move { observe_live(&name, &spec, root.as_deref()).await })
        };
        self.looks().push(Look { name, spec, answer });
    }

    /// What the look at a cluster found, if one was begun with exactly these settings.
    pub(super) async fn answer(&self, name: &ClusterName, spec: &ClusterSpec) -> Option<Result<Observed, Failure>> {
        let look = {
            let mut looks = self.looks();
            let index = looks.iter().position(|look| look.name == *name && look.spec == *spec)?;
            looks.swap_remove(index)
        };
        look.answer.await.ok()
    }

    fn looks(&self) -> std::sync::MutexGuard<'_, Vec<Look>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
