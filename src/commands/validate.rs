use clap::{Args, ValueEnum};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::common::{StateArgs, json};
use crate::engine::bootstrap::list_problems;
use crate::error::Failure;
use crate::manifest::Problem;
use crate::report::{github, problems_text, verdict};
use crate::ui::Ui;

/// Check a state, and report everything that is wrong with it
///
/// Every problem is shown with its file, line and column, the line itself, and what to do. Warnings do not make a state
/// invalid. No cluster is looked at.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// How problems are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs (schemas/validation.schema.json)
    Json,
    /// Annotations on a pull request in GitHub Actions
    Github,
}

/// The problems of a state.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover validation")]
pub(super) struct Validation<'p> {
    /// Whether the state could be applied.
    pub valid: bool,
    /// Files read.
    pub files: usize,
    /// Documents read.
    pub documents: usize,
    /// What is wrong, ordered by file and line.
    pub problems: &'p [Problem],
}

pub(super) fn run(args: &ValidateArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let mut loaded = args.state.load(now)?;
    // The lists of images are files beside the documents: only who sets up a machine needs them, and whoever changes them
    // wants to know whether they are right.
    let lists = list_problems(&loaded);
    loaded.problems.extend(lists);
    loaded.problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    let (size, problems) = (loaded.size, &loaded.problems);
    let folder = loaded.shown_folder();
    match args.format {
        Format::Text => {
            let verdict = verdict(problems, size.files, size.documents);
            ui.out(&format!("{}{verdict}\n", problems_text(problems, &folder)))?;
        }
        Format::Github => ui.out(&github(problems, &folder))?,
        Format::Json => {
            let (files, documents) = (size.files, size.documents);
            ui.out(&json(&Validation { valid: loaded.is_valid(), files, documents, problems })?)?;
        }
    }
    Ok(if loaded.is_valid() { Outcome::Done } else { Outcome::Error })
}
