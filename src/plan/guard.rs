//! Guards: named checks that hold a dangerous plan back until someone allows it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::window::{Opening, opening};
use super::{ClusterPlan, Reason};
use crate::model::node::Hold;
use crate::model::{Desired, DesiredCluster, Guard, LabelKey, ObservedCluster, ObservedPod, group::Guarantee};

/// A guard that a plan runs into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Which guard.
    pub guard: Guard,
    /// What would happen.
    pub message: String,
    /// The objects it would happen to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Who allowed it, where someone did; the plan then goes ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

/// Checks a cluster's plan against its live nodes and the pods on the nodes that lose labels.
///
/// `allow` holds the guards allowed on the command line; allowances in the state count until they expire.
pub fn check(
    plan: &ClusterPlan,
    desired: &Desired,
    cluster: &DesiredCluster,
    live: &ObservedCluster,
    pods: &[ObservedPod],
    allow: &BTreeSet<Guard>,
    now: Timestamp,
) -> Vec<Refusal> {
    let after = plan.without_withdrawals().applied_to(live);
    let found = [
        too_many_nodes(plan, desired),
        empty_state(cluster, live),
        last_platform_role(desired, live, &after),
        below_guarantee(plan, desired, live, &after),
        running_pods(live, &after, pods),
        outside_window(plan, cluster, now),
        suspended(plan, desired, cluster, now),
        kubelet_restart(plan),
        unmounted(plan),
    ];
    found
        .into_iter()
        .flatten()
        .map(|(guard, message, details)| Refusal {
            guard,
            message,
            details,
            allowed: allowed(guard, cluster, allow, now),
        })
        .collect()
}

type Found = Option<(Guard, String, Vec<String>)>;

/// Who lifted a guard, if someone did: on the command line, or in the state until the allowance ends.
pub fn allowed(guard: Guard, cluster: &DesiredCluster, allow: &BTreeSet<Guard>, now: Timestamp) -> Option<String> {
    if allow.contains(&guard) {
        return Some(format!("--allow {guard}"));
    }
    let entry = cluster.spec.allow.iter().find(|entry| entry.guard == guard && !entry.until.has_passed(now))?;
    Some(format!("{} until {}: {}", entry.owner, entry.until, entry.reason))
}

fn too_many_nodes(plan: &ClusterPlan, desired: &Desired) -> Found {
    let limits = &desired.fleet.limits;
    // What an agent is asked for changes nothing for anybody who works there.
    let labelled = plan.nodes.iter().filter(|node| !node.changes.is_empty()).count();
    let (changed, managed) = (labelled as u64, u64::from(plan.managed));
    let percent = u64::from(limits.changed_nodes_percent.get());
    if managed < u64::from(limits.from_nodes) || changed * 100 <= percent * managed {
        return None;
    }
    let share = changed * 100 / managed;
    let message = format!("{changed} of {managed} managed nodes would change ({share} %, the limit is {percent} %)");
    Some((Guard::TooManyNodes, message, Vec::new()))
}

fn empty_state(cluster: &DesiredCluster, live: &ObservedCluster) -> Found {
    if !cluster.nodes.is_empty() {
        return None;
    }
    let mut managed = live
        .nodes
        .values()
        .filter(|node| node.managers.iter().any(|m| m.name == crate::model::observed::FIELD_MANAGER));
    let first = managed.next()?.name.clone();
    let message =
        format!("state has no node of this cluster any more, yet drover manages {} of them", 1 + managed.count());
    Some((Guard::EmptyState, message, vec![format!("for example {first}")]))
}

fn last_platform_role(desired: &Desired, live: &ObservedCluster, after: &ObservedCluster) -> Found {
    let holders = |cluster: &ObservedCluster, role: &LabelKey| {
        let has = |labels: &BTreeMap<String, String>| labels.get(role.as_str()).is_some_and(|value| value == "true");
        cluster.nodes.values().filter(|node| has(&node.labels)).map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let lost: Vec<(&LabelKey, Vec<String>)> = desired
        .vocabulary
        .platform()
        .iter()
        .map(|role| (role, holders(live, role)))
        .filter(|(role, before)| !before.is_empty() && holders(after, role).is_empty())
        .collect();
    if lost.is_empty() {
        return None;
    }
    let roles: Vec<&str> = lost.iter().map(|(role, _)| role.as_str()).collect();
    let message = format!("no node would have the platform role {} any more", roles.join(", "));
    let details = lost.iter().map(|(role, nodes)| format!("{role} is on {} today", nodes.join(", "))).collect();
    Some((Guard::LastPlatformRole, message, details))
}

fn outside_window(plan: &ClusterPlan, cluster: &DesiredCluster, now: Timestamp) -> Found {
    let Opening::Closed { opens } = opening(&cluster.spec.windows, now) else { return None };
    let when = opens.map_or_else(|| "none ever opens".to_owned(), |opens| format!("the next one opens at {opens}"));
    let message = format!("no maintenance window is open; {when}");
    plan.changes_anything().then(|| (Guard::OutsideWindow, message, Vec::new()))
}

fn suspended(plan: &ClusterPlan, desired: &Desired, cluster: &DesiredCluster, now: Timestamp) -> Found {
    let of =
        |hold: &Option<Hold>, what| hold.clone().filter(|hold| !hold.until.has_passed(now)).map(|hold| (hold, what));
    let (hold, what) =
        of(&cluster.spec.suspend, "the cluster").or_else(|| of(&desired.fleet.suspend, "the whole fleet"))?;
    let message = format!("{what} is suspended by {} until {}: {}", hold.owner, hold.until, hold.reason);
    plan.changes_anything().then(|| (Guard::Suspended, message, Vec::new()))
}

fn kubelet_restart(plan: &ClusterPlan) -> Found {
    let kubelet = plan.kubelet.as_ref().filter(|kubelet| !kubelet.restarts.is_empty())?;
    let s = |number: usize| if number == 1 { "" } else { "s" };
    let (restarts, binds) = (kubelet.restarting(), kubelet.changes.len());
    let message = format!(
        "{restarts} kubelet{} would restart for {binds} bind{}, and nothing takes a bad bind back",
        s(restarts),
        s(binds)
    );
    let details = kubelet.restarts.iter().map(|wave| format!("{}: {}", wave.title(), wave.nodes.join(", ")));
    Some((Guard::KubeletRestart, message, details.collect()))
}

fn unmounted(plan: &ClusterPlan) -> Found {
    let kubelet = plan.kubelet.as_ref().filter(|kubelet| !kubelet.unmounted.is_empty())?;
    let message = "the storage root would be bound where it is not known to be mounted: pods would write to an empty \
                   directory of the local disk";
    Some((Guard::StorageUnverified, message.to_owned(), kubelet.unmounted.clone()))
}

/// What a group has in a cluster.
#[derive(Clone, Copy, Default)]
struct Holding {
    nodes: u64,
    cpus: u64,
    gpus: u64,
}

fn holding(cluster: &ObservedCluster, key: &LabelKey, org: &str) -> Holding {
    let members = cluster.nodes.values().filter(|node| node.labels.get(key.as_str()).is_some_and(|value| value == org));
    let (nodes, milli, gpus) = members.fold((0, 0, 0), |(nodes, milli, gpus), node| {
        (nodes + 1, milli + node.allocatable.cpu_milli, gpus + node.allocatable.gpus)
    });
    Holding { nodes, cpus: milli / 1000, gpus }
}

fn below_guarantee(plan: &ClusterPlan, desired: &Desired, live: &ObservedCluster, after: &ObservedCluster) -> Found {
    let mut details = Vec::new();
    for (name, group) in &desired.groups {
        let Some(guarantee) = group.spec.guarantee.get(plan.cluster.as_str()) else { continue };
        let Guarantee { nodes, cpus, gpus } = *guarantee;
        let key = desired.vocabulary.group();
        let (before, after) = (holding(live, key, group.org.as_str()), holding(after, key, group.org.as_str()));
        for (what, least, before, after) in [
            ("nodes", nodes, before.nodes, after.nodes),
            ("CPUs", cpus, before.cpus, after.cpus),
            ("GPUs", gpus, before.gpus, after.gpus),
        ] {
            if let Some(least) = least.map(u64::from)
                && after < least
                && after < before
            {
                details.push(format!("{name}: {before} → {after} {what}, guaranteed {least}"));
            }
        }
    }
    let groups = details.len();
    (groups > 0).then(|| (Guard::BelowGuarantee, "a group would fall under its guarantee".to_owned(), details))
}

/// Nodes on which a live label changes or goes, so that a pod there could stop matching.
pub fn nodes_that_lose_labels(plan: &ClusterPlan) -> BTreeSet<&str> {
    let loses = |node: &&super::NodePlan| {
        node.changes.iter().any(|change| change.from.is_some() && change.reason != Reason::StorageFailed)
    };
    plan.nodes.iter().filter(loses).map(|node| node.node.as_str()).collect()
}

fn running_pods(live: &ObservedCluster, after: &ObservedCluster, pods: &[ObservedPod]) -> Found {
    let stranded: Vec<String> = pods
        .iter()
        .filter(|pod| {
            let (Some(before), Some(after)) = (live.nodes.get(&pod.node), after.nodes.get(&pod.node)) else {
                return false;
            };
            pod.selection.is_bound_to_labels()
                && pod.selection.matches(&pod.node, &before.labels)
                && !pod.selection.matches(&pod.node, &after.labels)
        })
        .map(|pod| format!("{}/{} on {}", pod.namespace, pod.name, pod.node))
        .collect();
    let message = match stranded.len() {
        0 => return None,
        1 => "1 running pod would no longer match its node".to_owned(),
        count => format!("{count} running pods would no longer match their nodes"),
    };
    Some((Guard::RunningPods, message, stranded))
}
