//! A saved plan against the state of today.

use super::{Change, ClusterPlan, Plan};
use crate::model::{Desired, ObservedCluster, Vocabulary};

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
        for node in &cluster.nodes {
            for change in &node.changes {
                let now = desired.clusters.get(cluster.cluster.as_str()).and_then(|c| c.nodes.get(node.node.as_str()));
                let asked = now.and_then(|now| now.label(&change.key)).map(|label| label.value.to_string());
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
            let removes = change.to.is_none() && live.labels.get(&change.key) == change.from.as_ref();
            removes && !vocabulary.owns(&change.key) && !live.set_by_drover(&change.key)
        };
        Some((node.node.as_str(), node.changes.iter().find(is_alien)?.key.as_str()))
    })
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
