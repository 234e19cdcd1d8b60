//! The watches of one cluster, kept going through whatever happens to its API server.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::cluster::Cluster;
use super::connection::connected;
use crate::adapters::clock;
use crate::adapters::dump;
use crate::adapters::kube::{KubeCluster, Seen, Watched, Watcher};
use crate::adapters::objects::{NodeObject, PodObject};
use crate::engine::InForce;
use crate::error::Failure;

impl Cluster {
    /// Follows the cluster's nodes.
    pub(super) async fn watch_nodes(&self) {
        self.watch::<NodeObject>(
            |seen| {
                let now = clock::now();
                let moves = self.store.nodes(seen, now);
                self.reachable(now);
                self.moved(&moves);
            },
            |failure| self.unreachable(failure),
        )
        .await;
    }

    /// Follows the cluster's pods, which only the guard `running-pods` asks for.
    pub(super) async fn watch_pods(&self) {
        self.watch::<PodObject>(
            |seen| self.store.pods(seen),
            |failure| {
                tracing::warn!(cluster = self.name, "the pods cannot be followed: {failure}");
                self.store.pods_failed(failure.clone());
            },
        )
        .await;
    }

    async fn watch<T: Watched>(&self, tell: impl Fn(Seen<T>), failed: impl Fn(&Failure)) {
        let metrics = &self.daemon.metrics;
        let mut link = self.link.subscribe();
        let mut backoff = Backoff::new();
        while let Some(cluster) = connected(&mut link).await {
            let mut watcher = Watcher::<T>::new(self.daemon.settings.watch_lifetime);
            loop {
                let mut heard = false;
                let follow = watcher.follow(&cluster, |seen| {
                    heard = true;
                    metrics.watch_event(&self.name, T::WHAT);
                    tell(seen);
                });
                let resync = tokio::time::sleep(self.daemon.settings.resync);
                let Some(failure) = first(follow, resync, &mut link).await else { break };
                if heard {
                    backoff.went_well();
                }
                metrics.watch_failure(&self.name, T::WHAT);
                failed(&failure);
                if !stays(&mut link, backoff.failed()).await {
                    break;
                }
            }
        }
    }

    /// A dump stands for a cluster that cannot be watched.
    pub(super) fn read_dump(&self, in_force: &InForce, path: &str) -> Result<(), Failure> {
        let dump = match in_force.dumps.get(path) {
            Some(Ok(text)) => dump::read(path, text)?,
            Some(Err(failure)) => return Err(failure.clone()),
            None => return Err(Failure::new("its dump was not read")),
        };
        let now = clock::now();
        self.store.set(dump.nodes, dump.pods, now);
        self.reachable(now);
        Ok(())
    }
}

/// Why following failed; none where it is to begin anew: for a resync, or because the connection is another one.
async fn first(
    follow: impl Future<Output = Failure>,
    resync: impl Future<Output = ()>,
    link: &mut watch::Receiver<Option<KubeCluster>>,
) -> Option<Failure> {
    tokio::select! {
        failure = follow => Some(failure),
        () = resync => None,
        _ = link.changed() => None,
    }
}

/// Waits, and tells whether the connection is still the same.
async fn stays(link: &mut watch::Receiver<Option<KubeCluster>>, wait: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(wait) => true,
        _ = link.changed() => false,
    }
}
