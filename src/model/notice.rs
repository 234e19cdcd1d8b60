//! What drover tells people: notices, and which of them a receiver wants.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClusterName;
use super::fleet::Notification;

/// Something that people are told. Its JSON is the body of a `generic` notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover notice")]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// The cluster that it concerns; none where it concerns the whole fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// What it is about within the cluster: a node, a guard, a revision. The same kind, cluster and subject is the
    /// same matter, which is not told twice while it lasts.
    pub subject: String,
    /// What happened, in one line.
    pub title: String,
    /// Details, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// How much it matters. That something is over has the severity of what is over.
    pub severity: Severity,
    /// When it happened.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Whether the matter is over.
    pub resolved: bool,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    #[default]
    Info,
    /// Someone should look at it.
    Warning,
    /// Someone must act.
    Critical,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// A revision of the state is not followed: it does not validate, or is not trusted.
    RevisionRefused,
    /// A revision of the state is in force.
    RevisionApplied,
    /// A guard refuses what the state asks for.
    PlanRefused,
    /// Labels of a cluster were changed.
    ChangesApplied,
    /// A change could not be made.
    ChangeFailed,
    /// A cluster does not answer.
    ClusterUnreachable,
    /// Another manager sets a label back again and again.
    Fighting,
    /// The repository cannot be read.
    SyncFailed,
    /// A node of the state joined its cluster.
    NodeJoined,
    /// A node of the state left its cluster.
    NodeAbsent,
    /// This replica no longer holds the lease of a cluster.
    LeaseLost,
    /// The storage of a machine is not as it must be: what attracts work there is taken off.
    StorageFailed,
    /// The rebalancer moved a machine.
    MoveMade,
    /// Pods wait for machines of their group.
    PodsPending,
    /// Pods wait, and no machine can be moved to help them.
    NoMove,
}

impl NoticeKind {
    /// Its name in a state file.
    pub fn name(self) -> &'static str {
        match self {
            Self::RevisionRefused => "revision-refused",
            Self::RevisionApplied => "revision-applied",
            Self::PlanRefused => "plan-refused",
            Self::ChangesApplied => "changes-applied",
            Self::ChangeFailed => "change-failed",
            Self::ClusterUnreachable => "cluster-unreachable",
            Self::Fighting => "fighting",
            Self::SyncFailed => "sync-failed",
            Self::NodeJoined => "node-joined",
            Self::NodeAbsent => "node-absent",
            Self::LeaseLost => "lease-lost",
            Self::StorageFailed => "storage-failed",
            Self::MoveMade => "move-made",
            Self::PodsPending => "pods-pending",
            Self::NoMove => "no-move",
        }
    }

    /// Whether it is a condition that lasts until it is told to be over; the others happen once.
    pub fn lasts(self) -> bool {
        match self {
            Self::RevisionRefused
            | Self::PlanRefused
            | Self::ChangeFailed
            | Self::ClusterUnreachable
            | Self::Fighting
            | Self::SyncFailed
            | Self::NodeAbsent
            | Self::LeaseLost
            | Self::StorageFailed
            | Self::PodsPending
            | Self::NoMove => true,
            Self::RevisionApplied | Self::ChangesApplied | Self::NodeJoined | Self::MoveMade => false,
        }
    }
}

impl Notification {
    /// Whether this receiver is told: a notice of the whole fleet concerns every cluster.
    pub fn wants(&self, notice: &Notice) -> bool {
        let of_clusters =
            self.clusters.is_empty() || notice.cluster.as_ref().is_none_or(|cluster| self.clusters.contains(cluster));
        let of_kinds = self.kinds.is_empty() || self.kinds.contains(&notice.kind);
        of_kinds && of_clusters && notice.severity >= self.min_severity
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::NotificationForm;
    use super::super::text::known;
    use super::*;

    #[test]
    fn a_receiver_gets_what_it_asked_for() {
        let all = Notification {
            form: NotificationForm::Generic,
            url_file: known("/url"),
            secret_file: None,
            kinds: Vec::new(),
            clusters: Vec::new(),
            min_severity: Severity::Info,
        };
        let notice = Notice {
            kind: NoticeKind::NodeAbsent,
            cluster: Some(known("prod")),
            subject: "gpu-017".to_owned(),
            title: "gpu-017 left".to_owned(),
            lines: Vec::new(),
            severity: Severity::Warning,
            at: Timestamp::UNIX_EPOCH,
            resolved: false,
        };
        assert!(all.wants(&notice));
        let of_kind = |kind| Notification { kinds: vec![kind], ..all.clone() };
        assert!(of_kind(NoticeKind::NodeAbsent).wants(&notice));
        assert!(!of_kind(NoticeKind::NodeJoined).wants(&notice));
        let from = |min_severity| Notification { min_severity, ..all.clone() };
        assert!(from(Severity::Warning).wants(&notice));
        assert!(!from(Severity::Critical).wants(&notice));
        let dev = Notification { clusters: vec![known("dev")], ..all.clone() };
        assert!(!dev.wants(&notice));
        assert!(dev.wants(&Notice { cluster: None, ..notice }));
    }
}
