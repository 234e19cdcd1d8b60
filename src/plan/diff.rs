//! Desired against observed.

use super::{AbsentNode, Change, ClusterPlan, NodePlan, Reason};
use crate::model::{DesiredCluster, DesiredNode, ObservedCluster, ObservedNode, Vocabulary};

/// What must change in a cluster so that its nodes carry the labels that state asks for.
///
/// Vocabulary keys are drover's on managed nodes. Other keys change only where state declares them, or where drover
/// set them before and state has dropped them.
pub fn diff(name: &str, desired: &DesiredCluster, vocabulary: &Vocabulary, live: &ObservedCluster) -> ClusterPlan {
    let mut plan = ClusterPlan {
        cluster: name.to_owned(),
        mode: desired.spec.mode,
        unreachable: None,
        managed: desired.nodes.len() as u32,
        nodes: Vec::new(),
        absent: Vec::new(),
        unmanaged: Vec::new(),
        refusals: Vec::new(),
        notes: Vec::new(),
    };
    for (name, node) in &desired.nodes {
        match live.nodes.get(name.as_str()) {
            None => plan.absent.push(AbsentNode { node: name.to_string(), source: node.origin.clone().into() }),
            Some(live) => {
                let changes = changes(node, vocabulary, live);
                if !changes.is_empty() {
                    plan.nodes.push(NodePlan { node: name.to_string(), changes });
                }
            }
        }
    }
    plan.unmanaged = live.nodes.keys().filter(|name| !desired.nodes.contains_key(name.as_str())).cloned().collect();
    plan
}

fn changes(node: &DesiredNode, vocabulary: &Vocabulary, live: &ObservedNode) -> Vec<Change> {
    let mut changes: Vec<Change> = node
        .labels
        .iter()
        .filter(|label| live.labels.get(label.key.as_str()).map(String::as_str) != Some(label.value.as_str()))
        .map(|label| Change {
            key: label.key.to_string(),
            from: live.labels.get(label.key.as_str()).cloned(),
            to: Some(label.value.to_string()),
            reason: Reason::Asked,
            source: label.origin.clone().into(),
            set_by: live.set_by(label.key.as_str()),
        })
        .collect();
    for (key, value) in &live.labels {
        if node.label(key).is_some() || node.leaves_alone(key) {
            continue;
        }
        let reason = if vocabulary.owns(key) {
            Reason::NotAsked
        } else if live.set_by_drover(key) {
            Reason::Dropped
        } else {
            continue;
        };
        changes.push(Change {
            key: key.clone(),
            from: Some(value.clone()),
            to: None,
            reason,
            source: node.origin.clone().into(),
            set_by: live.set_by(key),
        });
    }
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}
