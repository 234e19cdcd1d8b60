//! When the containers of a pod ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ContainerState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
}

impl ContainerStatus {
    pub(super) fn is_over(&self) -> bool {
        self.state.terminated.is_some()
    }
}

/// When the last of the containers ended, where they say so.
pub(super) fn ended(statuses: &[ContainerStatus]) -> Option<Timestamp> {
    let ends = statuses.iter().filter_map(|status| status.state.terminated.as_ref()?.finished_at.as_ref());
    ends.filter_map(|time| time.parse().ok()).max()
}
