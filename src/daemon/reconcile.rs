//! Plan, guard, apply: again whenever the state, the cluster or the time makes the plan another one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::cluster::Cluster;
use super::kubelets::Due;
use super::store::Live;
use super::telling::Told;
use super::tenure::May;
use crate::adapters::clock;
use crate::adapters::kube::KubeCluster;
use crate::engine::kubelet::add_config;
use crate::engine::pass::refusals;
use crate::engine::{ClusterOutcome, InForce, apply_cluster};
use crate::error::Failure;
use crate::model::{DesiredCluster, Guard, Mode};
use crate::plan::window::{Opening, opening};
use crate::plan::{self, ClusterPlan, FightLimits, Fights, KubeletPlan};
use crate::report::NodeCounts;

/// How long further changes are waited for, so that a burst of them is one pass, and passes are never many.
const GATHER: Duration = Duration::from_millis(20);
/// How many names the status tells.
const NAMED: usize = 100;

/// What a reconciler remembers between passes.
pub(super) struct Memory {
    fights: Fights,
    /// Whether the state says to fight on.
    fights_allowed: bool,
    /// Nodes that could not be written, and when they are tried again.
    failing: BTreeMap<String, (Backoff, Instant)>,
    /// The whole cluster could not be written.
    backoff: Backoff,
    rest: Option<Instant>,
    pub(super) told: Told,
}

/// When another pass is worth it, if nothing happens before: at a time of day, or after so long by the steady clock, so
/// that no clock that is set makes drover try without end, or never again.
#[derive(Debug, Default)]
struct Wake {
    at: Option<Timestamp>,
    retry: Option<Instant>,
}

impl Memory {
    pub(super) fn new(fights: FightLimits) -> Self {
        Self {
            fights: Fights::new(fights),
            fights_allowed: false,
            failing: BTreeMap::new(),
            backoff: Backoff::new(),
            rest: None,
            told: Told::default(),
        }
    }

    /// Whether a node could not be written when it was last tried.
    pub(super) fn is_failing(&self, node: &str) -> bool {
        self.failing.contains_key(node)
    }
}

impl Cluster {
    /// Keeps the cluster as the state says until it is told to stop.
    pub(super) async fn reconcile(&self, memory: &mut Memory, kube: Option<&KubeCluster>) {
        let (mut desired, mut tenure) = (self.desired.clone(), self.tenure.subscribe());
        let mut wake = Wake::default();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.store.changed.notified() => {}
                _ = desired.changed() => {}
                _ = tenure.changed() => {}
                () = clock::until(wake.at) => {}
                () = retry(wake.retry) => {}
            }
            tokio::time::sleep(GATHER).await;
            wake = self.pass(memory, kube).await.unwrap_or_default();
        }
    }

    /// One pass. Returns when the next one is due, if nothing happens before.
    async fn pass(&self, memory: &mut Memory, kube: Option<&KubeCluster>) -> Option<Wake> {
        let (now, begun, in_force) = (self.now(), Instant::now(), self.in_force());
        let document = in_force.desired.clusters.get(self.name.as_str())?;
        if !self.is_reached_as(document) {
            return None; // another connection is being made
        }
        let mut plan = self.plan(&in_force, document, now)?;
        self.daemon.metrics.planned(&self.name, begun.elapsed());
        memory.fights_allowed = plan::allowed(Guard::Fighting, document, &BTreeSet::new(), now).is_some();
        if !memory.fights_allowed {
            let begun = memory.fights.hold_back(&mut plan, now);
            self.tell_fights(&begun);
        }
        self.tell_plan(memory, &in_force, &plan, now);
        let may = self.tenure.borrow().clone();
        let writable = !plan.nodes.is_empty()
            && plan.mode == Mode::Enforce
            && !plan.labels_are_refused()
            && may == May::Write(in_force.revision.commit.clone());
        self.binds_are_due(&in_force, &plan, &may);
        tracing::debug!(cluster = self.name, nodes = plan.nodes.len(), writable, ?may, "pass");
        memory.failing.retain(|name, _| plan.nodes.iter().any(|node| node.node == *name));
        if let Some(kube) = kube.filter(|_| writable && memory.rest.is_none_or(|rest| rest <= begun)) {
            plan.nodes.retain(|node| memory.failing.get(&node.node).is_none_or(|(_, again)| *again <= begun));
            if !plan.nodes.is_empty() {
                self.apply(memory, &in_force, &plan, kube).await;
            }
        }
        memory.fights.forget_old(now);
        // What becomes due while the pass goes on was not due for it.
        Some(self.next(memory, document, now, begun))
    }

    /// The plan, with what the status tells of it; none before the nodes were seen.
    fn plan(&self, in_force: &InForce, document: &DesiredCluster, now: Timestamp) -> Option<ClusterPlan> {
        let mut live = self.store.live();
        live.last_seen?;
        live.touched.clear();
        let mut plan = plan::diff(&self.name, document, &in_force.desired.vocabulary, &live.nodes);
        plan::gate(&mut plan, document, &in_force.desired.vocabulary, &live.nodes, &BTreeSet::new(), now);
        plan.kubelet = binds(in_force, document, &live);
        let losing = plan::nodes_that_lose_labels(&plan);
        let pods = if losing.is_empty() { Ok(Vec::new()) } else { live.pods_on(&losing) };
        let none = BTreeSet::new();
        plan.refusals = refusals(&in_force.desired, document, &plan, &live.nodes, pods.as_deref(), &none, now);
        live.pods_hold_back = plan.refusals.iter().any(|refusal| refusal.guard == Guard::RunningPods);
        Some(plan)
    }

    /// Hands a change of binds on once the labels are as they must be: what attracts work is gone before what it needs.
    fn binds_are_due(&self, in_force: &Arc<InForce>, plan: &ClusterPlan, may: &May) {
        let due = plan.kubelet.as_ref().filter(|kubelet| {
            kubelet.changes_anything()
                && kubelet.blocked.is_none()
                && plan.nodes.is_empty()
                && plan.mode == Mode::Enforce
                && !plan.is_refused()
                && *may == May::Write(in_force.revision.commit.clone())
        });
        let due = due.map(|plan| Due { in_force: in_force.clone(), plan: plan.clone() });
        let is_due = due.is_some();
        self.store.live().binds_due = due;
        if is_due {
            self.store.binds_are_due.notify_one();
        }
    }

    async fn apply(&self, memory: &mut Memory, in_force: &Arc<InForce>, plan: &ClusterPlan, kube: &KubeCluster) {
        let begun = self.now();
        let stop = AtomicBool::new(false);
        let applying = apply_cluster(plan, kube, self.daemon.settings.parallel, &stop, &());
        tokio::pin!(applying);
        let superseded = self.superseded(in_force);
        tokio::pin!(superseded);
        let outcome = loop {
            tokio::select! {
                outcome = &mut applying => break outcome,
                () = &mut superseded, if !stop.load(Ordering::Relaxed) => stop.store(true, Ordering::Relaxed),
            }
        };
        let (now, done) = (self.now(), Instant::now());
        self.store.written(written(plan, &outcome));
        self.store.asked(asked(plan, &outcome));
        // The watch will show what is known by now, and so be no news: how the cluster stands is told anew all the same.
        self.store.changed.notify_one();
        for (node, change) in written(plan, &outcome) {
            memory.fights.applied(node, change, now);
            memory.failing.remove(node);
        }
        for failed in &outcome.failed {
            let (backoff, again) = memory.failing.entry(failed.node.clone()).or_insert((Backoff::new(), done));
            *again = done + backoff.failed();
        }
        // What was neither interrupted nor done failed for a reason that all nodes share.
        memory.rest = match outcome.not_done.is_empty() || stop.load(Ordering::Relaxed) {
            true => {
                memory.backoff.went_well();
                None
            }
            false => Some(done + memory.backoff.failed()),
        };
        self.tell_outcome(memory, in_force, plan, &outcome, now.duration_since(begun));
        if !outcome.stale.is_empty() {
            self.store.found(&outcome.stale);
        }
    }

    /// Returns once the work under way is no longer to be done: another state, another holder, or the end.
    async fn superseded(&self, in_force: &Arc<InForce>) {
        let (mut desired, mut tenure) = (self.desired.clone(), self.tenure.subscribe());
        tokio::select! {
            () = self.stop.cancelled() => {}
            other = async { desired.wait_for(|now| !Arc::ptr_eq(now, in_force)).await.is_ok() } => if !other { pending().await },
            lost = async { tenure.wait_for(|may| *may == May::Watch).await.is_ok() } => if !lost { pending().await },
        }
    }

    /// When the passing of time alone makes another pass worth it.
    fn next(&self, memory: &Memory, document: &DesiredCluster, now: Timestamp, begun: Instant) -> Wake {
        let window = match opening(&document.spec.windows, now) {
            Opening::Closed { opens } => opens,
            Opening::Open { closes } => Some(closes),
            Opening::Always => None,
        };
        let fleet = &self.in_force().desired.fleet;
        let ends = [&document.spec.suspend, &fleet.suspend].into_iter().flatten().map(|hold| hold.until.moment());
        let allowed = document.spec.allow.iter().map(|allow| allow.until.moment());
        let old = plan::storage::next_change(document, &self.store.live().nodes, now);
        let moments = window.into_iter().chain(ends).chain(allowed).chain(memory.fights.next_try(now)).chain(old);
        // What was due and not done waits for something else than time.
        let retries = memory.failing.values().map(|(_, again)| *again).chain(memory.rest);
        Wake { at: moments.filter(|moment| *moment > now).min(), retry: retries.filter(|again| *again > begun).min() }
    }

    /// Writes down how the cluster stands.
    fn tell_plan(&self, memory: &mut Memory, in_force: &InForce, plan: &ClusterPlan, now: Timestamp) {
        let drifting: Vec<String> = plan.nodes.iter().take(NAMED).map(|node| node.node.clone()).collect();
        let waiting = plan.waiting.iter().take(NAMED).map(|node| (node.node.clone(), node.why.clone())).collect();
        let counts = NodeCounts {
            managed: plan.managed as usize,
            drifting: plan.nodes.len(),
            absent: plan.absent.len(),
            unmanaged: plan.unmanaged.len(),
            waiting: plan.waiting.len(),
        };
        self.daemon.board.cluster(&self.name, |report| {
            report.mode = plan.mode;
            report.nodes = counts;
            report.differing_labels = plan.counts().labels();
            report.drifting = drifting;
            report.waiting = waiting;
            report.refusals = plan.refusals.clone();
            report.kubelet = plan.kubelet.clone();
            report.fights = memory.fights.open(now).filter(|_| !memory.fights_allowed).cloned().collect();
            report.failing.retain(|name, _| memory.failing.contains_key(name));
            report.compared_with = Some(in_force.revision.short());
        });
        self.tell_refusals(&mut memory.told, plan);
        self.tell_storage(&mut memory.told, plan);
    }
}

/// What agents were asked for.
pub(super) fn asked<'p>(plan: &'p ClusterPlan, outcome: &ClusterOutcome) -> Vec<(&'p str, &'p plan::StorageChange)> {
    let skipped = left_out(outcome);
    let stale: BTreeSet<&str> = outcome.stale_storage.iter().map(|stale| stale.node.as_str()).collect();
    let nodes = plan.nodes.iter().filter(|node| !skipped.contains(node.node.as_str()));
    let asked = nodes.filter_map(|node| Some((node.node.as_str(), node.storage.as_ref()?)));
    asked.filter(|(node, _)| !stale.contains(node)).collect()
}

/// Nodes that could not be written, or were not tried.
fn left_out(outcome: &ClusterOutcome) -> BTreeSet<&str> {
    outcome.failed.iter().map(|failed| &failed.node).chain(&outcome.not_done).map(String::as_str).collect()
}

/// What must change of the binds, by what was last seen of them.
fn binds(in_force: &InForce, document: &DesiredCluster, live: &Live) -> Option<KubeletPlan> {
    let mut seen = live.kubelet.clone()?;
    if let Ok(seen) = &mut seen {
        add_config(seen, &document.spec, |path| match in_force.files.get(path) {
            Some(read) => read.clone(),
            None => Err(Failure::new(format!("{path} was not read"))),
        });
    }
    plan::kubelet::kubelet(document, &live.nodes, seen.as_ref().map_err(Clone::clone))
}

/// The changes of a plan that were made.
pub(super) fn written<'p>(plan: &'p ClusterPlan, outcome: &ClusterOutcome) -> Vec<(&'p str, &'p plan::Change)> {
    let skipped = left_out(outcome);
    let stale: BTreeSet<(&str, &str)> =
        outcome.stale.iter().map(|stale| (stale.node.as_str(), stale.key.as_str())).collect();
    let nodes = plan.nodes.iter().filter(|node| !skipped.contains(node.node.as_str()));
    let changes = nodes.flat_map(|node| node.changes.iter().map(|change| (node.node.as_str(), change)));
    changes.filter(|(node, change)| !stale.contains(&(*node, change.key.as_str()))).collect()
}

async fn retry(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}
