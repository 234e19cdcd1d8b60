//! The desired state: a validated repository, resolved to the labels of every managed node.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::Hold;
use super::{
    ClusterName, ClusterSpec, FleetSpec, GroupName, GroupSpec, LabelKey, LabelValue, NodeManifest, NodeName, Origin,
    Vocabulary,
};

/// Everything that a state repository asks for.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Settings for all clusters.
    pub fleet: Arc<FleetSpec>,
    /// The label keys that drover owns.
    pub vocabulary: Arc<Vocabulary>,
    /// The groups by name.
    pub groups: BTreeMap<GroupName, DesiredGroup>,
    /// The clusters by name.
    pub clusters: BTreeMap<ClusterName, DesiredCluster>,
}

/// A group, and where it is written.
#[derive(Debug, Clone)]
pub struct DesiredGroup {
    /// The value of the group label.
    pub org: LabelValue,
    /// The rest of its document.
    pub spec: Arc<GroupSpec>,
    /// The place of its name.
    pub origin: Origin,
}

/// A cluster, its nodes, and where it is written.
#[derive(Debug, Clone)]
pub struct DesiredCluster {
    /// Its document.
    pub spec: Arc<ClusterSpec>,
    /// The place of its name.
    pub origin: Origin,
    /// The places of its kubelet section, where it has one.
    pub kubelet: Option<KubeletOrigins>,
    /// The managed nodes by name.
    pub nodes: BTreeMap<NodeName, Arc<DesiredNode>>,
}

/// Where the kubelet section of a Cluster document asks for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletOrigins {
    /// The place of its manager.
    pub manager: Origin,
    /// The place of each of its binds.
    pub binds: Vec<Origin>,
    /// The place of each destination that must go.
    pub removed: Vec<Origin>,
}

/// A managed node.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredNode {
    /// Its name in the cluster.
    pub name: NodeName,
    /// The group it belongs to.
    pub group: Option<GroupName>,
    /// The place of its name.
    pub origin: Origin,
    /// Its document.
    pub document: Arc<NodeManifest>,
    /// The labels it must carry, ordered by key.
    pub labels: Vec<DesiredLabel>,
    /// Vocabulary keys that drover leaves alone on it.
    pub unmanaged: Vec<LabelKey>,
    /// Keeps the rebalancer away.
    pub hold: Option<Hold>,
}

/// A label that a node must carry, and the line that asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredLabel {
    /// Its key.
    pub key: LabelKey,
    /// Its value.
    pub value: LabelValue,
    /// The place that asks for it.
    pub origin: Origin,
}

impl DesiredNode {
    /// The label of this key, if the node must carry one.
    pub fn label(&self, key: &str) -> Option<&DesiredLabel> {
        self.labels.binary_search_by(|label| label.key.as_str().cmp(key)).ok().map(|index| &self.labels[index])
    }

    /// Whether drover leaves this vocabulary key alone on the node.
    pub fn leaves_alone(&self, key: &str) -> bool {
        self.unmanaged.iter().any(|left| left == key)
    }
}
