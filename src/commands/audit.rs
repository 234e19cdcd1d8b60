use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::{ClusterArgs, Format, StateArgs, json};
use crate::engine::audit::{AuditOptions, audit};
use crate::error::Failure;
use crate::model::time::{Deadline, Interval};
use crate::report::audit_text;
use crate::ui::Ui;

/// List the decisions that the history of the state tells
///
/// For each decision of the rebalancer and each `drover move`: who, when, which machine from which group to which, why, and
/// what became of it. Nothing but commits is read.
///
/// --verify replays each decision from its record, and holds its commit against what it tells. It exits with 1 where a
/// decision cannot be reproduced, a record was changed, or a commit moved something else.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Replay each decision from its record
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    clusters: ClusterArgs,

    /// Only decisions about this machine
    #[arg(long, value_name = "NODE")]
    node: Option<String>,

    /// Only decisions since then: a date, a time, or how long ago, such as 7d
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,

    /// How the decisions are listed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Clone)]
enum Since {
    Moment(Timestamp),
    Ago(std::time::Duration),
}

fn since(text: &str) -> Result<Since, String> {
    match (text.parse::<Deadline>(), text.parse::<Interval>()) {
        (Ok(deadline), _) => Ok(Since::Moment(deadline.moment())),
        (_, Ok(length)) => Ok(Since::Ago(length.duration())),
        _ => Err("write a date such as 2026-11-01, a time such as 2026-11-01T08:00:00Z, or a length such as 7d".into()),
    }
}

pub(super) fn run(args: &AuditArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = args.state.load(now)?;
    if !loaded.is_valid() {
        ui.note("the state does not validate now; its history is read all the same");
    }
    let options = AuditOptions {
        clusters: args.clusters.clusters.iter().cloned().collect(),
        node: args.node.clone(),
        since: args.since.as_ref().map(|since| match since {
            Since::Moment(moment) => *moment,
            Since::Ago(length) => now.checked_sub(*length).unwrap_or(Timestamp::MIN),
        }),
        verify: args.verify,
    };
    let report = audit(&loaded, &options, now)?;
    match args.format {
        Format::Text => ui.out(&audit_text(&report))?,
        Format::Json => ui.out(&json(&report)?)?,
    }
    Ok(if report.is_sound() { Outcome::Done } else { Outcome::Error })
}
