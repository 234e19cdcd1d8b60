//! A Lease per cluster: who may write to it, until when, and which revision is in force there.
//!
//! Every change of the Lease carries the version it was read at, so of two that reach for it one is refused. Nobody's
//! clock is compared with another's: a claimant waits out the whole lease since it last saw it move, and a holder stops
//! well before that, by its own clock. The libraries for this patch a Lease without a precondition and trust the time
//! in it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::call::call_error;
use super::{CallError, Fence, KubeCluster};
use crate::adapters::clock;
use crate::error::Failure;
use crate::model::observed::FIELD_MANAGER;

/// The name of the Lease in the cluster.
const NAME: &str = "drover";
/// The part of its duration after which a Lease that does not move is free.
const TAKEN: f32 = 0.85;
/// The annotation that holds the revision in force.
const REVISION: &str = "drover.dev/revision";

/// How a cluster's Lease stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenure {
    /// This process holds it.
    Mine {
        /// The revision that is recorded in it as in force.
        recorded: Option<String>,
    },
    /// Nobody holds it.
    Free {
        /// The revision that is recorded in it as in force.
        recorded: Option<String>,
    },
    /// Another process holds it.
    Theirs {
        /// Who.
        holder: String,
        /// When it is free, unless it moves before.
        free_in: Duration,
    },
}

/// Times of a Lease, all parts of its duration: it is renewed at a fifth, a holder that cannot renew stops at 0.7, and
/// a claimant that saw nothing move takes it at 0.85. What lies between is for requests that are under way. A claimant
/// looks every tenth, so that it has the Lease at 0.95 of the duration after the holder died, at the latest.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes(Duration);

impl LeaseTimes {
    /// The times of a Lease of this duration.
    pub fn of(duration: Duration) -> Self {
        Self(duration.max(Duration::from_secs(1)))
    }

    /// What is to be asked before each write under such a Lease. `identity` must be this process's alone.
    pub fn fence(self, identity: &str) -> Arc<Fence> {
        Arc::new(Fence::new(identity, self.slack()))
    }

    /// How often it is renewed.
    pub fn renew(self) -> Duration {
        self.0 / 5
    }

    /// How often a claimant looks.
    pub fn look(self) -> Duration {
        self.0 / 10
    }

    /// How long one attempt may take: a second one fits in before the holder must stop.
    fn patience(self) -> Duration {
        self.0 / 5
    }

    fn stop(self) -> Duration {
        self.0.mul_f32(0.7)
    }

    fn slack(self) -> Duration {
        self.0.mul_f32(TAKEN) - self.stop()
    }

    fn seconds(self) -> i32 {
        i32::try_from(self.0.as_secs_f32().ceil() as i64).unwrap_or(i32::MAX)
    }
}

/// This process's view of a cluster's Lease.
pub struct Lease {
    namespace: String,
    identity: String,
    times: LeaseTimes,
    fence: Arc<Fence>,
    /// Whether this process may still have the Lease.
    holding: bool,
    /// The Lease as this process last wrote it; none where it can be another by now.
    held: Option<LeaseObject>,
    /// The Lease as it was found when nobody held it.
    free: Option<LeaseObject>,
    /// Another's Lease as it was last seen to move, and when that was.
    moved: Option<(String, Instant)>,
}

impl Lease {
    /// Nothing known yet. The fence is that of the connection through which the cluster is written.
    pub fn new(namespace: &str, fence: Arc<Fence>, times: LeaseTimes) -> Self {
        let identity = fence.identity.clone();
        Self {
            namespace: namespace.into(),
            identity,
            times,
            fence,
            holding: false,
            held: None,
            free: None,
            moved: None,
        }
    }

    /// What every write to the cluster must ask.
    pub fn fence(&self) -> Arc<Fence> {
        self.fence.clone()
    }

    /// Renews the Lease, or looks who has it.
    pub async fn look(&mut self, cluster: &KubeCluster) -> Result<Tenure, Failure> {
        self.in_time(cluster, async |lease| lease.renewed(cluster).await).await
    }

    /// Takes the Lease as it was last looked at, and records the revision that is in force from now on.
    pub async fn take(&mut self, cluster: &KubeCluster, revision: Option<&str>) -> Result<Tenure, Failure> {
        self.in_time(cluster, async |lease| lease.taken(cluster, revision).await).await
    }

    /// Gives the Lease back once no write is under way, so that the next holder need not wait.
    ///
    /// Stopped at any await, it can be asked for again.
    pub async fn release(&mut self, cluster: &KubeCluster) -> Result<(), Failure> {
        self.fence.set(None);
        if !self.holding {
            return Ok(());
        }
        let given_back = async {
            self.fence.close().await;
            self.give_back(cluster).await
        };
        let done = tokio::time::timeout(cluster.timeout, given_back).await;
        (self.holding, self.held) = (false, None);
        done.unwrap_or(Err(CallError::TimedOut)).map_err(|error| self.explain(cluster, &error))
    }

    async fn give_back(&self, cluster: &KubeCluster) -> Result<(), CallError> {
        let freed = |mut lease: LeaseObject| {
            lease.spec.get_or_insert_default().holder_identity = Some(String::new());
            lease
        };
        if let Some(lease) = self.held.clone() {
            match self.replace(cluster, &freed(lease)).await {
                Err(CallError::Refused { code: 409, .. }) => {}
                done => return done.map(drop),
            }
        }
        // A renewal that nobody waited for may have been done.
        let found = self.api(cluster).get_opt(NAME).await.map_err(|error| call_error(&error))?;
        let holder = |lease: &LeaseObject| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        match found.filter(|lease| holder(lease).as_ref() == Some(&self.identity)) {
            Some(lease) => self.replace(cluster, &freed(lease)).await.map(drop),
            None => Ok(()),
        }
    }

    async fn in_time(
        &mut self,
        cluster: &KubeCluster,
        work: impl AsyncFnOnce(&mut Self) -> Result<Tenure, CallError>,
    ) -> Result<Tenure, Failure> {
        let limit = self.times.patience();
        match tokio::time::timeout(limit, work(self)).await {
            Ok(done) => done.map_err(|error| self.explain(cluster, &error)),
            Err(_) => Err(Failure::new(format!("no answer within {} s", limit.as_secs_f32()))),
        }
    }

    async fn renewed(&mut self, cluster: &KubeCluster) -> Result<Tenure, CallError> {
        if self.held.is_some() {
            match self.taken(cluster, None).await? {
                // Somebody wrote it, or this process without getting to know: what it says now decides.
                Tenure::Theirs { .. } => {}
                mine => return Ok(mine),
            }
        }
        let found = self.api(cluster).get_opt(NAME).await.map_err(|error| call_error(&error))?;
        let found = found.unwrap_or_else(|| LeaseObject { metadata: named(), ..LeaseObject::default() });
        if let Some((holder, free_in)) = self.holder_of(&found) {
            self.fence.set(None);
            self.holding = false;
            return Ok(Tenure::Theirs { holder, free_in });
        }
        let recorded = recorded(&found);
        self.free = Some(found);
        Ok(Tenure::Free { recorded })
    }

    /// Writes the Lease at the version it was read at.
    async fn taken(&mut self, cluster: &KubeCluster, revision: Option<&str>) -> Result<Tenure, CallError> {
        let sent = (Instant::now(), SystemTime::now());
        // Whatever comes of this, the version is spent: the next look begins with a read.
        let Some(lease) = self.held.take().or_else(|| self.free.take()) else {
            return Ok(Tenure::Free { recorded: None });
        };
        let claimed = self.claimed(lease, revision);
        let is_new = claimed.metadata.resource_version.is_none();
        let written = match is_new {
            false => self.replace(cluster, &claimed).await,
            true => self.api(cluster).create(&parameters(), &claimed).await.map_err(|error| call_error(&error)),
        };
        match written {
            Ok(lease) => Ok(self.won(lease, sent)),
            Err(CallError::Refused { code, .. }) if code == 409 || (code == 404 && !is_new) => {
                Ok(Tenure::Theirs { holder: "a faster process".into(), free_in: Duration::ZERO })
            }
            // It may still be this process's, until the fence says otherwise.
            Err(error) => Err(error),
        }
    }

    /// Who holds a Lease that another process wrote, and for how long at least; none where it is free.
    fn holder_of(&mut self, lease: &LeaseObject) -> Option<(String, Duration)> {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty() && *holder != self.identity)?;
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.moved {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                let now = Instant::now();
                self.moved = Some((version, now));
                now
            }
        };
        let duration = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(1).max(1) as u64);
        let left = duration.mul_f32(TAKEN).saturating_sub(since.elapsed());
        (!left.is_zero()).then_some((holder, left))
    }

    fn won(&mut self, lease: LeaseObject, (steady, wall): (Instant, SystemTime)) -> Tenure {
        // Counted from before the request was sent: the API server may have seen it at once.
        self.fence.set(Some((steady + self.times.stop(), wall + self.times.stop())));
        (self.moved, self.free) = (None, None);
        let recorded = recorded(&lease);
        (self.holding, self.held) = (true, Some(lease));
        Tenure::Mine { recorded }
    }

    /// The Lease with this process as its holder, renewed now.
    fn claimed(&self, mut lease: LeaseObject, revision: Option<&str>) -> LeaseObject {
        let now = MicroTime(clock::now());
        let spec = lease.spec.take().unwrap_or_default();
        let mine = spec.holder_identity.as_deref() == Some(&self.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.times.seconds()),
            acquire_time: if mine { spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!mine)),
            ..spec
        });
        if let Some(revision) = revision {
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(REVISION.to_owned(), revision.to_owned());
        }
        lease.metadata.managed_fields = None; // the API server keeps its own record
        lease
    }

    async fn replace(&self, cluster: &KubeCluster, lease: &LeaseObject) -> Result<LeaseObject, CallError> {
        self.api(cluster).replace(NAME, &parameters(), lease).await.map_err(|error| call_error(&error))
    }

    fn api(&self, cluster: &KubeCluster) -> Api<LeaseObject> {
        Api::namespaced(cluster.client.clone(), &self.namespace)
    }

    fn explain(&self, cluster: &KubeCluster, error: &CallError) -> Failure {
        let failure = cluster.explain("update", "leases", error);
        match error {
            CallError::Refused { code: 404, .. } => {
                failure.hint(format!("drover keeps its Lease in the namespace {}: create it", self.namespace))
            }
            CallError::TimedOut => Failure::new("no answer in time to keep the Lease"),
            CallError::Refused { code: 403, .. } if error.is_denied() => {
                failure.hint("what drover needs in a cluster is in its deploy/rbac.yaml")
            }
            _ => failure,
        }
    }
}

fn named() -> ObjectMeta {
    ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn recorded(lease: &LeaseObject) -> Option<String> {
    lease.metadata.annotations.as_ref()?.get(REVISION).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_two_attempts_and_a_claimant_is_in_time() {
        let whole = Duration::from_secs(10);
        let times = LeaseTimes::of(whole);
        let second = times.renew() + times.patience() + times.look();
        assert!(second + times.patience() <= times.stop());
        assert!(times.stop() + times.slack() <= whole.mul_f32(TAKEN));
        assert!(times.slack() >= whole / 10, "requests under way need time to end");
        assert!(times.look() + whole.mul_f32(TAKEN) < whole, "the last move is seen, then waited out");
    }
}
