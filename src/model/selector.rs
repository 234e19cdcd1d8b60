//! Which nodes a pod may be on: its nodeSelector and required node affinity, as the scheduler reads them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The node constraints of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeSelection {
    /// `spec.nodeSelector`: all must match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must match; `None` where the pod has no such affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<Vec<Term>>,
}

/// One term of required node affinity: all its requirements must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Term {
    /// Requirements on labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Requirement>,
    /// Requirements on fields of the node, of which Kubernetes knows only `metadata.name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Requirement>,
}

/// A requirement on one label or field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label key or field.
    pub key: String,
    /// How its value is compared.
    pub operator: Operator,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The value is one of the listed ones.
    In,
    /// The key is absent or its value is none of the listed ones.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is an integer above the listed one.
    Gt,
    /// The value is an integer below the listed one.
    Lt,
}

impl NodeSelection {
    /// Whether a node with these labels may hold the pod.
    pub fn matches(&self, node: &str, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node, labels)))
    }

    /// Whether any label constrains the pod at all.
    pub fn is_bound_to_labels(&self) -> bool {
        !self.labels.is_empty() || self.terms.is_some()
    }
}

impl Term {
    fn matches(&self, node: &str, labels: &BTreeMap<String, String>) -> bool {
        // An empty term matches no node: so the scheduler defines it.
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        self.labels.iter().all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
            && self
                .fields
                .iter()
                .all(|requirement| requirement.holds((requirement.key == "metadata.name").then_some(node)))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let left = value.and_then(|value| value.parse().ok());
            let right = self.values.first().and_then(|value| value.parse().ok());
            matches!((left, right), (Some(left), Some(right)) if holds(&left, &right))
        };
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compare(i64::gt),
            Operator::Lt => compare(i64::lt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn require(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: key.into(), operator, values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    fn affinity(requirement: Requirement) -> NodeSelection {
        NodeSelection {
            terms: Some(vec![Term { labels: vec![requirement], fields: vec![] }]),
            ..NodeSelection::default()
        }
    }

    #[test]
    fn node_selector_needs_every_label() {
        let pod = NodeSelection { labels: labels(&[("org", "ads"), ("gpu", "true")]), terms: None };
        assert!(pod.matches("n", &labels(&[("org", "ads"), ("gpu", "true"), ("x", "y")])));
        assert!(!pod.matches("n", &labels(&[("org", "ads")])));
    }

    #[test]
    fn operators_read_as_the_scheduler_does() {
        let node = labels(&[("org", "ads"), ("cores", "64")]);
        for (requirement, expected) in [
            (require("org", Operator::In, &["ads", "b"]), true),
            (require("org", Operator::NotIn, &["ads"]), false),
            (require("zone", Operator::NotIn, &["a"]), true),
            (require("org", Operator::Exists, &[]), true),
            (require("org", Operator::DoesNotExist, &[]), false),
            (require("cores", Operator::Gt, &["32"]), true),
            (require("cores", Operator::Lt, &["32"]), false),
            (require("org", Operator::Gt, &["32"]), false),
        ] {
            assert_eq!(affinity(requirement.clone()).matches("n", &node), expected, "{requirement:?}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_an_empty_one_matches_nothing() {
        let node = labels(&[("org", "ads")]);
        let none = NodeSelection { terms: Some(vec![Term::default()]), ..NodeSelection::default() };
        assert!(!none.matches("n", &node));
        let by_name = Term { fields: vec![require("metadata.name", Operator::In, &["n"])], labels: vec![] };
        let either = NodeSelection { terms: Some(vec![Term::default(), by_name]), ..NodeSelection::default() };
        assert!(either.matches("n", &node));
        assert!(!either.matches("m", &node));
    }
}
