//! Numbers for Prometheus. Labels have few values: clusters, guards, kinds of results; never names of nodes or messages.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::notices::Counts;
use crate::adapters::kube::Watched;
use crate::adapters::objects::{NodeObject, PodObject};
use crate::engine::RefusalReason;
use crate::model::Guard;
use crate::model::fleet::NotificationForm;
use crate::report::{DaemonStatus, TenureReport};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCluster {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfForm {
    form: &'static str,
    result: &'static str,
}

/// A cluster, and a kind of thing in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    cluster: String,
    kind: &'static str,
}

/// What becomes of a change of a label.
const CHANGES: [&str; 3] = ["written", "stale", "failed"];
/// What work waits for.
const WAITING: [&str; 2] = ["resources", "otherwise"];

type Seconds = Gauge<f64, AtomicU64>;

/// What the daemon counts as it works.
pub struct Metrics {
    registry: Registry,
    changes: Family<OfKind, Counter>,
    applying: Family<OfCluster, Histogram, fn() -> Histogram>,
    planning: Family<OfCluster, Histogram, fn() -> Histogram>,
    syncing: Histogram,
    heard: Family<OfKind, Counter>,
    lost: Family<OfKind, Counter>,
    events_failed: Family<OfCluster, Counter>,
    syncs: Family<OfResult, Counter>,
    passes: Family<OfKind, Counter>,
    moves: Family<OfCluster, Counter>,
    waiting: Family<OfKind, Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("drover"),
            changes: Family::default(),
            // From 5 ms to about 3 minutes; plans from 0.1 ms to about 3 seconds.
            applying: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 16))),
            planning: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 16))),
            syncing: Histogram::new(exponential_buckets(0.005, 2.0, 16)),
            heard: Family::default(),
            lost: Family::default(),
            events_failed: Family::default(),
            syncs: Family::default(),
            passes: Family::default(),
            moves: Family::default(),
            waiting: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("label_changes", "Label changes by what became of them", metrics.changes.clone());
        registry.register_with_unit(
            "apply",
            "How long it took to apply a plan to a cluster",
            Unit::Seconds,
            metrics.applying.clone(),
        );
        registry.register_with_unit(
            "plan",
            "How long it took to compare a cluster with the state",
            Unit::Seconds,
            metrics.planning.clone(),
        );
        registry.register_with_unit(
            "sync",
            "How long a look at the source of the state took",
            Unit::Seconds,
            metrics.syncing.clone(),
        );
        registry.register("watch_events", "What the watches of a cluster told, by resource", metrics.heard.clone());
        registry.register("watch_failures", "Watches that failed, by resource", metrics.lost.clone());
        registry.register("events_failed", "Events on nodes that could not be written", metrics.events_failed.clone());
        registry.register("syncs", "Looks at the source of the state", metrics.syncs.clone());
        registry.register("rebalance_passes", "Passes of the rebalancer by what they came to", metrics.passes.clone());
        registry.register("moves", "Machines that the rebalancer moved", metrics.moves.clone());
        registry.register("waiting", "Work that waits, for resources or for something else", metrics.waiting.clone());
        metrics
    }

    /// A cluster that is followed from now on. What has not happened to it is told as 0, so that the first time is seen
    /// as a change.
    pub(super) fn begin(&self, cluster: &str) {
        let of = OfCluster { cluster: cluster.to_owned() };
        for kind in CHANGES {
            drop(self.changes.get_or_create(&kind_of(cluster, kind)));
        }
        for resource in [NodeObject::WHAT, PodObject::WHAT] {
            drop(self.heard.get_or_create(&kind_of(cluster, resource)));
            drop(self.lost.get_or_create(&kind_of(cluster, resource)));
        }
        drop(self.events_failed.get_or_create(&of));
        drop(self.applying.get_or_create(&of));
        drop(self.planning.get_or_create(&of));
    }

    /// A cluster that is part of the state no more.
    pub(super) fn forget(&self, cluster: &str) {
        let of = OfCluster { cluster: cluster.to_owned() };
        for kind in CHANGES {
            self.changes.remove(&kind_of(cluster, kind));
        }
        for resource in [NodeObject::WHAT, PodObject::WHAT] {
            self.heard.remove(&kind_of(cluster, resource));
            self.lost.remove(&kind_of(cluster, resource));
        }
        for kind in WAITING {
            self.waiting.remove(&kind_of(cluster, kind));
        }
        self.events_failed.remove(&of);
        self.applying.remove(&of);
        self.planning.remove(&of);
        self.moves.remove(&of);
    }

    /// A pass of the rebalancer came to this.
    pub(super) fn rebalanced(&self, cluster: &str, result: &'static str, moves: usize) {
        self.passes.get_or_create(&kind_of(cluster, result)).inc();
        self.moves.get_or_create(&OfCluster { cluster: cluster.to_owned() }).inc_by(moves as u64);
    }

    /// So much work waits.
    pub(super) fn waits(&self, cluster: &str, resources: usize, otherwise: usize) {
        for (kind, count) in WAITING.into_iter().zip([resources, otherwise]) {
            self.waiting.get_or_create(&kind_of(cluster, kind)).set(count as i64);
        }
    }

    pub(super) fn applied(&self, cluster: &str, written: usize, stale: usize, failed: usize, took: SignedDuration) {
        for (kind, count) in CHANGES.into_iter().zip([written, stale, failed]) {
            self.changes.get_or_create(&kind_of(cluster, kind)).inc_by(count as u64);
        }
        self.applying.get_or_create(&OfCluster { cluster: cluster.to_owned() }).observe(took.as_secs_f64());
    }

    pub(super) fn watch_event(&self, cluster: &str, resource: &'static str) {
        self.heard.get_or_create(&kind_of(cluster, resource)).inc();
    }

    pub(super) fn watch_failure(&self, cluster: &str, resource: &'static str) {
        self.lost.get_or_create(&kind_of(cluster, resource)).inc();
    }

    pub(super) fn event_failed(&self, cluster: &str) {
        self.events_failed.get_or_create(&OfCluster { cluster: cluster.to_owned() }).inc();
    }

    pub(super) fn planned(&self, cluster: &str, took: Duration) {
        self.planning.get_or_create(&OfCluster { cluster: cluster.to_owned() }).observe(took.as_secs_f64());
    }

    pub(super) fn synced(&self, well: bool, took: Duration) {
        self.syncs.get_or_create(&OfResult { result: if well { "success" } else { "failure" } }).inc();
        self.syncing.observe(took.as_secs_f64());
    }

    /// All numbers, with those that follow from how things stand now, in the OpenMetrics text format.
    pub fn text(
        &self,
        status: &DaemonStatus,
        notices: &BTreeMap<NotificationForm, Counts>,
    ) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &standing(status))?;
        text::encode_registry(&mut text, &told(notices))?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

fn kind_of(cluster: &str, kind: &'static str) -> OfKind {
    OfKind { cluster: cluster.to_owned(), kind }
}

/// What became of the notifications, by the form of their receiver.
fn told(notices: &BTreeMap<NotificationForm, Counts>) -> Registry {
    let family = Family::<OfForm, Counter>::default();
    for (form, counts) in notices {
        for (result, count) in [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)] {
            family.get_or_create(&OfForm { form: form.name(), result }).inc_by(count);
        }
    }
    let mut registry = Registry::with_prefix("drover");
    registry.register("notifications", "Messages to the receivers of notices", family);
    registry
}

/// The gauges of how things stand. They are made anew each time, so that a cluster which is gone leaves no trace.
fn standing(status: &DaemonStatus) -> Registry {
    let mut registry = Registry::with_prefix("drover");
    let age = |at: Option<jiff::Timestamp>| at.map_or(f64::INFINITY, |at| status.now.duration_since(at).as_secs_f64());

    let ready = Gauge::<i64>::default();
    ready.set(status.is_ready().into());
    registry.register("ready", "Whether the daemon truly follows the state and every cluster", ready);
    let synced = Seconds::default();
    synced.set(age(status.sync.last_success));
    registry.register_with_unit("sync_age", "Since the source was last read with success", Unit::Seconds, synced);
    let refused = Family::<OfReason, Gauge>::default();
    for reason in RefusalReason::CATEGORIES {
        let number = status.sync.refused.iter().filter(|refused| refused.reason == reason).count();
        refused.get_or_create(&OfReason { reason }).set(number as i64);
    }
    registry.register("revisions_refused", "Newer revisions that are not applied", refused);
    if let Some(revision) = &status.sync.in_force {
        let commit = revision.commit.clone().unwrap_or_default();
        let labels = vec![("commit", commit), ("digest", revision.digest.clone())];
        registry.register("state", "The state in force", Info::new(labels));
    }

    let nodes = Family::<OfKind, Gauge>::default();
    let labels = Family::<OfCluster, Gauge>::default();
    let guards = Family::<OfKind, Gauge>::default();
    let (fights, failing) = (Family::<OfCluster, Gauge>::default(), Family::<OfCluster, Gauge>::default());
    let seen = Family::<OfCluster, Seconds>::default();
    let (followed, holder) = (Family::<OfCluster, Gauge>::default(), Family::<OfCluster, Gauge>::default());
    for (name, cluster) in &status.clusters {
        let of = OfCluster { cluster: name.clone() };
        let counts = cluster.nodes;
        for (kind, count) in [
            ("managed", counts.managed),
            ("drifting", counts.drifting),
            ("absent", counts.absent),
            ("unmanaged", counts.unmanaged),
            ("waiting", counts.waiting),
        ] {
            nodes.get_or_create(&kind_of(name, kind)).set(count as i64);
        }
        labels.get_or_create(&of).set(cluster.differing_labels as i64);
        for guard in Guard::ALL {
            let holds = cluster.refusals.iter().any(|refusal| refusal.guard == guard && refusal.allowed.is_none());
            guards.get_or_create(&kind_of(name, guard.name())).set(holds.into());
        }
        fights.get_or_create(&of).set(cluster.fights.len() as i64);
        failing.get_or_create(&of).set(cluster.failing.len() as i64);
        seen.get_or_create(&of).set(age(cluster.last_seen));
        followed.get_or_create(&of).set(cluster.failures.is_empty().into());
        holder.get_or_create(&of).set((cluster.tenure == TenureReport::Holder).into());
    }
    registry.register("nodes", "Nodes by how they stand", nodes);
    registry.register("differing_labels", "Labels that are not as the state says", labels);
    registry.register("held_back", "Guards that hold changes back", guards);
    registry.register("fights", "Labels left alone because somebody keeps changing them back", fights);
    registry.register("nodes_failing", "Nodes that could not be written", failing);
    registry.register_with_unit("watch_age", "Since the API server last gave a sign of life", Unit::Seconds, seen);
    registry.register("cluster_followed", "Whether the cluster can be followed", followed);
    registry.register("cluster_held", "Whether this process holds the cluster's Lease", holder);
    registry
}
