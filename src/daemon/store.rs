//! What the watches have shown of a cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::adapters::kube::Seen;
use crate::adapters::objects::{NodeObject, PodObject};
use crate::error::Failure;
use crate::model::{ObservedCluster, ObservedPod};
use crate::plan::Change;

/// A cluster as it was last seen, kept up to date by its watches.
#[derive(Default)]
pub(super) struct Store {
    live: Mutex<Live>,
    /// Told whenever a plan could be another one than before.
    pub(super) changed: Notify,
}

/// What is known of a cluster.
pub(super) struct Live {
    /// Its nodes.
    pub(super) nodes: ObservedCluster,
    /// Nodes that something happened to since the last plan was made.
    pub(super) touched: HashSet<String>,
    /// When its API server last gave a sign of life; none before the nodes were listed.
    pub(super) last_seen: Option<Timestamp>,
    /// Whether the last plan waits for a pod to end.
    pub(super) waits_for_pods: bool,
    /// Its pods by namespace and name, or why they are not known.
    pods: Result<HashMap<(String, String), ObservedPod>, Failure>,
}

impl Default for Live {
    fn default() -> Self {
        let pods = Err(Failure::new("the pods were not listed yet"));
        Self {
            nodes: ObservedCluster::default(),
            touched: HashSet::new(),
            last_seen: None,
            waits_for_pods: false,
            pods,
        }
    }
}

impl Live {
    /// The pods on some nodes, as far as pods are known.
    pub(super) fn pods_on(&self, nodes: &std::collections::BTreeSet<&str>) -> Result<Vec<ObservedPod>, Failure> {
        let pods = self.pods.as_ref().map_err(Clone::clone)?;
        Ok(pods.values().filter(|pod| nodes.contains(pod.node.as_str())).cloned().collect())
    }
}

impl Store {
    /// What is known now.
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // Every change below is complete before anything can panic.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nodes of a cluster that cannot be watched.
    pub(super) fn set(&self, nodes: ObservedCluster, pods: Vec<ObservedPod>, now: Timestamp) {
        let mut live = self.live();
        let is_new = live.last_seen.is_none() || live.nodes != nodes;
        live.nodes = nodes;
        live.last_seen = Some(now);
        live.pods = Ok(pods.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect());
        if is_new {
            self.changed.notify_one();
        }
    }

    /// Something happened to the nodes. Returns the names of those that joined and of those that left.
    pub(super) fn nodes(&self, seen: Seen<NodeObject>, now: Timestamp) -> Moves {
        let mut moves = Moves::default();
        let mut live = self.live();
        let listed = live.last_seen.replace(now).is_some();
        let is_new = match seen {
            Seen::Alive => !listed,
            Seen::All(nodes) => {
                let nodes: BTreeMap<_, _> =
                    nodes.into_iter().map(NodeObject::observed).map(|node| (node.name.clone(), node)).collect();
                if listed {
                    moves.joined = nodes.keys().filter(|name| !live.nodes.nodes.contains_key(*name)).cloned().collect();
                    moves.left = live.nodes.nodes.keys().filter(|name| !nodes.contains_key(*name)).cloned().collect();
                }
                live.touched.extend(nodes.keys().cloned());
                live.nodes.nodes = nodes;
                true
            }
            Seen::Changed(node) => {
                let node = node.observed();
                let name = node.name.clone();
                live.touched.insert(name.clone());
                match live.nodes.nodes.insert(name.clone(), node) {
                    Some(before) => !before.is_alike(&live.nodes.nodes[&name]),
                    None => {
                        moves.joined.push(name);
                        true
                    }
                }
            }
            Seen::Gone(node) => {
                live.touched.insert(node.metadata.name.clone());
                moves.left.extend(live.nodes.nodes.remove(&node.metadata.name).map(|node| node.name));
                true
            }
        };
        drop(live);
        if is_new {
            self.changed.notify_one();
        }
        moves
    }

    /// Something happened to the pods. They only matter to changes of nodes: only a plan that waits for one is told.
    pub(super) fn pods(&self, seen: Seen<PodObject>) {
        let key = |pod: &PodObject| (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone());
        let mut live = self.live();
        let ended = match (seen, &mut live.pods) {
            (Seen::All(pods), known) => {
                let pods = pods.into_iter().filter_map(|pod| Some((key(&pod), bound(pod)?)));
                *known = Ok(pods.collect());
                true
            }
            (Seen::Changed(pod), Ok(pods)) => {
                let key = key(&pod);
                let before = pods.remove(&key);
                let after = bound(pod);
                let ended = before.is_some() && after.is_none();
                pods.extend(after.map(|pod| (key, pod)));
                ended
            }
            (Seen::Gone(pod), Ok(pods)) => pods.remove(&key(&pod)).is_some(),
            (Seen::Alive | Seen::Changed(_) | Seen::Gone(_), _) => false,
        };
        if ended && live.waits_for_pods {
            self.changed.notify_one();
        }
    }

    /// The pods cannot be followed: what was known of them no longer counts.
    pub(super) fn pods_failed(&self, failure: Failure) {
        self.live().pods = Err(failure);
    }

    /// Changes that were just written. Of nodes that something happened to since the plan was made, the watch knows better:
    /// what it showed may have come after the write.
    pub(super) fn written<'c>(&self, changes: impl IntoIterator<Item = (&'c str, &'c Change)>) {
        let Live { nodes, touched, .. } = &mut *self.live();
        for (node, change) in changes.into_iter().filter(|(node, _)| !touched.contains(*node)) {
            let Some(node) = nodes.nodes.get_mut(node) else { continue };
            match &change.to {
                Some(value) => node.labels.insert(change.key.clone(), value.clone()),
                None => node.labels.remove(&change.key),
            };
        }
    }
}

/// Only pods that are bound to labels of their node matter to a plan.
fn bound(pod: PodObject) -> Option<ObservedPod> {
    pod.observed().filter(|pod| pod.selection.is_bound_to_labels())
}

/// Nodes that joined a cluster or left it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) joined: Vec<String>,
    pub(super) left: Vec<String>,
}
