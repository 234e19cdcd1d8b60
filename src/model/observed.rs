//! The observed state: what a live cluster, or a dump of one, says of its nodes and pods.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::selector::NodeSelection;
use super::storage::ObservedStorage;
use super::work::Taint;

/// The field manager under which drover writes.
pub const FIELD_MANAGER: &str = "drover";

/// The nodes of a live cluster, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedCluster {
    /// Every node that the cluster has.
    pub nodes: BTreeMap<String, ObservedNode>,
    /// The storage of its machines, by node.
    pub storage: BTreeMap<String, ObservedStorage>,
    /// Why the storage of its machines could not be looked at.
    pub storage_unseen: Option<String>,
    /// The moment that a recording shows; none of a live cluster.
    pub recorded: Option<Timestamp>,
}

/// A live node, reduced to what drover decides by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedNode {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who set which labels, by the API server's records.
    pub managers: Vec<Manager>,
    /// What it offers to pods.
    pub allocatable: Allocatable,
    /// The same by resource: thousandths of a core for `cpu`, bytes for `memory`, pieces for every other one.
    pub offers: BTreeMap<String, u64>,
    /// What keeps pods off it.
    pub taints: Vec<Taint>,
    /// The `Ready` condition, where it is known.
    pub ready: Option<bool>,
    /// Whether it takes no new pods (cordoned).
    pub unschedulable: bool,
    /// Tells one start of the machine from another; empty where it is not known.
    pub boot_id: Box<str>,
    /// Its container runtime and the version, such as `containerd://1.7.27`; empty where it is not known.
    pub runtime: Box<str>,
    /// Its kernel version; empty where it is not known.
    pub kernel: Box<str>,
}

/// The images that a kubelet tells of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenImages {
    /// How many there are; a kubelet leaves out what goes beyond its limit.
    pub images: usize,
    /// Their canonical names.
    pub names: BTreeSet<String>,
}

/// What a node offers to pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// GPUs.
    pub gpus: u64,
}

/// A client that set labels of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// Its field manager name.
    pub name: String,
    /// Whether it declares the field for good (server-side apply) or set it once.
    pub applies: bool,
    /// When it last wrote.
    pub time: Option<Timestamp>,
    /// The label keys that are its.
    pub keys: Vec<String>,
}

/// Who set the live value of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetBy {
    /// The field manager's name.
    pub manager: String,
    /// When it last wrote to the node's labels, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub time: Option<Timestamp>,
    /// It writes against drover: it declares the key for good, or wrote it after drover had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fights: bool,
}

impl ObservedNode {
    /// Whether drover set this label and nobody has changed it since.
    pub fn set_by_drover(&self, key: &str) -> bool {
        self.managers.iter().any(|manager| manager.name == FIELD_MANAGER && manager.keys.iter().any(|own| own == key))
    }

    /// Whether a plan would be the same: a heartbeat moves times, and nothing that drover decides by.
    pub fn is_alike(&self, other: &Self) -> bool {
        let keys = |node: &Self| node.managers.iter().map(|m| (m.name.clone(), m.keys.clone())).collect::<Vec<_>>();
        self.labels == other.labels
            && (self.allocatable, self.ready, self.unschedulable)
                == (other.allocatable, other.ready, other.unschedulable)
            && self.boot_id == other.boot_id
            && keys(self) == keys(other)
    }

    /// Which other client set this label, if the API server knows.
    pub fn set_by(&self, key: &str) -> Option<SetBy> {
        let drover_wrote = self.managers.iter().filter(|m| m.name == FIELD_MANAGER).filter_map(|m| m.time).max();
        self.managers
            .iter()
            .filter(|manager| manager.name != FIELD_MANAGER && manager.keys.iter().any(|own| own == key))
            .max_by_key(|manager| (manager.applies, manager.time))
            .map(|manager| SetBy {
                manager: manager.name.clone(),
                time: manager.time,
                fights: manager.applies
                    || drover_wrote.is_some_and(|wrote| manager.time.is_some_and(|time| time > wrote)),
            })
    }
}

/// A pod that runs or is bound to a node.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node it is bound to.
    pub node: String,
    /// Which nodes it may be on.
    pub selection: NodeSelection,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str, applies: bool, time: &str, keys: &[&str]) -> Manager {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Manager { name: name.into(), applies, time: time.parse().ok(), keys }
    }

    #[test]
    fn a_manager_fights_when_it_applies_or_writes_after_drover() {
        let mut node = ObservedNode {
            managers: vec![
                manager("drover", false, "2026-01-02T00:00:00Z", &["cpu"]),
                manager("kubectl-label", false, "2026-01-01T00:00:00Z", &["org"]),
            ],
            ..ObservedNode::default()
        };
        assert!(node.set_by_drover("cpu"));
        assert!(!node.set_by("org").expect("kubectl set it").fights);
        node.managers[1].time = "2026-01-03T00:00:00Z".parse().ok();
        assert!(node.set_by("org").expect("kubectl set it").fights);
        node.managers.remove(0);
        assert!(!node.set_by("org").expect("kubectl set it").fights, "drover never wrote here");
        node.managers[0].applies = true;
        assert!(node.set_by("org").expect("kubectl set it").fights);
    }
}
