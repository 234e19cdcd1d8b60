//! Which nodes a pod requires, in the form of the Kubernetes API.

use serde::{Deserialize, Serialize};

use super::or_default;
use crate::model::selector::{Operator, Requirement, Term};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Affinity {
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

impl Affinity {
    /// The terms of which one must match, where any are required.
    pub(super) fn terms(self) -> Option<Vec<Term>> {
        let required = self.node_affinity?.required?;
        Some(required.node_selector_terms.into_iter().map(TermObject::term).collect())
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
