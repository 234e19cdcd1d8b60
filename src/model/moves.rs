//! A machine that goes to another group, whoever decided it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClusterName, GroupName, NodeName};

/// One machine that goes to another group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Move {
    /// The cluster.
    pub cluster: ClusterName,
    /// The machine.
    pub node: NodeName,
    /// The group that it leaves; none where it is in no group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<GroupName>,
    /// The group that it goes to.
    pub to: GroupName,
    /// Why, in words for a person.
    pub reason: String,
}

impl Move {
    /// The group that it leaves, for a person.
    pub fn from_shown(&self) -> &str {
        self.from.as_ref().map_or("(none)", GroupName::as_str)
    }
}
