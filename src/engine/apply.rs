//! Making a plan true: nodes side by side, each label only while it still is what the plan expects.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use schemars::JsonSchema;
use serde::Serialize;

use super::Pass;
use super::kubelet::KubeletOutcome;
use super::pass::Live;
use crate::adapters::kube::{KubeCluster, PatchError, Patched, Stale};
use crate::model::Mode;
use crate::plan::{ClusterPlan, NodePlan, Plan};

/// Told as the work goes on.
pub trait Progress: Sync {
    /// A node is done, well or not.
    fn node_done(&self, cluster: &str);

    /// Whatever changes the kubelets of a cluster says something.
    fn told(&self, _cluster: &str, _line: &str) {}
}

/// Nobody is told.
impl Progress for () {
    fn node_done(&self, _: &str) {}
}

/// What became of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover apply report")]
pub struct ApplyReport {
    /// What became of each cluster, ordered by name.
    pub clusters: Vec<ClusterOutcome>,
    /// Whether it was interrupted, and something was left undone.
    pub interrupted: bool,
}

/// What became of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOutcome {
    /// The cluster.
    pub cluster: String,
    /// Why nothing was tried, where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Nodes that now are as the plan says.
    pub nodes: usize,
    /// Labels that now are as the plan says.
    pub labels: usize,
    /// Nodes whose agents now are asked for the storage that the plan says.
    pub storage: usize,
    /// Labels that somebody else changed after the plan was made; they were left alone.
    pub stale: Vec<StaleLabel>,
    /// What somebody else asked agents for after the plan was made; it was left alone.
    pub stale_storage: Vec<StaleLabel>,
    /// Nodes that could not be written.
    pub failed: Vec<FailedNode>,
    /// Nodes that were not tried.
    pub not_done: Vec<String>,
    /// What became of the binds of its kubelets, where they were to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletOutcome>,
}

/// A label that somebody else changed after the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaleLabel {
    /// The node.
    pub node: String,
    /// The label.
    pub key: String,
    /// What the plan expected to replace.
    pub expected: Option<String>,
    /// What is live now.
    pub found: Option<String>,
    /// Whether the node itself is gone.
    pub node_gone: bool,
}

/// A node that could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedNode {
    /// The node.
    pub node: String,
    /// Why.
    pub cause: String,
    /// What to do, where there is advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ClusterOutcome {
    /// Whether writing was begun, and nodes were left as they were.
    fn was_broken_off(&self) -> bool {
        self.skipped.is_none() && !(self.failed.is_empty() && self.not_done.is_empty())
    }

    /// Whether everything that was asked for was done.
    pub fn is_whole(&self) -> bool {
        self.labels_are_whole() && self.kubelet.as_ref().is_none_or(KubeletOutcome::is_well)
    }

    /// Whether every label that was asked for was set.
    pub fn labels_are_whole(&self) -> bool {
        self.stale.is_empty() && self.stale_storage.is_empty() && self.failed.is_empty() && self.not_done.is_empty()
    }
}

/// Why a cluster's changes are not applied, although it was reached and no guard holds them back.
pub fn not_writable(plan: &ClusterPlan, live: Option<&Live>) -> Option<String> {
    match (plan.mode, live) {
        _ if plan.nodes.is_empty() => None,
        (Mode::Observe, _) => Some("mode: observe, changes are only reported".to_owned()),
        (_, Some(Live::Dump(_))) => Some("its connection is a dump, which has no cluster behind it".to_owned()),
        _ => None,
    }
}

/// Applies a plan that no guard holds back. `stop` ends the work early: what is in flight is finished, and the rest is
/// reported as not done. At most `parallel` nodes of a cluster are written at the same time.
pub async fn apply(
    plan: &Plan,
    pass: &Pass,
    parallel: usize,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> ApplyReport {
    let clusters = plan.clusters.iter().map(|cluster| async move {
        let outcome = ClusterOutcome { cluster: cluster.cluster.clone(), ..ClusterOutcome::default() };
        let all = || cluster.nodes.iter().map(|node| node.node.clone()).collect();
        let live = pass.observed.get::<str>(&cluster.cluster).map(|observed| &observed.live);
        if let Some(cause) = &cluster.unreachable {
            return ClusterOutcome { skipped: Some(format!("unreachable: {cause}")), not_done: all(), ..outcome };
        }
        match (not_writable(cluster, live), live) {
            (Some(why), Some(Live::Dump(_))) if cluster.mode == Mode::Enforce => {
                ClusterOutcome { skipped: Some(why), not_done: all(), ..outcome }
            }
            (Some(why), _) => ClusterOutcome { skipped: Some(why), ..outcome },
            (None, Some(Live::Kube(kube))) => apply_cluster(cluster, kube, parallel, stop, progress).await,
            (None, _) => outcome,
        }
    });
    let clusters = join_all(clusters).await;
    let interrupted = stop.load(Ordering::Relaxed) && clusters.iter().any(ClusterOutcome::was_broken_off);
    ApplyReport { clusters, interrupted }
}

/// Applies the plan of one cluster, as [`apply`] does.
pub async fn apply_cluster(
    plan: &ClusterPlan,
    kube: &KubeCluster,
    parallel: usize,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> ClusterOutcome {
    // Once one node fails for a reason that all share, the others would only fail alike, and slowly.
    let given_up = AtomicBool::new(false);
    let write = async |node: &NodePlan| {
        if stop.load(Ordering::Relaxed) || given_up.load(Ordering::Relaxed) {
            return None;
        }
        let result = write_node(kube, node, stop).await;
        if result.as_ref().is_err_and(|error| error.fatal) {
            given_up.store(true, Ordering::Relaxed);
        }
        progress.node_done(&plan.cluster);
        Some(result)
    };
    let write = &write;
    let writes: Vec<_> = plan.nodes.iter().map(|node| async move { (node, write(node).await) }).collect();
    let mut outcome = ClusterOutcome { cluster: plan.cluster.clone(), ..ClusterOutcome::default() };
    let mut results = stream::iter(writes).buffer_unordered(parallel.max(1));
    while let Some((node, result)) = results.next().await {
        match result {
            None => outcome.not_done.push(node.node.clone()),
            Some(Ok(patched)) => {
                outcome.labels += patched.written;
                outcome.storage += patched.asked;
                outcome.nodes += usize::from(patched.stale.is_empty() && patched.stale_storage.is_empty());
                outcome.stale.extend(patched.stale.into_iter().map(|stale| stale_label(node, stale)));
                let storage = patched.stale_storage.into_iter().map(|stale| stale_label(node, stale));
                outcome.stale_storage.extend(storage);
            }
            Some(Err(error)) => {
                let hint = error.failure.advice().map(str::to_owned);
                outcome.failed.push(FailedNode { node: node.node.clone(), cause: error.failure.to_string(), hint });
            }
        }
    }
    outcome.stale.sort_by(|a, b| (&a.node, &a.key).cmp(&(&b.node, &b.key)));
    outcome.stale_storage.sort_by(|a, b| (&a.node, &a.key).cmp(&(&b.node, &b.key)));
    outcome.failed.sort_by(|a, b| a.node.cmp(&b.node));
    outcome.not_done.sort();
    outcome
}

/// The changes of one node. Labels come first: what attracts work goes before what it needs does.
async fn write_node(kube: &KubeCluster, node: &NodePlan, stop: &AtomicBool) -> Result<Patched, PatchError> {
    let mut patched = match node.changes.is_empty() {
        true => Patched::default(),
        false => kube.patch(node, stop).await?,
    };
    if let Some(change) = &node.storage {
        let asked = kube.ask_storage(&node.node, change, stop).await?;
        patched.asked += asked.asked;
        patched.stale_storage = asked.stale_storage;
    }
    Ok(patched)
}

fn stale_label(node: &NodePlan, stale: Stale) -> StaleLabel {
    StaleLabel {
        node: node.node.clone(),
        key: stale.key,
        expected: stale.expected,
        found: stale.found,
        node_gone: stale.gone,
    }
}
