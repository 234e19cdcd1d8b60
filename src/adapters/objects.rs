//! Nodes and pods in the form of the Kubernetes API, reduced to the fields that drover reads.
//!
//! The same form is read from an API server and from a dump, and written by `drover snapshot`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::observed::Allocatable;
use crate::model::selector::{NodeSelection, Operator, Requirement, Term};
use crate::model::{Manager, ObservedNode, ObservedPod};

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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The object's name.
    #[serde(default)]
    pub name: String,
    /// The version of the object; a dump has no use for it.
    #[serde(default, skip_serializing)]
    pub resource_version: String,
    /// Its namespace, of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its labels.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
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

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Fields {
    #[serde(default, rename = "f:metadata", skip_serializing_if = "MetadataFields::is_empty")]
    metadata: MetadataFields,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct MetadataFields {
    #[serde(default, rename = "f:labels")]
    labels: BTreeMap<String, Empty>,
}

/// A value whose content does not matter; written as an empty mapping.
#[derive(Debug, Clone, Serialize)]
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
}

impl NodeSpecObject {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct NodeStatusObject {
    #[serde(default, deserialize_with = "or_default")]
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

/// A quantity: the API writes text, people write numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Quantity {
    Text(String),
    Number(f64),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Condition {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
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
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Affinity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct NodeAffinity {
    #[serde(
        default,
        rename = "requiredDuringSchedulingIgnoredDuringExecution",
        skip_serializing_if = "Option::is_none"
    )]
    required: Option<NodeSelectorObject>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelectorObject {
    #[serde(default, deserialize_with = "or_default")]
    node_selector_terms: Vec<TermObject>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TermObject {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<RequirementObject>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    match_fields: Vec<RequirementObject>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RequirementObject {
    key: String,
    operator: OperatorObject,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum OperatorObject {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PodStatusObject {
    #[serde(default)]
    phase: String,
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
        ObservedNode {
            allocatable: Allocatable { cpu_milli: amount("cpu"), gpus: amount("nvidia.com/gpu") / 1000 },
            name: self.metadata.name,
            labels: self.metadata.labels,
            managers: managers.map(ManagedFields::manager).collect(),
            ready,
            unschedulable: self.spec.unschedulable,
        }
    }

    /// Drops what the dump of a node does not need: managers that set no label, conditions other than `Ready`.
    pub fn compact(mut self) -> Self {
        self.metadata.managed_fields.retain(|fields| !fields.fields_v1.metadata.is_empty());
        self.status.conditions.retain(|condition| condition.kind == "Ready");
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

impl Quantity {
    /// In thousandths; 0 where the text is no quantity.
    fn milli(&self) -> u64 {
        let text = match self {
            Self::Number(number) => return (number * 1000.0) as u64,
            Self::Text(text) => text,
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
        let unit = match &text[digits.len()..] {
            "m" => 1.0,
            "" => 1e3,
            "k" => 1e6,
            "Ki" => 1024e3,
            "M" => 1e9,
            _ => return 0,
        };
        digits.parse::<f64>().map_or(0, |number| (number * unit).round() as u64)
    }
}

impl PodObject {
    /// The pod, where it is bound to a node and has not ended.
    pub fn observed(self) -> Option<ObservedPod> {
        let node = self.spec.node_name.filter(|node| !node.is_empty())?;
        if matches!(self.status.phase.as_str(), "Succeeded" | "Failed") {
            return None;
        }
        let required =
            self.spec.affinity.and_then(|affinity| affinity.node_affinity).and_then(|affinity| affinity.required);
        let terms = required.map(|required| required.node_selector_terms.into_iter().map(TermObject::term).collect());
        Some(ObservedPod {
            namespace: self.metadata.namespace.unwrap_or_default(),
            name: self.metadata.name,
            node,
            selection: NodeSelection { labels: self.spec.node_selector, terms },
        })
    }

    /// Drops what the dump of a pod does not need.
    pub fn compact(mut self) -> Self {
        self.metadata.managed_fields.clear();
        self.metadata.labels.clear();
        self
    }
}

impl TermObject {
    fn term(self) -> Term {
        let read = |list: Vec<RequirementObject>| list.into_iter().map(RequirementObject::requirement).collect();
        Term { labels: read(self.match_expressions), fields: read(self.match_fields) }
    }
}

impl RequirementObject {
    fn requirement(self) -> Requirement {
        let operator = match self.operator {
            OperatorObject::In => Operator::In,
            OperatorObject::NotIn => Operator::NotIn,
            OperatorObject::Exists => Operator::Exists,
            OperatorObject::DoesNotExist => Operator::DoesNotExist,
            OperatorObject::Gt => Operator::Gt,
            OperatorObject::Lt => Operator::Lt,
        };
        Requirement { key: self.key, operator, values: self.values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_reduced_to_what_counts() {
        let text = r#"{"metadata": {"name": "n", "labels": {"org": "ads"}, "managedFields": [
            {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}},
            {"manager": "drover", "operation": "Update", "time": "2026-01-01T00:00:00Z",
             "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:org": {}}}}}]},
            "status": {"allocatable": {"cpu": "31500m", "nvidia.com/gpu": "8"},
                       "conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["x"]}]}}"#;
        let node: NodeObject = serde_json::from_str(text).expect("a node");
        let observed = node.clone().observed();
        assert_eq!(observed.allocatable, Allocatable { cpu_milli: 31_500, gpus: 8 });
        assert_eq!((observed.ready, observed.set_by_drover("org"), observed.managers.len()), (Some(true), true, 1));
        let dumped = serde_yaml::to_string(&node.compact()).expect("yaml");
        let again: NodeObject = serde_yaml::from_str(&dumped).expect("a dumped node");
        assert_eq!(again.observed(), observed, "a dump keeps what counts:\n{dumped}");
    }

    #[test]
    fn quantities() {
        for (text, milli) in [("4", 4000), ("500m", 500), ("1.5", 1500), ("2k", 2_000_000), ("", 0), ("x", 0)] {
            assert_eq!(Quantity::Text(text.into()).milli(), milli, "{text}");
        }
    }

    #[test]
    fn ended_and_unbound_pods_do_not_count() {
        let pod = |text: &str| serde_json::from_str::<PodObject>(text).expect("a pod").observed();
        assert!(
            pod(r#"{"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}"#).is_some()
        );
        assert!(
            pod(r#"{"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Succeeded"}}"#)
                .is_none()
        );
        assert!(pod(r#"{"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}}"#).is_none());
    }
}
