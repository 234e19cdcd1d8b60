use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::{ClusterArgs, StateArgs};
use super::plan::{ShownArgs, outcome};
use crate::engine::{self, Loaded, Loader, StateSource};
use crate::error::Failure;
use crate::plan::compare;
use crate::report::problems_text;
use crate::ui::Ui;

/// Show what a branch changes, as a plan per cluster
///
/// Compares two revisions of the state; no cluster is looked at, so that it runs anywhere, also where no credentials
/// are. Guards that need no live data are checked: too-many-nodes, empty-state, last-platform-role, below-guarantee.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// `BASE..HEAD` compares two revisions, `BASE...HEAD` compares HEAD with where it left BASE, `BASE` compares it with the files here
    #[arg(value_name = "BASE..HEAD")]
    range: String,

    #[command(flatten)]
    clusters: ClusterArgs,
    #[command(flatten)]
    shown: ShownArgs,

    /// Exit with 2 if there is a difference
    #[arg(long)]
    detailed_exitcode: bool,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &DiffArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let (base, head) = load(args, now)?;
    for (name, loaded) in [("base", &base), ("head", &head)] {
        if loaded.is_absent() {
            let (revision, folder) = (loaded.revision.short(), loaded.shown_folder());
            ui.note(&format!("the {name}, {revision}, has no folder {folder}: it counts as an empty state"));
        }
        if !loaded.is_valid() {
            ui.note(&format!("the {name}, {}, does not validate:\n", loaded.revision.short()));
            ui.note(&problems_text(&loaded.problems, &loaded.shown_folder()));
        }
    }
    let mut plan = engine::pass::empty(&head, now);
    plan.state.source = args.range.clone();
    plan.clusters = compare(&base.desired, &head.desired, now);
    let wanted = &args.clusters.clusters;
    plan.clusters.retain(|cluster| wanted.is_empty() || wanted.contains(&cluster.cluster));
    if !args.shown.no_blame {
        head.blame(plan.sources_mut());
    }
    ui.out(&args.shown.render(&plan, true)?)?;
    Ok(outcome(&plan, args.detailed_exitcode))
}

/// Both sides, from the same folder: where none was named and only one side has the usual one, the other is empty.
fn load(args: &DiffArgs, now: Timestamp) -> Result<(Loaded, Loaded), Failure> {
    let mut loader = Loader::for_comparison();
    let mut sources = revisions(args)?;
    let (base, head) = (loader.load(&sources.0, now)?, loader.load(&sources.1, now)?);
    let folders = [base.shown_folder(), head.shown_folder()];
    if head.root().is_some() || folders[0] == folders[1] {
        return Ok((base, head));
    }
    for source in [&mut sources.0, &mut sources.1] {
        if let StateSource::Revision { folder: folder @ None, .. } = source {
            *folder = folders.iter().find(|folder| !folder.is_empty()).map(PathBuf::from);
        }
    }
    Ok((loader.load(&sources.0, now)?, loader.load(&sources.1, now)?))
}

fn revisions(args: &DiffArgs) -> Result<(StateSource, StateSource), Failure> {
    let state = &args.state;
    if state.rev.is_some() {
        return Err(Failure::new("`drover diff` takes its revisions as BASE..HEAD, not with --rev"));
    }
    let (repository, folder) = match &state.repo {
        Some(repository) => (repository.clone(), state.state.clone()),
        None => state.around()?,
    };
    let at = |revision: &str| {
        let revision = if revision.is_empty() { "HEAD" } else { revision };
        state.revision_of(repository.clone(), Some(revision.to_owned()), folder.clone())
    };
    if let Some((_, head)) = args.range.split_once("...") {
        return Ok((at(&args.range), at(head)));
    }
    match args.range.split_once("..") {
        Some((base, head)) => Ok((at(base), at(head))),
        None if state.repo.is_none() => Ok((at(&args.range), StateSource::Folder(state.folder()?))),
        None => {
            Err(Failure::new(format!("{:?} is not a range", args.range))
                .hint("write BASE..HEAD, for example main..HEAD"))
        }
    }
}
