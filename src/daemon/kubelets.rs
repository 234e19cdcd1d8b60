//! The kubelets of one cluster: their binds are looked at now and then, and changed when the reconciler says so. A change can
//! take an hour, in which labels go on as if nothing were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::tenure::May;
use crate::adapters::kube::KubeCluster;
use crate::adapters::kubelet::Manager;
use crate::engine::kubelet::{KubeletEnd, KubeletOutcome, Operator, StatePlace, Work, in_words, observe};
use crate::engine::{InForce, StateSource, Writer};
use crate::model::cluster::Kubelet;
use crate::model::notice::{NoticeKind, Severity};
use crate::plan::KubeletPlan;
use crate::report::clean;

/// How often the binds are looked at.
const EVERY: Duration = Duration::from_secs(60);
/// After how long a change that did not come to its end is tried again, while nothing else is asked for.
const AGAIN: Duration = Duration::from_secs(600);
/// What fails, in notices.
const SUBJECT: &str = "kubelet";

/// A change that the reconciler found to be due.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) in_force: Arc<InForce>,
    pub(super) plan: KubeletPlan,
}

/// A change that was tried, and did not come to its end.
struct Tried {
    plan: KubeletPlan,
    commit: Option<String>,
    again: Instant,
}

impl Cluster {
    /// Looks at the binds, and changes them when that is due, until it is told to stop; then ends what is under way.
    pub(super) async fn keep_kubelets(&self, kube: &KubeCluster) {
        let mut desired = self.desired.clone();
        let mut look = Instant::now();
        let mut tried: Option<Tried> = None;
        let mut manager = None;
        let mut asked: Option<Kubelet> = None;
        loop {
            let now_asked = self.kubelet_asked();
            if now_asked != asked || Instant::now() >= look {
                asked = now_asked;
                manager = self.look_at_kubelets(kube).await;
                look = Instant::now() + EVERY;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = desired.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(look) => {}
                () = self.store.binds_are_due.notified() => {
                    let due = self.store.live().binds_due.take();
                    if let (Some(due), Some(manager)) = (due, &manager) && !is_too_soon(tried.as_ref(), &due) {
                        tried = self.change_binds(&due, manager).await;
                        // What was due meanwhile was found by what was seen before.
                        self.look_at_kubelets(kube).await;
                        self.store.live().binds_due = None;
                        look = Instant::now() + EVERY;
                    }
                }
            }
        }
    }

    fn kubelet_asked(&self) -> Option<Kubelet> {
        self.in_force().desired.clusters.get(self.name.as_str())?.spec.kubelet.clone()
    }

    async fn look_at_kubelets(&self, kube: &KubeCluster) -> Option<Manager> {
        let in_force = self.in_force();
        let document = in_force.desired.clusters.get(self.name.as_str())?;
        let looking = observe(kube, &document.spec, in_force.root.as_deref());
        let kubelets = tokio::select! {
            kubelets = looking => kubelets,
            () = self.stop.cancelled() => return None,
        };
        let (manager, seen) = match kubelets {
            Some(kubelets) => (kubelets.manager, Some(kubelets.seen.map_err(|failure| in_words(&failure)))),
            None => (None, None),
        };
        let (new, is_news) = {
            let mut live = self.store.live();
            let is_news = live.kubelet != seen;
            live.kubelet = seen;
            (live.kubelet.clone(), is_news)
        };
        if is_news {
            if let Some(Err(why)) = new {
                tracing::warn!(cluster = self.name, "the binds of its kubelets are not known: {why}");
            }
            self.store.changed.notify_one();
        }
        manager
    }

    /// Makes a change. Returns it where it did not come to its end.
    async fn change_binds(&self, due: &Due, manager: &Manager) -> Option<Tried> {
        let (name, cluster) = due.in_force.desired.clusters.get_key_value(self.name.as_str())?;
        tracing::info!(
            cluster = self.name,
            binds = due.plan.changes.len(),
            restarts = due.plan.restarting(),
            "changing binds"
        );
        let stop = AtomicBool::new(false);
        let operator = self.operator();
        let work = Work { name, cluster, plan: &due.plan, manager, operator: &operator, now: self.now() };
        let tell = |line: &str| tracing::info!(cluster = self.name, "kubelets: {}", clean(line));
        let working = work.carry_out(&stop, &tell);
        tokio::pin!(working);
        let mut tenure = self.tenure.subscribe();
        let outcome = loop {
            tokio::select! {
                outcome = &mut working => break outcome,
                () = self.stop.cancelled(), if !stop.load(Ordering::Relaxed) => stop.store(true, Ordering::Relaxed),
                // Another replica may begin now: this one must not go on.
                _ = tenure.wait_for(|may| *may == May::Watch), if !stop.load(Ordering::Relaxed) => {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        self.tell_binds(due, &outcome);
        let commit = due.in_force.revision.commit.clone();
        (outcome.end != KubeletEnd::Done).then(|| Tried {
            plan: due.plan.clone(),
            commit,
            again: Instant::now() + AGAIN,
        })
    }

    fn operator(&self) -> Operator {
        let settings = &self.daemon.settings;
        let place = match &settings.source {
            StateSource::Folder(_) => {
                StatePlace::ReadOnly("the state is a folder: the daemon edits none, `drover apply` does".to_owned())
            }
            source => {
                let signers = settings.follow.signers.clone();
                let writer = Writer { source: source.clone(), signers, author: None, checked_out: false };
                StatePlace::Repository(Box::new(writer))
            }
        };
        Operator { rke: settings.rke.clone(), place }
    }

    fn tell_binds(&self, due: &Due, outcome: &KubeletOutcome) {
        let cluster = Some(self.name.as_str());
        let binds: Vec<String> = due.plan.changes.iter().filter_map(|change| change.to.clone()).collect();
        let lines = || outcome.steps.iter().chain([&outcome.why]).chain(&outcome.hint).filter(|line| !line.is_empty());
        let lines: Vec<String> = lines().cloned().collect();
        if lines.is_empty() && due.plan.changes.is_empty() {
            return; // somebody else had done it
        }
        let told = lines.join("; ");
        self.daemon
            .board
            .cluster(&self.name, |report| report.kubelet_outcome = Some(told.clone()).filter(|told| !told.is_empty()));
        let (title, severity) = match outcome.end {
            KubeletEnd::Done => {
                tracing::info!(cluster = self.name, binds = binds.join(" "), "binds changed; {told}");
                self.daemon.resolve(
                    NoticeKind::ChangeFailed,
                    cluster,
                    SUBJECT,
                    format!("{}: kubelet binds are right", self.name),
                );
                let title = format!("{}: kubelet binds changed", self.name);
                self.daemon.tell(NoticeKind::ChangesApplied, cluster, SUBJECT, title, lines, Severity::Info);
                return;
            }
            KubeletEnd::Waits => {
                tracing::info!(cluster = self.name, "binds wait: {told}");
                (format!("{}: kubelet binds wait", self.name), Severity::Info)
            }
            end => {
                tracing::warn!(cluster = self.name, ?end, "binds are not changed: {told}");
                (format!("{}: kubelet binds are not changed", self.name), Severity::Warning)
            }
        };
        self.daemon.tell(NoticeKind::ChangeFailed, cluster, SUBJECT, title, lines, severity);
    }
}

/// Whether the same was tried a short time ago.
fn is_too_soon(tried: Option<&Tried>, due: &Due) -> bool {
    let is_same = |tried: &&Tried| tried.plan == due.plan && tried.commit == due.in_force.revision.commit;
    tried.filter(is_same).is_some_and(|tried| Instant::now() < tried.again)
}
