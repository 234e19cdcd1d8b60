use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::problems_of;
use crate::adapters::kube::KubeCluster;
use crate::adapters::objects::NodeObject;
use crate::adapters::{dump, files};
use crate::engine::{self, Loaded, Loader, StateSource};
use crate::error::Failure;
use crate::manifest::adopt::{Adopted, Adoption, adopt};
use crate::model::cluster::Connection;
use crate::model::{ClusterName, Mode, ObservedCluster};
use crate::report::count;
use crate::ui::Ui;

/// Adopt a live cluster: write state for what is live
///
/// Writes a Cluster, its Groups and a Node document per machine, such that a plan shows no difference. Existing files
/// are never overwritten. Labels without a prefix are declared as well; labels of Kubernetes and other owners are not.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The name that the cluster gets in the state
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,

    /// A kubeconfig file [default: the one that kubectl would use]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// Adopt from a dump of live objects instead of a live cluster
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "context"])]
    dump: Option<PathBuf>,

    /// Folder of the state; it is created where it does not exist
    #[arg(long, value_name = "DIR", default_value = "state")]
    state: PathBuf,

    /// Write `mode: observe`, so that drover reports differences and changes nothing
    #[arg(long)]
    observe: bool,

    /// Declare labels with this prefix, too; may be given several times
    #[arg(long = "label-prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
}

pub(super) async fn run(args: &ImportArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let (connection, live) = observe(args).await?;
    if live.nodes.is_empty() {
        return Err(Failure::new(format!("cluster {} has no nodes: there is nothing to adopt", args.cluster)));
    }
    let existing = args.state.is_dir().then(|| load(&args.state, now)).transpose()?;
    if let Some(existing) = &existing {
        problems_of(existing, &args.state, ui)?;
        if let Some(cluster) = existing.desired.clusters.get(&args.cluster) {
            return Err(Failure::new(format!(
                "the state has a cluster {} already, in {}",
                args.cluster, cluster.origin
            ))
            .hint("give the cluster another name, or edit its documents"));
        }
    }
    let empty = Default::default();
    let adopted = adopt(&Adoption {
        cluster: args.cluster.clone(),
        connection,
        mode: if args.observe { Mode::Observe } else { Mode::Enforce },
        live: &live,
        state: existing.as_ref().map_or(&empty, |existing| &existing.desired),
        has_fleet: existing.as_ref().is_some_and(Loaded::has_fleet),
        prefixes: &args.prefixes,
    })
    .map_err(|error| Failure::caused("cannot write YAML", &error))?;
    files::create_all(&args.state, &adopted.files)?;
    tell(args, &adopted, ui);
    confirm(args, &live, ui, now).await
}

async fn observe(args: &ImportArgs) -> Result<(Connection, ObservedCluster), Failure> {
    if let Some(path) = &args.dump {
        let text = files::read_text(path)?;
        let file = absolute(path)?.display().to_string();
        return Ok((
            Connection { file: Some(file), ..Connection::default() },
            dump::read(&path.display().to_string(), &text)?.nodes,
        ));
    }
    let kubeconfig = args.kubeconfig.as_deref().map(absolute).transpose()?.map(|path| path.display().to_string());
    let context = match (&args.context, &kubeconfig) {
        (None, None) => Some(KubeCluster::current_context()?),
        (context, _) => context.clone(),
    };
    let connection = Connection { kubeconfig, context, ..Connection::default() };
    let within = |failure: Failure| failure.within(format!("cluster {}", args.cluster));
    let kube = KubeCluster::connect(args.cluster.as_str(), &connection, None, engine::pass::TIMEOUT, None)
        .await
        .map_err(within)?;
    let nodes = kube.nodes().await.map_err(within)?.into_iter().map(NodeObject::observed);
    Ok((connection, ObservedCluster { nodes: nodes.map(|node| (node.name.clone(), node)).collect() }))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::caused(format!("cannot read {}", path.display()), &error))
}

fn load(state: &Path, now: Timestamp) -> Result<Loaded, Failure> {
    Loader::default().load(&StateSource::Folder(state.to_path_buf()), now)
}

fn tell(args: &ImportArgs, adopted: &Adopted, ui: Ui) {
    const SHOWN: usize = 10;
    ui.note(&format!(
        "wrote {} to {}: cluster {}, {}, {}",
        count(adopted.files.len(), "file"),
        args.state.display(),
        args.cluster,
        count(adopted.nodes, "node"),
        count(adopted.groups, "new group")
    ));
    if adopted.left_alone.is_empty() {
        return;
    }
    ui.note(&format!(
        "{} with values that state cannot say, listed under `unmanaged` and left alone:",
        count(adopted.left_alone.len(), "label")
    ));
    adopted.left_alone.iter().take(SHOWN).for_each(|label| ui.note(&format!("  {label}")));
    if adopted.left_alone.len() > SHOWN {
        ui.note(&format!("  … and {} more", adopted.left_alone.len() - SHOWN));
    }
}

/// Reads back what was written, and plans it against what was seen.
async fn confirm(args: &ImportArgs, live: &ObservedCluster, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = load(&args.state, now)?;
    problems_of(&loaded, &args.state, ui)?;
    let cluster = loaded
        .desired
        .clusters
        .get(&args.cluster)
        .ok_or_else(|| Failure::new("the written state lacks the cluster"))?;
    let plan = crate::plan::diff(args.cluster.as_str(), cluster, &loaded.desired.vocabulary, live);
    if !plan.nodes.is_empty() {
        return Err(Failure::new(format!("the written state would change what is live: {}", plan.counts()))
            .hint("see `drover plan`"));
    }
    ui.out(&format!(
        "adopted {}: a plan shows no difference\nnext: git add {} && git commit\n",
        args.cluster,
        args.state.display()
    ))?;
    Ok(Outcome::Done)
}
