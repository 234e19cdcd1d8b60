//! `drover run`: follows the state, and keeps every cluster as it says.
//!
//! ```text
//! follow ── the state in force ──▶ supervise ──▶ one Cluster each: connection, watches, Lease, reconciler
//!    └──────────── every task ───▶ board, metrics, notices ◀── the web reads them
//! ```
//!
//! Nothing is stored: what is in force follows from git, what drover did from the clusters.

mod board;
mod cluster;
mod connection;
mod follow;
mod kubelets;
mod metrics;
pub mod notices;
mod observe;
mod rebalance;
mod reconcile;
mod store;
mod telling;
mod tenure;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use board::Board;
pub use metrics::Metrics;

use crate::adapters::kubelet::RkeCommand;
use crate::adapters::{backoff, clock};
use crate::engine::{FollowOptions, InForce, StateSource};
use crate::error::Failure;
use crate::model::notice::{Notice, NoticeKind, Severity};
use crate::plan::FightLimits;
use crate::report::Freshness;
use connection::Keeper;
use follow::Follow;
use notices::Notices;

/// How the daemon works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state to follow.
    pub source: StateSource,
    /// What is asked of its revisions.
    pub follow: FollowOptions,
    /// How often the source is looked at when nothing tells that it changed.
    pub poll: Duration,
    /// The namespace, in each cluster, of drover's Lease there.
    pub lease_namespace: String,
    /// How long a replica that fell silent keeps a cluster.
    pub lease: Duration,
    /// How long a single watch lives; longer silence means that it hangs.
    pub watch_lifetime: Duration,
    /// How often everything is listed anew.
    pub resync: Duration,
    /// How many nodes of a cluster are written at the same time.
    pub parallel: usize,
    /// How RKE is run; it is not, where nobody says how.
    pub rke: Option<RkeCommand>,
    /// When a label is left alone because somebody keeps changing it back.
    pub fights: FightLimits,
}

/// What the tasks of the daemon share.
pub struct Daemon {
    pub(crate) settings: Settings,
    pub(crate) identity: String,
    /// How things stand.
    pub board: Board,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    pub(crate) notices: Notices,
    pub(crate) follow: Follow,
    /// Work that nothing waits for.
    pub(crate) background: TaskTracker,
}

impl Daemon {
    /// A daemon that does not run yet. `identity` must be this process's alone.
    pub fn new(settings: Settings, identity: &str) -> Arc<Self> {
        // Three missed looks are no longer a hiccup.
        let stale = |length: Duration| SignedDuration::try_from(length * 3).unwrap_or(SignedDuration::MAX);
        let fresh = Freshness {
            sync: stale(settings.poll).saturating_add(SignedDuration::from_secs(30)),
            watch: stale(settings.watch_lifetime),
        };
        Arc::new(Self {
            identity: identity.to_owned(),
            board: Board::new(identity, fresh),
            metrics: Arc::new(Metrics::new()),
            notices: Notices::new(),
            follow: Follow::default(),
            background: TaskTracker::new(),
            settings,
        })
    }

    /// All numbers, as how things stand makes them.
    pub fn numbers(&self) -> Result<String, std::fmt::Error> {
        self.metrics.text(&self.board.status(), &self.notices.counts())
    }

    /// What makes the daemon look at the source at once.
    pub fn trigger(&self) -> Arc<Notify> {
        self.follow.trigger()
    }

    /// Whether the source is still looked at, successfully or not: a process that no longer does so is stuck.
    pub fn is_alive(&self) -> bool {
        const SLACK: Duration = Duration::from_secs(300);
        let status = self.board.status();
        let last = status.sync.last_look.unwrap_or(status.started);
        let limit = SignedDuration::try_from(self.settings.poll * 3 + SLACK).unwrap_or(SignedDuration::MAX);
        status.now.duration_since(last) < limit
    }

    /// Runs until `stop`; then every cluster finishes what is under way and gives its Lease back.
    pub async fn run(self: &Arc<Self>, stop: CancellationToken) -> Result<(), Failure> {
        let (in_force, desired) = watch::channel(None);
        let follow = follow::run(self.clone(), in_force, stop.clone());
        let supervise = self.supervise(desired, stop.clone());
        let (followed, supervised) = tokio::join!(
            async {
                let ended = follow.await;
                stop.cancel(); // nothing is kept true that is not followed
                ended
            },
            async {
                let ended = supervise.await;
                stop.cancel();
                ended
            }
        );
        self.background.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.background.wait()).await;
        self.notices.shut_down().await;
        followed.and(supervised)
    }

    /// One task for each cluster of the state in force.
    async fn supervise(
        self: &Arc<Self>,
        mut states: watch::Receiver<Option<Arc<InForce>>>,
        stop: CancellationToken,
    ) -> Result<(), Failure> {
        let first = tokio::select! {
            first = states.wait_for(Option::is_some) => first.ok().and_then(|state| state.clone()),
            () = stop.cancelled() => None,
        };
        let Some(first) = first else { return Ok(()) };
        let (state, desired) = watch::channel(first);
        let (mut running, mut tasks) = (BTreeMap::<String, CancellationToken>::new(), JoinSet::new());
        loop {
            let in_force = state.borrow().clone();
            let clusters = &in_force.desired.clusters;
            for (name, stop) in running.iter().filter(|(name, _)| !clusters.contains_key(name.as_str())) {
                tracing::info!(cluster = name, "no longer part of the state");
                stop.cancel();
            }
            for name in clusters.keys().map(ToString::to_string) {
                // One that left and came back begins anew once nothing of it is under way any more.
                running.entry(name.clone()).or_insert_with(|| {
                    self.board.cluster(&name, |_| {}); // not ready before it was seen
                    self.metrics.begin(&name);
                    let (daemon, desired, stop) = (self.clone(), desired.clone(), stop.child_token());
                    let keeper = Keeper { name: name.clone(), daemon, desired, stop: stop.clone() };
                    tasks.spawn(async {
                        keeper.run().await;
                        name
                    });
                    stop
                });
            }
            tokio::select! {
                changed = states.changed() => match (changed, states.borrow_and_update().clone()) {
                    (Ok(()), Some(next)) => { state.send_replace(next); }
                    _ => break,
                },
                Some(ended) = tasks.join_next() => {
                    let name = ended.map_err(|error| ended_badly(&error))?;
                    // A cluster that nobody looks after would be green and stale.
                    if !running.remove(&name).is_some_and(|stop| stop.is_cancelled()) {
                        return Err(Failure::new(format!("nobody looks after the cluster {name} any more")));
                    }
                    self.board.forget(&name);
                    self.metrics.forget(&name);
                }
                () = stop.cancelled() => break,
            }
        }
        stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| ended_badly(&error))?;
        }
        Ok(())
    }

    /// A part of what follows a cluster fails: it is told once, and again when it fails for another reason.
    pub(crate) fn fails(&self, cluster: &str, what: &str, failure: &Failure) {
        let why = match failure.advice() {
            Some(advice) => format!("{failure} ({advice})"),
            None => failure.to_string(),
        };
        let mut before = None;
        self.board.cluster(cluster, |report| before = report.failures.insert(what.to_owned(), why.clone()));
        if before.as_ref() == Some(&why) {
            tracing::debug!(cluster, what, "still fails: {why}");
            return;
        }
        tracing::warn!(cluster, what, "cannot be followed: {why}");
        let title = format!("{cluster} cannot be followed: {what}");
        self.tell(NoticeKind::ClusterUnreachable, Some(cluster), what, title, vec![why], Severity::Critical);
    }

    /// A part of what follows a cluster works. Returns whether it had failed.
    pub(crate) fn works(&self, cluster: &str, what: &str) -> bool {
        let mut before = None;
        self.board.cluster(cluster, |report| before = report.failures.remove(what));
        if before.is_some() {
            tracing::info!(cluster, what, "followed again");
            let title = format!("{cluster} is followed again: {what}");
            self.resolve(NoticeKind::ClusterUnreachable, Some(cluster), what, title);
        }
        before.is_some()
    }

    /// Tells people something.
    pub(crate) fn tell(
        &self,
        kind: NoticeKind,
        cluster: Option<&str>,
        subject: &str,
        title: String,
        lines: Vec<String>,
        severity: Severity,
    ) {
        self.notices.tell(notice(kind, cluster, subject, title, lines, severity, false));
    }

    /// Tells people that a matter is over, if they were told of it.
    pub(crate) fn resolve(&self, kind: NoticeKind, cluster: Option<&str>, subject: &str, title: String) {
        self.notices.tell(notice(kind, cluster, subject, title, Vec::new(), Severity::Info, true));
    }
}

fn ended_badly(error: &JoinError) -> Failure {
    Failure::caused("a task of the daemon ended in a way that it must not", error)
}

fn notice(
    kind: NoticeKind,
    cluster: Option<&str>,
    subject: &str,
    title: String,
    lines: Vec<String>,
    severity: Severity,
    resolved: bool,
) -> Notice {
    let cluster = cluster.and_then(|name| name.parse().ok());
    Notice { kind, cluster, subject: subject.to_owned(), title, lines, severity, at: clock::now(), resolved }
}
