//! A saved plan against the state of today.

use super::kubelet::is_still_asked;
use super::{Change, ClusterPlan, Plan, Reason, StorageChange};
use crate::model::storage::differences;
use crate::model::{Desired, DesiredCluster, ObservedCluster, StorageWanted, Vocabulary};

/// A change of a saved plan that the state no longer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// The label.
    pub key: String,
    /// What the saved plan would set.
    pub planned: Option<String>,
    /// What state asks for now.
    pub asked: Option<String>,
}

/// The changes of a saved plan that `desired` no longer asks for. Where there is none, the plan still holds.
pub fn outdated(plan: &Plan, desired: &Desired) -> Vec<Outdated> {
    let mut found = Vec::new();
    for cluster in &plan.clusters {
        let today = desired.clusters.get(cluster.cluster.as_str());
        let storage = today.and_then(DesiredCluster::storage);
        if let Some(kubelet) = &cluster.kubelet
            && !is_still_asked(kubelet, today)
        {
            found.push(Outdated {
                cluster: cluster.cluster.clone(),
                node: "kubelet".to_owned(),
                key: "binds".to_owned(),
                planned: Some(kubelet.to.join(" ")),
                asked: today.map(|today| {
                    let binds = today.spec.kubelet.iter().flat_map(|kubelet| &kubelet.extra_binds);
                    binds.map(|bind| bind.as_str()).collect::<Vec<_>>().join(" ")
                }),
            });
        }
        for node in &cluster.nodes {
            let now = today.and_then(|today| today.nodes.get(node.node.as_str()));
            if let Some(change) = &node.storage {
                let asked = now.and_then(|now| Some(storage.as_ref()?.of(now)));
                if asked.as_deref() != change.to.as_ref() {
                    found.extend(outdated_storage(&cluster.cluster, &node.node, change, asked.as_deref()));
                }
            }
            for change in &node.changes {
                let asked = now.and_then(|now| now.label(&change.key)).map(|label| label.value.to_string());
                // State does not ask for a label to be taken off because of storage, only for the label itself.
                if change.reason == Reason::StorageFailed && change.to.is_none() && asked.is_some() {
                    continue;
                }
                let left_alone = now.is_none_or(|now| now.leaves_alone(&change.key));
                if asked != change.to || (left_alone && asked.is_none()) {
                    found.push(outdated_change(&cluster.cluster, &node.node, change, asked));
                }
            }
        }
    }
    found
}

/// The first removal of a saved plan that is not drover's to make: no plan of drover's has one, unless it was changed by
/// hand. A label that has another value by now is stale, and left alone anyway.
pub fn alien_removal<'p>(
    plan: &'p ClusterPlan,
    vocabulary: &Vocabulary,
    live: &ObservedCluster,
) -> Option<(&'p str, &'p str)> {
    plan.nodes.iter().find_map(|node| {
        let live = live.nodes.get(&node.node)?;
        let is_alien = |change: &&Change| {
            // What is taken off because of storage is asked for by the state, and so drover's.
            let removes = change.to.is_none()
                && change.reason != Reason::StorageFailed
                && live.labels.get(&change.key) == change.from.as_ref();
            removes && !vocabulary.owns(&change.key) && !live.set_by_drover(&change.key)
        };
        Some((node.node.as_str(), node.changes.iter().find(is_alien)?.key.as_str()))
    })
}

fn outdated_storage(cluster: &str, node: &str, change: &StorageChange, asked: Option<&StorageWanted>) -> Vec<Outdated> {
    let outdated =
        |(key, planned, asked)| Outdated { cluster: cluster.to_owned(), node: node.to_owned(), key, planned, asked };
    differences(change.to.as_ref(), asked).into_iter().map(outdated).collect()
}

fn outdated_change(cluster: &str, node: &str, change: &Change, asked: Option<String>) -> Outdated {
    Outdated {
        cluster: cluster.to_owned(),
        node: node.to_owned(),
        key: change.key.clone(),
        planned: change.to.clone(),
        asked,
    }
}
