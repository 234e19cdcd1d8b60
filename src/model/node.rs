//! `kind: Node`: one managed machine of a cluster.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::path::HostPath;
use super::text::Invalid;
use super::time::Deadline;
use super::{ApiVersion, ClusterName, GroupName, LabelKey, LabelValue, NodeName, kind};

kind!(NodeKind, "Node");

/// A Node document: the labels that one machine must carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover Node")]
pub struct NodeManifest {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// The kind of this document.
    pub kind: NodeKind,
    /// Which machine this is.
    pub metadata: NodeMetadata,
    /// What it must be.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub spec: NodeSpec,
}

/// Which machine of which cluster a Node document is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeMetadata {
    /// The name that the machine has in its cluster.
    pub name: NodeName,
    /// The cluster it belongs to.
    pub cluster: ClusterName,
}

/// What a machine must be. Vocabulary labels that are not asked for are removed from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeSpec {
    /// The resource group that the machine belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// The rebalancer may move it to another group.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shareable: bool,
    /// Hardware that pods may select.
    #[serde(skip_serializing_if = "Devices::is_empty")]
    pub devices: Devices,
    /// Kinds of work that it takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("uniqueItems" = true))]
    pub workloads: Vec<Workload>,
    /// Control-plane roles that it runs; the Fleet lists those that exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("uniqueItems" = true))]
    pub platform: Vec<LabelKey>,
    /// Any further labels, outside the vocabulary and the domains of Kubernetes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Vocabulary keys that drover leaves alone on this machine, for values that the vocabulary cannot say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("uniqueItems" = true))]
    pub unmanaged: Vec<LabelKey>,
    /// Keeps the rebalancer away for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Where its storage is another one than that of its cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageException>,
}

/// How the storage of a machine departs from that of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageException {
    /// The root may lie on the machine's own disk, as on the server of the file system itself.
    pub local: bool,
    /// Where the root leads to on this machine, where it is a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<HostPath>,
    /// Why.
    pub reason: String,
}

/// Hardware that pods may select.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Devices {
    /// CPU work may land here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cpu: bool,
    /// The GPU model, or `true` where the model does not matter.
    #[serde(skip_serializing_if = "Gpu::is_none")]
    pub gpu: Gpu,
    /// GPUs are shared between pods.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vgpu: bool,
    /// The machine is on an RDMA network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rdma: bool,
}

impl Devices {
    /// Whether no hardware is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a machine has GPUs, and of which model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Gpu {
    /// `false`: none.
    #[default]
    None,
    /// `true`: some, of no particular model.
    Any,
    /// The model, as pods ask for it.
    Model(LabelValue),
}

impl Serialize for Gpu {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_bool(false),
            Self::Any => serializer.serialize_bool(true),
            Self::Model(model) => model.serialize(serializer),
        }
    }
}

impl JsonSchema for Gpu {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Gpu".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let model = generator.subschema_for::<LabelValue>();
        schemars::json_schema!({ "anyOf": [{ "type": "boolean" }, { "allOf": [model], "minLength": 1 }] })
    }
}

impl Gpu {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl<'de> Deserialize<'de> for Gpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Gpu;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a GPU model in text, or true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Gpu, E> {
                Ok(if value { Gpu::Any } else { Gpu::None })
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Gpu, E> {
                if value.is_empty() {
                    let help = "name the model, or write true for any and false for none";
                    return Err(E::custom(Invalid::new("the GPU model is empty", help)));
                }
                value.parse().map(Gpu::Model).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A kind of work that a machine may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Training jobs.
    Train,
    /// Notebooks.
    Notebook,
    /// Inference services.
    Service,
}

/// Something is left alone for a time: a machine by the rebalancer, a cluster by drover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// When it ends.
    pub until: Deadline,
    /// Who asked for it.
    pub owner: String,
    /// Why.
    pub reason: String,
}
