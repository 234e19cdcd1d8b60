//! `kind: Fleet`: settings for all clusters of a state repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::node::Hold;
use super::notice::{NoticeKind, Severity};
use super::number::Percent;
use super::path::HostPath;
use super::text::known;
use super::write_back::WriteBack;
use super::{ApiVersion, ClusterName, GroupName, LabelKey, kind};

kind!(FleetKind, "Fleet");

/// A Fleet document: settings for all clusters of the repository. There may be at most one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover Fleet")]
pub struct FleetManifest {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// The kind of this document.
    pub kind: FleetKind,
    /// Its name.
    pub metadata: FleetMetadata,
    /// Its settings.
    #[serde(default)]
    pub spec: FleetSpec,
}

/// The name of a Fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetMetadata {
    /// What people call this fleet.
    pub name: ClusterName,
}

/// Settings for all clusters. Every one has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FleetSpec {
    /// Which label keys drover owns on managed nodes.
    pub labels: VocabularySpec,
    /// The group of nodes that name none. Without it such nodes are in no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_group: Option<GroupName>,
    /// When a plan is too large to be applied without being allowed.
    pub limits: Limits,
    /// Nothing is written to any cluster until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Hold>,
    /// How drover commits the moves of machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_back: Option<WriteBack>,
    /// Where drover's daemon tells people what it did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notifications: Vec<Notification>,
}

/// The label keys of the vocabulary; the defaults are those of cube-studio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VocabularySpec {
    /// The machine offers CPU to pods.
    pub cpu: LabelKey,
    /// The machine has GPUs.
    pub gpu: LabelKey,
    /// The model of its GPUs.
    pub gpu_type: LabelKey,
    /// The machine shares GPUs between pods.
    pub vgpu: LabelKey,
    /// The machine has an RDMA network.
    pub rdma: LabelKey,
    /// The machine takes training jobs.
    pub train: LabelKey,
    /// The machine takes notebooks.
    pub notebook: LabelKey,
    /// The machine takes inference services.
    pub service: LabelKey,
    /// The resource group that the machine belongs to.
    pub group: LabelKey,
    /// The rebalancer may move the machine.
    pub share: LabelKey,
    /// Keys of control-plane roles that `spec.platform` of a Node may name.
    #[schemars(extend("uniqueItems" = true))]
    pub platform: Vec<LabelKey>,
}

impl Default for VocabularySpec {
    fn default() -> Self {
        let platform = ["mysql", "redis", "kubeflow-dashboard", "kubeflow", "istio", "monitoring", "logging"];
        Self {
            cpu: known("cpu"),
            gpu: known("gpu"),
            gpu_type: known("gpu-type"),
            vgpu: known("vgpu"),
            rdma: known("rdma"),
            train: known("train"),
            notebook: known("notebook"),
            service: known("service"),
            group: known("org"),
            share: known("share"),
            platform: platform.into_iter().map(known).collect(),
        }
    }
}

/// Limits of the guard `too-many-nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// The share of a cluster's managed nodes, in percent, that one plan may change.
    pub changed_nodes_percent: Percent,
    /// Clusters with fewer managed nodes are not limited.
    pub from_nodes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { changed_nodes_percent: Percent::THIRTY, from_nodes: 10 }
    }
}

/// A webhook that is told what drover did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notification {
    /// The form of the message.
    #[serde(rename = "type")]
    pub form: NotificationForm,
    /// A file on the daemon's machine that holds the address; addresses are secrets and never live in state.
    pub url_file: HostPath,
    /// A file on the daemon's machine that holds the key which messages are signed with: those of type `generic` in
    /// the header `X-Drover-Signature-256`, those of type `feishu` as its signed robots expect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<HostPath>,
    /// Only notices of these kinds. Without it, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<NoticeKind>,
    /// Only what concerns these clusters, or the whole fleet. Without it, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterName>,
    /// Only notices that matter at least this much.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub min_severity: Severity,
}

/// The form of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotificationForm {
    /// drover's own JSON.
    Generic,
    /// A Slack incoming webhook.
    Slack,
    /// A WeCom group robot.
    Wecom,
    /// A Feishu group robot.
    Feishu,
}

impl NotificationForm {
    /// Its name in a state file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Slack => "slack",
            Self::Wecom => "wecom",
            Self::Feishu => "feishu",
        }
    }

    /// Whether its messages can be signed with a key.
    pub fn is_signable(self) -> bool {
        matches!(self, Self::Generic | Self::Feishu)
    }
}
