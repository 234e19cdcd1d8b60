//! The connection to one cluster, made anew whenever its document or the files it names change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::cluster::Cluster;
use crate::adapters::kube::{Fence, KubeCluster};
use crate::engine::pass::timeout_of;
use crate::error::Failure;

/// How often the files of a kubeconfig are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// A connection, once there is one.
pub(super) type Link = watch::Sender<Option<KubeCluster>>;

impl Cluster {
    /// Keeps the connection as the state, the kubeconfig and the files in it say.
    pub(super) async fn keep_connection(&self, fence: Arc<Fence>) {
        let mut desired = self.desired.clone();
        let mut backoff = Backoff::new();
        let mut known = None;
        loop {
            let wait = match self.connect(&mut known, &fence).await {
                Ok(()) => {
                    backoff.went_well();
                    LOOK
                }
                Err(failure) => {
                    self.unreachable(&failure);
                    backoff.failed()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = desired.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Connects, if anything that the connection is made of is other than what is `known`.
    async fn connect(&self, known: &mut Option<String>, fence: &Arc<Fence>) -> Result<(), Failure> {
        let in_force = self.in_force();
        let Some(document) = in_force.desired.clusters.get(self.name.as_str()) else { return Ok(()) };
        let (connection, root) = (&document.spec.connection, in_force.root.as_deref());
        if let Some(path) = &connection.file {
            self.link.send_replace(None);
            return self.read_dump(&in_force, path);
        }
        let timeout = timeout_of(document);
        let fingerprint = KubeCluster::fingerprint(connection, root, timeout)?;
        if known.as_ref() == Some(&fingerprint) {
            return Ok(());
        }
        let cluster = KubeCluster::connect(&self.name, connection, root, timeout, Some(fence.clone())).await?;
        *known = Some(fingerprint);
        self.link.send_replace(Some(cluster));
        Ok(())
    }
}

/// The next connection, once there is one.
pub(super) async fn connected(link: &mut watch::Receiver<Option<KubeCluster>>) -> Option<KubeCluster> {
    link.wait_for(Option::is_some).await.ok()?;
    link.borrow_and_update().clone()
}
