//! A saved plan against the state of today.

use super::{Change, Plan};
use crate::model::Desired;

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

fn outdated_change(cluster: &str, node: &str, change: &Change, asked: Option<String>) -> Outdated {
    Outdated {
        cluster: cluster.to_owned(),
        node: node.to_owned(),
        key: change.key.clone(),
        planned: change.to.clone(),
        asked,
    }
}
