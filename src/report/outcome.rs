//! What became of a plan, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::group::fold_names;
use super::style::{STYLES, clean, count, paint};
use crate::engine::kubelet::{KubeletEnd, KubeletOutcome};
use crate::engine::{ApplyReport, ClusterOutcome};

/// What was applied, what was left alone and why, and what was not done.
pub fn outcome_text(report: &ApplyReport) -> String {
    let mut text = String::new();
    for cluster in &report.clusters {
        cluster_text(&mut text, cluster);
    }
    if report.interrupted {
        let _ = writeln!(
            text,
            "{}",
            paint(STYLES.change, "interrupted: what was in flight was finished, the rest was not begun")
        );
    }
    text
}

fn kubelet_text(text: &mut String, kubelet: &KubeletOutcome) {
    let (style, end) = match kubelet.end {
        KubeletEnd::Done => (STYLES.add, "kubelet binds are as they must be"),
        KubeletEnd::Waits => (STYLES.change, "kubelet binds wait"),
        KubeletEnd::Open => (STYLES.change, "kubelet binds are not seen to be done"),
        KubeletEnd::Stale => (STYLES.change, "kubelet binds are stale, left alone"),
        KubeletEnd::Failed => (STYLES.remove, "kubelet binds failed"),
        KubeletEnd::NotDone => (STYLES.change, "kubelet binds not done"),
    };
    for step in &kubelet.steps {
        let _ = writeln!(text, "  {}", clean(step));
    }
    let why = if kubelet.why.is_empty() { String::new() } else { format!(": {}", clean(&kubelet.why)) };
    let _ = writeln!(text, "  {}", paint(style, format!("{end}{why}")));
    if let Some(hint) = &kubelet.hint {
        let _ = writeln!(text, "  {}", paint(STYLES.dim, format!("hint: {}", clean(hint))));
    }
}

/// What was done in a cluster, in one line.
pub fn summary_line(outcome: &ClusterOutcome) -> String {
    match &outcome.skipped {
        Some(why) => format!("nothing applied: {}", clean(why)),
        None => {
            let storage = match outcome.storage {
                0 => String::new(),
                nodes => format!(", storage of {}", count(nodes, "node")),
            };
            format!("applied {}{storage} on {}", count(outcome.labels, "label"), count(outcome.nodes, "node"))
        }
    }
}

fn cluster_text(text: &mut String, outcome: &ClusterOutcome) {
    let style = if outcome.is_whole() { STYLES.add } else { STYLES.change };
    let _ = writeln!(text, "{}: {}", paint(STYLES.bold, &outcome.cluster), paint(style, summary_line(outcome)));
    let value =
        |value: &Option<String>| value.as_deref().map_or("absent".to_owned(), |value| format!("{:?}", clean(value)));
    for stale in outcome.stale.iter().chain(&outcome.stale_storage) {
        let found =
            if stale.node_gone { "the node is gone".to_owned() } else { format!("it is {} now", value(&stale.found)) };
        let line = format!(
            "stale  {} {}: planned from {}, but {found}; left alone",
            clean(&stale.node),
            clean(&stale.key),
            value(&stale.expected)
        );
        let _ = writeln!(text, "  {}", paint(STYLES.change, line));
    }
    // Nodes that failed for the same reason are told together.
    let mut causes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for failed in &outcome.failed {
        causes.entry(&failed.cause).or_default().push(&failed.node);
    }
    for (cause, nodes) in causes {
        let line = format!("failed {}: {}", clean(&fold_names(nodes)), clean(cause));
        let _ = writeln!(text, "  {}", paint(STYLES.remove, line));
    }
    if let Some(hint) = outcome.failed.iter().find_map(|failed| failed.hint.as_ref()) {
        let _ = writeln!(text, "  {}", paint(STYLES.dim, format!("hint: {}", clean(hint))));
    }
    if let Some(kubelet) = &outcome.kubelet {
        kubelet_text(text, kubelet);
    }
    if !outcome.not_done.is_empty() {
        let names = fold_names(outcome.not_done.iter().map(String::as_str));
        let line = format!("not done, {}: {}", count(outcome.not_done.len(), "node"), clean(&names));
        let _ = writeln!(text, "  {}", paint(STYLES.change, line));
    }
}
