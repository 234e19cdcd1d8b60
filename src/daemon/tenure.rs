//! Who may write to one cluster: the Lease, and whether this process's revision is newer than what is in force there.

use std::time::Duration;

use super::backoff::Backoff;
use super::cluster::Cluster;
use crate::adapters::kube::{KubeCluster, Lease, LeaseTimes, Tenure};
use crate::error::Failure;
use crate::model::Mode;
use crate::report::TenureReport;

/// What fails where the Lease does.
const LEASE: &str = "lease";

/// However short the lease, the API server is asked no more often than this.
const SHORTEST: Duration = Duration::from_millis(50);

/// What this process may do to a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum May {
    /// Nothing.
    #[default]
    Watch,
    /// Write what this revision says; none for a folder without history.
    Write(Option<String>),
}

impl Cluster {
    /// Holds the cluster's Lease while the cluster is to be written to.
    pub(super) async fn keep_tenure(&self, cluster: &KubeCluster, lease: &mut Lease) {
        let settings = &self.daemon.settings;
        let times = LeaseTimes::of(settings.lease);
        let mut desired = self.desired.clone();
        let mut backoff = Backoff::new();
        loop {
            desired.mark_unchanged();
            if !self.is_writable() {
                self.give_back(cluster, lease).await;
                self.works(LEASE);
                self.may(May::Watch, TenureReport::Observer);
                if desired.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let wait = match self.claim(lease, times, cluster).await {
                Ok(wait) => {
                    backoff.went_well();
                    self.works(LEASE);
                    wait
                }
                Err(failure) => {
                    self.tenure_failed(&failure, lease);
                    // As long as the Lease may be renewed, there is no time to lose.
                    if lease.fence().permits() { times.look() } else { backoff.failed().min(settings.lease) }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait.max(SHORTEST)) => {}
                _ = desired.changed() => {}
            }
        }
    }

    /// Gives the Lease back, if this process holds it.
    pub(super) async fn give_back(&self, cluster: &KubeCluster, lease: &mut Lease) {
        if let Err(failure) = lease.release(cluster).await {
            tracing::warn!(cluster = self.name, "the Lease could not be given back: {failure}");
        }
    }

    /// Reaches for the Lease, or renews it. Returns when to do so again.
    async fn claim(&self, lease: &mut Lease, times: LeaseTimes, cluster: &KubeCluster) -> Result<Duration, Failure> {
        let revision = self.in_force().revision.commit.clone();
        let (mine, recorded) = match lease.look(cluster).await? {
            Tenure::Theirs { holder, free_in } => {
                self.is_no_twin(&holder)?;
                self.may(May::Watch, TenureReport::Standby { holder });
                return Ok(times.look().min(free_in));
            }
            Tenure::Mine { recorded } => (true, recorded),
            Tenure::Free { recorded } => (false, recorded),
        };
        if let (Some(recorded), Some(revision)) = (&recorded, &revision)
            && recorded != revision
            && !self.daemon.follow.is_older(recorded, revision).await
        {
            // Whoever knows more than this process may have it.
            self.may(May::Watch, TenureReport::Behind { recorded: recorded.clone() });
            self.give_back(cluster, lease).await;
            return Ok(times.look());
        }
        // Recorded before anything of it is applied: whoever comes next must not fall back behind it.
        let is_settled = mine && (revision.is_none() || recorded == revision);
        if !is_settled && let Tenure::Theirs { holder, .. } = lease.take(cluster, revision.as_deref()).await? {
            self.may(May::Watch, TenureReport::Standby { holder });
            return Ok(times.look());
        }
        self.may(May::Write(revision), TenureReport::Holder);
        Ok(times.renew())
    }

    /// Whether the holder has the Lease for this cluster, and not for another document that leads to the same one.
    fn is_no_twin(&self, holder: &str) -> Result<(), Failure> {
        match holder.rsplit_once('/') {
            Some((_, other)) if other != self.name => {
                self.may(May::Watch, TenureReport::Unknown);
                Err(Failure::new(format!(
                    "the cluster is already written to as {other}: its Lease is held by {holder}"
                ))
                .hint("let only one Cluster document lead to each cluster"))
            }
            _ => Ok(()),
        }
    }

    fn tenure_failed(&self, failure: &Failure, lease: &Lease) {
        self.look_again.notify_one();
        // While the fence is open there is time to try again, and nobody else may write.
        if !lease.fence().permits() {
            self.may(May::Watch, TenureReport::Failing { why: failure.to_string() });
        }
        self.daemon.fails(&self.name, LEASE, failure);
    }

    pub(super) fn may(&self, may: May, report: TenureReport) {
        self.daemon.board.cluster(&self.name, |cluster| {
            if cluster.tenure != report {
                tracing::info!(cluster = self.name, tenure = ?report, "tenure");
                cluster.tenure = report;
            }
        });
        self.tenure.send_if_modified(|now| {
            let changes = *now != may;
            *now = may;
            changes
        });
    }

    /// Whether the state lets drover write to the cluster at all.
    fn is_writable(&self) -> bool {
        let in_force = self.in_force();
        let document = in_force.desired.clusters.get(self.name.as_str());
        document.is_some_and(|document| document.spec.mode == Mode::Enforce && self.is_reached_as(document))
    }
}
