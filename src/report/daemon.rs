//! What a running daemon says of itself: what it follows, how each cluster stands, and whether that can be believed.

use std::collections::BTreeMap;
use std::fmt::Write;

use askama::Template;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::binds;
use super::style::{STYLES, clean, count, paint};
use crate::engine::RefusedRevision;
use crate::model::Mode;
use crate::plan::{Fight, KubeletPlan, Refusal, StateRevision};

/// A running daemon, as `/status` tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover daemon status")]
pub struct DaemonStatus {
    /// Which process this is.
    pub identity: String,
    /// The version of drover.
    pub version: String,
    /// When it started, in UTC.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When this was said, in UTC.
    #[schemars(with = "String")]
    pub now: Timestamp,
    /// How it follows the state.
    pub sync: SyncStatus,
    /// How each cluster stands, by name.
    pub clusters: BTreeMap<String, ClusterReport>,
    /// Whether all of this can be believed; the daemon is ready when every check passes.
    pub checks: Vec<Check>,
}

/// How the daemon follows the state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// The state that is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<StateRevision>,
    /// The commit that the branch leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// When the source was last looked at with success, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_success: Option<Timestamp>,
    /// When the last look ended, however it did, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_look: Option<Timestamp>,
    /// Why the last look failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Newer revisions that are not applied, newest first.
    pub refused: Vec<RefusedReport>,
}

/// A newer revision that is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedReport {
    /// Which one, whose it is, and why it is refused.
    pub summary: String,
    /// A word for why: `invalid`, `unsigned`, `foreign-signature`, `bad-signature`, `rewound`, `too-far`.
    pub reason: String,
    /// The first problems of its state, as `file:line: message`; the summary names the first of them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl From<&RefusedRevision> for RefusedReport {
    fn from(revision: &RefusedRevision) -> Self {
        const SHOWN: usize = 20;
        let mut problems = revision.problems();
        problems.truncate(SHOWN);
        Self { summary: revision.to_string(), reason: revision.reason.category().to_owned(), problems }
    }
}

impl RefusedReport {
    /// What its summary does not name already.
    pub fn further_problems(&self) -> &[String] {
        self.problems.get(1..).unwrap_or_default()
    }
}

/// How a cluster stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Whether drover writes to it.
    pub mode: Mode,
    /// Who may write to it.
    pub tenure: TenureReport,
    /// When the API server last gave a sign of life on the watch of its nodes, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_seen: Option<Timestamp>,
    /// What of it fails now (`connection`, `nodes`, `pods`, `lease`), and why.
    pub failures: BTreeMap<String, String>,
    /// Its nodes.
    pub nodes: NodeCounts,
    /// The labels that differ from the state.
    pub differing_labels: usize,
    /// The nodes that differ from the state, by name; the first hundred.
    pub drifting: Vec<String>,
    /// Nodes with labels that wait for their storage, and what is wrong with it or why that is not known; the first
    /// hundred.
    #[serde(default)]
    pub waiting: BTreeMap<String, String>,
    /// Guards that hold the changes back.
    pub refusals: Vec<Refusal>,
    /// What must change of its kubelets' binds, and what is to be known of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletPlan>,
    /// What became of the last change of binds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_outcome: Option<String>,
    /// Labels that are left alone because somebody keeps changing them back.
    pub fights: Vec<Fight>,
    /// Nodes that could not be written, and why; each is tried again.
    pub failing: BTreeMap<String, String>,
    /// When the cluster was last changed, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_change: Option<Timestamp>,
    /// The state that the cluster was last compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
}

/// What is to be said of the binds of a cluster's kubelets, and of the last change of them.
fn kubelet_lines(kubelet: &KubeletPlan, outcome: Option<&str>) -> Vec<String> {
    let binds = binds::rows(kubelet).into_iter();
    let binds = binds.map(|row| clean(&format!("{} {}", row.sign, row.to.or(row.from).unwrap_or_default())));
    binds.chain(binds::lines(kubelet)).chain(outcome.map(clean)).collect()
}

/// How many nodes there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that have a document.
    pub managed: usize,
    /// Of those, the ones that are not as the state says.
    pub drifting: usize,
    /// Of those, the ones that have not joined.
    pub absent: usize,
    /// Live nodes without a document.
    pub unmanaged: usize,
    /// Nodes with labels that wait until their storage is verified.
    #[serde(default)]
    pub waiting: usize,
}

/// Who may write to a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub enum TenureReport {
    /// Nobody yet.
    #[default]
    Unknown,
    /// Nobody is known to: the Lease cannot be read or written.
    Failing {
        /// Why.
        why: String,
    },
    /// Nobody needs to: the cluster is only observed.
    Observer,
    /// This process.
    Holder,
    /// Another process.
    Standby {
        /// Which one.
        holder: String,
    },
    /// This process could, but another one has applied a state there that this one does not know to be older than its
    /// own.
    Behind {
        /// The revision that is recorded in the cluster.
        recorded: String,
    },
}

/// One thing that must be so for the daemon to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// Whether it is so.
    pub ok: bool,
    /// How it stands.
    pub detail: String,
}

/// How old things may be before they are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The last successful look at the state's source.
    pub sync: SignedDuration,
    /// The last sign of life of a watch.
    pub watch: SignedDuration,
}

impl DaemonStatus {
    /// Judges what can be believed. Nothing counts as fine only because nothing was heard.
    pub fn judge(&mut self, fresh: Freshness) {
        let mut checks = vec![self.sync.check(self.now, fresh.sync)];
        checks.extend(self.clusters.iter().map(|(name, cluster)| cluster.check(name, self.now, fresh.watch)));
        self.checks = checks;
    }

    /// Whether every check passes.
    pub fn is_ready(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.ok)
    }
}

impl SyncStatus {
    fn check(&self, now: Timestamp, limit: SignedDuration) -> Check {
        let age = self.last_success.map(|at| now.duration_since(at));
        let (ok, detail) = match (age, &self.in_force) {
            (None, _) => (false, "the state was never read".to_owned()),
            (Some(_), None) => (false, "no valid revision was found".to_owned()),
            (Some(age), Some(_)) => (is_fresh(age, limit), format!("the source was last read {} ago", short(age))),
        };
        let detail = self.failure.iter().fold(detail, |detail, failure| format!("{detail}; {failure}"));
        Check { name: "sync".into(), ok, detail }
    }
}

impl ClusterReport {
    fn check(&self, name: &str, now: Timestamp, limit: SignedDuration) -> Check {
        let age = self.last_seen.map(|at| now.duration_since(at));
        let (followed, detail) = match age {
            None => (false, "never seen".to_owned()),
            Some(age) => (is_fresh(age, limit), format!("last heard of {} ago", short(age))),
        };
        let (settled, role) = match &self.tenure {
            TenureReport::Unknown => (false, "nobody is known to hold its Lease".to_owned()),
            TenureReport::Failing { why } => (false, format!("the Lease cannot be held: {why}")),
            TenureReport::Observer => (true, "observed only".to_owned()),
            TenureReport::Holder => (true, "held by this process".to_owned()),
            TenureReport::Standby { holder } => (true, format!("held by {holder}")),
            TenureReport::Behind { recorded } => (false, format!("it was already given {recorded}")),
        };
        let failures = self.failures.iter();
        let detail =
            failures.fold(format!("{detail}, {role}"), |detail, (what, why)| format!("{detail}; {what}: {why}"));
        Check { name: format!("cluster {name}"), ok: followed && settled && self.failures.is_empty(), detail }
    }
}

/// A clock that was set back makes what is past lie ahead: that is no reason to believe it for longer.
fn is_fresh(age: SignedDuration, limit: SignedDuration) -> bool {
    age.abs() <= limit
}

/// A length of time as people say it, to the second.
fn short(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    format!("{:#}", SignedDuration::from_secs(seconds))
}

#[derive(Template)]
#[template(path = "daemon.html")]
struct Page<'s> {
    status: &'s DaemonStatus,
    ready: bool,
}

/// The status of a daemon as a page that renews itself.
pub fn daemon_html(status: &DaemonStatus) -> Result<String, askama::Error> {
    Page { status, ready: status.is_ready() }.render()
}

/// The status of a daemon as text.
pub fn daemon_text(status: &DaemonStatus) -> String {
    let mut text = String::new();
    let ready = match status.is_ready() {
        true => paint(STYLES.add, "ready"),
        false => paint(STYLES.remove, "not ready"),
    };
    let up = short(status.now.duration_since(status.started));
    let _ = writeln!(text, "drover {} on {}: {ready}, up {up}", clean(&status.version), clean(&status.identity));
    sync_text(&mut text, &status.sync);
    for check in status.checks.iter().filter(|check| !check.ok) {
        let name = paint(STYLES.remove, format!("! {}", clean(&check.name)));
        let _ = writeln!(text, "{name}: {}", clean(&check.detail));
    }
    for (name, cluster) in &status.clusters {
        text.push('\n');
        cluster_text(&mut text, name, cluster);
    }
    text
}

fn sync_text(text: &mut String, sync: &SyncStatus) {
    let state = match &sync.in_force {
        Some(revision) => format!("{} @ {}", clean(&revision.source), revision.short()),
        None => "none".to_owned(),
    };
    let _ = writeln!(text, "{}", paint(STYLES.dim, format!("state in force: {state}")));
    for refused in &sync.refused {
        let _ = writeln!(text, "{}", paint(STYLES.remove, format!("! not applied: {}", clean(&refused.summary))));
        for problem in refused.further_problems() {
            let _ = writeln!(text, "    {}", clean(problem));
        }
    }
}

fn cluster_text(text: &mut String, name: &str, cluster: &ClusterReport) {
    let counts = cluster.nodes;
    let waits = match counts.waiting {
        0 => String::new(),
        waiting => format!(", {waiting} waiting for storage"),
    };
    let line = format!(
        "{} in sync, {} drifting{waits}, {} absent, {} unmanaged",
        counts.managed.saturating_sub(counts.drifting + counts.absent),
        counts.drifting,
        counts.absent,
        counts.unmanaged
    );
    let style = if counts.drifting == 0 { STYLES.add } else { STYLES.change };
    let role = match &cluster.tenure {
        TenureReport::Unknown => "its Lease is not settled".to_owned(),
        TenureReport::Failing { why } => format!("its Lease cannot be held: {why}"),
        TenureReport::Observer => "observed only".to_owned(),
        TenureReport::Holder => "held by this process".to_owned(),
        TenureReport::Standby { holder } => format!("held by {holder}"),
        TenureReport::Behind { recorded } => format!("waiting for revision {recorded}, which it was already given"),
    };
    let _ = writeln!(text, "{}: {} ({})", paint(STYLES.bold, clean(name)), paint(style, line), clean(&role));
    for (what, why) in &cluster.failures {
        let _ = writeln!(text, "  {}", paint(STYLES.remove, format!("! {}: {}", clean(what), clean(why))));
    }
    for refusal in cluster.refusals.iter().filter(|refusal| refusal.allowed.is_none()) {
        let line = format!("! held back by {}: {}", refusal.guard, clean(&refusal.message));
        let _ = writeln!(text, "  {}", paint(STYLES.remove, line));
    }
    if let Some(kubelet) = &cluster.kubelet {
        for line in kubelet_lines(kubelet, cluster.kubelet_outcome.as_deref()) {
            let _ = writeln!(text, "  {}", paint(STYLES.change, format!("kubelets: {line}")));
        }
    }
    for (node, why) in &cluster.waiting {
        let line = format!("{} waits for its storage: {}", clean(node), clean(why));
        let _ = writeln!(text, "  {}", paint(STYLES.change, line));
    }
    for fight in &cluster.fights {
        let manager = fight.manager.as_deref().unwrap_or("somebody");
        let line = format!(
            "! {} changes {} on {} back, {} so far; left alone until {}",
            clean(manager),
            clean(&fight.key),
            clean(&fight.node),
            count(fight.times, "time"),
            fight.until
        );
        let _ = writeln!(text, "  {}", paint(STYLES.change, line));
    }
    for (node, why) in &cluster.failing {
        let _ = writeln!(text, "  {}", paint(STYLES.remove, format!("! {}: {}", clean(node), clean(why))));
    }
}
