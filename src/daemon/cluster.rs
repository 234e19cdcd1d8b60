//! One cluster through one connection: its watches, Lease and reconciler, side by side. Nothing here waits for another
//! cluster.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::connection::{Connected, Keeper};
use super::reconcile::Memory;
use super::store::{Moves, Store};
use super::tenure::May;
use crate::adapters::clock;
use crate::adapters::dump::Dump;
use crate::adapters::kube::{KubeCluster, Lease, LeaseTimes};
use crate::engine::pass::Live;
use crate::engine::{InForce, kubelet};
use crate::model::notice::{NoticeKind, Severity};
use crate::model::{DesiredCluster, ObservedKubelet};
use crate::report::TenureReport;

/// A cluster, and what its tasks share.
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) daemon: Arc<Daemon>,
    pub(super) desired: watch::Receiver<Arc<InForce>>,
    pub(super) connected: Connected,
    pub(super) store: Store,
    pub(super) tenure: watch::Sender<May>,
    /// Something failed that a change of the connection's files may mend.
    pub(super) look_again: Notify,
    /// Something that failed works again.
    pub(super) works_again: Notify,
    pub(super) stop: CancellationToken,
}

impl Cluster {
    pub(super) fn new(keeper: &Keeper, connected: Connected, stop: CancellationToken) -> Self {
        Self {
            name: keeper.name.clone(),
            daemon: keeper.daemon.clone(),
            desired: keeper.desired.clone(),
            connected,
            store: Store::default(),
            tenure: watch::Sender::new(May::default()),
            look_again: Notify::new(),
            works_again: Notify::new(),
            stop,
        }
    }

    /// Keeps the cluster as the state says until it is told to stop; then finishes what is under way and gives the
    /// Lease back.
    pub(super) async fn run(&self, memory: &mut Memory) {
        // What failed through another connection says nothing of this one.
        self.daemon.board.cluster(&self.name, |report| {
            report.failures.clear();
            report.last_seen = None;
            report.tenure = TenureReport::Unknown;
        });
        match &self.connected.live {
            Live::Dump(dump) => {
                self.is_still_connected();
                self.may(May::Watch, TenureReport::Observer);
                self.store.set(dump.nodes.clone(), dump.pods.clone(), self.now());
                self.store.live().kubelet = self.recorded_kubelets(dump);
                self.reconcile(memory, None).await;
            }
            Live::Kube(kube) => self.follow(kube, memory).await,
        }
    }

    fn recorded_kubelets(&self, dump: &Dump) -> Option<Result<ObservedKubelet, String>> {
        let in_force = self.in_force();
        let document = in_force.desired.clusters.get(self.name.as_str())?;
        let kubelets = kubelet::recorded(&document.spec, dump.kubelet.as_ref())?;
        Some(kubelets.seen.map_err(|failure| kubelet::in_words(&failure)))
    }

    async fn follow(&self, kube: &KubeCluster, memory: &mut Memory) {
        let settings = &self.daemon.settings;
        let mut lease =
            Lease::new(&settings.lease_namespace, self.connected.fence.clone(), LeaseTimes::of(settings.lease));
        let following = async {
            tokio::join!(
                self.watch_nodes(kube),
                self.watch_pods(kube),
                self.watch_storage(kube),
                self.keep_tenure(kube, &mut lease),
                self.rebalance()
            )
        };
        // The reconciler ends by itself, so that no write is cut off; the Lease is renewed until then.
        tokio::select! {
            _ = async { tokio::join!(self.reconcile(memory, Some(kube)), self.keep_kubelets(kube)) } => {}
            _ = following => {}
        }
        self.give_back(kube, &mut lease).await;
    }

    /// The connection is made of what it should be made of. A dump gives no other sign of life.
    pub(super) fn is_still_connected(&self) {
        self.daemon.works(&self.name, "connection");
        if matches!(self.connected.live, Live::Dump(_)) {
            self.seen(self.now());
        }
    }

    /// The state to make true.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.desired.borrow().clone()
    }

    /// A part of what follows the cluster works.
    pub(super) fn works(&self, what: &str) {
        if self.daemon.works(&self.name, what) {
            self.works_again.notify_waiters();
        }
    }

    /// The cluster gave a sign of life.
    pub(super) fn seen(&self, now: Timestamp) {
        self.daemon.board.cluster(&self.name, |report| report.last_seen = Some(now));
    }

    /// Whether this is the connection that the state asks for: nothing is planned or written through any other.
    pub(super) fn is_reached_as(&self, document: &DesiredCluster) -> bool {
        document.spec.connection == self.connected.connection
    }

    /// Nodes joined or left.
    pub(super) fn moved(&self, moves: &Moves) {
        let in_force = self.in_force();
        let Some(document) = in_force.desired.clusters.get(self.name.as_str()) else { return };
        let cluster = Some(self.name.as_str());
        for name in &moves.joined {
            let managed = document.nodes.contains_key(name.as_str());
            tracing::info!(cluster = self.name, node = name, managed, "joined");
            if managed {
                let title = format!("{name} joined {}", self.name);
                self.daemon.resolve(NoticeKind::NodeAbsent, cluster, name, title.clone());
                self.daemon.tell(NoticeKind::NodeJoined, cluster, name, title, Vec::new(), Severity::Info);
            }
        }
        for name in &moves.left {
            let managed = document.nodes.contains_key(name.as_str());
            tracing::warn!(cluster = self.name, node = name, managed, "left");
            if managed {
                let title = format!("{name} left {}", self.name);
                self.daemon.tell(NoticeKind::NodeAbsent, cluster, name, title, Vec::new(), Severity::Warning);
            }
        }
    }

    /// Now, for whatever a pass decides by time.
    pub(super) fn now(&self) -> Timestamp {
        clock::now()
    }
}
