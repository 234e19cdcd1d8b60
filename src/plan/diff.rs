//! Desired against observed.

use std::sync::Arc;

use super::{AbsentNode, Change, ClusterPlan, NodePlan, Reason, storage};
use crate::model::{DesiredCluster, DesiredLabel, DesiredNode, ObservedCluster, ObservedNode, Vocabulary};

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
        waiting: Vec::new(),
        kubelet: None,
        absent: Vec::new(),
        unmanaged: Vec::new(),
        refusals: Vec::new(),
        notes: Vec::new(),
    };
    // Both sides are ordered by name, so one walk over both is enough.
    let mut documents = desired.nodes.values().peekable();
    let absent =
        |node: &Arc<DesiredNode>| AbsentNode { node: node.name.to_string(), source: node.origin.clone().into() };
    for (name, live) in &live.nodes {
        while let Some(node) = documents.next_if(|node| node.name.as_str() < name.as_str()) {
            plan.absent.push(absent(node));
        }
        let Some(node) = documents.next_if(|node| node.name.as_str() == name) else {
            plan.unmanaged.push(name.clone());
            continue;
        };
        let changes = changes(node, vocabulary, live);
        if !changes.is_empty() {
            plan.nodes.push(NodePlan { node: name.clone(), changes, storage: None });
        }
    }
    plan.absent.extend(documents.map(absent));
    storage::ask(&mut plan, desired, live);
    plan
}

fn changes(node: &DesiredNode, vocabulary: &Vocabulary, live: &ObservedNode) -> Vec<Change> {
    let mut changes = Vec::new();
    // Both sides are ordered by key, so one walk over both is enough.
    let mut asked = node.labels.iter().peekable();
    for (key, value) in &live.labels {
        while let Some(label) = asked.next_if(|label| label.key.as_str() < key.as_str()) {
            changes.push(set(label, live, None));
        }
        match asked.next_if(|label| label.key.as_str() == key) {
            Some(label) if label.value.as_str() == value => {}
            Some(label) => changes.push(set(label, live, Some(value))),
            None => changes.extend(removal(node, vocabulary, live, key, value)),
        }
    }
    changes.extend(asked.map(|label| set(label, live, None)));
    changes
}

fn set(label: &DesiredLabel, live: &ObservedNode, from: Option<&String>) -> Change {
    Change {
        key: label.key.to_string(),
        from: from.cloned(),
        to: Some(label.value.to_string()),
        reason: Reason::Asked,
        source: label.origin.clone().into(),
        set_by: live.set_by(label.key.as_str()),
        why: None,
    }
}

/// The removal of a live label that state does not ask for, if it is drover's to remove.
fn removal(node: &DesiredNode, vocabulary: &Vocabulary, live: &ObservedNode, key: &str, value: &str) -> Option<Change> {
    let reason = match (vocabulary.owns(key), live.set_by_drover(key)) {
        _ if node.leaves_alone(key) => return None,
        (true, _) => Reason::NotAsked,
        (false, true) => Reason::Dropped,
        (false, false) => return None,
    };
    Some(Change {
        key: key.to_owned(),
        from: Some(value.to_owned()),
        to: None,
        reason,
        source: node.origin.clone().into(),
        set_by: live.set_by(key),
        why: None,
    })
}
