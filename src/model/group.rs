//! `kind: Group`: a resource group, used by project groups.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApiVersion, ClusterName, GroupName, LabelValue, kind};

kind!(GroupKind, "Group");

/// A Group document: machines of this group carry its `org` value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover Group")]
pub struct GroupManifest {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// The kind of this document.
    pub kind: GroupKind,
    /// Its name.
    pub metadata: GroupMetadata,
    /// What it is.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub spec: GroupSpec,
}

/// The name of a Group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupMetadata {
    /// The name that Node documents use.
    pub name: GroupName,
}

/// What a group is called on machines, what it is guaranteed, and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GroupSpec {
    /// The value of the group label; the group's name where it is omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<LabelValue>,
    /// The least that the group must keep, by cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub guarantee: BTreeMap<ClusterName, Guarantee>,
    /// The most that the rebalancer gives the group, by cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ceiling: BTreeMap<ClusterName, Guarantee>,
    /// How much the group's need counts against others' in the rebalancer (default 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<super::number::Weight>,
    /// Who answers for the group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// The project groups that use it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
}

/// The least that a group must keep in one cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Guarantee {
    /// Machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Allocatable CPU cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Allocatable GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
}
