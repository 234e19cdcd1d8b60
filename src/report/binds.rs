//! The kubelet binds of a plan, in words that every form of it shares.

use super::group::fold_names;
use super::style::clean;
use crate::plan::{BindChange, BindReason, KubeletPlan, Wave};

/// A bind that changes, as a row.
pub(super) struct BindRow<'p> {
    /// `+`, `~` or `-`.
    pub sign: char,
    /// The bind as it is.
    pub from: Option<&'p str>,
    /// The bind as it becomes.
    pub to: Option<&'p str>,
    /// Why, and where that is written.
    pub why: String,
}

/// The binds that change.
pub(super) fn rows(plan: &KubeletPlan) -> Vec<BindRow<'_>> {
    let sign = |change: &BindChange| match (&change.from, &change.to) {
        (None, _) => '+',
        (Some(_), Some(_)) => '~',
        (Some(_), None) => '-',
    };
    let row = |change| BindRow {
        sign: sign(change),
        from: change.from.as_deref(),
        to: change.to.as_deref(),
        why: why(change),
    };
    plan.changes.iter().map(row).collect()
}

fn why(change: &BindChange) -> String {
    let source = &change.source;
    let commit = source.commit.as_ref().map(|commit| format!(" ({} {}, {})", commit.id, commit.author, commit.date));
    let place = clean(&format!("{}{}", source.origin, commit.unwrap_or_default()));
    match change.reason {
        BindReason::Asked => place,
        BindReason::Removed => format!("to be removed by {place}"),
        BindReason::Configured => "cluster.yml says so already".to_owned(),
    }
}

/// What happens beside the binds themselves: the file that changes, the kubelets that restart, what to know before.
pub(super) fn lines(plan: &KubeletPlan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(config) = plan.config.as_ref().filter(|_| plan.edits()) {
        lines.push(format!("{} gets {}", config.path, listed(&config.to)));
    }
    lines.extend(plan.restarts.iter().map(|wave| format!("restarts {}", wave_line(wave))));
    if let Some(why) = &plan.unknown {
        lines.push(format!("the binds are not known: {why}"));
    }
    if let Some(why) = &plan.blocked {
        lines.push(format!("cannot be changed: {why}"));
    }
    lines.extend(plan.notes.iter().cloned());
    lines.iter().map(|line| clean(line)).collect()
}

fn listed(binds: &[String]) -> String {
    if binds.is_empty() { "no bind".to_owned() } else { binds.join(", ") }
}

fn wave_line(wave: &Wave) -> String {
    format!("{}: {}", wave.title(), fold_names(wave.nodes.iter().map(String::as_str)))
}
