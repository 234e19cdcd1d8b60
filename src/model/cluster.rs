//! `kind: Cluster`: how a cluster is reached, and what drover does there.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::Bootstrap;
use super::node::Hold;
use super::number::{ByteSize, Count, Fraction};
use super::path::{Bind, DirectoryMode, HostPath, Owner, StoragePath};
use super::text::RancherId;
use super::time::{Deadline, Interval, Schedule, ZoneName};
use super::{ApiVersion, ClusterName, LabelKey, LabelValue, kind};

kind!(ClusterKind, "Cluster");

/// A Cluster document: how a cluster is reached, and what drover does there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover Cluster")]
pub struct ClusterManifest {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// The kind of this document.
    pub kind: ClusterKind,
    /// Its name.
    pub metadata: ClusterMetadata,
    /// How it is reached, and what drover does there.
    pub spec: ClusterSpec,
}

/// The name of a Cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterMetadata {
    /// The name that Node and Group documents use.
    pub name: ClusterName,
}

/// How a cluster is reached, and what drover does there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// How it is reached.
    pub connection: Connection,
    /// Whether drover changes it or only reports.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// How long drover waits for an answer before it reports the cluster as unreachable (default 10s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
    /// What the kubelet of every machine must see of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<Kubelet>,
    /// The storage paths that every machine must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// What a new machine needs before it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// How machines move between groups by load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// When changes may be applied; always, where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Guards that are lifted for a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
    /// Nothing is written until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Hold>,
}

impl ClusterSpec {
    /// The files that it names beside the documents of the state: a dump of the cluster, the cluster.yml of RKE.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let config = self.kubelet.as_ref().and_then(|kubelet| kubelet.rke.as_ref()).map(|rke| rke.config.as_str());
        self.connection.file.as_deref().into_iter().chain(config)
    }
}

/// How a cluster is reached: by a kubeconfig, from inside it, or not at all (a dump of its objects).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Connection {
    /// A kubeconfig file; where only a context is given, the files that kubectl would use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// The context in the kubeconfig; its current one where this is omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// drover runs inside this cluster and uses its own service account.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_cluster: bool,
    /// A dump of live objects, relative to the root of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Whether drover changes a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Changes are applied.
    #[default]
    Enforce,
    /// Differences are reported, and nothing is ever written.
    Observe,
}

impl Mode {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the kubelet of every machine must see of its host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubelet {
    /// What configures the kubelets of this cluster.
    pub manager: KubeletManager,
    /// Of `manager: rke`: where its configuration lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rke: Option<Rke>,
    /// Of `manager: rancher`: which cluster of which Rancher it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rancher: Option<Rancher>,
    /// Host directories bound into the kubelet container. Binds that are live and not named here are left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_binds: Vec<Bind>,
    /// Destinations of binds that must not be there any more: drover removes a bind only where this says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_binds: Vec<HostPath>,
    /// For how long a change is followed until every kubelet has it (default 1h).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
}

/// Where the configuration of a cluster that RKE1 made lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rke {
    /// Its cluster.yml, relative to the root of the state, or an absolute path beside it.
    pub config: String,
}

/// Which cluster of which Rancher this is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rancher {
    /// How the cluster in which Rancher itself runs is reached.
    pub connection: Connection,
    /// The id that Rancher gave this cluster, such as `c-x7k2p`.
    pub cluster: RancherId,
}

/// What configures the kubelets of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubeletManager {
    /// RKE1, through its cluster.yml.
    Rke,
    /// RKE1 under Rancher.
    Rancher,
    /// The kubelet runs on the host (RKE2, K3s, kubeadm): binds do not apply.
    None,
}

impl KubeletManager {
    /// Whether binds of the kubelet exist there at all.
    pub fn has_binds(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for KubeletManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rke => "rke",
            Self::Rancher => "rancher",
            Self::None => "none",
        })
    }
}

/// The storage paths that every machine must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// Where pods look for the distributed file system: a path in its mount, or a symbolic link to one.
    pub root: HostPath,
    /// The directory inside a mount that the root is a symbolic link to, where it is one; agents make the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<HostPath>,
    /// File-system types that count as distributed (default: the usual ones, such as nfs4, ceph and fuse.juicefs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_systems: Vec<String>,
    /// What may be mounted, as `mount` shows it, such as `10.0.0.5:/k8s`; a `*` at the end stands for any rest. Anything,
    /// where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Directories below the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<Directory>,
    /// The root may lie on the machine's own disk: pods get their volumes from a CSI driver, and only the directories count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// The least free space of the file system, such as `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free: Option<ByteSize>,
    /// Agents also write and remove a file to see that it can be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_test: bool,
    /// Who tells whether the storage of a machine is as it must be (default: its agent).
    #[serde(default, skip_serializing_if = "Verify::is_default")]
    pub verify: Verify,
    /// How long a look at the file system may take before it counts as hung (default 10s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_timeout: Option<Interval>,
    /// How old the last word of an agent may be before nothing is known of its machine (default 15m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Interval>,
}

/// Who tells whether the storage of a machine is as it must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// The agent on it: labels that attract work are only set on machines whose storage it has verified.
    #[default]
    Agent,
    /// Nobody: there are no agents, and labels are set without looking.
    None,
}

impl Verify {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A directory below the storage root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    /// Its path, relative to the root.
    pub path: StoragePath,
    /// Its permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DirectoryMode>,
    /// Whose it is: the numbers of a user and a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Only machines with one of these platform roles need it; all do, where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<LabelKey>,
}

/// How machines move between groups by load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rebalance {
    /// How machines are chosen (default `demand`).
    #[serde(skip_serializing_if = "Policy::is_default")]
    pub policy: Policy,
    /// How often it looks (default 5m).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Interval>,
    /// Of `cube`: the difference in load, as a fraction of capacity, from which a machine moves (default 0.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Fraction>,
    /// How long a pod waits before it counts as short of resources (default: no time with `demand`, 5m with `cube`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_after: Option<Interval>,
    /// Of `demand`: how long the pods that a move would start must have waited, times the share of a machine that they take
    /// (default 2m: pods that fill a machine move one after two minutes, those that take an eighth of one after a quarter
    /// of an hour). Longer saves moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<Interval>,
    /// The namespaces whose pods count; all, where none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Labels that a machine must carry, by its document, so that it may be moved; where none are named, `shareable` is
    /// enough. A selector such as {train: "true"} keeps machines for other work where they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub eligible: BTreeMap<LabelKey, LabelValue>,
    /// Extended resources that count beside cpu, memory and nvidia.com/gpu.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<LabelKey>,
    /// For how long a machine does not go back to the group that it came from (default 1h).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Interval>,
    /// For how long a machine is left alone that a person took back (default 7d).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub veto: Option<Interval>,
    /// The most moves of one pass (default 10).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_moves: Option<Count>,
    /// The most moves of any 24 hours (default: no limit).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_moves: Option<Count>,
    /// Only machines on which no pod of a group runs may move (default: where the guard `running-pods` is lifted, machines
    /// whose pods leave room may move too; pods stay where they run).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idle_only: bool,
    /// In which order the scheduler starts the waiting pods of a group (default `any`).
    #[serde(skip_serializing_if = "Order::is_default")]
    pub order: Order,
}

/// How the rebalancer chooses machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Machines go where work waits and they would let it start.
    #[default]
    Demand,
    /// One machine a pass goes from the least loaded group to one that waits, or to the most loaded one.
    Cube,
    /// No machine moves.
    Off,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Demand => "demand",
            Self::Cube => "cube",
            Self::Off => "off",
        })
    }
}

impl Policy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// In which order the scheduler starts the waiting pods of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Whatever fits starts, as kube-scheduler does.
    #[default]
    Any,
    /// Strictly by age: what does not fit holds back everything younger of its group, as queueing schedulers can do.
    Fifo,
}

impl Order {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A time in which changes may be applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// When it opens: a cron expression of five fields.
    pub schedule: Schedule,
    /// How long it stays open.
    pub duration: Interval,
    /// The time zone of the schedule (default UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneName>,
}

/// A guard that is lifted for a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// Which guard.
    pub guard: Guard,
    /// When it holds again.
    pub until: Deadline,
    /// Who asked for it.
    pub owner: String,
    /// Why.
    pub reason: String,
}

/// A named safety check of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// Too large a share of a cluster's managed nodes would change.
    TooManyNodes,
    /// A cluster would lose all its Node documents.
    EmptyState,
    /// A platform role would exist on no node.
    LastPlatformRole,
    /// A group would fall under its guarantee.
    BelowGuarantee,
    /// Running pods would no longer match their node.
    RunningPods,
    /// No maintenance window of the cluster is open.
    OutsideWindow,
    /// The cluster, or the whole fleet, is suspended.
    Suspended,
    /// Another manager keeps undoing a change: drover leaves that label alone for a while.
    Fighting,
    /// The kubelets of the cluster would restart, since their binds change.
    KubeletRestart,
    /// A node would attract work while its storage is not verified: those labels wait.
    StorageUnverified,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 10] = [
        Self::TooManyNodes,
        Self::EmptyState,
        Self::LastPlatformRole,
        Self::BelowGuarantee,
        Self::RunningPods,
        Self::OutsideWindow,
        Self::Suspended,
        Self::Fighting,
        Self::KubeletRestart,
        Self::StorageUnverified,
    ];

    /// Whether it holds back the binds of kubelets and nothing else.
    pub fn is_of_binds(self) -> bool {
        matches!(self, Self::KubeletRestart | Self::StorageUnverified)
    }

    /// Its name in state files, on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooManyNodes => "too-many-nodes",
            Self::EmptyState => "empty-state",
            Self::LastPlatformRole => "last-platform-role",
            Self::BelowGuarantee => "below-guarantee",
            Self::RunningPods => "running-pods",
            Self::OutsideWindow => "outside-window",
            Self::Suspended => "suspended",
            Self::Fighting => "fighting",
            Self::KubeletRestart => "kubelet-restart",
            Self::StorageUnverified => "storage-unverified",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
