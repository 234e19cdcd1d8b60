//! A move of a machine, as the commit that makes it.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use similar::TextDiff;

use super::clean;
use super::style::STYLES;
use crate::engine::{Committed, Prepared, Written};
use crate::model::Move;
use crate::writeback::FileEdit;

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover move")]
pub struct MoveReport {
    /// What became of it.
    pub outcome: MoveOutcome,
    /// The moves, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// What tells the decision from every other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The address of the proposal that asks people to merge it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
    /// What would change, as a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// The message that the commit would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MoveOutcome {
    /// It was only looked at.
    #[default]
    Shown,
    /// It is on its branch.
    Committed,
    /// It was on its branch already.
    Already,
    /// It is not written.
    Dropped,
}

impl MoveReport {
    fn new(outcome: MoveOutcome) -> Self {
        Self {
            outcome,
            moves: Vec::new(),
            decision: None,
            branch: None,
            commit: None,
            proposal: None,
            diff: None,
            message: None,
            reason: None,
        }
    }

    /// A move that was only looked at.
    pub fn prepared(prepared: Prepared) -> Self {
        Self {
            moves: prepared.decision.moves,
            decision: Some(prepared.decision.digest),
            branch: Some(prepared.branch),
            diff: Some(prepared.edits.iter().map(unified).collect()),
            message: Some(prepared.message),
            ..Self::new(MoveOutcome::Shown)
        }
    }

    /// A move that was to be written.
    pub fn written(written: Written) -> Self {
        match written {
            Written::Committed(Committed { commit, branch, decision, proposal, .. }) => Self {
                moves: decision.moves,
                decision: Some(decision.digest),
                branch: Some(branch),
                commit: Some(commit),
                proposal,
                ..Self::new(MoveOutcome::Committed)
            },
            Written::Already { commit } => Self { commit: Some(commit), ..Self::new(MoveOutcome::Already) },
            Written::Dropped { reason } => Self { reason: Some(reason), ..Self::new(MoveOutcome::Dropped) },
        }
    }
}

/// The change of one file, as git shows it.
fn unified(edit: &FileEdit) -> String {
    let diff = TextDiff::from_lines(&edit.before, &edit.after);
    diff.unified_diff().header(&format!("a/{}", edit.file), &format!("b/{}", edit.file)).to_string()
}

/// A move for a person.
pub fn move_text(report: &MoveReport) -> String {
    let mut text = String::new();
    for line in report.diff.as_deref().unwrap_or_default().lines() {
        let style = match line.chars().next() {
            Some('+') => STYLES.add,
            Some('-') => STYLES.remove,
            _ => STYLES.dim,
        };
        let _ = writeln!(text, "{style}{}{style:#}", clean(line));
    }
    if let Some(message) = &report.message {
        let _ = writeln!(text);
        for line in message.lines() {
            let _ = writeln!(text, "    {}", clean(line));
        }
        let _ = writeln!(text);
    }
    let branch = report.branch.as_deref().unwrap_or_default();
    let commit: String = report.commit.iter().flat_map(|commit| commit.chars().take(10)).collect();
    let moved: Vec<String> =
        report.moves.iter().map(|made| format!("{} from {} to {}", made.node, made.from_shown(), made.to)).collect();
    let _ = match report.outcome {
        MoveOutcome::Shown => writeln!(text, "Nothing was changed. Write it to {branch} with --commit or --push."),
        MoveOutcome::Committed => writeln!(text, "Moved {}: commit {commit} on {branch}", moved.join(", ")),
        MoveOutcome::Already => writeln!(text, "This decision is written already, with commit {commit}"),
        MoveOutcome::Dropped => {
            writeln!(text, "Nothing was moved: {}", clean(report.reason.as_deref().unwrap_or_default()))
        }
    };
    if let Some(proposal) = &report.proposal {
        let _ = writeln!(text, "Proposed at {}", clean(proposal));
    }
    text
}
