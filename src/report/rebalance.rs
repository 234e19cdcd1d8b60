//! What a pass of the rebalancer came to.

use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::group::fold_names;
use super::style::{STYLES, clean, paint};
use crate::engine::rebalance::{Stuck, length, reason, waits};
use crate::engine::{Committed, Written};
use crate::error::Failure;
use crate::model::ClusterName;
use crate::model::cluster::Policy;
use crate::rebalance::{Decision, Need};

/// What a pass of the rebalancer came to.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover rebalance")]
pub struct RebalanceReport {
    /// The version of this form: `drover.dev/rebalance/v1`.
    pub version: String,
    /// When it was made, in UTC.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// The clusters that were looked at.
    pub clusters: Vec<ClusterRebalance>,
}

/// What a pass over one cluster came to.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRebalance {
    /// The cluster.
    pub cluster: String,
    /// The decision; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Work that no machine would help.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<Stuck>,
    /// The commit that makes the moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Its branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The proposal that asks people to merge it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
    /// Why the moves were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
    /// Why nothing could be decided or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl RebalanceReport {
    /// A report without clusters.
    pub fn new(time: Timestamp) -> Self {
        Self { version: "drover.dev/rebalance/v1".to_owned(), time, clusters: Vec::new() }
    }
}

impl ClusterRebalance {
    fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            decision: None,
            stuck: Vec::new(),
            commit: None,
            branch: None,
            proposal: None,
            dropped: None,
            failure: None,
        }
    }

    /// A decision, and what became of it.
    pub fn of(decision: Decision, stuck: Vec<Stuck>, written: Option<Written>) -> Self {
        let cluster = decision.cluster.clone();
        Self { decision: Some(decision), stuck, ..Self::new(&cluster) }.with(written)
    }

    /// No decision was asked for.
    pub fn dropped(cluster: &ClusterName, written: Option<Written>) -> Self {
        Self::new(cluster.as_str()).with(written)
    }

    /// Nothing could be decided or written.
    pub fn failed(cluster: &ClusterName, failure: &Failure) -> Self {
        let hint = failure.advice().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Self { failure: Some(format!("{failure}{hint}")), ..Self::new(cluster.as_str()) }
    }

    fn with(self, written: Option<Written>) -> Self {
        match written {
            Some(Written::Committed(Committed { commit, branch, proposal, .. })) => {
                Self { commit: Some(commit), branch: Some(branch), proposal, ..self }
            }
            Some(Written::Already { commit }) => Self { commit: Some(commit), ..self },
            Some(Written::Dropped { reason }) => Self { dropped: Some(reason), ..self },
            None => self,
        }
    }
}

/// A pass for a person.
pub fn rebalance_text(report: &RebalanceReport) -> String {
    let mut text = String::new();
    for (index, cluster) in report.clusters.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        cluster_text(&mut text, cluster);
    }
    text
}

fn cluster_text(text: &mut String, cluster: &ClusterRebalance) {
    let name = paint(STYLES.bold, clean(&cluster.cluster));
    if let Some(failure) = &cluster.failure {
        let _ = writeln!(text, "{name}: {}", paint(STYLES.remove, clean(failure)));
        return;
    }
    let Some(decision) = &cluster.decision else {
        let dropped = cluster.dropped.as_deref().unwrap_or("nothing was decided");
        let _ = writeln!(text, "{name}: {}", paint(STYLES.change, clean(dropped)));
        return;
    };
    let _ = writeln!(text, "{name}: {}", summary(decision));
    moves(text, decision);
    for need in &decision.unserved {
        let _ = writeln!(text, "  {} {}", paint(STYLES.change, "not served:"), clean(&waits(need)));
        rejected(text, need);
    }
    if decision.exhausted {
        let line = "more work waits, and the moves of this pass or of the day are used up";
        let _ = writeln!(text, "  {}", paint(STYLES.change, line));
    }
    for stuck in &cluster.stuck {
        let line = format!("no machine helps {} of {}: {}", stuck.work, stuck.group, stuck.says);
        let _ = writeln!(text, "  {}", paint(STYLES.change, clean(&line)));
    }
    let short: String = cluster.commit.iter().flat_map(|commit| commit.chars().take(10)).collect();
    let branch = cluster.branch.as_deref().map(|branch| format!(" on {branch}")).unwrap_or_default();
    if cluster.commit.is_some() {
        let _ = writeln!(text, "  {}", paint(STYLES.add, clean(&format!("commit {short}{branch}"))));
    } else if let Some(dropped) = &cluster.dropped {
        let _ = writeln!(text, "  {}", paint(STYLES.change, clean(&format!("nothing was written: {dropped}"))));
    } else if !decision.moves.is_empty() {
        let _ =
            writeln!(text, "  {}", paint(STYLES.dim, "nothing was changed; make the moves with --commit or --push"));
    }
    if let Some(proposal) = &cluster.proposal {
        let _ = writeln!(text, "  proposed at {}", clean(proposal));
    }
}

fn summary(decision: &Decision) -> String {
    let policy = decision.policy;
    match (decision.policy, decision.moves.len(), decision.unserved.len()) {
        (Policy::Off, ..) => paint(STYLES.dim, "rebalancing is off"),
        (_, 0, 0) => paint(STYLES.add, format!("no machine has to move ({policy})")),
        (_, 0, _) => paint(STYLES.change, format!("no machine can move ({policy})")),
        (_, 1, _) => paint(STYLES.add, format!("1 move ({policy})")),
        (_, moves, _) => paint(STYLES.add, format!("{moves} moves ({policy})")),
    }
}

/// The moves as a table, and below each why.
fn moves(text: &mut String, decision: &Decision) {
    let width = |title: &str, of: fn(&crate::rebalance::Move) -> &str| {
        decision.moves.iter().map(|made| of(made).len()).max().unwrap_or(0).max(title.len())
    };
    let (node, from, to) = (width("machine", |m| &m.node), width("from", |m| &m.from), width("to", |m| &m.to));
    if decision.moves.is_empty() {
        return;
    }
    let title =
        format!("{:<node$}  {:<from$}  {:<to$}  {:>6}  {:>5}  waited", "machine", "from", "to", "starts", "free");
    let _ = writeln!(text, "  {}", paint(STYLES.dim, title));
    for made in &decision.moves {
        let waited = made.need.as_ref().map_or("-".to_owned(), |need| length(need.waited));
        let _ = writeln!(
            text,
            "  {:<node$}  {:<from$}  {:<to$}  {:>6}  {:>3} %  {waited}",
            clean(&made.node),
            clean(&made.from),
            clean(&made.to),
            made.starts_count,
            made.cost.free_percent
        );
        let _ = writeln!(text, "    {}", paint(STYLES.dim, clean(&reason(made))));
        if let Some(need) = &made.need {
            rejected(text, need);
        }
    }
}

fn rejected(text: &mut String, need: &Need) {
    for rejected in &need.rejected {
        let names = fold_names(rejected.nodes.iter().map(|name| &**name));
        let more = (rejected.count as usize).saturating_sub(rejected.nodes.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let line = format!("not taken: {names}{more}: {}", rejected.why.words());
        let _ = writeln!(text, "    {}", paint(STYLES.dim, clean(&line)));
    }
}
