//! One state against another: what a pull request changes, without a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::kubelet::kubelet;
use super::{Change, ClusterPlan, KubeletPlan, NodePlan, Reason, check, diff};
use crate::model::kubelet::BindParts;
use crate::model::observed::FIELD_MANAGER;
use crate::model::{
    ClusterName, Desired, DesiredCluster, DesiredNode, Manager, Mode, ObservedCluster, ObservedKubelet, ObservedNode,
    ObservedStorage,
};

/// What `head` changes against `base`, as a plan per cluster. Only clusters with a difference are listed.
///
/// The nodes of `base` count as live and drover's; a document that is new shows all its labels, and one that is gone
/// leaves its node unmanaged.
pub fn compare(base: &Desired, head: &Desired, now: Timestamp) -> Vec<ClusterPlan> {
    let names: BTreeSet<&ClusterName> = base.clusters.keys().chain(head.clusters.keys()).collect();
    names.into_iter().map(|name| compare_cluster(name, base, head, now)).filter(differs).collect()
}

fn differs(plan: &ClusterPlan) -> bool {
    !(plan.nodes.is_empty()
        && plan.kubelet.is_none()
        && plan.unmanaged.is_empty()
        && plan.notes.is_empty()
        && plan.refusals.is_empty())
}

fn compare_cluster(name: &ClusterName, base: &Desired, head: &Desired, now: Timestamp) -> ClusterPlan {
    let old = base.clusters.get(name);
    let before = old.map(as_observed).unwrap_or_default();
    // A cluster that left the state is compared as one that has no nodes left.
    let gone = old.map(|old| DesiredCluster { nodes: Default::default(), ..old.clone() });
    let Some(cluster) = head.clusters.get(name).or(gone.as_ref()) else {
        return ClusterPlan::unreachable(name.as_str(), Mode::Observe, 0, "in neither state".to_owned());
    };
    let mut plan = diff(name.as_str(), cluster, &head.vocabulary, &before);
    plan.kubelet = compare_binds(old, head.clusters.get(name), &before);
    plan.managed = before.nodes.len() as u32;
    plan.refusals = check(&plan, head, cluster, &before, &[], &BTreeSet::new(), now);
    plan.managed = cluster.nodes.len() as u32;

    let joined = std::mem::take(&mut plan.absent);
    let new_nodes = joined.iter().filter_map(|absent| cluster.nodes.get(absent.node.as_str()));
    plan.nodes.extend(new_nodes.map(|node| new_node(node)));
    plan.nodes.sort_by(|a, b| a.node.cmp(&b.node));

    let documents = |count: usize| format!("{count} new node document{}", if count == 1 { "" } else { "s" });
    match (old, head.clusters.get(name)) {
        (None, _) => plan.notes.push(format!("a new cluster with {}", documents(joined.len()))),
        (_, None) => plan
            .notes
            .push("the cluster leaves the state: drover stops managing it and changes nothing there".to_owned()),
        (Some(old), Some(new)) => {
            if !joined.is_empty() {
                plan.notes.push(documents(joined.len()));
            }
            if old.spec != new.spec {
                plan.notes.push(format!("the settings of the cluster change ({})", new.origin));
            }
        }
    }
    plan
}

/// What changes of the binds, if those of the old state were live and nothing else.
fn compare_binds(
    old: Option<&DesiredCluster>,
    new: Option<&DesiredCluster>,
    before: &ObservedCluster,
) -> Option<KubeletPlan> {
    let (old, new) = (old.and_then(|old| old.spec.kubelet.as_ref()), new?);
    let asked = new.spec.kubelet.as_ref()?;
    let binds: Vec<String> = old.iter().flat_map(|old| &old.extra_binds).map(|bind| bind.to_string()).collect();
    let removed: Vec<&str> = old.iter().flat_map(|old| &old.remove_binds).map(|path| path.as_str()).collect();
    // What had to go before is gone.
    let gone =
        |path: &&str| !asked.extra_binds.iter().any(|bind| bind.destination() == *path) && !removed.contains(path);
    let leaving = asked.remove_binds.iter().map(|path| path.as_str()).filter(gone);
    let unknown: Vec<&str> =
        leaving.filter(|path| !binds.iter().any(|bind| BindParts::of(bind).destination == *path)).collect();
    let seen = ObservedKubelet::new(asked.manager, binds.clone());
    let mut plan = kubelet(new, before, Ok(&seen));
    let mut notes = Vec::new();
    let kept = |bind: &&String| {
        let destination = BindParts::of(bind).destination;
        let told = asked.extra_binds.iter().any(|new| new.destination() == destination)
            || asked.remove_binds.iter().any(|path| path.as_str() == destination);
        asked.manager.has_binds() && !told
    };
    notes.extend(binds.iter().filter(kept).map(|bind| {
        format!("{bind} is no longer asked for, and stays where it is live: list its destination under `removeBinds` to remove it")
    }));
    notes.extend(unknown.iter().map(|path| format!("a bind to {path} is removed where there is one")));
    if old.is_none_or(|old| old.manager != asked.manager)
        && let Some(plan) = &mut plan
    {
        plan.restarts.clear();
        notes.push("which of the binds are live already is not known here".to_owned());
    }
    if let Some(plan) = &mut plan {
        plan.unmounted.clear();
        plan.notes.append(&mut notes);
        return Some(plan.clone());
    }
    (!notes.is_empty()).then(|| KubeletPlan::told(asked.manager, notes))
}

/// What a cluster would be if it were exactly as the state says, and drover had made it so.
fn as_observed(cluster: &DesiredCluster) -> ObservedCluster {
    let nodes = cluster.nodes.values().map(|node| {
        let keys = node.labels.iter().map(|label| label.key.to_string()).collect();
        let drover = Manager { name: FIELD_MANAGER.to_owned(), applies: false, time: None, keys };
        let observed = ObservedNode {
            name: node.name.to_string(),
            labels: node.labels.iter().map(|label| (label.key.to_string(), label.value.to_string())).collect(),
            managers: vec![drover],
            ..ObservedNode::default()
        };
        (node.name.to_string(), observed)
    });
    let storage = cluster.storage().map(|storage| {
        let seen = |node: &Arc<DesiredNode>| {
            let wanted = Some(storage.of(node).into_owned());
            (node.name.to_string(), ObservedStorage { wanted, generation: 1, report: None })
        };
        cluster.nodes.values().map(seen).collect()
    });
    ObservedCluster { nodes: nodes.collect(), storage: storage.unwrap_or_default(), ..ObservedCluster::default() }
}

fn new_node(node: &DesiredNode) -> NodePlan {
    let changes = node.labels.iter().map(|label| Change {
        key: label.key.to_string(),
        from: None,
        to: Some(label.value.to_string()),
        reason: Reason::Asked,
        source: label.origin.clone().into(),
        set_by: None,
        why: None,
    });
    NodePlan { node: node.name.to_string(), changes: changes.collect(), storage: None }
}
