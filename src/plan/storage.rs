//! The storage of machines: what their agents must be asked for, and which labels wait until it is verified.
//!
//! A label that attracts work is only set on a machine whose storage is known to be right, and is taken off again when it
//! is known to be wrong. Where nothing is known, nothing is set, and nothing is taken off: an agent that does not answer
//! is no reason to move work.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, ClusterPlan, NodePlan, Reason, Source, allowed};
use crate::model::storage::{Verdict, differences};
use crate::model::{
    DesiredCluster, DesiredLabel, DesiredNode, DesiredStorage, Guard, LabelKey, ObservedCluster, ObservedNode,
    ObservedStorage, StorageWanted, Vocabulary,
};

/// What the agent of a machine must be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageChange {
    /// What it is expected to be asked for when the change is applied; none where it was asked for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<StorageWanted>,
    /// Counts the changes of that: the change is stale once the cluster has counted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// What it is asked for then; none where it is left in peace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<StorageWanted>,
    /// The line that asks for it.
    pub source: Source,
}

/// Labels of a node that wait until its storage is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingNode {
    /// The node.
    pub node: String,
    /// The labels that state asks for and that are held back, ordered by key.
    pub labels: Vec<WaitingLabel>,
    /// Whether its storage is known to be wrong, or only not known to be right.
    pub failed: bool,
    /// What is wrong with its storage, or why that is not known.
    pub why: String,
}

/// A label that is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingLabel {
    /// The label.
    pub key: String,
    /// The value that state asks for.
    pub value: String,
    /// The line that asks for it.
    pub source: Source,
}

/// How far the storage of a machine can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is as asked for.
    Verified,
    /// It is not, and why.
    Failed(String),
    /// That is not known, and why.
    Unknown(String),
}

impl StorageChange {
    /// The change in the form of labels, name by name: for people.
    pub fn changes(&self) -> Vec<Change> {
        let change = |(key, from, to)| Change {
            key,
            from,
            to,
            reason: if self.to.is_some() { Reason::Asked } else { Reason::Dropped },
            source: self.source.clone(),
            set_by: None,
            why: None,
        };
        if self.from.is_none() || self.to.is_none() {
            let whole = |wanted: &Option<StorageWanted>| wanted.as_ref().map(StorageWanted::summary);
            return vec![change(("storage".to_owned(), whole(&self.from), whole(&self.to)))];
        }
        differences(self.from.as_ref(), self.to.as_ref()).into_iter().map(change).collect()
    }
}

/// How far the storage of a machine can be relied on, by what its agent saw.
pub fn standing(
    storage: &DesiredStorage,
    node: &DesiredNode,
    live: &ObservedNode,
    seen: Option<&ObservedStorage>,
    now: Timestamp,
) -> Standing {
    let unknown = |why: &str| Standing::Unknown(why.to_owned());
    let Some(seen) = seen else { return unknown("its agent was not asked yet") };
    let Some(report) = &seen.report else { return unknown("its agent has not answered yet") };
    if seen.wanted.as_ref() != Some(&*storage.of(node)) || report.observed_generation != seen.generation {
        return unknown("its agent has not looked at what state asks for yet");
    }
    let age = now.duration_since(report.checked);
    if age > storage.stale_after {
        return Standing::Unknown(format!("its agent was last heard of at {}", minute(report.checked)));
    }
    // A clock that runs ahead would keep an old word young for ever.
    if age < -CLOCKS_APART {
        return Standing::Unknown(format!(
            "the clock of the machine is ahead: its agent reports at {}",
            report.checked
        ));
    }
    if !live.boot_id.is_empty() && !report.boot_id.is_empty() && *live.boot_id != *report.boot_id {
        return unknown("the machine was started anew, and its agent has not looked again yet");
    }
    let why = || format!("{}: {}", report.reason.name(), report.message);
    match report.verdict {
        Verdict::Verified => Standing::Verified,
        Verdict::Failed => Standing::Failed(why()),
        Verdict::Unknown => Standing::Unknown(why()),
    }
}

/// How far ahead a machine's clock may be.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

fn minute(time: Timestamp) -> impl std::fmt::Display {
    time.strftime("%Y-%m-%d %H:%M UTC")
}

/// When the standing of some machine changes by time alone: the moment at which its agent's last word grows old.
pub fn next_change(cluster: &DesiredCluster, live: &ObservedCluster, now: Timestamp) -> Option<Timestamp> {
    let storage = cluster.storage().filter(|_| live.recorded.is_none())?;
    let reports = live.storage.values().filter_map(|seen| seen.report.as_ref());
    // Just beyond: what is exactly as old as it may be still counts.
    let ends = reports.filter_map(|report| report.checked.checked_add(storage.stale_after + JUST_BEYOND).ok());
    ends.filter(|end| *end > now).min()
}

const JUST_BEYOND: SignedDuration = SignedDuration::from_millis(10);

/// What the agents of the live machines must be asked for.
pub(super) fn ask(plan: &mut ClusterPlan, cluster: &DesiredCluster, live: &ObservedCluster) {
    let storage = cluster.storage();
    let asked = cluster.places.of("storage").unwrap_or(&cluster.origin);
    if let Some(why) = &live.storage_unseen {
        if storage.is_some() {
            plan.notes.push(format!("storage is not looked at: {why}"));
        }
        return;
    }
    for node in cluster.nodes.values().filter(|node| live.nodes.contains_key(node.name.as_str())) {
        let seen = live.storage.get(node.name.as_str());
        let to = storage.as_ref().map(|storage| storage.of(node));
        if seen.and_then(|seen| seen.wanted.as_ref()) == to.as_deref() && seen.is_some() == to.is_some() {
            continue;
        }
        let exception = node.document.spec.storage.is_some();
        let change = StorageChange {
            from: seen.and_then(|seen| seen.wanted.clone()),
            generation: seen.map(|seen| seen.generation),
            to: to.map(std::borrow::Cow::into_owned),
            source: if exception { &node.origin } else { asked }.clone().into(),
        };
        plan.node_mut(node.name.as_str()).storage = Some(change);
    }
    let left: Vec<&str> =
        live.storage.keys().map(String::as_str).filter(|name| !cluster.nodes.contains_key(*name)).collect();
    if !left.is_empty() {
        plan.notes.push(format!("NodeStorage objects without a document, left as they are: {}", left.join(", ")));
    }
}

/// Holds back the labels that attract work on machines whose storage is not verified, and takes them off machines whose
/// storage is known to be wrong, unless the guard `storage-unverified` is lifted.
pub fn gate(
    plan: &mut ClusterPlan,
    cluster: &DesiredCluster,
    vocabulary: &Vocabulary,
    live: &ObservedCluster,
    allow: &BTreeSet<Guard>,
    now: Timestamp,
) {
    let Some(storage) = cluster.storage() else { return };
    if allowed(Guard::StorageUnverified, cluster, allow, now).is_some() {
        return;
    }
    let attracts = vocabulary.attracts_work();
    // What was young when it was recorded does not grow old.
    let now = live.recorded.unwrap_or(now);
    for node in cluster.nodes.values() {
        let Some(seen) = live.nodes.get(node.name.as_str()) else { continue };
        let standing = match &live.storage_unseen {
            Some(_) => Standing::Unknown("storage is not looked at in this cluster".to_owned()),
            None => standing(&storage, node, seen, live.storage.get(node.name.as_str()), now),
        };
        match standing {
            Standing::Verified => {}
            Standing::Unknown(why) => wait(plan, node, &attracts, false, why),
            Standing::Failed(why) => {
                withdraw(plan, node, seen, &attracts, &why);
                wait(plan, node, &attracts, true, why);
            }
        }
    }
    plan.nodes.retain(|node| !node.is_empty());
}

/// The same for a plan that was reviewed: what was taken off comes off only if it still must, and nothing else does.
pub fn gate_again(
    plan: &mut ClusterPlan,
    cluster: &DesiredCluster,
    vocabulary: &Vocabulary,
    live: &ObservedCluster,
    allow: &BTreeSet<Guard>,
    now: Timestamp,
) {
    let reviewed: BTreeSet<(String, String)> = plan.withdrawals().collect();
    *plan = plan.without_withdrawals();
    plan.waiting.clear();
    gate(plan, cluster, vocabulary, live, allow, now);
    for node in &mut plan.nodes {
        let name = &node.node;
        node.changes.retain(|change| {
            change.reason != Reason::StorageFailed || reviewed.contains(&(name.clone(), change.key.clone()))
        });
    }
    plan.nodes.retain(|node| !node.is_empty());
}

/// Moves the changes that would attract work to those that wait.
fn wait(plan: &mut ClusterPlan, node: &DesiredNode, attracts: &[&LabelKey], failed: bool, why: String) {
    let Some(changes) = plan.find_mut(node.name.as_str()).map(|planned| &mut planned.changes) else { return };
    let (waiting, rest) = std::mem::take(changes)
        .into_iter()
        .partition::<Vec<_>, _>(|change| change.to.is_some() && attracts.iter().any(|key| **key == *change.key));
    *changes = rest;
    let held =
        |change: Change| WaitingLabel { value: change.to.unwrap_or_default(), key: change.key, source: change.source };
    let mut labels: Vec<WaitingLabel> = waiting.into_iter().map(held).collect();
    // What is taken off now waits from then on.
    labels.extend(changes.iter().filter(|change| change.reason == Reason::StorageFailed).filter_map(|change| {
        let label = node.label(&change.key)?;
        Some(WaitingLabel { key: change.key.clone(), value: label.value.to_string(), source: change.source.clone() })
    }));
    labels.sort_by(|a, b| a.key.cmp(&b.key));
    if !labels.is_empty() {
        plan.waiting.push(WaitingNode { node: node.name.to_string(), labels, failed, why });
    }
}

/// Takes off what attracts work, although state asks for it.
fn withdraw(plan: &mut ClusterPlan, node: &DesiredNode, live: &ObservedNode, attracts: &[&LabelKey], why: &str) {
    let withdrawn = |label: &DesiredLabel| {
        let from = live.labels.get(label.key.as_str())?;
        Some(Change {
            key: label.key.to_string(),
            from: Some(from.clone()),
            to: None,
            reason: Reason::StorageFailed,
            source: label.origin.clone().into(),
            set_by: live.set_by(label.key.as_str()),
            why: Some(why.to_owned()),
        })
    };
    let asked = node.labels.iter().filter(|label| attracts.contains(&&label.key));
    let withdrawn: Vec<Change> = asked.filter_map(withdrawn).collect();
    if withdrawn.is_empty() {
        return;
    }
    let changes = &mut plan.node_mut(node.name.as_str()).changes;
    changes.retain(|change| !withdrawn.iter().any(|other| other.key == change.key));
    changes.extend(withdrawn);
    changes.sort_by(|a, b| a.key.cmp(&b.key));
}

impl ClusterPlan {
    /// What is taken off because of storage, as nodes and keys.
    fn withdrawals(&self) -> impl Iterator<Item = (String, String)> {
        let of = |node: &'_ NodePlan| {
            let withdrawn = node.changes.iter().filter(|change| change.reason == Reason::StorageFailed);
            withdrawn.map(|change| (node.node.clone(), change.key.clone())).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of)
    }

    fn position(&self, node: &str) -> Result<usize, usize> {
        self.nodes.binary_search_by(|planned| planned.node.as_str().cmp(node))
    }

    fn find_mut(&mut self, node: &str) -> Option<&mut NodePlan> {
        let index = self.position(node).ok()?;
        self.nodes.get_mut(index)
    }

    fn node_mut(&mut self, node: &str) -> &mut NodePlan {
        let index = self.position(node).unwrap_or_else(|index| {
            self.nodes.insert(index, NodePlan { node: node.to_owned(), ..NodePlan::default() });
            index
        });
        &mut self.nodes[index]
    }
}

#[cfg(test)]
mod tests;
