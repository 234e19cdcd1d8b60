//! What the watches have shown of a cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::kubelets::Due;
use crate::adapters::kube::Seen;
use crate::adapters::objects::{NodeObject, PodObject};
use crate::adapters::storage_objects::NodeStorageObject;
use crate::engine::apply::StaleLabel;
use crate::error::Failure;
use crate::model::{ObservedCluster, ObservedKubelet, ObservedPod, ObservedStorage, PodWork};
use crate::plan::{Change, StorageChange};

/// A cluster as it was last seen, kept up to date by its watches.
#[derive(Default)]
pub(super) struct Store {
    live: Mutex<Live>,
    /// Told whenever a plan could be another one than before.
    pub(super) changed: Notify,
    /// Whether the rebalancer asks for all pods.
    keeps_work: AtomicBool,
    /// Told when the pods must be listed anew.
    pub(super) list_pods: Notify,
    /// Told when a change of binds is due.
    pub(super) binds_are_due: Notify,
}

/// What is known of a cluster.
pub(super) struct Live {
    /// Its nodes.
    pub(super) nodes: ObservedCluster,
    /// Nodes that something happened to since the last plan was made.
    pub(super) touched: HashSet<String>,
    /// When its API server last gave a sign of life; none before the nodes were listed.
    pub(super) last_seen: Option<Timestamp>,
    /// Its pods by namespace and name.
    pods: HashMap<(String, String), ObservedPod>,
    /// Its pods as work, where the rebalancer asks for them and they were listed since.
    work: Option<HashMap<(String, String), PodWork>>,
    /// Why the pods are not known now.
    pods_failure: Option<Failure>,
    /// Whether pods hold changes of nodes back.
    pub(super) pods_hold_back: bool,
    /// The binds of its kubelets, or why they are not known; none where binds do not apply, or before they were looked at.
    pub(super) kubelet: Option<Result<ObservedKubelet, String>>,
    /// A change of binds that is due.
    pub(super) binds_due: Option<Due>,
}

impl Default for Live {
    fn default() -> Self {
        let pods_failure = Some(Failure::new("the pods were not listed yet"));
        let storage_unseen = Some("it was not listed yet".to_owned());
        Self {
            nodes: ObservedCluster { storage_unseen, ..ObservedCluster::default() },
            touched: HashSet::new(),
            last_seen: None,
            pods: HashMap::new(),
            work: None,
            pods_failure,
            pods_hold_back: false,
            kubelet: None,
            binds_due: None,
        }
    }
}

impl Live {
    /// The pods on some nodes, as far as pods are known.
    pub(super) fn pods_on(&self, nodes: &std::collections::BTreeSet<&str>) -> Result<Vec<ObservedPod>, Failure> {
        self.pods_failure.clone().map_or(Ok(()), Err)?;
        Ok(self.pods.values().filter(|pod| nodes.contains(pod.node.as_str())).cloned().collect())
    }
}

impl Live {
    /// The pods that run or wait, as far as pods are known.
    pub(super) fn work(&self) -> Result<Vec<PodWork>, Failure> {
        self.pods_failure.clone().map_or(Ok(()), Err)?;
        let work = self.work.as_ref().ok_or_else(|| Failure::new("the pods were not listed yet"))?;
        Ok(work.values().cloned().collect())
    }
}

impl Store {
    /// Keeps all pods, or only those that a plan asks for.
    pub(super) fn keep_work(&self, keep: bool) {
        if self.keeps_work.swap(keep, Ordering::Relaxed) == keep {
            return;
        }
        match keep {
            true => self.list_pods.notify_one(),
            false => self.live().work = None,
        }
    }

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
        live.pods = pods.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect();
        live.pods_failure = None;
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
            Seen::Opened | Seen::Alive => !listed,
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

    /// Something happened to the pods. They matter where they hold changes of nodes back.
    pub(super) fn pods(&self, seen: Seen<PodObject>) {
        let key = |pod: &PodObject| (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone());
        let mut live = self.live();
        // The watch goes on where it was: nothing was missed.
        if live.pods_failure.take().is_some() && live.pods_hold_back {
            self.changed.notify_one();
        }
        match seen {
            Seen::All(pods) => {
                live.work = self
                    .keeps_work
                    .load(Ordering::Relaxed)
                    .then(|| pods.iter().filter_map(|pod| Some((key(pod), pod.clone().work()?))).collect());
                live.pods = pods.into_iter().filter_map(|pod| Some((key(&pod), bound(pod)?))).collect();
            }
            Seen::Changed(pod) => {
                let key = key(&pod);
                if let Some(work) = &mut live.work {
                    match pod.clone().work() {
                        Some(pod) => work.insert(key.clone(), pod),
                        None => work.remove(&key),
                    };
                }
                match bound(pod) {
                    Some(pod) => live.pods.insert(key, pod),
                    None => live.pods.remove(&key),
                };
            }
            Seen::Gone(pod) => {
                live.pods.remove(&key(&pod));
                live.work.as_mut().and_then(|work| work.remove(&key(&pod)));
            }
            Seen::Opened | Seen::Alive => return,
        }
        if live.pods_hold_back {
            self.changed.notify_one();
        }
    }

    /// Something happened to what agents are asked for, or to what they saw.
    pub(super) fn storages(&self, seen: Seen<NodeStorageObject>) {
        let keyed = |object: NodeStorageObject| (object.node().to_owned(), object.observed());
        let Live { nodes, .. } = &mut *self.live();
        let was_unseen = nodes.storage_unseen.take().is_some();
        let is_new = match seen {
            Seen::Opened | Seen::Alive => was_unseen,
            Seen::All(objects) => {
                nodes.storage = objects.into_iter().map(keyed).collect();
                true
            }
            Seen::Changed(object) => {
                let (node, now) = keyed(object);
                let before = nodes.storage.insert(node.clone(), now);
                was_unseen || before.is_none_or(|before| !before.is_alike(&nodes.storage[&node]))
            }
            Seen::Gone(object) => nodes.storage.remove(object.node()).is_some(),
        };
        if is_new {
            self.changed.notify_one();
        }
    }

    /// The storage of machines cannot be followed: what was known of it does not count until it can be.
    pub(super) fn storages_failed(&self, why: String) {
        let Live { nodes, .. } = &mut *self.live();
        if nodes.storage_unseen.replace(why.clone()) != Some(why) {
            self.changed.notify_one();
        }
    }

    /// What agents were just asked for, unless the watch has told more of them.
    pub(super) fn asked<'c>(&self, asked: impl IntoIterator<Item = (&'c str, &'c StorageChange)>) {
        let Live { nodes, .. } = &mut *self.live();
        for (node, change) in asked {
            let seen = nodes.storage.get(node);
            if seen.map(|seen| seen.generation) != change.generation {
                continue;
            }
            match &change.to {
                None => drop(nodes.storage.remove(node)),
                Some(wanted) => {
                    // No agent has looked at it, whatever the API server counts it as.
                    let storage = ObservedStorage { wanted: Some(wanted.clone()), generation: UNCOUNTED, report: None };
                    nodes.storage.insert(node.to_owned(), storage);
                }
            }
        }
    }

    /// The pods cannot be followed: what was known of them does not count until they can be.
    pub(super) fn pods_failed(&self, failure: Failure) {
        self.live().pods_failure = Some(failure);
    }

    /// What a write found instead of what its plan expected: with that, the next plan can be right although no watch
    /// tells. Of nodes that something happened to since the plan was made, the watch knows better.
    pub(super) fn found(&self, stale: &[StaleLabel]) {
        let Live { nodes, touched, .. } = &mut *self.live();
        for stale in stale.iter().filter(|stale| !touched.contains(&stale.node)) {
            if stale.node_gone {
                nodes.nodes.remove(&stale.node);
            } else if let Some(node) = nodes.nodes.get_mut(&stale.node) {
                match &stale.found {
                    Some(value) => node.labels.insert(stale.key.clone(), value.clone()),
                    None => node.labels.remove(&stale.key),
                };
            }
        }
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

/// The generation of what was written and not yet seen.
const UNCOUNTED: i64 = -1;

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
