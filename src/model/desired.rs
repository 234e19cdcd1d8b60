//! The desired state: a validated repository, resolved to the labels of every managed node.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;

use super::cluster::{Directory, KubeletManager, Verify};
use super::node::Hold;
use super::number::ByteSize;
use super::path::StoragePath;
use super::storage::{DISTRIBUTED, StorageWanted, WantedDirectory};
use super::{
    ClusterName, ClusterSpec, FleetSpec, GroupName, GroupSpec, LabelKey, LabelValue, NodeManifest, NodeName, Origin,
    Places, Vocabulary,
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
    /// The places of what its machines are set up by: `storage` and `bootstrap`.
    pub places: Places,
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

impl DesiredCluster {
    /// What the storage of its machines must be, where their agents tell; none where nobody does.
    pub fn storage(&self) -> Option<DesiredStorage> {
        let storage = self.spec.storage.as_ref().filter(|storage| storage.verify == Verify::Agent)?;
        let is_for_all = |directory: &&Directory| directory.roles.is_empty();
        let distributed = || DISTRIBUTED.iter().map(|name| (*name).to_owned()).collect();
        let kubelet = self.spec.kubelet.as_ref();
        let common = StorageWanted {
            root: storage.root.clone(),
            link: storage.link.clone(),
            local: storage.local,
            file_systems: if storage.file_systems.is_empty() { distributed() } else { storage.file_systems.clone() },
            sources: storage.sources.clone(),
            directories: storage.directories.iter().filter(is_for_all).map(wanted).collect(),
            kubelet: kubelet.is_some_and(|kubelet| kubelet.manager != KubeletManager::None),
            min_free_bytes: storage.min_free.as_ref().map(ByteSize::bytes),
            write_test: storage.write_test,
            timeout_seconds: storage
                .probe_timeout
                .as_ref()
                .map_or(PROBE_TIMEOUT, |timeout| timeout.duration().as_secs().clamp(1, PROBE_TIMEOUT_MOST) as u32),
        };
        let of_roles = storage.directories.iter().filter(|directory| !is_for_all(directory)).cloned().collect();
        let stale_after = storage
            .stale_after
            .as_ref()
            .map_or(STALE_AFTER, |after| SignedDuration::try_from(after.duration()).unwrap_or(STALE_AFTER));
        Some(DesiredStorage { common, of_roles, stale_after })
    }
}

/// How long a look at a file system may take, in seconds.
const PROBE_TIMEOUT: u32 = 10;
const PROBE_TIMEOUT_MOST: u64 = 3600;
/// How old the last word of an agent may be: three heartbeats.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// What the storage of the machines of a cluster must be.
#[derive(Debug, Clone)]
pub struct DesiredStorage {
    common: StorageWanted,
    /// Directories that only machines with certain platform roles need.
    of_roles: Vec<Directory>,
    /// How old the last word of an agent may be before nothing is known of its machine.
    pub stale_after: SignedDuration,
}

impl DesiredStorage {
    /// What the storage of one machine must be.
    pub fn of(&self, node: &DesiredNode) -> Cow<'_, StorageWanted> {
        let spec = &node.document.spec;
        let needs = |directory: &&Directory| directory.roles.iter().any(|role| spec.platform.contains(role));
        let mut own = self.of_roles.iter().filter(needs).peekable();
        if own.peek().is_none() && spec.storage.is_none() {
            return Cow::Borrowed(&self.common);
        }
        let mut storage = self.common.clone();
        storage.directories.extend(own.map(wanted));
        if let Some(exception) = &spec.storage {
            storage.local = exception.local;
            storage.link = exception.link.clone().or(storage.link);
        }
        Cow::Owned(storage)
    }
}

fn wanted(directory: &Directory) -> (StoragePath, WantedDirectory) {
    let Directory { path, mode, owner, .. } = directory.clone();
    (path, WantedDirectory { mode, owner })
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
