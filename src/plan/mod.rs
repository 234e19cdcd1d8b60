//! The plan: what must change in each cluster so that live equals state, and whether that is safe.
//!
//! Everything here is a pure function of what was read before; nothing is rendered or written.

mod compare;
mod diff;
pub mod fight;
mod guard;
pub mod kubelet;
mod saved;
pub mod storage;
pub mod window;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compare::compare;
pub use diff::diff;
pub use fight::{Fight, FightLimits, Fights};
pub use guard::{Refusal, allowed, check, nodes_that_lose_labels};
pub use kubelet::{BindChange, BindReason, ConfigPlan, KubeletPlan, Wave, WaveKind, is_same_set};
pub use saved::{Outdated, alien_removal, outdated};
pub use storage::{Standing, StorageChange, WaitingLabel, WaitingNode, gate, gate_again};

use crate::model::observed::SetBy;
use crate::model::{Mode, ObservedCluster, ObservedStorage, Origin};

/// The version of the saved form of a plan.
pub const PLAN_VERSION: &str = "drover.dev/plan/v1";

/// What must change so that live equals state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover plan")]
pub struct Plan {
    /// The version of this form: `drover.dev/plan/v1`.
    pub version: String,
    /// The state that asks for the changes.
    pub state: StateRevision,
    /// When the clusters were looked at, in UTC.
    #[schemars(with = "String")]
    pub observed_at: Timestamp,
    /// Whether every document of the state could be read. A plan of a broken state is never applied.
    pub complete: bool,
    /// The changes of each cluster, ordered by its name.
    pub clusters: Vec<ClusterPlan>,
}

/// Which state a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateRevision {
    /// The folder or repository.
    pub source: String,
    /// The commit, where the state is under git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether files differ from that commit.
    pub dirty: bool,
    /// A digest of all files of the state.
    pub digest: String,
}

impl StateRevision {
    /// How a person names it: a short commit, `dirty`, or both.
    pub fn short(&self) -> String {
        match (&self.commit, self.dirty) {
            (Some(commit), false) => commit.chars().take(10).collect(),
            (Some(commit), true) => {
                format!("{}, dirty (uncommitted changes)", commit.chars().take(10).collect::<String>())
            }
            (None, _) => "dirty (not under git)".to_owned(),
        }
    }
}

/// What must change in one cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPlan {
    /// The cluster's name in the state.
    pub cluster: String,
    /// Whether drover would write to it.
    pub mode: Mode,
    /// Why the cluster could not be looked at; its changes are then unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// Nodes that have a document.
    pub managed: u32,
    /// Nodes with differences, ordered by name.
    pub nodes: Vec<NodePlan>,
    /// Labels that wait until the storage of their node is verified, ordered by the node's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingNode>,
    /// What must change of its kubelets' binds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletPlan>,
    /// Nodes that have a document but are not live; their labels are set when they join.
    pub absent: Vec<AbsentNode>,
    /// Live nodes without a document: reported, never touched.
    pub unmanaged: Vec<String>,
    /// Guards that the changes run into.
    pub refusals: Vec<Refusal>,
    /// Worth knowing before a change, but no reason to refuse it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A document whose machine has not joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AbsentNode {
    /// The node.
    pub node: String,
    /// Its document.
    pub source: Source,
}

/// What must change on one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePlan {
    /// The node.
    pub node: String,
    /// Its labels that differ, ordered by key.
    pub changes: Vec<Change>,
    /// What its agent must be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageChange>,
}

/// A label that must change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The label.
    pub key: String,
    /// The value that is expected to be live when the change is applied; none where the label is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value that it gets; none where the label is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The line that asks for it; of a removal, the document that does not.
    pub source: Source,
    /// Who set the live value, if it was not drover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_by: Option<SetBy>,
    /// What the change answers, where state does not tell: what is wrong with the node's storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Why a label must change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// State asks for this value.
    Asked,
    /// The key belongs to the vocabulary, and the node's document does not ask for it.
    NotAsked,
    /// drover had set it, and state no longer asks for it.
    Dropped,
    /// State asks for it, and it comes back: the node's storage is not as it must be.
    StorageFailed,
}

/// A line of the state, and the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The place.
    #[serde(flatten)]
    pub origin: Origin,
    /// Who wrote the line; none where it is not committed or history was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
}

/// The commit that last wrote a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// Its abbreviated id.
    pub id: String,
    /// Its author's name.
    pub author: String,
    /// Its author's date.
    pub date: String,
    /// The first line of its message.
    pub summary: String,
}

impl From<Origin> for Source {
    fn from(origin: Origin) -> Self {
        Self { origin, commit: None }
    }
}

/// How many changes there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes with differences.
    pub nodes: usize,
    /// Labels to add.
    pub add: usize,
    /// Labels to change.
    pub change: usize,
    /// Labels to remove.
    pub remove: usize,
    /// Nodes whose agents must be asked for another storage.
    pub storage: usize,
    /// Nodes with labels that wait until their storage is verified.
    pub waiting: usize,
    /// Binds of kubelets that change.
    pub binds: usize,
    /// Kubelets that restart for that.
    pub restarts: usize,
    /// Files of RKE that change.
    pub configs: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = |number: usize| if number == 1 { "" } else { "s" };
        let (nodes, labels) = (self.nodes, self.labels());
        write!(
            f,
            "{nodes} node{}, {labels} label{}: +{} ~{} -{}",
            s(nodes),
            s(labels),
            self.add,
            self.change,
            self.remove
        )?;
        if self.storage > 0 {
            write!(f, "; storage of {} node{}", self.storage, s(self.storage))?;
        }
        if self.binds > 0 {
            write!(f, "; {} kubelet bind{}, {} restart{}", self.binds, s(self.binds), self.restarts, s(self.restarts))?;
        } else if self.configs > 0 {
            write!(f, "; cluster.yml")?;
        }
        if self.waiting > 0 {
            write!(f, "; {} node{} waiting for storage", self.waiting, s(self.waiting))?;
        }
        Ok(())
    }
}

impl Counts {
    /// All labels.
    pub fn labels(&self) -> usize {
        self.add + self.change + self.remove
    }

    /// Whether live is as state says.
    pub fn is_nothing(&self) -> bool {
        self.nodes + self.waiting + self.binds + self.configs == 0
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.add += other.add;
        self.change += other.change;
        self.remove += other.remove;
        self.storage += other.storage;
        self.waiting += other.waiting;
        self.binds += other.binds;
        self.restarts += other.restarts;
        self.configs += other.configs;
    }
}

impl Plan {
    /// The changes of all clusters together.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.clusters.iter().for_each(|cluster| sum += cluster.counts());
        sum
    }

    /// Whether a guard holds any change back.
    pub fn is_refused(&self) -> bool {
        self.clusters.iter().any(ClusterPlan::is_refused)
    }

    /// The places of everything that the plan shows, to be given their commits.
    pub fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.clusters.iter_mut().flat_map(|cluster| {
            let changes = cluster.nodes.iter_mut().flat_map(|node| {
                let storage = node.storage.iter_mut().map(|storage| &mut storage.source);
                node.changes.iter_mut().map(|change| &mut change.source).chain(storage)
            });
            let waiting = cluster.waiting.iter_mut().flat_map(|node| &mut node.labels).map(|label| &mut label.source);
            let kubelet = cluster.kubelet.iter_mut().flat_map(|kubelet| &mut kubelet.changes);
            let binds = kubelet.map(|change| &mut change.source);
            changes.chain(waiting).chain(binds).chain(cluster.absent.iter_mut().map(|absent| &mut absent.source))
        })
    }
}

impl ClusterPlan {
    /// A plan of a cluster that could not be looked at.
    pub fn unreachable(cluster: &str, mode: Mode, managed: usize, cause: String) -> Self {
        Self {
            cluster: cluster.to_owned(),
            mode,
            unreachable: Some(cause),
            managed: managed as u32,
            nodes: Vec::new(),
            waiting: Vec::new(),
            kubelet: None,
            absent: Vec::new(),
            unmanaged: Vec::new(),
            refusals: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// How many changes there are of each kind.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            nodes: self.nodes.len(),
            storage: self.nodes.iter().filter(|node| node.storage.is_some()).count(),
            waiting: self.waiting.len(),
            binds: self.kubelet.as_ref().map_or(0, |kubelet| kubelet.changes.len()),
            restarts: self.kubelet.as_ref().map_or(0, KubeletPlan::restarting),
            configs: self.kubelet.as_ref().is_some_and(KubeletPlan::edits).into(),
            ..Counts::default()
        };
        for change in self.nodes.iter().flat_map(|node| &node.changes) {
            match (&change.from, &change.to) {
                (None, _) => counts.add += 1,
                (Some(_), Some(_)) => counts.change += 1,
                (Some(_), None) => counts.remove += 1,
            }
        }
        counts
    }

    /// Whether a guard holds the changes back. Where nothing is ever written, there is nothing to hold back.
    pub fn is_refused(&self) -> bool {
        self.mode == Mode::Enforce && self.refusals.iter().any(|refusal| refusal.allowed.is_none())
    }

    /// Whether a guard holds back more than the binds of kubelets alone.
    pub fn labels_are_refused(&self) -> bool {
        let holds = |refusal: &Refusal| refusal.allowed.is_none() && !refusal.guard.is_of_binds();
        self.mode == Mode::Enforce && self.refusals.iter().any(holds)
    }

    /// Whether something of the cluster could not be looked at.
    pub fn is_partly_unknown(&self) -> bool {
        self.unreachable.is_some() || self.kubelet.as_ref().is_some_and(|kubelet| kubelet.unknown.is_some())
    }

    /// Whether anything is to be written.
    pub fn changes_anything(&self) -> bool {
        !self.nodes.is_empty() || self.kubelet.as_ref().is_some_and(KubeletPlan::changes_anything)
    }

    /// What the cluster would be after the changes.
    pub fn applied_to(&self, live: &ObservedCluster) -> ObservedCluster {
        let mut after = live.clone();
        for node in &self.nodes {
            if let Some(live) = after.nodes.get_mut(&node.node) {
                node.apply_to(&mut live.labels);
            }
            match node.storage.as_ref().map(|change| &change.to) {
                None => {}
                Some(None) => drop(after.storage.remove(&node.node)),
                Some(Some(wanted)) => {
                    let seen = after.storage.get(&node.node);
                    let generation = seen.map_or(1, |seen| seen.generation + 1);
                    let report = seen.and_then(|seen| seen.report.clone());
                    let asked = ObservedStorage { wanted: Some(wanted.clone()), generation, report };
                    after.storage.insert(node.node.clone(), asked);
                }
            }
        }
        after
    }

    /// The same without what is taken off because of a node's storage: that work cannot run there anyway, and nobody
    /// asked for it to go.
    pub(crate) fn without_withdrawals(&self) -> Self {
        let mut plan = self.clone();
        for node in &mut plan.nodes {
            node.changes.retain(|change| change.reason != Reason::StorageFailed);
        }
        plan
    }
}

impl NodePlan {
    /// Whether nothing must change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.storage.is_none()
    }

    /// Makes the changes in a set of labels.
    pub fn apply_to(&self, labels: &mut BTreeMap<String, String>) {
        for change in &self.changes {
            match &change.to {
                Some(value) => labels.insert(change.key.clone(), value.clone()),
                None => labels.remove(&change.key),
            };
        }
    }
}
