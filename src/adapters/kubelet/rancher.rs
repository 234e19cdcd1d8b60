//! A cluster that Rancher configures: the object that stands for it in the cluster in which Rancher itself runs.
//!
//! One list of that object is changed, by a patch that names the version it was made for. The rest of it belongs to
//! Rancher, and holds credentials: it is neither kept nor written back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::rke::EngineConfig;
use crate::adapters::kube::{CallError, KubeCluster};
use crate::error::Failure;
use crate::model::ObservedKubelet;
use crate::model::cluster::{KubeletManager, Rancher as Spec};
use crate::plan::is_same_set;

const GROUP: &str = "/apis/management.cattle.io/v3";
const WHAT: &str = "clusters.management.cattle.io";
const NODES: &str = "nodes.management.cattle.io";
/// How often a patch is made anew after Rancher changed the object in between.
const ATTEMPTS: usize = 10;
/// How often Rancher is asked how far it is.
const LOOK: Duration = Duration::from_secs(2);

/// A cluster as Rancher has it.
#[derive(Clone)]
pub struct Rancher {
    local: KubeCluster,
    id: String,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Rancher is asked for it now, from this moment of its own history on.
    Asked(Before),
    /// The list is another one than the plan expects to replace.
    Stale {
        /// The list.
        found: Vec<String>,
    },
    /// Rancher's own rules keep drover away.
    Blocked(String),
}

/// How a change that Rancher was asked for ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Every kubelet is told of it.
    Done,
    /// Rancher says that it failed.
    Failed(String),
    /// The time was over, and this is still open.
    Open(String),
    /// Somebody asked to stop; Rancher goes on by itself.
    Stopped(String),
}

/// What Rancher said before a change, which therefore says nothing of the change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    conditions: BTreeMap<String, (String, String)>,
    failed: bool,
}

#[derive(Debug, Default, Deserialize)]
struct ClusterObject {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: ClusterSpec,
    #[serde(default)]
    status: ClusterStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterSpec {
    #[serde(default)]
    rancher_kubernetes_engine_config: Option<EngineConfig>,
    #[serde(default)]
    cluster_template_revision_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatus {
    #[serde(default)]
    applied_spec: Option<ClusterSpec>,
    #[serde(default)]
    failed_spec: Option<ClusterSpec>,
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
    #[serde(default)]
    node_version: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    last_update_time: String,
}

#[derive(Debug, Default, Deserialize)]
struct NodeObject {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSpec {
    #[serde(default)]
    control_plane: bool,
    #[serde(default)]
    etcd: bool,
    #[serde(default)]
    worker: bool,
    #[serde(default)]
    requested_hostname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    node_plan: Option<NodePlan>,
    #[serde(default)]
    applied_node_version: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct NodePlan {
    #[serde(default)]
    plan: Plan,
    #[serde(default)]
    version: i64,
}

#[derive(Debug, Default, Deserialize)]
struct Plan {
    #[serde(default)]
    processes: Option<BTreeMap<String, Process>>,
}

#[derive(Debug, Default, Deserialize)]
struct Process {
    #[serde(default)]
    binds: Option<Vec<String>>,
}

impl ClusterSpec {
    fn binds(&self) -> &[String] {
        self.rancher_kubernetes_engine_config.as_ref().map_or(&[], EngineConfig::binds)
    }
}

impl ClusterObject {
    fn blocked(&self) -> Option<String> {
        let template = self.spec.cluster_template_revision_name.as_deref().filter(|name| !name.is_empty());
        if let Some(template) = template {
            return Some(format!(
                "Rancher makes this cluster by the template revision {template}: change the binds there"
            ));
        }
        let is_rke = self.spec.rancher_kubernetes_engine_config.is_some();
        (!is_rke)
            .then(|| "Rancher did not make this cluster with RKE, so it does not configure its kubelets".to_owned())
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|condition| condition.kind == kind)
    }

    fn before(&self) -> Before {
        let told = |c: &Condition| (c.kind.clone(), (c.status.clone(), c.last_update_time.clone()));
        Before {
            conditions: self.status.conditions.iter().flatten().map(told).collect(),
            failed: self.status.failed_spec.is_some(),
        }
    }

    /// What a person should know: what is under way, and what has failed.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for kind in ["Provisioned", "Updated", "Upgraded", "Waiting", "Ready"] {
            let Some(condition) = self.condition(kind) else { continue };
            let said = said(condition);
            match condition.status.as_str() {
                "Unknown" => notes.push(format!("Rancher is at work: {kind} is not decided{said}")),
                "False" => notes.push(format!("Rancher says that {kind} is false{said}")),
                _ => {}
            }
        }
        if self.status.failed_spec.is_some() {
            notes.push("Rancher could not apply what it was last asked for (failedSpec)".to_owned());
        }
        notes
    }
}

fn said(condition: &Condition) -> String {
    let message: String = condition.message.chars().take(300).collect();
    if message.is_empty() { message } else { format!(": {message}") }
}

impl NodeObject {
    fn name(&self) -> &str {
        let names = [&self.status.node_name, &self.spec.requested_hostname, &self.metadata.name];
        names.into_iter().find(|name| !name.is_empty()).map_or("", String::as_str)
    }

    /// What is still open on a machine that runs nothing of the control plane; the others Rancher changes by itself.
    fn open(&self, to: &[String], cluster: Option<i64>) -> Option<String> {
        let is_worker = self.spec.worker && !self.spec.control_plane && !self.spec.etcd;
        let Some(planned) = &self.status.node_plan else {
            return is_worker.then(|| format!("{} has no plan yet", self.name()));
        };
        if !is_worker {
            return None;
        }
        let kubelet = planned.plan.processes.as_ref().and_then(|processes| processes.get("kubelet"));
        let binds = kubelet.and_then(|kubelet| kubelet.binds.as_deref()).unwrap_or_default();
        if !to.iter().all(|bind| binds.contains(bind)) {
            return Some(format!("{} is not planned yet", self.name()));
        }
        let applied = self.status.applied_node_version.unwrap_or_default();
        let is_current = applied == planned.version && cluster.is_none_or(|version| planned.version >= version);
        (!is_current).then(|| format!("{} restarts its kubelet", self.name()))
    }
}

/// How far a change is.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Done,
    Open(String),
    Failed(String),
}

fn standing(cluster: &ClusterObject, nodes: &[NodeObject], to: &[String], before: &Before) -> Standing {
    const SHOWN: usize = 5;
    if cluster.spec.binds() != to {
        return Standing::Failed("somebody asked Rancher for other binds meanwhile".to_owned());
    }
    let failed = cluster.status.failed_spec.as_ref().filter(|failed| failed.binds() == to);
    for kind in ["Provisioned", "Updated", "Upgraded"] {
        let Some(condition) = cluster.condition(kind).filter(|condition| condition.status == "False") else { continue };
        let was = before.conditions.get(kind);
        let is_new = was.is_none_or(|(status, time)| status != "False" || *time != condition.last_update_time);
        if is_new || failed.is_some() {
            return Standing::Failed(format!("Rancher says that {kind} is false{}", said(condition)));
        }
    }
    if failed.is_some() && !before.failed {
        return Standing::Failed("Rancher could not apply the binds (failedSpec)".to_owned());
    }
    let applied = cluster.status.applied_spec.as_ref().map_or(&[][..], ClusterSpec::binds);
    if !is_same_set(applied, to) {
        return Standing::Open("Rancher has not applied it yet".to_owned());
    }
    for kind in ["Provisioned", "Updated", "Upgraded"] {
        if let Some(condition) = cluster.condition(kind).filter(|condition| condition.status == "Unknown") {
            return Standing::Open(format!("Rancher is at work: {kind} is not decided{}", said(condition)));
        }
    }
    if cluster.status.failed_spec.is_some() {
        return Standing::Open("Rancher still keeps a failedSpec".to_owned());
    }
    let open: Vec<String> = nodes.iter().filter_map(|node| node.open(to, cluster.status.node_version)).collect();
    match open.len() {
        0 => Standing::Done,
        count if count > SHOWN => {
            Standing::Open(format!("{}, and {} more machines", open[..SHOWN].join(", "), count - SHOWN))
        }
        _ => Standing::Open(open.join(", ")),
    }
}

impl Rancher {
    /// Prepares a client for Rancher's own cluster; nothing is sent yet.
    pub(super) async fn connect(
        name: &str,
        spec: &Spec,
        base: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let local = KubeCluster::connect(name, &spec.connection, base, timeout, None).await;
        Ok(Self { local: local.map_err(within)?, id: spec.cluster.to_string() })
    }

    /// The binds that Rancher is asked for, and how far it is.
    pub(super) async fn observe(&self) -> Result<ObservedKubelet, Failure> {
        let cluster = self.read().await?;
        let config = cluster.spec.rancher_kubernetes_engine_config.as_ref();
        Ok(ObservedKubelet {
            applied: cluster.status.applied_spec.as_ref().map(|applied| applied.binds().to_vec()),
            max_unavailable: config.and_then(|config| config.max_unavailable().map(str::to_owned)),
            notes: cluster.notes(),
            blocked: cluster.blocked(),
            ..ObservedKubelet::new(KubeletManager::Rancher, cluster.spec.binds().to_vec())
        })
    }

    /// Asks Rancher for another list, if it still has the one that is expected.
    pub async fn write(&self, from: &[String], to: &[String], stop: &AtomicBool) -> Result<Written, Failure> {
        for _ in 0..ATTEMPTS {
            let cluster = self.read().await?;
            if let Some(why) = cluster.blocked() {
                return Ok(Written::Blocked(why));
            }
            // The answer to an earlier attempt can have been lost.
            if cluster.spec.binds() == to {
                return Ok(Written::Asked(cluster.before()));
            }
            if cluster.spec.binds() != from {
                return Ok(Written::Stale { found: cluster.spec.binds().to_vec() });
            }
            let patch = json!({
                "metadata": {"resourceVersion": cluster.metadata.resource_version},
                "spec": {"rancherKubernetesEngineConfig": {"services": {"kubelet": {"extraBinds": to}}}},
            });
            match self.local.merge_patch(&self.path(), &patch, stop).await {
                Ok(()) => return Ok(Written::Asked(cluster.before())),
                // Rancher writes its object all the time; what matters is whether the list is still the same.
                Err(CallError::Refused { code: 409, .. }) => {}
                Err(error) => return Err(self.failure("patch", &error)),
            }
        }
        Err(within(Failure::new(format!("the object changed under every one of {ATTEMPTS} attempts to write it"))))
    }

    /// Follows a change to its end. A Rancher that is away for a while is waited for.
    pub async fn follow(
        &self,
        to: &[String],
        before: &Before,
        timeout: Duration,
        stop: &AtomicBool,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Followed {
        let deadline = Instant::now() + timeout;
        let mut last = String::new();
        loop {
            let open = match self.standing(to, before).await {
                Ok(Standing::Done) => return Followed::Done,
                Ok(Standing::Failed(why)) => return Followed::Failed(why),
                Ok(Standing::Open(open)) => open,
                Err(failure) => failure.to_string(),
            };
            if open != last {
                tell(&open);
                last.clone_from(&open);
            }
            if stop.load(Ordering::Relaxed) {
                return Followed::Stopped(open);
            }
            if Instant::now() >= deadline {
                return Followed::Open(open);
            }
            tokio::time::sleep(LOOK.min(timeout / 4)).await;
        }
    }

    async fn standing(&self, to: &[String], before: &Before) -> Result<Standing, Failure> {
        let cluster = self.read().await?;
        let path = format!("{GROUP}/namespaces/{}/nodes", self.id);
        let nodes: Vec<NodeObject> = self.local.objects(NODES, &path).await.map_err(within)?;
        Ok(standing(&cluster, &nodes, to, before))
    }

    fn path(&self) -> String {
        format!("{GROUP}/clusters/{}", self.id)
    }

    async fn read(&self) -> Result<ClusterObject, Failure> {
        let body = self.local.object(&self.path()).await.map_err(|error| self.failure("get", &error))?;
        let body = body.ok_or_else(|| {
            within(Failure::new(format!("it knows no cluster {}", self.id)).hint(
                "`kubectl get clusters.management.cattle.io` in the cluster that Rancher runs in lists their ids",
            ))
        })?;
        // The message of the parser would quote the object, which holds credentials.
        serde_json::from_slice(&body).map_err(|error| {
            within(Failure::new(format!(
                "its object {} cannot be read (line {}, column {})",
                self.id,
                error.line(),
                error.column()
            )))
        })
    }

    fn failure(&self, verb: &str, error: &CallError) -> Failure {
        within(match error {
            CallError::Refused { code: 403, .. } if error.is_denied() => Failure::new(format!(
                "drover may not {verb} {WHAT} there"
            ))
            .hint("give drover's user the rights of deploy/rancher-rbac.yaml in the cluster that Rancher runs in"),
            error => self.local.failure(verb, WHAT, error),
        })
    }
}

fn within(failure: Failure) -> Failure {
    failure.within("Rancher")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cluster(asked: &[&str], applied: &[&str], status: Value) -> ClusterObject {
        let spec =
            |binds: &[&str]| json!({"rancherKubernetesEngineConfig": {"services": {"kubelet": {"extraBinds": binds}}}});
        let mut object = json!({"spec": spec(asked), "status": {"appliedSpec": spec(applied), "nodeVersion": 4}});
        for (key, value) in status.as_object().into_iter().flatten() {
            object["status"][key] = value.clone();
        }
        serde_json::from_value(object).expect("a cluster")
    }

    fn node(binds: &[&str], version: i64, applied: i64) -> NodeObject {
        let plan = json!({"plan": {"processes": {"kubelet": {"binds": binds}}}, "version": version});
        let status = json!({"nodeName": "w-1", "nodePlan": plan, "appliedNodeVersion": applied});
        serde_json::from_value(json!({"spec": {"worker": true}, "status": status})).expect("a node")
    }

    fn how(cluster: &ClusterObject, nodes: &[NodeObject]) -> Standing {
        standing(cluster, nodes, &["/a:/a".to_owned()], &Before::default())
    }

    #[test]
    fn a_change_is_done_when_every_worker_has_it() {
        let done = cluster(&["/a:/a"], &["/a:/a"], json!({"conditions": [{"type": "Updated", "status": "True"}]}));
        let full = ["/sys:/sys", "/a:/a"];
        assert_eq!(how(&done, &[node(&full, 4, 4)]), Standing::Done);
        assert!(
            matches!(how(&done, &[node(&["/sys:/sys"], 4, 4)]), Standing::Open(why) if why == "w-1 is not planned yet")
        );
        assert!(matches!(how(&done, &[node(&full, 4, 3)]), Standing::Open(why) if why == "w-1 restarts its kubelet"));
        assert!(matches!(how(&done, &[node(&full, 3, 3)]), Standing::Open(_)), "it has the plan of an earlier change");
        assert!(matches!(how(&cluster(&["/a:/a"], &[], json!({})), &[]), Standing::Open(_)));
        let upgrading = json!({"conditions": [{"type": "Upgraded", "status": "Unknown", "message": "1 of 9"}]});
        assert!(
            matches!(how(&cluster(&["/a:/a"], &["/a:/a"], upgrading), &[]), Standing::Open(why) if why.contains("1 of 9"))
        );
    }

    #[test]
    fn a_failure_of_before_is_none_of_this_change() {
        let failing = || json!({"conditions": [{"type": "Updated", "status": "False", "message": "boom", "lastUpdateTime": "1"}]});
        let failed = cluster(&["/a:/a"], &[], failing());
        assert!(matches!(how(&failed, &[]), Standing::Failed(why) if why.contains("boom")));
        let before = failed.before();
        assert!(matches!(standing(&failed, &[], &["/a:/a".to_owned()], &before), Standing::Open(_)));
        let mut again = failing();
        again["conditions"][0]["lastUpdateTime"] = "2".into();
        let again = cluster(&["/a:/a"], &[], again);
        assert!(matches!(standing(&again, &[], &["/a:/a".to_owned()], &before), Standing::Failed(_)));
        assert!(
            matches!(how(&cluster(&["/b:/b"], &[], json!({})), &[]), Standing::Failed(_)),
            "asked for something else"
        );
    }

    #[test]
    fn templates_and_other_kinds_of_clusters_are_left_alone() {
        let mut templated = cluster(&[], &[], json!({}));
        templated.spec.cluster_template_revision_name = Some("cattle-global-data:ctr-1".to_owned());
        assert!(templated.blocked().is_some_and(|why| why.contains("ctr-1")));
        assert!(ClusterObject::default().blocked().is_some());
        assert_eq!(cluster(&[], &[], json!({})).blocked(), None);
    }
}
