use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, Format, StateArgs, json};
use super::plan::outcome;
use crate::adapters::web_client;
use crate::engine::{self, bootstrap};
use crate::error::Failure;
use crate::report::{DaemonStatus, daemon_text, status, status_text};
use crate::ui::Ui;

/// Show what is in sync, drifting, absent, unmanaged and held
///
/// A node is in sync when its labels are as the state says, drifting when they are not, absent when it has a document
/// but has not joined, and unmanaged when it is live without a document.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    clusters: ClusterArgs,

    /// How the status is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Exit with 2 if anything drifts
    #[arg(long)]
    detailed_exitcode: bool,

    /// Ask a running daemon instead: the address of its web page, as http://localhost:8470
    #[arg(long, value_name = "URL", conflicts_with_all = ["clusters", "state", "repo", "rev"])]
    daemon: Option<String>,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn run(args: &StatusArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    if let Some(url) = &args.daemon {
        return of_daemon(args, url, ui).await;
    }
    let loaded = args.state.load_and_look(&args.clusters, ui, now)?;
    let pass = engine::plan(&loaded, &args.clusters.wanted(&AllowArgs::default()), now).await?;
    let (images, failures) = bootstrap::images(&loaded, &pass).await;
    failures.iter().for_each(|failure| ui.note(&failure.to_string()));
    let status = status(&loaded, &pass, &images, now);
    match args.format {
        Format::Text => ui.out(&status_text(&status))?,
        Format::Json => ui.out(&json(&status)?)?,
    }
    Ok(match outcome(&pass.plan, args.detailed_exitcode) {
        // A guard concerns what would be applied, not how things stand.
        Outcome::Refused if args.detailed_exitcode => Outcome::Difference,
        Outcome::Refused => Outcome::Done,
        other => other,
    })
}

async fn of_daemon(args: &StatusArgs, url: &str, ui: Ui) -> Result<Outcome, Failure> {
    let address = format!("{}/status", url.trim_end_matches('/'));
    let body = tokio::task::spawn_blocking(move || web_client::get(&address)).await;
    let body = body.map_err(|error| Failure::caused("cannot ask the daemon", &error))??;
    let status: DaemonStatus = serde_json::from_str(&body)
        .map_err(|error| Failure::caused(format!("{url} is not the address of a daemon of this version"), &error))?;
    match args.format {
        Format::Text => ui.out(&daemon_text(&status))?,
        Format::Json => ui.out(&json(&status)?)?,
    }
    let drifts = status.clusters.values().any(|cluster| cluster.nodes.drifting > 0);
    Ok(match status.is_ready() {
        false => Outcome::Error,
        true if drifts && args.detailed_exitcode => Outcome::Difference,
        true => Outcome::Done,
    })
}
