//! What the daemon tells people of a cluster: logs, Events on nodes, notifications, numbers.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::cluster::Cluster;
use super::reconcile::{Memory, written};
use crate::engine::pass::Live;
use crate::engine::{ClusterOutcome, InForce};
use crate::model::notice::{NoticeKind, Severity};
use crate::model::{Guard, Mode};
use crate::plan::{Change, ClusterPlan, Fight};

/// Events of one pass: more would bury those that matter.
const EVENTS: usize = 50;

/// What was said before, so that it is said once.
#[derive(Debug, Default)]
pub(super) struct Told {
    refused: BTreeMap<Guard, String>,
    /// Nodes whose storage is not as it must be, and what is wrong with it.
    storage: BTreeMap<String, String>,
}

impl Cluster {
    /// Tells of guards that hold changes back, and of those that no longer do.
    pub(super) fn tell_refusals(&self, told: &mut Told, plan: &ClusterPlan) {
        let holding = plan.refusals.iter().filter(|refusal| plan.mode == Mode::Enforce && refusal.allowed.is_none());
        let now: BTreeMap<Guard, String> = holding.clone().map(|r| (r.guard, r.message.clone())).collect();
        for guard in told.refused.keys().filter(|guard| !now.contains_key(guard)) {
            tracing::info!(cluster = self.name, guard = guard.name(), "no longer held back");
            let title = format!("{}: changes are no longer held back by {guard}", self.name);
            self.daemon.resolve(NoticeKind::PlanRefused, Some(&self.name), guard.name(), title);
        }
        for refusal in holding {
            if told.refused.get(&refusal.guard) == Some(&refusal.message) {
                continue;
            }
            let guard = refusal.guard;
            tracing::warn!(cluster = self.name, guard = guard.name(), "held back: {}", refusal.message);
            let title = format!("{}: {} held back by {guard}", self.name, plan.counts());
            let lines = std::iter::once(refusal.message.clone()).chain(refusal.details.iter().cloned()).collect();
            // An opening that is awaited is no cause for alarm.
            let severity = if guard == Guard::OutsideWindow { Severity::Info } else { Severity::Warning };
            self.daemon.tell(NoticeKind::PlanRefused, Some(&self.name), guard.name(), title, lines, severity);
        }
        told.refused = now;
    }

    /// Tells of machines whose storage is not as it must be, and of those where it is again.
    pub(super) fn tell_storage(&self, told: &mut Told, plan: &ClusterPlan) {
        let failed = plan.waiting.iter().filter(|node| node.failed);
        let now: BTreeMap<String, String> = failed.map(|node| (node.node.clone(), node.why.clone())).collect();
        for node in told.storage.keys().filter(|node| !now.contains_key(*node)) {
            tracing::info!(cluster = self.name, node, "its storage fails no longer");
            let title = format!("{}: the storage of {node} fails no longer", self.name);
            self.daemon.resolve(NoticeKind::StorageFailed, Some(&self.name), node, title);
        }
        for (node, why) in now.iter().filter(|(node, why)| told.storage.get(*node) != Some(why)) {
            tracing::warn!(cluster = self.name, node, "storage: {why}");
            let title = format!("{}: the storage of {node} is not as it must be", self.name);
            self.daemon.tell(
                NoticeKind::StorageFailed,
                Some(&self.name),
                node,
                title,
                vec![why.clone()],
                Severity::Warning,
            );
        }
        told.storage = now;
    }

    /// Tells of fights that have just begun.
    pub(super) fn tell_fights(&self, begun: &[Fight]) {
        for fight in begun {
            let manager = fight.manager.as_deref().unwrap_or("somebody");
            let said = format!(
                "{manager} changed {} back {} times (state asks for {}, found {}); left alone until {}",
                fight.key,
                fight.times,
                fight.wanted.as_deref().unwrap_or("no such label"),
                fight.found.as_deref().unwrap_or("no such label"),
                fight.until
            );
            tracing::warn!(cluster = self.name, node = fight.node, key = fight.key, manager, "fighting: {said}");
            let title = format!("{}: {manager} fights over {} on {}", self.name, fight.key, fight.node);
            let subject = format!("{}/{}", fight.node, fight.key);
            self.daemon.tell(
                NoticeKind::Fighting,
                Some(&self.name),
                &subject,
                title,
                vec![said.clone()],
                Severity::Warning,
            );
            self.event(vec![(fight.node.clone(), "Fighting", said, true)]);
        }
    }

    /// Tells what became of a plan.
    pub(super) fn tell_outcome(
        &self,
        memory: &mut Memory,
        in_force: &InForce,
        plan: &ClusterPlan,
        outcome: &ClusterOutcome,
        took: SignedDuration,
    ) {
        let (revision, metrics) = (in_force.revision.short(), &self.daemon.metrics);
        let changes = written(plan, outcome);
        metrics.applied(&self.name, changes.len(), outcome.stale.len(), outcome.failed.len(), took);
        let mut by_node: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (node, change) in &changes {
            by_node.entry(node).or_default().push(shown(change));
        }
        for (node, changes) in &by_node {
            tracing::info!(cluster = self.name, node, revision, "labelled: {}", changes.join(", "));
        }
        for stale in &outcome.stale {
            tracing::info!(cluster = self.name, node = stale.node, key = stale.key, "changed meanwhile: left alone");
        }
        for (node, change) in super::reconcile::asked(plan, outcome) {
            let what =
                if change.to.is_some() { "its agent is asked for the storage" } else { "its agent is left in peace" };
            tracing::info!(cluster = self.name, node, revision, "{what}");
        }
        for failed in &outcome.failed {
            tracing::warn!(cluster = self.name, node = failed.node, "not labelled: {}", failed.cause);
        }
        let done = by_node.iter().map(|(node, changes)| {
            ((*node).to_owned(), "Labelled", format!("{} (state {revision})", changes.join(", ")), false)
        });
        let failed = outcome.failed.iter().map(|failed| {
            (failed.node.clone(), "LabellingFailed", format!("{} (state {revision})", failed.cause), true)
        });
        self.event(failed.chain(done).take(EVENTS).collect());
        self.notify(plan, outcome, &by_node, &revision);
        self.daemon.board.cluster(&self.name, |report| {
            if !changes.is_empty() {
                report.last_change = Some(self.now());
            }
            report.failing.retain(|name, _| memory.is_failing(name));
            let failed = outcome.failed.iter().map(|failed| (failed.node.clone(), failed.cause.clone()));
            report.failing.extend(failed);
        });
    }

    fn notify(&self, plan: &ClusterPlan, outcome: &ClusterOutcome, done: &BTreeMap<&str, Vec<String>>, revision: &str) {
        const LINES: usize = 20;
        let cluster = Some(self.name.as_str());
        if !done.is_empty() {
            let title = format!("{}: {} made as state {revision} says", self.name, plan.counts());
            let lines = done.iter().take(LINES).map(|(node, changes)| format!("{node}: {}", changes.join(", ")));
            let more = done.len().saturating_sub(LINES);
            let more = (more > 0).then(|| format!("and {more} more nodes"));
            // Each change is news of its own: nothing is left out as a repetition.
            let subject = self.now().to_string();
            self.daemon.tell(
                NoticeKind::ChangesApplied,
                cluster,
                &subject,
                title,
                lines.chain(more).collect(),
                Severity::Info,
            );
        }
        for failed in outcome.failed.iter().take(LINES) {
            let title = format!("{}: {} could not be labelled", self.name, failed.node);
            let lines = std::iter::once(failed.cause.clone()).chain(failed.hint.clone()).collect();
            self.daemon.tell(NoticeKind::ChangeFailed, cluster, &failed.node, title, lines, Severity::Warning);
        }
    }

    /// Writes Events, besides the work.
    fn event(&self, told: Vec<(String, &'static str, String, bool)>) {
        let Live::Kube(kube) = &self.connected.live else { return };
        let cluster = kube.clone();
        let (name, metrics) = (self.name.clone(), self.daemon.metrics.clone());
        self.daemon.background.spawn(async move {
            for (node, reason, note, warning) in told {
                if let Err(error) = cluster.event(&node, reason, &note, warning).await {
                    metrics.event_failed(&name);
                    tracing::debug!(cluster = name, node, "the Event was not written: {error}");
                    return; // the next ones would fail alike; an Event is never worth a retry
                }
            }
        });
    }
}

/// A change as people write it: `org: ads → rec`, `+gpu=true`, `-vgpu`.
fn shown(change: &Change) -> String {
    match (&change.from, &change.to) {
        (None, Some(to)) => format!("+{}={to}", change.key),
        (Some(from), Some(to)) => format!("{}: {from} → {to}", change.key),
        (_, None) => format!("-{}", change.key),
    }
}
