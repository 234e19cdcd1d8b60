//! One cluster under the daemon's care: its connection, watches, Lease and reconciler, side by side. Nothing here waits
//! for another cluster.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::store::{Moves, Store};
use super::tenure::May;
use crate::adapters::clock;
use crate::adapters::kube::{Lease, LeaseTimes};
use crate::engine::InForce;
use crate::error::Failure;
use crate::model::notice::{NoticeKind, Severity};

use super::connection::Link;

/// A cluster, and what its tasks share.
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) daemon: Arc<Daemon>,
    pub(super) desired: watch::Receiver<Arc<InForce>>,
    pub(super) store: Store,
    pub(super) link: Link,
    pub(super) tenure: watch::Sender<May>,
    pub(super) stop: CancellationToken,
}

impl Cluster {
    pub(super) fn new(
        name: &str,
        daemon: Arc<Daemon>,
        desired: watch::Receiver<Arc<InForce>>,
        stop: CancellationToken,
    ) -> Self {
        let (link, tenure) = (watch::Sender::new(None), watch::Sender::new(May::default()));
        Self { name: name.to_owned(), daemon, desired, store: Store::default(), link, tenure, stop }
    }

    /// Keeps the cluster as the state says until it is told to stop; then finishes what is under way and gives the
    /// Lease back.
    pub(super) async fn run(self) {
        let settings = &self.daemon.settings;
        let mut lease = Lease::new(&settings.lease_namespace, &self.daemon.identity, LeaseTimes::of(settings.lease));
        let fence = lease.fence();
        let following = async {
            tokio::join!(
                self.keep_connection(fence),
                self.watch_nodes(),
                self.watch_pods(),
                self.keep_tenure(&mut lease)
            )
        };
        // The reconciler ends by itself, so that no write is cut off; the Lease is renewed until then.
        tokio::select! {
            () = self.reconcile() => {}
            _ = following => {}
        }
        self.give_back(&mut lease).await;
        self.daemon.board.forget(&self.name);
    }

    /// The state to make true.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.desired.borrow().clone()
    }

    /// The cluster answered.
    pub(super) fn reachable(&self, now: Timestamp) {
        let mut was_away = false;
        self.daemon.board.cluster(&self.name, |report| {
            report.last_seen = Some(now);
            was_away = report.failure.take().is_some();
        });
        if was_away {
            tracing::info!(cluster = self.name, "reachable again");
            let title = format!("{} can be reached again", self.name);
            self.daemon.resolve(NoticeKind::ClusterUnreachable, Some(&self.name), "", title);
        }
    }

    /// The cluster did not answer.
    pub(super) fn unreachable(&self, failure: &Failure) {
        tracing::warn!(cluster = self.name, "cannot be followed: {failure}");
        let why = failure.to_string();
        let title = format!("{} cannot be followed", self.name);
        let lines = [Some(why.as_str()), failure.advice()].into_iter().flatten().map(str::to_owned).collect();
        self.daemon.tell(NoticeKind::ClusterUnreachable, Some(&self.name), "", title, lines, Severity::Critical);
        self.daemon.board.cluster(&self.name, |report| report.failure = Some(why));
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
