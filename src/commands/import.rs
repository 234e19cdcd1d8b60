use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::problems_of;
use crate::adapters::kube::KubeCluster;
use crate::adapters::kubelet::{Manager, has_state};
use crate::adapters::{dump, files};
use crate::engine::{self, Loaded, Loader, StateSource};
use crate::error::Failure;
use crate::manifest::adopt::{Adopted, Adoption, adopt};
use crate::model::cluster::{Connection, Kubelet, KubeletManager, Rancher, Rke};
use crate::model::text::RancherId;
use crate::model::{ClusterName, Mode, ObservedCluster, ObservedKubelet};
use crate::plan;
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

    /// Adopt the binds of kubelets that RKE configures: its cluster.yml, relative to the folder of the state
    #[arg(long, value_name = "PATH", conflicts_with = "rancher_cluster")]
    rke_config: Option<String>,

    /// Adopt the binds of kubelets that Rancher configures: the id that it gave the cluster
    #[arg(long, value_name = "ID")]
    rancher_cluster: Option<RancherId>,

    /// A kubeconfig file for the cluster that Rancher runs in [default: the one that kubectl would use]
    #[arg(long, value_name = "FILE", requires = "rancher_cluster")]
    rancher_kubeconfig: Option<PathBuf>,

    /// The context in that kubeconfig
    #[arg(long, value_name = "NAME", requires = "rancher_cluster")]
    rancher_context: Option<String>,

    /// Declare labels with this prefix, too; may be given several times
    #[arg(long = "label-prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
}

/// How a cluster is reached, its nodes, and how its kubelets are configured.
type Seen = (Connection, ObservedCluster, Option<(Kubelet, ObservedKubelet)>);

pub(super) async fn run(args: &ImportArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let (connection, live, kubelet) = observe(args, ui).await?;
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
        kubelet: kubelet.as_ref(),
    })
    .map_err(|error| Failure::caused("cannot write YAML", &error))?;
    files::create_all(&args.state, &adopted.files)?;
    tell(args, &adopted, ui);
    confirm(args, &live, kubelet.map(|(_, seen)| seen), ui, now)
}

/// What configures the kubelets, as the command line names it.
fn named(args: &ImportArgs) -> Result<Option<Kubelet>, Failure> {
    let kubelet = Kubelet {
        rke: None,
        rancher: None,
        extra_binds: Vec::new(),
        remove_binds: Vec::new(),
        timeout: None,
        manager: KubeletManager::Rke,
    };
    Ok(match (&args.rancher_cluster, &args.rke_config) {
        (Some(cluster), _) => {
            let kubeconfig = args.rancher_kubeconfig.as_deref().map(absolute).transpose()?;
            let kubeconfig = kubeconfig.map(|path| path.display().to_string());
            let connection = Connection { kubeconfig, context: args.rancher_context.clone(), ..Connection::default() };
            let rancher = Some(Rancher { connection, cluster: cluster.clone() });
            Some(Kubelet { manager: KubeletManager::Rancher, rancher, ..kubelet })
        }
        (None, Some(config)) => Some(Kubelet { rke: Some(Rke { config: config.clone() }), ..kubelet }),
        (None, None) => None,
    })
}

async fn observe(args: &ImportArgs, ui: Ui) -> Result<Seen, Failure> {
    let kubelet = named(args)?;
    match &args.dump {
        Some(path) => recorded(path, kubelet, ui),
        None => live(args, kubelet, ui).await.map_err(|failure| failure.within(format!("cluster {}", args.cluster))),
    }
}

/// A dump in place of a cluster.
fn recorded(path: &Path, kubelet: Option<Kubelet>, ui: Ui) -> Result<Seen, Failure> {
    let text = files::read_text(path)?;
    let file = absolute(path)?.display().to_string();
    let dump = dump::read(&path.display().to_string(), &text)?;
    let kubelet = match (kubelet, dump.kubelet) {
        (Some(kubelet), binds) => {
            let binds = engine::kubelet::recorded_binds(kubelet.manager, binds.as_ref())
                .map_err(|failure| failure.within(path.display().to_string()))?;
            Some((kubelet, binds))
        }
        (None, Some(binds)) => {
            ui.note(&format!("the dump holds the binds of kubelets: {} adopts them", option_for(binds.manager)));
            None
        }
        (None, None) => None,
    };
    Ok((Connection { file: Some(file), ..Connection::default() }, dump.nodes, kubelet))
}

async fn live(args: &ImportArgs, kubelet: Option<Kubelet>, ui: Ui) -> Result<Seen, Failure> {
    let kubeconfig = args.kubeconfig.as_deref().map(absolute).transpose()?.map(|path| path.display().to_string());
    let context = match (&args.context, &kubeconfig) {
        (None, None) => Some(KubeCluster::current_context()?),
        (context, _) => context.clone(),
    };
    let connection = Connection { kubeconfig, context, ..Connection::default() };
    let kube = KubeCluster::connect(args.cluster.as_str(), &connection, None, engine::pass::TIMEOUT, None).await?;
    let kubelet = match kubelet {
        Some(kubelet) => {
            let manager = Manager::connect(&kube, &kubelet, None, engine::pass::TIMEOUT).await?;
            let Some(manager) = manager else { return Err(Failure::new("nothing configures its kubelets")) };
            Some((kubelet, manager.observe().await?))
        }
        None => {
            // Not being let to look is no reason not to adopt the rest.
            if has_state(&kube).await.unwrap_or(false) {
                let (rke, rancher) = (option_for(KubeletManager::Rke), option_for(KubeletManager::Rancher));
                ui.note(&format!(
                    "RKE made this cluster: {rke} adopts the binds of its kubelets, {rancher} where Rancher runs it"
                ));
            }
            None
        }
    };
    Ok((connection, kube.observe().await?, kubelet))
}

/// What names the manager on the command line.
fn option_for(manager: KubeletManager) -> &'static str {
    match manager {
        KubeletManager::Rancher => "--rancher-cluster ID",
        KubeletManager::Rke | KubeletManager::None => "--rke-config PATH",
    }
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
        "{} that state cannot say, left alone (labels are listed under `unmanaged`):",
        count(adopted.left_alone.len(), "value")
    ));
    adopted.left_alone.iter().take(SHOWN).for_each(|value| ui.note(&format!("  {value}")));
    if adopted.left_alone.len() > SHOWN {
        ui.note(&format!("  … and {} more", adopted.left_alone.len() - SHOWN));
    }
}

/// Reads back what was written, and plans it against what was seen.
fn confirm(
    args: &ImportArgs,
    live: &ObservedCluster,
    kubelet: Option<ObservedKubelet>,
    ui: Ui,
    now: Timestamp,
) -> Result<Outcome, Failure> {
    let loaded = load(&args.state, now)?;
    problems_of(&loaded, &args.state, ui)?;
    let cluster = loaded
        .desired
        .clusters
        .get(&args.cluster)
        .ok_or_else(|| Failure::new("the written state lacks the cluster"))?;
    let plan = plan::diff(args.cluster.as_str(), cluster, &loaded.desired.vocabulary, live);
    if !plan.nodes.is_empty() {
        return Err(Failure::new(format!("the written state would change what is live: {}", plan.counts()))
            .hint("see `drover plan`"));
    }
    if let Some(mut seen) = kubelet {
        engine::kubelet::add_config(&mut seen, &cluster.spec, |path| loaded.file(path));
        if let Some(why) = &seen.blocked {
            ui.note(&format!("no bind can be changed yet: {why}"));
        } else if plan::kubelet::kubelet(cluster, live, Ok(&seen)).is_some_and(|binds| binds.changes_anything()) {
            ui.note("the binds of its kubelets differ from its cluster.yml: see `drover plan`");
        }
    }
    ui.out(&format!(
        "adopted {}: a plan shows no difference\nnext: git add {} && git commit\n",
        args.cluster,
        args.state.display()
    ))?;
    Ok(Outcome::Done)
}
