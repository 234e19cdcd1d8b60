//! The storage of one machine: what it must be, as drover asks the machine's agent, and what the agent saw.
//!
//! The two are the `spec` and the `status` of a NodeStorage object, one for each machine and named like it. drover writes
//! the first, the agent the second.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::{DirectoryMode, HostPath, Owner, StoragePath};

/// The kind of the custom resource.
pub const KIND: &str = "NodeStorage";
/// The name of the custom resource in addresses.
pub const PLURAL: &str = "nodestorages";
/// The type of the Node condition that the agent sets.
pub const CONDITION: &str = "StorageReady";

/// File-system types that count as distributed where a Cluster names none.
pub const DISTRIBUTED: [&str; 12] = [
    "nfs",
    "nfs4",
    "ceph",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "lustre",
    "beegfs",
    "gpfs",
    "fuse.alluxio-fuse",
    "fuse.curvefs",
];

/// The storage of a machine, as the cluster's API tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedStorage {
    /// What its agent is asked for; none where this drover cannot read that.
    pub wanted: Option<StorageWanted>,
    /// Counts the changes of that.
    pub generation: i64,
    /// What its agent saw last.
    pub report: Option<StorageReport>,
}

impl ObservedStorage {
    /// Whether a plan would be the same: a heartbeat moves times, and nothing that drover decides by.
    pub fn is_alike(&self, other: &Self) -> bool {
        let facts = |storage: &Self| {
            storage.report.as_ref().map(|report| {
                (
                    report.observed_generation,
                    report.verdict,
                    report.reason,
                    report.message.clone(),
                    report.boot_id.clone(),
                )
            })
        };
        (&self.wanted, self.generation) == (&other.wanted, other.generation) && facts(self) == facts(other)
    }
}

/// What the storage of a machine must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", expecting = "a mapping with `root`, `fileSystems` and `timeoutSeconds`")]
pub struct StorageWanted {
    /// Where pods look for it.
    pub root: HostPath,
    /// The directory inside a mount that the root is a symbolic link to; none where the root lies in the mount itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<HostPath>,
    /// The root may lie on a local disk: the machine serves the file system itself, or volumes come from elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// The file-system types that count.
    pub file_systems: Vec<String>,
    /// What may be mounted, as `mount` shows it; a `*` at the end stands for any rest. Anything, where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Directories below the root, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub directories: BTreeMap<StoragePath, WantedDirectory>,
    /// The kubelet must see the same mount in its own mount namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kubelet: bool,
    /// The least free space, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free_bytes: Option<u64>,
    /// Whether a file is written and removed to see that it can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_test: bool,
    /// How long a look at the file system may take, in seconds.
    pub timeout_seconds: u32,
}

/// A directory that a machine must have below the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WantedDirectory {
    /// Its permission bits; as it is created, where none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DirectoryMode>,
    /// Whose it is; as it is created, where nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// What an agent saw of the storage of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageReport {
    /// The generation of the spec that was looked at.
    pub observed_generation: i64,
    /// When, in UTC by the machine's clock.
    #[schemars(with = "String")]
    pub checked: Timestamp,
    /// Since when the verdict is what it is; kept here, so that an agent that starts anew goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why, in one word.
    pub reason: StorageReason,
    /// Why, for a person.
    pub message: String,
    /// Tells one start of the machine from another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// The version of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// The mount that the root lies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountFact>,
    /// What the kubelet sees there.
    #[serde(default)]
    pub kubelet: KubeletView,
    /// Free space, in bytes, in steps of a hundredth of the whole, so that use alone makes no new report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// The whole space, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Directories that are not as asked for, with what is wrong.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub directories: BTreeMap<String, String>,
}

/// What the facts of a machine come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The storage is as asked for.
    Verified,
    /// It is not.
    Failed,
    /// It could not be looked at.
    Unknown,
}

/// Why a verdict is what it is: the reason of the Node condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StorageReason {
    /// Everything is as asked for.
    StorageVerified,
    /// Nothing is at the root.
    RootMissing,
    /// The root lies on the machine's own disk.
    NotMounted,
    /// The root lies on a file system of another type.
    WrongFileSystem,
    /// Something else is mounted there.
    WrongSource,
    /// The root is no link, or one to somewhere else.
    WrongLink,
    /// The mount is read-only, or the write test failed.
    NotWritable,
    /// Less space is free than asked for, or none.
    NoSpace,
    /// A directory is missing and cannot be made.
    DirectoryMissing,
    /// A directory has another mode or owner, and it cannot be set.
    WrongDirectory,
    /// A path leads out of the root.
    UnsafePath,
    /// The kubelet does not see the path at all: its bind is missing.
    KubeletBindMissing,
    /// The kubelet sees something else there: it was started before the mount, or the bind does not propagate.
    KubeletViewStale,
    /// The kubelet does not run, so that nobody knows what it will see.
    KubeletNotFound,
    /// The file system answers with an error.
    ProbeFailed,
    /// The file system does not answer.
    ProbeTimeout,
    /// The agent itself cannot look: it lacks a right, or does not understand what is asked.
    AgentFailed,
}

/// The mount that a path lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MountFact {
    /// Where it is mounted.
    pub mount_point: String,
    /// The file-system type.
    pub file_system: String,
    /// What is mounted.
    pub source: String,
    /// Whether it is read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What the kubelet sees at the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KubeletView {
    /// Nobody looked.
    #[default]
    Unknown,
    /// No kubelet runs.
    NotFound,
    /// It sees the same mount.
    Same,
    /// It sees nothing of it: a bind is missing.
    Missing,
    /// It sees something else: it was started before the mount, or the bind does not propagate.
    Stale,
}

impl StorageWanted {
    /// What it comes to, in one line.
    pub fn summary(&self) -> String {
        let on = match self.local {
            true => "on any disk".to_owned(),
            false if self.file_systems == DISTRIBUTED => "on a distributed file system".to_owned(),
            false => format!("on {}", self.file_systems.join(", ")),
        };
        let link = self.link.as_ref().map(|link| format!(" → {link}")).unwrap_or_default();
        match self.directories.len() {
            0 => format!("{}{link} {on}", self.root),
            1 => format!("{}{link} {on}, 1 directory", self.root),
            directories => format!("{}{link} {on}, {directories} directories", self.root),
        }
    }

    /// What it comes to, name by name, for people.
    pub fn fields(&self) -> BTreeMap<String, String> {
        let mut fields: BTreeMap<String, String> = [
            ("storage root", self.root.to_string()),
            ("storage types", if self.local { "any, also local".to_owned() } else { self.file_systems.join(", ") }),
            ("storage timeout", format!("{}s", self.timeout_seconds)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        set("storage link", self.link.as_ref().map(ToString::to_string));
        set("storage sources", (!self.sources.is_empty()).then(|| self.sources.join(", ")));
        set("storage kubelet", self.kubelet.then(|| "sees the same mount".to_owned()));
        set("storage min-free", self.min_free_bytes.map(|bytes| format!("{bytes} bytes")));
        set("storage write-test", self.write_test.then(|| "true".to_owned()));
        for (path, directory) in &self.directories {
            let of =
                [directory.mode.as_ref().map(ToString::to_string), directory.owner.as_ref().map(ToString::to_string)];
            let value: Vec<String> = of.into_iter().flatten().collect();
            set(
                &format!("directory {path}"),
                Some(if value.is_empty() { "any mode".to_owned() } else { value.join(" ") }),
            );
        }
        fields
    }
}

/// What differs between two ways of asking for storage, name by name: the first value, and the second.
pub fn differences(
    first: Option<&StorageWanted>,
    second: Option<&StorageWanted>,
) -> Vec<(String, Option<String>, Option<String>)> {
    let fields = |wanted: Option<&StorageWanted>| wanted.map(StorageWanted::fields).unwrap_or_default();
    let (mut first, mut second) = (fields(first), fields(second));
    let names: BTreeSet<String> = first.keys().chain(second.keys()).cloned().collect();
    let pairs = names.into_iter().map(|name| {
        let (first, second) = (first.remove(&name), second.remove(&name));
        (name, first, second)
    });
    pairs.filter(|(_, first, second)| first != second).collect()
}

impl StorageReason {
    /// Its name, as the condition has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StorageVerified => "StorageVerified",
            Self::RootMissing => "RootMissing",
            Self::NotMounted => "NotMounted",
            Self::WrongFileSystem => "WrongFileSystem",
            Self::WrongSource => "WrongSource",
            Self::WrongLink => "WrongLink",
            Self::NotWritable => "NotWritable",
            Self::NoSpace => "NoSpace",
            Self::DirectoryMissing => "DirectoryMissing",
            Self::WrongDirectory => "WrongDirectory",
            Self::UnsafePath => "UnsafePath",
            Self::KubeletBindMissing => "KubeletBindMissing",
            Self::KubeletViewStale => "KubeletViewStale",
            Self::KubeletNotFound => "KubeletNotFound",
            Self::ProbeFailed => "ProbeFailed",
            Self::ProbeTimeout => "ProbeTimeout",
            Self::AgentFailed => "AgentFailed",
        }
    }

    /// What the facts come to. What could not be looked at is no failure of the storage.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::StorageVerified => Verdict::Verified,
            Self::ProbeTimeout | Self::KubeletNotFound | Self::AgentFailed => Verdict::Unknown,
            _ => Verdict::Failed,
        }
    }
}
