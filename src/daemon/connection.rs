//! The connection to one cluster, made anew whenever its document or the files that it names change.
//!
//! Everything that was learnt through a connection ends with it: another kubeconfig can lead to another cluster, where
//! neither the nodes that were seen nor the Lease that was held mean anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::backoff::Backoff;
use super::cluster::Cluster;
use super::reconcile::Memory;
use crate::adapters::dump;
use crate::adapters::kube::{Fence, KubeCluster, LeaseTimes};
use crate::engine::InForce;
use crate::engine::pass::{Live, timeout_of};
use crate::error::Failure;
use crate::model::cluster::Connection;

/// How often the files of a kubeconfig are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// A connection that was made.
pub(super) struct Connected {
    /// What the cluster's document says of it.
    pub(super) connection: Connection,
    /// Stands for everything that it was made of.
    fingerprint: String,
    /// What every write through it asks.
    pub(super) fence: Arc<Fence>,
    pub(super) live: Live,
}

/// Looks after one cluster for as long as it is part of the state, through one connection after the other.
pub(super) struct Keeper {
    pub(super) name: String,
    pub(super) daemon: Arc<Daemon>,
    pub(super) desired: watch::Receiver<Arc<InForce>>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// Keeps the cluster as the state says until it is told to stop.
    pub(super) async fn run(self) {
        let mut dialer = Dialer::default();
        let mut memory = Memory::new(self.daemon.settings.fights);
        let mut next = self.another(&mut dialer, None).await;
        while let Some(connected) = next.take() {
            let over = self.stop.child_token();
            let cluster = Cluster::new(&self, connected, over.clone());
            // The next connection is made beside the one in use, which ends only once that one stands.
            let ((), other) = tokio::join!(cluster.run(&mut memory), async {
                let other = self.another(&mut dialer, Some(&cluster)).await;
                over.cancel();
                other
            });
            next = other;
        }
    }

    /// A fence for one connection. Two documents can lead to one cluster, and only one of them may have it.
    fn fence(&self) -> Arc<Fence> {
        LeaseTimes::of(self.daemon.settings.lease).fence(&format!("{}/{}", self.daemon.identity, self.name))
    }

    /// The next connection, once it is another one than the one in use; none at the end.
    async fn another(&self, dialer: &mut Dialer, used: Option<&Cluster>) -> Option<Connected> {
        let mut desired = self.desired.clone();
        let mut backoff = Backoff::new();
        loop {
            desired.mark_unchanged();
            let known = used.map(|cluster| cluster.connected.fingerprint.as_str());
            let dialed = tokio::select! {
                dialed = dialer.dial(self, desired.borrow().clone(), known) => dialed,
                () = self.stop.cancelled() => return None,
            };
            let wait = match dialed {
                Ok(Some(other)) => return Some(other),
                Ok(None) => {
                    backoff.went_well();
                    used.inspect(|cluster| cluster.is_still_connected());
                    LOOK
                }
                Err(failure) => {
                    self.daemon.fails(&self.name, "connection", &failure);
                    backoff.failed()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // What fails may fail because the files have just changed.
                () = asked(used) => {}
                _ = desired.changed() => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }
}

async fn asked(used: Option<&Cluster>) {
    match used {
        Some(cluster) => cluster.look_again.notified().await,
        None => std::future::pending().await,
    }
}

/// Makes connections on threads that may block: files can lie on a network that hangs. One attempt at a time, so that
/// no more than one thread hangs with them.
#[derive(Default)]
struct Dialer {
    attempt: Option<(Option<Connection>, Attempt)>,
}

type Attempt = JoinHandle<Result<Option<Connected>, Failure>>;

impl Dialer {
    /// Connects as the state says, unless that comes to the connection that is `known`.
    async fn dial(
        &mut self,
        keeper: &Keeper,
        in_force: Arc<InForce>,
        known: Option<&str>,
    ) -> Result<Option<Connected>, Failure> {
        // Longer than the timeout of the attempt itself, so that it can tell what took so long.
        const LONGEST: Duration = Duration::from_secs(60);
        let document = in_force.desired.clusters.get(keeper.name.as_str());
        let wanted = document.map(|document| document.spec.connection.clone());
        // Another connection than the one that hangs need not wait for it.
        self.attempt.take_if(|(connection, _)| *connection != wanted);
        let (_, attempt) = self.attempt.get_or_insert_with(|| {
            let (name, known) = (keeper.name.clone(), known.map(str::to_owned));
            let (fence, runtime) = (keeper.fence(), tokio::runtime::Handle::current());
            let attempt = move || runtime.block_on(connect(&name, &in_force, fence, known.as_deref()));
            (wanted, tokio::task::spawn_blocking(attempt))
        });
        let Ok(done) = tokio::time::timeout(LONGEST, &mut *attempt).await else {
            return Err(Failure::new("the files of the connection cannot be read: whatever they lie on hangs"));
        };
        self.attempt = None;
        done.map_err(|error| Failure::caused("the connection cannot be set up", &error))?
    }
}

/// Connects, if anything that the connection is made of is other than what is `known`.
async fn connect(
    name: &str,
    in_force: &InForce,
    fence: Arc<Fence>,
    known: Option<&str>,
) -> Result<Option<Connected>, Failure> {
    let Some(document) = in_force.desired.clusters.get(name) else { return Ok(None) };
    let (connection, root) = (&document.spec.connection, in_force.root.as_deref());
    let (fingerprint, live) = if let Some(path) = &connection.file {
        let text = match in_force.files.get(path) {
            Some(read) => read.as_ref().map_err(Clone::clone)?,
            None => return Err(Failure::new("its dump was not read")),
        };
        if known == Some(text) {
            return Ok(None);
        }
        (text.clone(), Live::Dump(Box::new(dump::read(path, text)?)))
    } else {
        let timeout = timeout_of(&document.spec);
        let fingerprint = KubeCluster::fingerprint(connection, root, timeout)?;
        if known == Some(&fingerprint) {
            return Ok(None);
        }
        let kube = KubeCluster::connect(name, connection, root, timeout, Some(fence.clone())).await?;
        (fingerprint, Live::Kube(Box::new(kube)))
    };
    Ok(Some(Connected { connection: connection.clone(), fingerprint, fence, live }))
}
