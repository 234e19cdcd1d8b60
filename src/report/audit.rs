//! The decisions of a history, for a person.

use std::fmt::Write;

use super::style::{STYLES, clean, count, paint};
use crate::engine::audit::{AuditReport, Audited, AuditedMove, DecidedBy, Effect, EffectOutcome, Made};

/// The decisions of a history as text.
pub fn audit_text(report: &AuditReport) -> String {
    let mut text = String::new();
    for decision in &report.decisions {
        let _ = writeln!(text, "{}", heading(decision));
        for made in &decision.moves {
            let _ = writeln!(text, "  {}", what(made));
            let _ = writeln!(text, "    {}", effect(made));
        }
        for note in &decision.notes {
            let _ = writeln!(text, "  {}", paint(STYLES.dim, format!("note: {}", clean(note))));
        }
        for fault in &decision.faults {
            let _ = writeln!(text, "  {}", paint(STYLES.remove, format!("fault: {}", clean(fault))));
        }
        let _ = writeln!(text);
    }
    for fault in &report.faults {
        let _ = writeln!(text, "{}", paint(STYLES.remove, format!("fault: {}", clean(fault))));
    }
    if report.shallow && !report.verified {
        let _ = writeln!(text, "Only the newest part of the history is here; `git fetch --unshallow` brings the rest.");
    }
    let _ = writeln!(text, "{}", summary(report));
    text
}

fn heading(decision: &Audited) -> String {
    let when = decision.time.strftime("%Y-%m-%d %H:%M UTC");
    let title = paint(STYLES.bold, format!("{when}  {}", clean(&decision.cluster)));
    let who = match decision.decided_by {
        DecidedBy::Rebalancer => "the rebalancer".to_owned(),
        DecidedBy::Person => clean(&decision.author),
    };
    let digest: String = decision.decision.chars().take(12).collect();
    let commit = short(&decision.commit);
    format!("{title}  by {who}  {}", paint(STYLES.dim, format!("commit {commit}, decision {}", clean(&digest))))
}

fn what(made: &AuditedMove) -> String {
    let reason = made.reason.as_ref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    format!("{}: {} -> {}{reason}", clean(&made.node), clean(&made.from), clean(&made.to))
}

fn effect(made: &AuditedMove) -> String {
    let Effect { outcome, seconds, ended } = &made.effect;
    let after = length(*seconds);
    let by = ended.as_ref().map(by).unwrap_or_default();
    match outcome {
        EffectOutcome::Stays => paint(STYLES.add, format!("still there, for {after}")),
        EffectOutcome::Back => paint(STYLES.change, format!("went back to {} after {after}, {by}", clean(&made.from))),
        EffectOutcome::MovedOn => {
            let to = ended.as_ref().map(|ended| clean(&ended.to)).unwrap_or_default();
            format!("moved on to {to} after {after}, {by}")
        }
        EffectOutcome::Removed => format!("taken out of the state after {after}, {by}"),
        EffectOutcome::NotTaken => paint(STYLES.change, "the branch did not take it over"),
    }
}

/// Who made a step, and in which commit.
pub(super) fn by(made: &Made) -> String {
    let who = match made.decided_by {
        Some(DecidedBy::Rebalancer) => "the rebalancer".to_owned(),
        Some(DecidedBy::Person) | None => clean(&made.author),
    };
    format!("by {who} (commit {})", short(&made.commit))
}

fn summary(report: &AuditReport) -> String {
    let moves = || report.decisions.iter().flat_map(|decision| &decision.moves);
    let of = |outcome: EffectOutcome| moves().filter(|made| made.effect.outcome == outcome).count();
    let decisions = count(report.decisions.len(), "decision");
    let mut summary = match report.decisions.len() {
        0 => "No decisions".to_owned(),
        _ => {
            let (all, stay) = (count(moves().count(), "move"), of(EffectOutcome::Stays));
            format!("{decisions}, {all}: {stay} in effect, {} taken back", of(EffectOutcome::Back))
        }
    };
    let bad = report.decisions.iter().filter(|decision| !decision.faults.is_empty()).count();
    let _ = match (report.verified, bad, report.faults.len()) {
        (false, ..) => Ok(()),
        (true, 0, 0) => {
            write!(summary, ". Nothing is wrong with {}.", if report.decisions.len() == 1 { "it" } else { "them" })
        }
        (true, bad, 0) => {
            write!(summary, ". {} not as recorded.", if bad == 1 { "1 is".to_owned() } else { format!("{bad} are") })
        }
        (true, bad, faults) => write!(summary, ". {bad} not as recorded, {} in the history.", count(faults, "fault")),
    };
    summary
}

pub(super) fn short(commit: &str) -> String {
    commit.chars().take(10).collect()
}

/// A length of time in its largest unit.
fn length(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
