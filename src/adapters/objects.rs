//! Nodes and pods in the form of the Kubernetes API, reduced to the fields that drover reads.
//!
//! The same form is read from an API server and from a dump, and written by `drover snapshot`.

mod affinity;
mod ended;
mod info;
mod quantity;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::affinity::Affinity;
use self::ended::{ContainerStatus, ended};
use self::info::NodeInfoObject;
use self::quantity::Quantity;
use super::node_images::ImageObject;
use crate::model::observed::Allocatable;
use crate::model::selector::NodeSelection;
use crate::model::work::PodLife;
use crate::model::{Manager, ObservedNode, ObservedPod, PodWork, Taint, Toleration};

/// A list of nodes or pods.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct List<T> {
    /// How the list goes on.
    #[serde(default)]
    pub metadata: ListMetadata,
    /// The objects.
    #[serde(default = "Vec::new", deserialize_with = "or_default")]
    pub items: Vec<T>,
}

/// How a list goes on.
#[derive(Debug, Default, Deserialize)]
pub struct ListMetadata {
    /// The token of the next page, if there is one.
    #[serde(default, rename = "continue")]
    pub next: Option<String>,
    /// The place in the cluster's history that it shows.
    #[serde(default, rename = "resourceVersion")]
    pub resource_version: String,
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeObject {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default, skip_serializing_if = "NodeSpecObject::is_default")]
    spec: NodeSpecObject,
    #[serde(default)]
    status: NodeStatusObject,
}

/// The metadata that drover reads of an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The object's name.
    #[serde(default)]
    pub name: String,
    /// The version of the object; a dump has no use for it.
    #[serde(default, skip_serializing)]
    pub resource_version: String,
    /// How often what is asked of it has changed, where the API server counts that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// Tells it from others that had its name before.
    #[serde(default, skip_serializing)]
    pub uid: String,
    /// Its namespace, of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its labels.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creation_timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<Owner>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Owner {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    fields_v1: Fields,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Fields {
    #[serde(default, rename = "f:metadata", skip_serializing_if = "MetadataFields::is_empty")]
    metadata: MetadataFields,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct MetadataFields {
    #[serde(default, rename = "f:labels")]
    labels: BTreeMap<String, Empty>,
}

/// A value whose content does not matter; written as an empty mapping.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self {})
    }
}

impl MetadataFields {
    fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct NodeSpecObject {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unschedulable: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    taints: Vec<TaintObject>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TaintObject {
    #[serde(default)]
    key: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(default)]
    effect: String,
}

impl NodeSpecObject {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatusObject {
    #[serde(default, deserialize_with = "or_default")]
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "NodeInfoObject::is_default")]
    node_info: NodeInfoObject,
    /// Only written: whoever reads nodes seldom needs them.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    images: Vec<ImageObject>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Condition {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// A pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodObject {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    spec: PodSpecObject,
    #[serde(default)]
    status: PodStatusObject,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpecObject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    node_selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    affinity: Option<Affinity>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    tolerations: Vec<TolerationObject>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Container>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    overhead: BTreeMap<String, Quantity>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Resources::is_empty")]
    resources: Resources,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TolerationObject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effect: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Resources::is_empty")]
    resources: Resources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Resources {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    requests: BTreeMap<String, Quantity>,
}

impl Resources {
    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatusObject {
    #[serde(default)]
    phase: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    container_statuses: Vec<ContainerStatus>,
}

/// Where frameworks say which pods start together.
const GANGS: [&str; 4] = [
    "scheduling.k8s.io/group-name",
    "scheduling.x-k8s.io/pod-group",
    "pod-group.scheduling.sigs.k8s.io",
    "training.kubeflow.org/job-name",
];

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The API writes `null` for an empty list now and then.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl NodeObject {
    /// What drover decides by.
    pub fn observed(self) -> ObservedNode {
        let managers = self.metadata.managed_fields.into_iter().filter(|fields| !fields.fields_v1.metadata.is_empty());
        let ready =
            self.status.conditions.iter().find(|condition| condition.kind == "Ready").map(|c| c.status == "True");
        let amount = |name: &str| self.status.allocatable.get(name).map_or(0, Quantity::milli);
        let counts = |name: &str| matches!(name, "cpu" | "memory") || name.contains('/');
        let offers = self.status.allocatable.iter().filter(|(name, _)| counts(name));
        ObservedNode {
            allocatable: Allocatable { cpu_milli: amount("cpu"), gpus: amount("nvidia.com/gpu") / 1000 },
            offers: offers.map(|(name, quantity)| (name.clone(), quantity.amount(name))).collect(),
            taints: self.spec.taints.into_iter().filter_map(TaintObject::taint).collect(),
            name: self.metadata.name,
            labels: self.metadata.labels,
            managers: managers.map(ManagedFields::manager).collect(),
            ready,
            unschedulable: self.spec.unschedulable,
            boot_id: self.status.node_info.boot_id,
            runtime: self.status.node_info.container_runtime_version,
            kernel: self.status.node_info.kernel_version,
        }
    }

    /// With the images that its kubelet tells of.
    pub fn with_images(mut self, images: Vec<ImageObject>) -> Self {
        self.status.images = images;
        self
    }

    /// Drops what the dump of a node does not need: managers that set no label, conditions other than `Ready`.
    pub fn compact(mut self) -> Self {
        self.metadata.managed_fields.retain(|fields| !fields.fields_v1.metadata.is_empty());
        self.status.conditions.retain(|condition| condition.kind == "Ready");
        self.status.conditions.iter_mut().for_each(|condition| condition.message = None);
        self.metadata.annotations.clear();
        self.metadata.owner_references.clear();
        self.metadata.creation_timestamp = None;
        self.status.allocatable.retain(|name, _| name == "cpu" || name == "memory" || name.contains('/'));
        self
    }
}

impl ManagedFields {
    fn manager(self) -> Manager {
        Manager {
            name: self.manager,
            applies: self.operation == "Apply",
            time: self.time.and_then(|time| time.parse::<Timestamp>().ok()),
            keys: self
                .fields_v1
                .metadata
                .labels
                .into_keys()
                .filter_map(|key| key.strip_prefix("f:").map(str::to_owned))
                .collect(),
        }
    }
}

impl Metadata {
    /// The name and what counts the changes, and nothing else.
    pub(super) fn named(self) -> Self {
        Self { name: self.name, generation: self.generation, ..Self::default() }
    }

    /// The pods that this one starts with. A plain Job's pods start one by one.
    fn gang(&self) -> Option<String> {
        let named = GANGS.iter().find_map(|key| self.annotations.get(*key).or_else(|| self.labels.get(*key)));
        named.map(|name| format!("{}/{name}", self.namespace.as_deref().unwrap_or_default()))
    }
}

impl TaintObject {
    fn taint(self) -> Option<Taint> {
        let keeps_off = matches!(self.effect.as_str(), "NoSchedule" | "NoExecute");
        keeps_off.then_some(Taint { key: self.key, value: self.value, effect: self.effect })
    }
}

impl TolerationObject {
    fn toleration(&self) -> Toleration {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let any_value = self.operator.as_deref() == Some("Exists");
        Toleration {
            key: set(&self.key),
            value: (!any_value).then(|| self.value.clone().unwrap_or_default()),
            effect: set(&self.effect),
        }
    }
}

impl PodSpecObject {
    fn selection(self) -> NodeSelection {
        let terms = self.affinity.and_then(Affinity::terms);
        NodeSelection { labels: self.node_selector, terms }
    }

    /// What the scheduler sets aside for the pod: what its containers need together, or one of those that run before
    /// them, beside the sidecars that were started by then.
    fn requests(&self) -> BTreeMap<String, u64> {
        let add = |sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, Quantity>| {
            for (name, quantity) in more {
                let known = sum.entry(name.clone()).or_default();
                *known = u64::saturating_add(*known, quantity.amount(name));
            }
        };
        let (mut sidecars, mut most) = (BTreeMap::new(), BTreeMap::new());
        let raise = |most: &mut BTreeMap<String, u64>, to: &BTreeMap<String, u64>| {
            for (name, amount) in to {
                let known = most.entry(name.clone()).or_default();
                *known = (*known).max(*amount);
            }
        };
        for container in &self.init_containers {
            if container.restart_policy.as_deref() == Some("Always") {
                add(&mut sidecars, &container.resources.requests);
                raise(&mut most, &sidecars);
            } else {
                let mut with = sidecars.clone();
                add(&mut with, &container.resources.requests);
                raise(&mut most, &with);
            }
        }
        self.containers.iter().for_each(|container| add(&mut sidecars, &container.resources.requests));
        raise(&mut most, &sidecars);
        // What is requested for the pod as a whole stands above its containers.
        for (name, quantity) in &self.resources.requests {
            most.insert(name.clone(), quantity.amount(name));
        }
        add(&mut most, &self.overhead);
        most
    }
}

impl PodObject {
    /// The pod, where it is bound to a node and has not ended.
    pub fn observed(mut self) -> Option<ObservedPod> {
        let node = self.spec.node_name.take().filter(|node| !node.is_empty())?;
        if self.is_over() {
            return None;
        }
        Some(ObservedPod {
            namespace: self.metadata.namespace.unwrap_or_default(),
            name: self.metadata.name,
            node,
            selection: self.spec.selection(),
        })
    }

    /// The pod as work, where it has not ended. One that is deleted holds its machine until it is gone, and where it has
    /// none it gets none any more.
    pub fn work(self) -> Option<PodWork> {
        let is_leaving = self.metadata.deletion_timestamp.is_some();
        (!self.is_over()).then(|| self.into_work()).filter(|work| !is_leaving || work.node.is_some())
    }

    /// The pod from its submission to its end.
    pub fn life(self) -> PodLife {
        let submitted = time(&self.metadata.creation_timestamp);
        let ended = ended(&self.status.container_statuses);
        let (is_over, started) = (self.is_over(), time(&self.status.start_time));
        let pod = self.into_work();
        PodLife {
            submitted: submitted.unwrap_or(pod.since),
            started: started.filter(|_| pod.node.is_some()),
            ended: ended.filter(|_| is_over),
            is_over,
            pod,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    fn into_work(self) -> PodWork {
        let requests = self.spec.requests();
        let node = self.spec.node_name.clone().filter(|node| !node.is_empty());
        let scheduled = self.status.conditions.iter().find(|condition| condition.kind == "PodScheduled");
        let says = scheduled.filter(|condition| condition.status == "False").and_then(|c| c.message.clone());
        let created = time(&self.metadata.creation_timestamp);
        let started = time(&self.status.start_time).filter(|_| node.is_some());
        let gang = self.metadata.gang();
        let of_daemon_set = self.metadata.owner_references.iter().any(|owner| owner.kind == "DaemonSet");
        PodWork {
            since: started.or(created).unwrap_or(Timestamp::UNIX_EPOCH),
            node,
            gang,
            of_daemon_set,
            requests,
            says,
            tolerations: self.spec.tolerations.iter().map(TolerationObject::toleration).collect(),
            namespace: self.metadata.namespace.unwrap_or_default(),
            name: self.metadata.name,
            selection: self.spec.selection(),
        }
    }

    /// Drops what the dump of a pod does not need.
    pub fn compact(mut self) -> Self {
        self.metadata.managed_fields.clear();
        self.metadata.labels.retain(|key, _| GANGS.contains(&key.as_str()));
        self.metadata.annotations.retain(|key, _| GANGS.contains(&key.as_str()));
        self.status.conditions.retain(|condition| condition.kind == "PodScheduled");
        self.status.container_statuses.retain(ContainerStatus::is_over);
        let containers = self.spec.containers.iter().chain(&self.spec.init_containers);
        if containers.map(|container| &container.resources).all(Resources::is_empty) {
            self.spec.containers.clear();
            self.spec.init_containers.clear();
        }
        self
    }
}

fn time(text: &Option<String>) -> Option<Timestamp> {
    text.as_ref().and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
