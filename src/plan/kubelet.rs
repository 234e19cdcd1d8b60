//! The kubelet binds of a cluster: which change, what the list becomes, and which kubelets restart for it.
//!
//! Binds are compared as a set in which an ancestor covers what lies below it. What is live keeps its order, since Rancher
//! restarts every kubelet for another order alone, and only what state asks for changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Source;
use crate::model::cluster::{Kubelet, KubeletManager};
use crate::model::kubelet::{BindParts, ObservedKubelet, deciding};
use crate::model::storage::StorageReason;
use crate::model::{DesiredCluster, ObservedCluster, ObservedNode, Origin};

/// What must change of the kubelet binds of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletPlan {
    /// What configures the kubelets.
    pub manager: KubeletManager,
    /// Why the binds are not known, where they are not; nothing is then changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Binds that become other ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<BindChange>,
    /// The list that is expected to be live when the change is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// The list that it becomes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Of RKE: how its cluster.yml changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigPlan>,
    /// The kubelets that restart, one wave after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<Wave>,
    /// Machines on which the storage root is not known to be mounted, where a bind of it is added, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmounted: Vec<String>,
    /// Worth knowing before it is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why drover cannot change it, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// How the cluster.yml of RKE changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPlan {
    /// Its path, as state names it.
    pub path: String,
    /// The list that is expected in it.
    pub from: Vec<String>,
    /// The list that it gets.
    pub to: Vec<String>,
}

/// A bind that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindChange {
    /// The bind that is live; none where it is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it becomes; none where it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    pub reason: BindReason,
    /// The line that asks for it.
    pub source: Source,
}

/// Why a bind changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BindReason {
    /// State asks for it.
    Asked,
    /// State says that it must go.
    Removed,
    /// cluster.yml says so already, and the run of RKE that the others need brings it along.
    Configured,
}

/// Kubelets that restart together or in small batches, before the next wave begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// Which machines.
    pub kind: WaveKind,
    /// How many at the same time.
    pub at_once: u32,
    /// The machines, ordered by name.
    pub nodes: Vec<String>,
}

/// Which machines restart their kubelets together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaveKind {
    /// Machines of the control plane and of etcd.
    ControlPlane,
    /// Workers that are not ready.
    NotReady,
    /// All other workers.
    Workers,
}

impl Wave {
    /// How many batches it comes to.
    pub fn batches(&self) -> usize {
        self.nodes.len().div_ceil(self.at_once.max(1) as usize)
    }

    /// Which machines, and in which batches, as a person says it.
    pub fn title(&self) -> String {
        let nodes = self.nodes.len();
        match (self.kind, self.batches()) {
            (WaveKind::ControlPlane, _) => format!("control plane, {} at a time ({nodes})", self.at_once),
            (WaveKind::NotReady, _) => format!("workers that are not ready, all at once ({nodes})"),
            (WaveKind::Workers, 1) => format!("workers, all at once ({nodes})"),
            (WaveKind::Workers, batches) => format!("workers, {} at a time: {batches} batches ({nodes})", self.at_once),
        }
    }
}

impl KubeletPlan {
    /// A plan that changes nothing, and only tells.
    pub(super) fn told(manager: KubeletManager, notes: Vec<String>) -> Self {
        Self {
            manager,
            unknown: None,
            changes: Vec::new(),
            from: Vec::new(),
            to: Vec::new(),
            config: None,
            restarts: Vec::new(),
            unmounted: Vec::new(),
            notes,
            blocked: None,
        }
    }

    /// Whether anything is to be done.
    pub fn changes_anything(&self) -> bool {
        !self.changes.is_empty() || self.edits()
    }

    /// Whether a cluster.yml is to be edited.
    pub fn edits(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.from != config.to)
    }

    /// Whether a bind goes away, or shows something else.
    pub fn takes_away(&self) -> bool {
        self.changes.iter().any(|change| change.from.is_some())
    }

    /// How many kubelets restart.
    pub fn restarting(&self) -> usize {
        self.restarts.iter().map(|wave| wave.nodes.len()).sum()
    }
}

/// What must change of a cluster's kubelet binds; none where there is nothing to say. `seen` is what is live, or the
/// reason why that is not known.
pub fn kubelet(
    cluster: &DesiredCluster,
    live: &ObservedCluster,
    seen: Result<&ObservedKubelet, String>,
) -> Option<KubeletPlan> {
    let asked = Asked::of(cluster)?;
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => {
            return Some(KubeletPlan { unknown: Some(why), ..KubeletPlan::told(asked.kubelet.manager, Vec::new()) });
        }
    };
    let (to, wanted) = asked.list(&seen.binds);
    let mut plan = KubeletPlan {
        changes: wanted,
        from: seen.binds.clone(),
        to,
        ..KubeletPlan::told(asked.kubelet.manager, seen.notes.clone())
    };
    if let (Some(rke), Some(config)) = (&asked.kubelet.rke, &seen.config) {
        let (to, _) = asked.list(config);
        if plan.changes.is_empty() {
            plan.to = plan.from.clone();
        } else {
            // RKE makes live what is in the file, whoever wrote it there.
            plan.changes = asked.compared(&seen.binds, &to);
            plan.to = to.clone();
        }
        if *config != to || !plan.changes.is_empty() {
            plan.config = Some(ConfigPlan { path: rke.config.clone(), from: config.clone(), to });
        }
        plan.notes.extend(pending(&seen.binds, config, plan.changes.is_empty()));
    }
    if let Some(applied) = &seen.applied
        && !is_same_set(applied, &seen.binds)
    {
        plan.notes.push("Rancher has not applied the binds that it is asked for yet".to_owned());
    }
    if !plan.changes.is_empty() {
        plan.restarts = waves(live, seen.max_unavailable.as_deref());
        plan.unmounted = unmounted(&plan.changes, cluster, live);
    }
    plan.blocked = seen.blocked.clone().filter(|_| plan.changes_anything());
    (plan.changes_anything() || !plan.notes.is_empty()).then_some(plan)
}

/// The machines on which a new bind of the storage root could show an empty directory. The container engine makes a source
/// that is missing, so that the mistake would show nowhere.
fn unmounted(changes: &[BindChange], cluster: &DesiredCluster, live: &ObservedCluster) -> Vec<String> {
    let Some(root) = cluster.spec.storage.as_ref().map(|storage| storage.root.as_str()) else { return Vec::new() };
    let is_of_root = |change: &BindChange| {
        let source = change.to.as_deref().map(|bind| BindParts::of(bind).source);
        source.is_some_and(|source| is_within(source, root) || is_within(root, source))
    };
    let Some(storage) = cluster.storage().filter(|_| changes.iter().any(is_of_root)) else { return Vec::new() };
    let managed = cluster.nodes.values().filter(|node| live.nodes.contains_key(node.name.as_str()));
    let why = managed.filter(|node| !storage.of(node).local).filter_map(|node| {
        let report = live.storage.get(node.name.as_str()).and_then(|seen| seen.report.as_ref());
        match report {
            None => Some(format!("{}: its agent has not told", node.name)),
            Some(report) if is_mounted(report.reason) => None,
            Some(report) => Some(format!("{}: {}", node.name, report.reason.name())),
        }
    });
    why.collect()
}

fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the file system was there, whatever else is wrong: an agent looks at the mount first.
fn is_mounted(reason: StorageReason) -> bool {
    use StorageReason as R;
    matches!(
        reason,
        R::StorageVerified
            | R::NotWritable
            | R::NoSpace
            | R::DirectoryMissing
            | R::WrongDirectory
            | R::UnsafePath
            | R::KubeletBindMissing
            | R::KubeletViewStale
            | R::KubeletNotFound
    )
}

/// Whether what state asks for now would make the same of a saved plan's lists.
pub(super) fn is_still_asked(plan: &KubeletPlan, cluster: Option<&DesiredCluster>) -> bool {
    if !plan.changes_anything() {
        return true;
    }
    let Some(asked) = cluster.and_then(Asked::of).filter(|asked| asked.kubelet.manager == plan.manager) else {
        return false;
    };
    match (&plan.config, &asked.kubelet.rke) {
        (Some(config), Some(rke)) => {
            config.path == rke.config
                && asked.list(&config.from).0 == config.to
                && asked.list(&plan.from).1.is_empty() == plan.changes.is_empty()
        }
        _ => asked.list(&plan.from).0 == plan.to,
    }
}

/// What cluster.yml says beside what is live, although nobody asks for a run of RKE.
fn pending(live: &[String], config: &[String], is_quiet: bool) -> Option<String> {
    let other = |of: &[String], than: &[String]| -> Vec<String> {
        of.iter().filter(|bind| !than.iter().any(|other| is_same(bind, other))).cloned().collect()
    };
    let added = other(config, live);
    (is_quiet && !added.is_empty())
        .then(|| format!("cluster.yml has {}, which is not live: the next run of RKE brings it", added.join(", ")))
}

fn is_same(a: &str, b: &str) -> bool {
    BindParts::of(a).is_same(&BindParts::of(b))
}

/// Whether a list shows the container what a bind asks for: with the bind itself, or with one above it.
fn is_there(list: &[String], bind: &str) -> bool {
    let asked = BindParts::of(bind);
    deciding(list.iter().map(String::as_str), asked.destination)
        .is_some_and(|decides| decides.destination == asked.destination || decides.covers(&asked))
}

/// Whether two lists are the same binds, in whatever order.
pub fn is_same_set(a: &[String], b: &[String]) -> bool {
    let holds = |list: &[String], bind: &String| list.iter().any(|other| is_same(other, bind));
    a.iter().all(|bind| holds(b, bind)) && b.iter().all(|bind| holds(a, bind))
}

/// What state asks for, with its places.
struct Asked<'d> {
    kubelet: &'d Kubelet,
    manager: Origin,
    binds: Vec<(&'d str, Origin)>,
    removed: Vec<(&'d str, Origin)>,
}

impl<'d> Asked<'d> {
    /// None where binds do not apply.
    fn of(cluster: &'d DesiredCluster) -> Option<Self> {
        let kubelet = cluster.spec.kubelet.as_ref().filter(|kubelet| kubelet.manager.has_binds())?;
        let origins = cluster.kubelet.as_ref()?;
        let binds = kubelet.extra_binds.iter().map(|bind| bind.as_str()).zip(origins.binds.iter().cloned());
        let removed = kubelet.remove_binds.iter().map(|path| path.as_str()).zip(origins.removed.iter().cloned());
        Some(Self { kubelet, manager: origins.manager.clone(), binds: binds.collect(), removed: removed.collect() })
    }

    /// What a list becomes, and the changes that make it so.
    fn list(&self, from: &[String]) -> (Vec<String>, Vec<BindChange>) {
        let mut changes = Vec::new();
        let mut to: Vec<String> = Vec::with_capacity(from.len());
        for bind in from {
            match self.removal(bind) {
                Some(origin) => changes.push(change(Some(bind), None, BindReason::Removed, origin)),
                None => to.push(bind.clone()),
            }
        }
        for (bind, origin) in &self.binds {
            let destination = BindParts::of(bind).destination;
            let mut at_its_place = to.iter_mut().filter(|live| BindParts::of(live).destination == destination);
            if let Some(live) = at_its_place.next()
                && !is_same(live, bind)
            {
                changes.push(change(Some(live), Some(bind), BindReason::Asked, origin));
                *live = (*bind).to_owned();
            }
        }
        // What is appended can hide what covered another bind, which then is missing as well.
        while let Some((bind, origin)) = self.binds.iter().find(|(bind, _)| !is_there(&to, bind)) {
            changes.push(change(None, Some(bind), BindReason::Asked, origin));
            to.push((*bind).to_owned());
        }
        (to, changes)
    }

    /// The changes from one list to another, whoever made that other one.
    fn compared(&self, from: &[String], to: &[String]) -> Vec<BindChange> {
        let at = |list: &[String], bind: &str| {
            let destination = BindParts::of(bind).destination.to_owned();
            list.iter().find(|other| BindParts::of(other).destination == destination).cloned()
        };
        let gone = from.iter().filter(|bind| at(to, bind).is_none()).map(|bind| match self.removal(bind) {
            Some(origin) => change(Some(bind), None, BindReason::Removed, origin),
            None => change(Some(bind), None, BindReason::Configured, &self.manager),
        });
        let new = to.iter().filter(|bind| !from.iter().any(|live| is_same(live, bind))).map(|bind| {
            let asked = self.binds.iter().find(|(asked, _)| is_same(asked, bind));
            let (reason, origin) =
                asked.map_or((BindReason::Configured, &self.manager), |(_, origin)| (BindReason::Asked, origin));
            change(at(from, bind).as_deref(), Some(bind), reason, origin)
        });
        gone.chain(new).collect()
    }

    /// The line that says that a bind must go, if one does.
    fn removal(&self, bind: &str) -> Option<&Origin> {
        let destination = BindParts::of(bind).destination;
        self.removed.iter().find(|(removed, _)| *removed == destination).map(|(_, origin)| origin)
    }
}

fn change(from: Option<&str>, to: Option<&str>, reason: BindReason, origin: &Origin) -> BindChange {
    BindChange { from: from.map(str::to_owned), to: to.map(str::to_owned), reason, source: origin.clone().into() }
}

/// How many workers restart together at most, whatever is configured.
const MOST_AT_ONCE: u32 = 50;

/// The kubelets of a cluster in the order in which RKE and Rancher restart them: the control plane one by one, workers
/// that are not ready all together, and the others in batches.
fn waves(live: &ObservedCluster, max_unavailable: Option<&str>) -> Vec<Wave> {
    let (mut control_plane, mut not_ready, mut workers) = (Vec::new(), Vec::new(), Vec::new());
    for node in live.nodes.values() {
        match node.ready {
            _ if is_control_plane(node) => control_plane.push(node.name.clone()),
            Some(false) => not_ready.push(node.name.clone()),
            _ => workers.push(node.name.clone()),
        }
    }
    let all = (not_ready.len() + workers.len()) as u32;
    let wave = |kind, at_once, nodes: Vec<String>| (!nodes.is_empty()).then_some(Wave { kind, at_once, nodes });
    [
        wave(WaveKind::ControlPlane, 1, control_plane),
        wave(WaveKind::NotReady, not_ready.len() as u32, not_ready),
        wave(WaveKind::Workers, at_once(max_unavailable, all), workers),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn is_control_plane(node: &ObservedNode) -> bool {
    const ROLES: [&str; 4] = ["controlplane", "control-plane", "master", "etcd"];
    ROLES.iter().any(|role| node.labels.contains_key(&format!("node-role.kubernetes.io/{role}")))
}

fn at_once(max_unavailable: Option<&str>, workers: u32) -> u32 {
    let text = max_unavailable.unwrap_or("10%").trim();
    let share = |percent: &str| percent.trim().parse::<u64>().ok().map(|percent| percent * u64::from(workers) / 100);
    let number = match text.strip_suffix('%') {
        Some(percent) => share(percent),
        None => text.parse::<u64>().ok(),
    };
    let number = number.or_else(|| share("10")).unwrap_or(1);
    (number.min(u64::from(MOST_AT_ONCE)) as u32).max(1)
}

#[cfg(test)]
mod tests;
