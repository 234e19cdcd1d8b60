//! What a kubelet says of its machine.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeInfoObject {
    #[serde(default, rename = "bootID")]
    pub(super) boot_id: Box<str>,
    #[serde(default)]
    pub(super) container_runtime_version: Box<str>,
    #[serde(default)]
    pub(super) kernel_version: Box<str>,
}

impl NodeInfoObject {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
