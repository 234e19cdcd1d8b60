//! The watches of one cluster, kept going through whatever happens to its API server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::cluster::Cluster;
use crate::adapters::clock;
use crate::adapters::kube::{KubeCluster, Seen, Watched, Watcher};
use crate::adapters::objects::{NodeObject, PodObject};
use crate::adapters::storage_objects::NodeStorageObject;
use crate::engine::InForce;
use crate::error::Failure;

/// A watch that lasted so long was well, whether it told anything or not.
const STEADY: Duration = Duration::from_secs(10);

impl Cluster {
    /// Follows the cluster's nodes.
    pub(super) async fn watch_nodes(&self, kube: &KubeCluster) {
        self.watch::<NodeObject>(
            kube,
            |seen| {
                let now = clock::now();
                let moves = self.store.nodes(seen, now);
                self.seen(now);
                self.moved(&moves);
            },
            |_| {},
            &Notify::new(),
        )
        .await;
    }

    /// Follows the cluster's pods, for the guard `running-pods` and for the rebalancer.
    pub(super) async fn watch_pods(&self, kube: &KubeCluster) {
        self.watch::<PodObject>(
            kube,
            |seen| self.store.pods(seen),
            |failure| self.store.pods_failed(failure.clone()),
            &self.store.list_pods,
        )
        .await;
    }

    /// Follows what the agents of the cluster's machines are asked for, and what they saw.
    pub(super) async fn watch_storage(&self, kube: &KubeCluster) {
        // Without agents there is nothing to follow, and nothing that fails.
        let mut desired = self.desired.clone();
        loop {
            let follows = |in_force: &Arc<InForce>| {
                let document = in_force.desired.clusters.get(self.name.as_str());
                document.is_some_and(|document| document.storage().is_some())
            };
            let Ok(_) = desired.wait_for(follows).await else { return };
            let never = Notify::new();
            let watching = self.watch::<NodeStorageObject>(
                kube,
                |seen| self.store.storages(seen),
                |failure| self.store.storages_failed(failure.to_string()),
                &never,
            );
            tokio::select! {
                () = watching => {}
                _ = desired.wait_for(|in_force| !follows(in_force)) => self.works(NodeStorageObject::WHAT),
            }
        }
    }

    async fn watch<T: Watched>(
        &self,
        kube: &KubeCluster,
        tell: impl Fn(Seen<T>),
        failed: impl Fn(&Failure),
        list: &Notify,
    ) {
        let (metrics, settings) = (&self.daemon.metrics, &self.daemon.settings);
        let mut backoff = Backoff::new();
        loop {
            let mut watcher = Watcher::<T>::new(settings.watch_lifetime);
            let resync = tokio::time::sleep(settings.resync);
            tokio::pin!(resync);
            loop {
                let begun = Instant::now();
                let mut heard = false;
                let follow = watcher.follow(kube, |seen| {
                    heard |= !matches!(seen, Seen::Opened | Seen::All(_));
                    let follows = !matches!(seen, Seen::All(_));
                    metrics.watch_event(&self.name, T::WHAT);
                    tell(seen);
                    if follows {
                        self.works(T::WHAT);
                    }
                });
                let lost = tokio::select! {
                    lost = follow => lost,
                    () = &mut resync => break,
                    () = list.notified() => break,
                };
                if heard || begun.elapsed() >= STEADY {
                    backoff.went_well();
                }
                metrics.watch_failure(&self.name, T::WHAT);
                failed(&lost.failure);
                self.daemon.fails(&self.name, T::WHAT, &lost.failure);
                self.look_again.notify_one();
                tokio::time::sleep(lost.wait).await;
                // What works for another part of the cluster is worth a try for this one.
                tokio::select! {
                    () = tokio::time::sleep(backoff.failed().saturating_sub(lost.wait)) => {}
                    () = self.works_again.notified() => {}
                }
            }
        }
    }
}
