//! What is in sync, drifting, absent, unmanaged and held.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::group::first_names;
use super::style::{STYLES, clean, count, paint};
use crate::engine::{Loaded, Pass};
use crate::model::node::Hold;
use crate::model::{Mode, ObservedCluster};
use crate::plan::{ClusterPlan, StateRevision};

/// How the live clusters stand against the state.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover status")]
pub struct Status {
    /// The state.
    pub state: StateRevision,
    /// Whether every document of it could be read.
    pub valid: bool,
    /// The clusters, ordered by name.
    pub clusters: Vec<ClusterStatus>,
}

/// How a cluster stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: String,
    /// Whether drover writes to it.
    pub mode: Mode,
    /// Why it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// Its nodes, ordered by name.
    pub nodes: Vec<NodeStatus>,
    /// What each group has and is guaranteed.
    pub groups: Vec<GroupStatus>,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node.
    pub node: String,
    /// How its labels stand.
    pub state: NodeState,
    /// How many labels differ.
    pub differences: usize,
    /// Its `Ready` condition, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// What keeps the rebalancer away now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Hold>,
}

/// How the labels of a node stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// As the state says.
    InSync,
    /// Other than the state says.
    Drifting,
    /// It has a document but has not joined.
    Absent,
    /// It is live but has no document.
    Unmanaged,
}

/// What a group has in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// Documents that put a node into it.
    pub desired: usize,
    /// Live nodes that carry its label.
    pub live: usize,
    /// GPUs of those.
    pub gpus: u64,
    /// CPU cores of those.
    pub cpus: u64,
    /// CPU cores that it is guaranteed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guaranteed_cpus: Option<u32>,
    /// Nodes that it is guaranteed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guaranteed_nodes: Option<u32>,
    /// GPUs that it is guaranteed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guaranteed_gpus: Option<u32>,
}

/// How the clusters of a pass stand.
pub fn status(loaded: &Loaded, pass: &Pass, now: Timestamp) -> Status {
    let clusters = pass.plan.clusters.iter().map(|plan| ClusterStatus {
        cluster: plan.cluster.clone(),
        mode: plan.mode,
        unreachable: plan.unreachable.clone(),
        nodes: nodes(loaded, pass, plan, now),
        groups: groups(loaded, pass, plan),
    });
    Status { state: loaded.revision.clone(), valid: loaded.is_valid(), clusters: clusters.collect() }
}

fn nodes(loaded: &Loaded, pass: &Pass, plan: &ClusterPlan, now: Timestamp) -> Vec<NodeStatus> {
    let Some(live) = observed(pass, plan) else { return Vec::new() };
    let Some(desired) = loaded.desired.clusters.get(plan.cluster.as_str()) else { return Vec::new() };
    let differing: BTreeMap<&str, usize> =
        plan.nodes.iter().map(|node| (node.node.as_str(), node.changes.len())).collect();
    let names: std::collections::BTreeSet<&str> =
        desired.nodes.keys().map(crate::model::NodeName::as_str).chain(live.nodes.keys().map(String::as_str)).collect();
    let status = names.into_iter().map(|name| {
        let (document, live) = (desired.nodes.get(name), live.nodes.get(name));
        let differences = differing.get(name).copied().unwrap_or(0);
        let state = match (document, live) {
            (Some(_), Some(_)) if differences == 0 => NodeState::InSync,
            (Some(_), Some(_)) => NodeState::Drifting,
            (Some(_), None) => NodeState::Absent,
            (None, _) => NodeState::Unmanaged,
        };
        NodeStatus {
            node: name.to_owned(),
            state,
            differences,
            ready: live.and_then(|live| live.ready),
            cordoned: live.is_some_and(|live| live.unschedulable),
            held: document.and_then(|document| document.hold.clone()).filter(|hold| !hold.until.has_passed(now)),
        }
    });
    status.collect()
}

fn observed<'p>(pass: &'p Pass, plan: &ClusterPlan) -> Option<&'p ObservedCluster> {
    pass.observed.get::<str>(&plan.cluster).map(|observed| &observed.nodes)
}

fn groups(loaded: &Loaded, pass: &Pass, plan: &ClusterPlan) -> Vec<GroupStatus> {
    let Some(live) = observed(pass, plan) else { return Vec::new() };
    let Some(desired) = loaded.desired.clusters.get(plan.cluster.as_str()) else { return Vec::new() };
    let key = loaded.desired.vocabulary.group().as_str();
    let status = loaded.desired.groups.iter().map(|(name, group)| {
        let members =
            || live.nodes.values().filter(|node| node.labels.get(key).is_some_and(|org| group.org == org.as_str()));
        let guarantee = group.spec.guarantee.get(plan.cluster.as_str()).copied().unwrap_or_default();
        GroupStatus {
            group: name.to_string(),
            desired: desired.nodes.values().filter(|node| node.group.as_ref() == Some(name)).count(),
            live: members().count(),
            gpus: members().map(|node| node.allocatable.gpus).sum(),
            cpus: members().map(|node| node.allocatable.cpu_milli).sum::<u64>() / 1000,
            guaranteed_cpus: guarantee.cpus,
            guaranteed_nodes: guarantee.nodes,
            guaranteed_gpus: guarantee.gpus,
        }
    });
    status.filter(|group| group.desired + group.live > 0 || group.guaranteed_nodes.is_some()).collect()
}

/// The status as text.
pub fn status_text(status: &Status) -> String {
    let mut text = String::new();
    let line = format!("state: {} @ {}", clean(&status.state.source), status.state.short());
    let _ = writeln!(text, "{}", paint(STYLES.dim, line));
    for cluster in &status.clusters {
        text.push('\n');
        cluster_text(&mut text, cluster);
    }
    text
}

fn cluster_text(text: &mut String, cluster: &ClusterStatus) {
    let name = paint(STYLES.bold, &cluster.cluster);
    if let Some(cause) = &cluster.unreachable {
        let _ = writeln!(text, "{name}: {}", paint(STYLES.remove, format!("unreachable: {}", clean(cause))));
        return;
    }
    let of = |state| {
        cluster.nodes.iter().filter(|node| node.state == state).map(|node| node.node.as_str()).collect::<Vec<_>>()
    };
    let mode = if cluster.mode == Mode::Observe { " (observed only)" } else { "" };
    let (synced, drifting) = (of(NodeState::InSync), of(NodeState::Drifting));
    let (absent, unmanaged) = (of(NodeState::Absent), of(NodeState::Unmanaged));
    let line = format!(
        "{} in sync, {} drifting, {} absent, {} unmanaged{mode}",
        synced.len(),
        drifting.len(),
        absent.len(),
        unmanaged.len()
    );
    let style = if drifting.is_empty() { STYLES.add } else { STYLES.change };
    let _ = writeln!(text, "{name}: {}", paint(style, line));
    for (title, names, style) in
        [("drifting", drifting, STYLES.change), ("absent", absent, STYLES.dim), ("unmanaged", unmanaged, STYLES.dim)]
    {
        list(text, title, style, names);
    }
    list(
        text,
        "not ready",
        STYLES.remove,
        cluster.nodes.iter().filter(|n| n.ready == Some(false)).map(|n| n.node.as_str()).collect(),
    );
    list(
        text,
        "cordoned",
        STYLES.change,
        cluster.nodes.iter().filter(|n| n.cordoned).map(|n| n.node.as_str()).collect(),
    );
    for node in &cluster.nodes {
        if let Some(hold) = &node.held {
            let reason = format!("{} until {} by {}: {}", node.node, hold.until, hold.owner, hold.reason);
            let _ = writeln!(text, "  {}  {}", paint(STYLES.dim, "held     "), clean(&reason));
        }
    }
    if cluster.groups.is_empty() {
        return;
    }
    let width = cluster.groups.iter().map(|group| group.group.len()).max().unwrap_or(0).max("group".len());
    let _ = writeln!(
        text,
        "  {}",
        paint(
            STYLES.dim,
            format!("{:<width$}  {:>7}  {:>5}  {:>6}  {:>5}  guaranteed", "group", "desired", "live", "CPUs", "GPUs")
        )
    );
    for group in &cluster.groups {
        let mut promised = Vec::new();
        promised.extend(group.guaranteed_nodes.map(|nodes| count(nodes as usize, "node")));
        promised.extend(group.guaranteed_cpus.map(|cpus| count(cpus as usize, "CPU")));
        promised.extend(group.guaranteed_gpus.map(|gpus| count(gpus as usize, "GPU")));
        let short = group.guaranteed_nodes.is_some_and(|nodes| group.live < nodes as usize)
            || group.guaranteed_cpus.is_some_and(|cpus| group.cpus < u64::from(cpus))
            || group.guaranteed_gpus.is_some_and(|gpus| group.gpus < u64::from(gpus));
        let row = format!(
            "{:<width$}  {:>7}  {:>5}  {:>6}  {:>5}  {}",
            group.group,
            group.desired,
            group.live,
            group.cpus,
            group.gpus,
            promised.join(", ")
        );
        let row = row.trim_end();
        let _ = if short {
            writeln!(text, "  {}", paint(STYLES.remove, format!("{row} (below)")))
        } else {
            writeln!(text, "  {row}")
        };
    }
}

fn list(text: &mut String, title: &str, style: anstyle::Style, names: Vec<&str>) {
    if !names.is_empty() {
        let _ = writeln!(text, "  {}  {}", paint(style, format!("{title:<9}")), clean(&first_names(names)));
    }
}
