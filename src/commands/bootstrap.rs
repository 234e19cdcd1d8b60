use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, StateArgs};
use crate::adapters::files;
use crate::bootstrap::{script, setup};
use crate::engine::bootstrap::lists;
use crate::engine::pass::selected;
use crate::error::Failure;
use crate::model::text::closest;
use crate::report::{problems_text, setup_text};
use crate::ui::Ui;

/// Write the script that sets up a new machine
///
/// The script follows from the state: `bootstrap` and `storage` of the Cluster, and the machine's own Node document. It
/// installs and configures, mounts the storage and verifies the mount before it creates anything there, pulls images, and
/// joins the cluster. Each of its steps is looked at first, so that it can be run again at any time and goes on where it
/// stopped; --dry-run of the script tells what it would do. No cluster is looked at, and the script holds no secret: the
/// token for joining is fetched by the machine when it runs. Labels are set by drover, once the machine has joined.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  drover bootstrap gpu-017 --explain                       what it will do, why, and which line asks for it
  drover bootstrap gpu-017 --out gpu-017.sh                keep it, to be copied to the machine
  drover bootstrap gpu-017 | ssh root@gpu-017 bash -s -- --dry-run
  drover bootstrap gpu-017 | ssh root@gpu-017 bash")]
pub(super) struct BootstrapArgs {
    /// The machine: the name of its Node document
    #[arg(value_name = "NODE")]
    node: String,

    /// Explain each step in words, with the line of the state that asks for it, instead of writing the script
    #[arg(long, conflicts_with = "out")]
    explain: bool,

    /// The file to write [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    clusters: ClusterArgs,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &BootstrapArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = args.state.load_and_tell(ui, now)?;
    let clusters = selected(&loaded, &args.clusters.wanted(&AllowArgs::default()))?;
    let named = |name: &str| format!("choose with --cluster {name}");
    let found: Vec<_> = clusters
        .iter()
        .filter_map(|(name, cluster)| Some((*name, *cluster, cluster.nodes.get(args.node.as_str())?)))
        .collect();
    let (name, cluster, node) = match found.as_slice() {
        [one] => *one,
        [] => {
            let names =
                clusters.iter().flat_map(|(_, cluster)| cluster.nodes.keys().map(crate::model::NodeName::as_str));
            let hint = match closest(&args.node, names) {
                Some(near) => format!("did you mean {near}?"),
                None => "add a document of `kind: Node`: its cluster says how it is set up".to_owned(),
            };
            return Err(Failure::new(format!("the state has no node {:?}", args.node)).hint(hint));
        }
        several => {
            let names: Vec<String> = several.iter().map(|(name, _, _)| named(name.as_str())).collect();
            let message = format!("{} clusters have a node {}", several.len(), args.node);
            return Err(Failure::new(message).hint(names.join(", or ")));
        }
    };
    // A machine is set up once, and by hand: nothing that is half right is worth running.
    if !loaded.is_valid() {
        return Err(Failure::new("the state has errors, so that no script is written").hint("mend what is named above"));
    }
    let (lists, problems) = lists(&loaded, cluster);
    if !problems.is_empty() {
        ui.note(problems_text(&problems, &loaded.shown_folder()).trim_end());
        ui.note("");
        return Err(Failure::new("the lists of images have errors, so that no script is written")
            .hint("mend what is named above"));
    }
    let setup = setup(name, cluster, node, &lists);
    if setup.steps.is_empty() {
        return Err(Failure::new(format!("the cluster {name} does not say how its machines are set up"))
            .hint("add a `bootstrap` section to its document; drover schema cluster describes it"));
    }
    if args.explain {
        ui.out(&setup_text(&setup))?;
        return Ok(Outcome::Done);
    }
    let text = script(&setup);
    match &args.out {
        None => ui.out(&text)?,
        Some(path) => {
            files::replace(path, &text)?;
            ui.note(&format!("wrote {} steps for {} to {}", setup.steps.len(), args.node, path.display()));
        }
    }
    Ok(Outcome::Done)
}
