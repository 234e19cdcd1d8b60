//! The rebalancer of one cluster: looks every few minutes, decides, and commits. What it commits is followed and applied
//! like any other revision; it never writes to a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::tenure::May;
use crate::engine::rebalance::{self, Rebalanced, Sight, Stuck, stuck};
use crate::engine::{InForce, StateSource, Writer, Written};
use crate::error::Failure;
use crate::model::cluster::Policy;
use crate::model::notice::{NoticeKind, Severity};
use crate::model::{ClusterName, DesiredCluster, Mode};
use crate::plan::window::{Opening, opening};
use crate::rebalance::load::Past;
use crate::rebalance::{Need, Record, Why};

/// How often it looks where the state does not say.
const EVERY: Duration = Duration::from_secs(300);
/// How long work waits for something else before people are told, where the state does not say.
const TELL_AFTER: i64 = 300;

/// What was told, so that its end can be.
#[derive(Default)]
struct Told {
    stuck: BTreeSet<String>,
    unserved: BTreeSet<String>,
    failed: bool,
}

/// What one pass came to.
struct Pass {
    /// The decision on the state in force, as if nothing had been decided before.
    first: Record,
    stuck: Vec<Stuck>,
    /// What was written; none where nothing was to be.
    done: Option<Rebalanced>,
}

impl Cluster {
    /// Looks again and again, for as long as the cluster is followed.
    pub(super) async fn rebalance(&self) {
        let mut desired = self.desired.clone();
        let mut told = Told::default();
        let mut last = Instant::now();
        loop {
            let every = self.rebalances(&self.in_force());
            self.store.keep_work(every.is_some());
            tokio::select! {
                () = tokio::time::sleep_until(last + every.unwrap_or(EVERY)) => {
                    last = Instant::now();
                    if every.is_some() {
                        self.rebalance_now(&mut told).await;
                    }
                }
                changed = desired.changed() => if changed.is_err() { return },
            }
        }
    }

    /// How often the state asks for a look; none where it asks for none.
    fn rebalances(&self, in_force: &InForce) -> Option<Duration> {
        let spec = &in_force.desired.clusters.get(self.name.as_str())?.spec;
        let asked =
            spec.rebalance.as_ref().filter(|asked| asked.policy != Policy::Off && spec.mode == Mode::Enforce)?;
        Some(asked.every.as_ref().map_or(EVERY, |every| every.duration()))
    }

    async fn rebalance_now(&self, told: &mut Told) {
        let (now, in_force) = (self.now(), self.in_force());
        let Some((name, document)) = in_force.desired.clusters.get_key_value(self.name.as_str()) else { return };
        let holds = *self.tenure.borrow() == May::Write(in_force.revision.commit.clone());
        if !holds || !self.is_reached_as(document) || is_at_rest(&in_force, document, now) {
            return;
        }
        if matches!(self.daemon.settings.source, StateSource::Folder(_)) {
            tracing::debug!(cluster = self.name, "decisions are written to a repository, and the state is a folder");
            return;
        }
        match self.decide(name.clone(), in_force.clone(), document, now).await {
            Ok(pass) => self.tell_pass(told, pass),
            Err(failure) => {
                self.daemon.metrics.rebalanced(&self.name, "failed", 0);
                tracing::warn!(cluster = self.name, "no machine was moved: {failure}");
                let title = format!("{}: the rebalancer cannot move machines", self.name);
                let lines = std::iter::once(failure.to_string()).chain(failure.advice().map(str::to_owned)).collect();
                let cluster = Some(self.name.as_str());
                self.daemon.tell(NoticeKind::ChangeFailed, cluster, "rebalance", title, lines, Severity::Warning);
                told.failed = true;
            }
        }
    }

    async fn decide(
        &self,
        name: ClusterName,
        in_force: Arc<InForce>,
        document: &DesiredCluster,
        now: Timestamp,
    ) -> Result<Pass, Failure> {
        let sight = {
            let live = self.store.live();
            Sight { connection: document.spec.connection.clone(), nodes: live.nodes.clone(), pods: live.work()? }
        };
        let settings = &self.daemon.settings;
        let (source, signers) = (settings.source.clone(), settings.follow.signers.clone());
        let writer = Writer { source, signers, author: None, checked_out: false };
        let deciding = tokio::task::spawn_blocking(move || {
            // The past only rules moves out: where there is none without it, the repository need not be asked.
            let first = rebalance::decide_with(&in_force.desired, &Past::default(), &name, &sight, now)?;
            let stuck = stuck(&first, &sight.pods);
            let done = match first.decision.moves.is_empty() {
                true => None,
                false => Some(rebalance::rebalance(&writer, &name, &sight, now)?),
            };
            Ok(Pass { first, stuck, done })
        });
        deciding.await.map_err(|error| Failure::caused("the rebalancer ended in a way that it must not", &error))?
    }

    fn tell_pass(&self, told: &mut Told, pass: Pass) {
        let cluster = Some(self.name.as_str());
        let input = &pass.first.input;
        let otherwise = input.waiting.iter().filter(|work| work.otherwise).count();
        self.daemon.metrics.waits(&self.name, input.waiting.len() - otherwise, otherwise);
        let (decided, written) = pass.done.map_or((None, None), |done| (done.record, done.written));
        let (result, moves) = match &written {
            Some(Written::Committed(committed)) => {
                let moves = &committed.decision.moves;
                for made in moves {
                    tracing::info!(
                        cluster = self.name,
                        node = made.node.as_str(),
                        from = made.from_shown(),
                        to = made.to.as_str(),
                        commit = committed.commit,
                        "moved: {}",
                        made.reason
                    );
                }
                let title = crate::writeback::subject(&committed.decision);
                let lines = moves
                    .iter()
                    .map(|made| format!("{}: {} -> {}: {}", made.node, made.from_shown(), made.to, made.reason));
                let at = committed.proposal.clone().unwrap_or_else(|| format!("commit {}", committed.commit));
                let lines = lines.chain([at]).collect();
                let subject = &committed.decision.digest;
                self.daemon.tell(NoticeKind::MoveMade, cluster, subject, title, lines, Severity::Info);
                self.daemon.trigger().notify_one();
                ("moved", moves.len())
            }
            Some(Written::Dropped { reason }) => {
                tracing::info!(cluster = self.name, "a decision was dropped: {reason}");
                ("dropped", 0)
            }
            Some(Written::Already { .. }) | None => ("nothing", 0),
        };
        self.daemon.metrics.rebalanced(&self.name, result, moves);
        if std::mem::take(&mut told.failed) {
            let title = format!("{}: the rebalancer can move machines again", self.name);
            self.daemon.resolve(NoticeKind::ChangeFailed, cluster, "rebalance", title);
        }
        let rules = &input.rules;
        let tell_after = if rules.pending_after > 0 { rules.pending_after } else { TELL_AFTER };
        let is_late = |waited: i64| waited >= tell_after;
        self.tell_stuck(told, pass.stuck.iter().filter(|stuck| is_late(stuck.waited)));
        let decision = decided.as_ref().map_or(&pass.first.decision, |record| &record.decision);
        let is_due = |need: &&Need| is_late(need.waited) && need.rejected.iter().all(|r| r.why != Why::NotDue);
        self.tell_unserved(told, decision.unserved.iter().filter(is_due));
    }

    /// Tells of work that no machine would help.
    fn tell_stuck<'s>(&self, told: &mut Told, stuck: impl Iterator<Item = &'s Stuck>) {
        let cluster = Some(self.name.as_str());
        let mut now = BTreeSet::new();
        for stuck in stuck {
            let title = format!("{}: {} of {} waits, and no machine helps it", self.name, stuck.work, stuck.group);
            let lines = vec![stuck.says.clone()];
            self.daemon.tell(NoticeKind::PodsPending, cluster, &stuck.work, title, lines, Severity::Warning);
            now.insert(stuck.work.clone());
        }
        for over in told.stuck.difference(&now) {
            let title = format!("{}: {over} waits no longer for something else than a machine", self.name);
            self.daemon.resolve(NoticeKind::PodsPending, cluster, over, title);
        }
        told.stuck = now;
    }

    /// Tells of needs that no machine can be moved for.
    fn tell_unserved<'n>(&self, told: &mut Told, unserved: impl Iterator<Item = &'n Need>) {
        let cluster = Some(self.name.as_str());
        let mut now = BTreeSet::new();
        for need in unserved {
            let title = format!("{}: no machine can move: {}", self.name, rebalance::waits(need));
            let lines = need.rejected.iter().map(|why| format!("{} machines {}", why.count, why.why.words())).collect();
            self.daemon.tell(NoticeKind::NoMove, cluster, &need.group, title, lines, Severity::Warning);
            now.insert(need.group.to_string());
        }
        for over in told.unserved.difference(&now) {
            let title = format!("{}: {over} waits no longer for a machine that cannot move", self.name);
            self.daemon.resolve(NoticeKind::NoMove, cluster, over, title);
        }
        told.unserved = now;
    }
}

/// Whether nothing would be applied now: what was decided would be stale when it could be.
fn is_at_rest(in_force: &InForce, document: &DesiredCluster, now: Timestamp) -> bool {
    let holds = [&document.spec.suspend, &in_force.desired.fleet.suspend];
    holds.into_iter().flatten().any(|hold| hold.until.moment() > now)
        || matches!(opening(&document.spec.windows, now), Opening::Closed { .. })
}
