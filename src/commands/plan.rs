use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, StateArgs, json};
use crate::adapters::files;
use crate::engine;
use crate::error::Failure;
use crate::plan::{ClusterPlan, Plan};
use crate::report::{MARKDOWN_LIMIT, PlanView, html, markdown, plan_text};
use crate::ui::Ui;

/// Show what would change so that the clusters are as the state says
///
/// Nothing is changed. Every label is shown with its old and new value, the line and the commit that ask for it, and who
/// set the live value if it was not drover. Guards that the plan runs into are named; `drover apply` then refuses it.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    clusters: ClusterArgs,
    #[command(flatten)]
    allow: AllowArgs,
    #[command(flatten)]
    shown: ShownArgs,

    /// Save the plan for `drover apply FILE`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Exit with 2 if there is a difference
    #[arg(long)]
    detailed_exitcode: bool,

    #[command(flatten)]
    state: StateArgs,
}

/// How a plan is shown.
#[derive(Debug, Clone, Args)]
pub(super) struct ShownArgs {
    /// How the plan is written
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,

    /// Show every node by itself, also where many change alike, and long lists of nodes whole
    #[arg(long)]
    pub full: bool,

    /// Do not look up the commits behind the lines of the state
    #[arg(long)]
    pub no_blame: bool,
}

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanFormat {
    /// For people
    Text,
    /// For programs (schemas/plan.schema.json)
    Json,
    /// A comment on a pull request, below 65,536 characters
    Markdown,
    /// One page that needs nothing else
    Html,
}

impl ShownArgs {
    /// The plan in the chosen form.
    pub(super) fn render(&self, plan: &Plan, compares: bool) -> Result<String, Failure> {
        let view = PlanView { full: self.full, compares };
        match self.format {
            PlanFormat::Text => Ok(plan_text(plan, view)),
            PlanFormat::Json => json(plan),
            PlanFormat::Markdown => Ok(markdown(plan, view, MARKDOWN_LIMIT)),
            PlanFormat::Html => html(plan, view).map_err(|error| Failure::caused("cannot write the page", &error)),
        }
    }
}

pub(super) async fn run(args: &PlanArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = args.state.load_and_look(&args.clusters, ui, now)?;
    let mut plan = engine::plan(&loaded, &args.clusters.wanted(&args.allow), now).await?.plan;
    if !args.shown.no_blame {
        loaded.blame(plan.sources_mut());
    }
    ui.out(&args.shown.render(&plan, false)?)?;
    if let Some(path) = &args.out {
        files::replace(path, &json(&plan)?)?;
        ui.note(&format!("saved to {}; apply it with `drover apply {0}`", path.display()));
    }
    Ok(outcome(&plan, args.detailed_exitcode))
}

/// What a plan comes to: trouble before refusal, refusal before difference.
pub(super) fn outcome(plan: &Plan, detailed: bool) -> Outcome {
    if !plan.complete || plan.clusters.iter().any(ClusterPlan::is_partly_unknown) {
        Outcome::Error
    } else if plan.is_refused() {
        Outcome::Refused
    } else if detailed && !plan.counts().is_nothing() {
        Outcome::Difference
    } else {
        Outcome::Done
    }
}
