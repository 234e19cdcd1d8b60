//! Observing every cluster at the same time, and planning each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::Loaded;
use super::kubelet::{self, Kubelets};
use crate::adapters::dump::{self, Dump};
use crate::adapters::kube::KubeCluster;
use crate::adapters::objects::PodObject;
use crate::error::Failure;
use crate::model::work::PodLife;
use crate::model::{ClusterName, ClusterSpec, Desired, DesiredCluster, Guard, ObservedCluster, ObservedPod, PodWork};
use crate::plan::{self, ClusterPlan, PLAN_VERSION, Plan, Refusal};

/// How long drover waits for a cluster that does not say otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long drover waits for a cluster.
pub fn timeout_of(spec: &ClusterSpec) -> Duration {
    spec.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.duration())
}

/// What a pass is asked to do.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these clusters; all where it is empty.
    pub clusters: BTreeSet<String>,
    /// Guards that are lifted for this run.
    pub allow: BTreeSet<Guard>,
}

/// A cluster that was looked at.
pub enum Live {
    /// A dump of it: nothing can be written.
    Dump(Box<Dump>),
    /// The cluster itself.
    Kube(Box<KubeCluster>),
}

/// The result of a pass.
pub struct Pass {
    /// What must change.
    pub plan: Plan,
    /// What was seen, by cluster; a cluster that could not be reached is missing.
    pub observed: BTreeMap<ClusterName, Observed>,
}

/// What was seen of a cluster.
pub struct Observed {
    /// Its nodes.
    pub nodes: ObservedCluster,
    /// What its kubelets see of their machines; none where binds do not apply.
    pub kubelet: Option<Kubelets>,
    /// The cluster itself.
    pub live: Live,
}

impl Live {
    /// The pods that run or wait.
    pub async fn work(&self) -> Result<Vec<PodWork>, Failure> {
        match self {
            Self::Dump(dump) => Ok(dump.work.clone()),
            Self::Kube(cluster) => Ok(cluster.living_pods().await?.into_iter().filter_map(PodObject::work).collect()),
        }
    }

    /// All pods, also those that have ended.
    pub async fn lives(&self) -> Result<Vec<PodLife>, Failure> {
        match self {
            Self::Dump(dump) => Ok(dump.lives.clone()),
            Self::Kube(cluster) => Ok(cluster.pods().await?.into_iter().map(PodObject::life).collect()),
        }
    }

    /// The pods that are bound to some of the nodes.
    async fn pods_on(&self, nodes: &BTreeSet<&str>) -> Result<Vec<ObservedPod>, Failure> {
        match self {
            Self::Dump(dump) => Ok(dump.pods.iter().filter(|pod| nodes.contains(pod.node.as_str())).cloned().collect()),
            Self::Kube(cluster) => {
                Ok(cluster.pods_on(nodes).await?.into_iter().filter_map(PodObject::observed).collect())
            }
        }
    }
}

/// The clusters of a state that are wanted.
pub fn selected<'l>(
    loaded: &'l Loaded,
    wanted: &Wanted,
) -> Result<Vec<(&'l ClusterName, &'l DesiredCluster)>, Failure> {
    let known = &loaded.desired.clusters;
    if let Some(unknown) = wanted.clusters.iter().find(|name| !known.contains_key(name.as_str())) {
        let names: Vec<&str> = known.keys().map(ClusterName::as_str).collect();
        return Err(
            Failure::new(format!("the state has no cluster {unknown:?}")).hint(format!("it has: {}", names.join(", ")))
        );
    }
    Ok(known.iter().filter(|(name, _)| wanted.clusters.is_empty() || wanted.clusters.contains(name.as_str())).collect())
}

/// Looks at one cluster, unless that was begun while the state was read.
pub async fn observe(loaded: &Loaded, name: &ClusterName, cluster: &DesiredCluster) -> Result<Observed, Failure> {
    if let Some(path) = &cluster.spec.connection.file {
        let dump = dump::read(path, &loaded.file(path)?)?;
        let kubelet = kubelet::recorded(&cluster.spec, dump.kubelet.as_ref());
        let observed = Observed { nodes: dump.nodes.clone(), kubelet, live: Live::Dump(Box::new(dump)) };
        return Ok(configured(observed, loaded, cluster));
    }
    let observed = match loaded.looked_ahead(name, &cluster.spec).await {
        Some(answer) => answer?,
        None => observe_live(name, &cluster.spec, loaded.root()).await?,
    };
    Ok(configured(observed, loaded, cluster))
}

/// Adds what a file of the state says of the kubelets.
fn configured(mut observed: Observed, loaded: &Loaded, cluster: &DesiredCluster) -> Observed {
    if let Some(Kubelets { seen: Ok(seen), .. }) = &mut observed.kubelet {
        kubelet::add_config(seen, &cluster.spec, |path| loaded.file(path));
    }
    observed
}

/// Looks at a cluster that has an API server. A relative kubeconfig is looked for below `root`.
pub(super) async fn observe_live(
    name: &ClusterName,
    spec: &ClusterSpec,
    root: Option<&Path>,
) -> Result<Observed, Failure> {
    let kube = KubeCluster::connect(name.as_str(), &spec.connection, root, timeout_of(spec), None).await?;
    let (nodes, kubelet) = tokio::join!(kube.observe(), kubelet::observe(&kube, spec, root));
    Ok(Observed { nodes: nodes?, kubelet, live: Live::Kube(Box::new(kube)) })
}

/// Looks at every wanted cluster at the same time, and plans each. A cluster that cannot be reached is reported as such
/// and keeps no other one waiting beyond its own timeout.
pub async fn plan(loaded: &Loaded, wanted: &Wanted, now: Timestamp) -> Result<Pass, Failure> {
    let clusters = selected(loaded, wanted)?;
    let planned =
        join_all(clusters.iter().map(|(name, cluster)| plan_cluster(loaded, name, cluster, wanted, now))).await;
    let mut pass = Pass { plan: empty(loaded, now), observed: BTreeMap::new() };
    for ((name, _), (plan, observed)) in clusters.into_iter().zip(planned) {
        pass.plan.clusters.push(plan);
        if let Some(observed) = observed {
            pass.observed.insert(name.clone(), observed);
        }
    }
    Ok(pass)
}

/// A plan without clusters.
pub fn empty(loaded: &Loaded, now: Timestamp) -> Plan {
    Plan {
        version: PLAN_VERSION.to_owned(),
        state: loaded.revision.clone(),
        observed_at: now,
        complete: loaded.is_valid(),
        clusters: Vec::new(),
    }
}

async fn plan_cluster(
    loaded: &Loaded,
    name: &ClusterName,
    cluster: &DesiredCluster,
    wanted: &Wanted,
    now: Timestamp,
) -> (ClusterPlan, Option<Observed>) {
    let observed = match observe(loaded, name, cluster).await {
        Ok(observed) => observed,
        Err(failure) => return (unreachable(name, cluster, &failure), None),
    };
    let mut plan = plan::diff(name.as_str(), cluster, &loaded.desired.vocabulary, &observed.nodes);
    plan::gate(&mut plan, cluster, &loaded.desired.vocabulary, &observed.nodes, &wanted.allow, now);
    plan.kubelet =
        observed.kubelet.as_ref().and_then(|seen| plan::kubelet::kubelet(cluster, &observed.nodes, seen.told()));
    plan.refusals = guard(loaded, cluster, &plan, &observed, wanted, now).await;
    (plan, Some(observed))
}

fn unreachable(name: &ClusterName, cluster: &DesiredCluster, failure: &Failure) -> ClusterPlan {
    let hint = failure.advice().map(|hint| format!(" ({hint})")).unwrap_or_default();
    ClusterPlan::unreachable(name.as_str(), cluster.spec.mode, cluster.nodes.len(), format!("{failure}{hint}"))
}

/// The guards that changes of a cluster run into. Pods are only asked for where a change could strand one.
pub async fn guard(
    loaded: &Loaded,
    cluster: &DesiredCluster,
    plan: &ClusterPlan,
    observed: &Observed,
    wanted: &Wanted,
    now: Timestamp,
) -> Vec<Refusal> {
    let nodes = plan::nodes_that_lose_labels(plan);
    let pods = if nodes.is_empty() { Ok(Vec::new()) } else { observed.live.pods_on(&nodes).await };
    refusals(&loaded.desired, cluster, plan, &observed.nodes, pods.as_deref(), &wanted.allow, now)
}

/// The guards that changes of a cluster run into, where the pods on its nodes are known, or the reason why they are not.
pub fn refusals(
    desired: &Desired,
    cluster: &DesiredCluster,
    plan: &ClusterPlan,
    live: &ObservedCluster,
    pods: Result<&[ObservedPod], &Failure>,
    allow: &BTreeSet<Guard>,
    now: Timestamp,
) -> Vec<Refusal> {
    let mut refusals = plan::check(plan, desired, cluster, live, pods.unwrap_or_default(), allow, now);
    if let Err(failure) = pods {
        refusals.push(Refusal {
            guard: Guard::RunningPods,
            message: format!("the pods on the changed nodes are not known: {failure}"),
            details: Vec::new(),
            allowed: plan::allowed(Guard::RunningPods, cluster, allow, now),
        });
    }
    refusals
}
