//! What is in sync, drifting, absent, unmanaged and held.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::binds;
use super::group::{first_names, fold_names};
use super::style::{STYLES, clean, count, paint};
use crate::bootstrap::{Lack, lacks};
use crate::engine::bootstrap::{self, Images};
use crate::engine::{Loaded, Pass};
use crate::model::node::Hold;
use crate::model::storage::Verdict;
use crate::model::{DesiredNode, DesiredStorage, Mode, ObservedCluster};
use crate::plan::storage::standing;
use crate::plan::{ClusterPlan, KubeletPlan, Standing, StateRevision, WaitingLabel};

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
    /// What must change of its kubelets' binds, and what is to be known of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletPlan>,
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
    /// Labels that wait until its storage is verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// Its storage, where its cluster has one that agents look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Its `Ready` condition, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// Its container runtime and the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its kernel version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What it must have by the `bootstrap` section of its cluster, and has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
    /// What keeps the rebalancer away now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Hold>,
}

/// How the storage of a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// What it comes to.
    pub verdict: Verdict,
    /// What is wrong with it, or why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When its agent last looked, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub checked: Option<Timestamp>,
}

/// How the labels of a node stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// As the state says.
    InSync,
    /// Other than the state says.
    Drifting,
    /// As the state says, but for labels that wait until its storage is verified.
    Waiting,
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
pub fn status(loaded: &Loaded, pass: &Pass, images: &Images, now: Timestamp) -> Status {
    let clusters = pass.plan.clusters.iter().map(|plan| ClusterStatus {
        cluster: plan.cluster.clone(),
        mode: plan.mode,
        unreachable: plan.unreachable.clone(),
        nodes: nodes(loaded, pass, plan, images, now),
        groups: groups(loaded, pass, plan),
        kubelet: plan.kubelet.clone(),
    });
    Status { state: loaded.revision.clone(), valid: loaded.is_valid(), clusters: clusters.collect() }
}

fn nodes(loaded: &Loaded, pass: &Pass, plan: &ClusterPlan, images: &Images, now: Timestamp) -> Vec<NodeStatus> {
    let Some(seen) = observed(pass, plan) else { return Vec::new() };
    let Some(desired) = loaded.desired.clusters.get(plan.cluster.as_str()) else { return Vec::new() };
    let differing: BTreeMap<&str, usize> =
        plan.nodes.iter().map(|node| (node.node.as_str(), node.changes.len())).collect();
    let waiting: BTreeMap<&str, &[WaitingLabel]> =
        plan.waiting.iter().map(|node| (node.node.as_str(), node.labels.as_slice())).collect();
    let storage = desired.storage();
    let (lists, _) = bootstrap::lists(loaded, desired);
    let images = images.get::<str>(&plan.cluster);
    let names: std::collections::BTreeSet<&str> =
        desired.nodes.keys().map(crate::model::NodeName::as_str).chain(seen.nodes.keys().map(String::as_str)).collect();
    let status = names.into_iter().map(|name| {
        let (document, live) = (desired.nodes.get(name), seen.nodes.get(name));
        let differences = differing.get(name).copied().unwrap_or(0);
        let waiting = waiting.get(name).copied().unwrap_or_default();
        let state = match (document, live) {
            (Some(_), Some(_)) if differing.contains_key(name) => NodeState::Drifting,
            (Some(_), Some(_)) if waiting.is_empty() => NodeState::InSync,
            (Some(_), Some(_)) => NodeState::Waiting,
            (Some(_), None) => NodeState::Absent,
            (None, _) => NodeState::Unmanaged,
        };
        NodeStatus {
            node: name.to_owned(),
            state,
            differences,
            waiting: waiting.iter().map(|label| format!("{}={}", label.key, label.value)).collect(),
            storage: storage_status(storage.as_ref(), document.map(AsRef::as_ref), seen, name, now),
            ready: live.and_then(|live| live.ready),
            cordoned: live.is_some_and(|live| live.unschedulable),
            runtime: live.map(|live| live.runtime.to_string()).filter(|version| !version.is_empty()),
            kernel: live.map(|live| live.kernel.to_string()).filter(|version| !version.is_empty()),
            lacks: document.zip(live).map_or_else(Vec::new, |(document, live)| {
                let images = images.and_then(|images| images.get(name));
                lacks(desired, document, live, images, &lists)
            }),
            held: document.and_then(|document| document.hold.clone()).filter(|hold| !hold.until.has_passed(now)),
        }
    });
    status.collect()
}

/// How the storage of a managed, live node stands.
pub(super) fn storage_status(
    storage: Option<&DesiredStorage>,
    document: Option<&DesiredNode>,
    live: &ObservedCluster,
    name: &str,
    now: Timestamp,
) -> Option<StorageStatus> {
    let (storage, document, node) = (storage?, document?, live.nodes.get(name)?);
    let seen = live.storage.get(name);
    let standing = match &live.storage_unseen {
        Some(why) => Standing::Unknown(why.clone()),
        None => standing(storage, document, node, seen, live.recorded.unwrap_or(now)),
    };
    let (verdict, why) = match standing {
        Standing::Verified => (Verdict::Verified, None),
        Standing::Failed(why) => (Verdict::Failed, Some(why)),
        Standing::Unknown(why) => (Verdict::Unknown, Some(why)),
    };
    let checked = seen.and_then(|seen| seen.report.as_ref()).map(|report| report.checked);
    Some(StorageStatus { verdict, why, checked })
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
    let waits = match of(NodeState::Waiting).len() {
        0 => String::new(),
        waiting => format!(", {waiting} waiting for storage"),
    };
    let line = format!(
        "{} in sync, {} drifting{waits}, {} absent, {} unmanaged{mode}",
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
    storage_text(text, cluster);
    if let Some(kubelet) = &cluster.kubelet {
        let style = if kubelet.changes_anything() { STYLES.change } else { STYLES.dim };
        let binds = binds::rows(kubelet)
            .into_iter()
            .map(|row| format!("{} {}", row.sign, row.to.or(row.from).unwrap_or_default()));
        for line in binds.map(|bind| clean(&bind)).chain(binds::lines(kubelet)) {
            let _ = writeln!(text, "  {}  {line}", paint(style, "kubelets "));
        }
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
    let versions: Vec<String> =
        [versions(cluster, |node| node.runtime.as_deref()), versions(cluster, |node| node.kernel.as_deref())]
            .into_iter()
            .zip(["", "kernel "])
            .filter(|(versions, _)| !versions.is_empty())
            .map(|(versions, what)| format!("{what}{versions}"))
            .collect();
    if !versions.is_empty() {
        let _ = writeln!(text, "  {}  {}", paint(STYLES.dim, "runs     "), clean(&versions.join("; ")));
    }
    for node in cluster.nodes.iter().filter(|node| !node.lacks.is_empty()) {
        let lacks: Vec<String> = node.lacks.iter().map(ToString::to_string).collect();
        let line = clean(&format!("{}: {}", node.node, lacks.join("; ")));
        let _ = writeln!(text, "  {}  {line}", paint(STYLES.change, "lacks    "));
    }
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

/// How many nodes have which version.
fn versions(cluster: &ClusterStatus, of: impl Fn(&NodeStatus) -> Option<&str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    cluster.nodes.iter().filter_map(of).for_each(|version| *counts.entry(version).or_default() += 1);
    counts.into_iter().map(|(version, nodes)| format!("{version} ({nodes})")).collect::<Vec<_>>().join(", ")
}

/// Nodes whose storage is not verified, by what is wrong with it.
fn storage_text(text: &mut String, cluster: &ClusterStatus) {
    let mut troubles: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
    for node in &cluster.nodes {
        if let Some(StorageStatus { verdict, why: Some(why), .. }) = &node.storage {
            troubles.entry((*verdict != Verdict::Failed, why)).or_default().push(&node.node);
        }
    }
    for ((unknown, why), nodes) in troubles {
        let style = if unknown { STYLES.change } else { STYLES.remove };
        let names = clean(&fold_names(nodes));
        let _ = writeln!(text, "  {}  {names}: {}", paint(style, "storage  "), clean(why));
    }
}

fn list(text: &mut String, title: &str, style: anstyle::Style, names: Vec<&str>) {
    if !names.is_empty() {
        let _ = writeln!(text, "  {}  {}", paint(style, format!("{title:<9}")), clean(&first_names(names)));
    }
}
