use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, StateArgs};
use crate::adapters::dump;
use crate::adapters::files;
use crate::adapters::kube::KubeCluster;
use crate::adapters::node_images::NodeImagesObject;
use crate::adapters::objects::NodeObject;
use crate::backtest::history::{groups_csv, groups_of, jobs_csv, jobs_of_pods};
use crate::engine::pass::{self, Observed, observe, selected};
use crate::engine::{self, Loaded, rebalance};
use crate::error::Failure;
use crate::model::work::PodLife;
use crate::model::{ClusterName, DesiredCluster};
use crate::rebalance::load::owner;
use crate::ui::Ui;

/// Dump the live nodes and pods of a cluster to a file
///
/// The dump holds only what drover reads. A Cluster document can name it as `connection: {file: …}`, so that plans can
/// be made and tested without the cluster.
///
/// --jobs and --groups write what `drover backtest` reads instead: the jobs with GPUs that the pods of the cluster tell of,
/// also those that have ended and are still there, and the GPU machines of each group.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    clusters: ClusterArgs,

    /// The file to write [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Leave the pods out
    #[arg(long)]
    no_pods: bool,

    /// Write the jobs of the cluster instead, as CSV for `drover backtest --jobs`
    #[arg(long, conflicts_with_all = ["no_pods", "groups"])]
    jobs: bool,

    /// Write the groups and their GPU machines instead, as CSV for `drover backtest --groups`
    #[arg(long, conflicts_with = "no_pods")]
    groups: bool,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn run(args: &SnapshotArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = args.state.load_and_tell(ui, now)?;
    let clusters = selected(&loaded, &args.clusters.wanted(&AllowArgs::default()))?;
    let [(name, cluster)] = clusters.as_slice() else {
        let names: Vec<&str> = clusters.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::new("a snapshot is of one cluster")
            .hint(format!("choose with --cluster among {}", names.join(", "))));
    };
    let (text, said) = match (args.jobs, args.groups) {
        (true, _) => jobs(&loaded, name, cluster, ui, now).await?,
        (_, true) => groups(&loaded, name, cluster, now).await?,
        _ => objects(args, &loaded, name, cluster).await?,
    };
    match &args.out {
        None => ui.out(&text)?,
        Some(path) => {
            files::replace(path, &text)?;
            ui.note(&format!("wrote {said} to {}", path.display()));
        }
    }
    Ok(Outcome::Done)
}

/// The live objects, and how many there are.
async fn objects(
    args: &SnapshotArgs,
    loaded: &Loaded,
    name: &ClusterName,
    cluster: &DesiredCluster,
) -> Result<(String, String), Failure> {
    let connection = &cluster.spec.connection;
    if connection.file.is_some() {
        return Err(Failure::new(format!("the connection of {name} is a dump already"))
            .hint("choose a cluster with a live connection"));
    }
    let within = |failure: Failure| failure.within(format!("cluster {name}"));
    let kube = KubeCluster::connect(name.as_str(), connection, loaded.root(), pass::timeout_of(&cluster.spec), None)
        .await
        .map_err(within)?;
    let mut nodes = kube.nodes().await.map_err(within)?;
    if cluster.spec.bootstrap.as_ref().is_some_and(|bootstrap| !bootstrap.images.is_empty()) {
        let images = kube.node_images().await.map_err(within)?;
        let mut images: BTreeMap<_, _> = images.into_iter().map(NodeImagesObject::images).collect();
        let with_images = |node: NodeObject| {
            let images = images.remove(&node.metadata.name).unwrap_or_default();
            node.with_images(images)
        };
        nodes = nodes.into_iter().map(with_images).collect();
    }
    let pods = if args.no_pods { Vec::new() } else { kube.pods().await.map_err(within)? };
    let storages = kube.storage_objects().await.map_err(within)?;
    let said = format!("{} nodes and {} pods of {name}", nodes.len(), pods.len());
    let kubelet = match engine::kubelet::observe(&kube, &cluster.spec, loaded.root()).await {
        Some(kubelets) => Some(kubelets.seen.map_err(within)?),
        None => None,
    };
    let text =
        dump::write(nodes, pods, storages, kubelet).map_err(|error| Failure::caused("cannot write YAML", &error))?;
    Ok((text, said))
}

async fn look(loaded: &Loaded, name: &ClusterName, cluster: &DesiredCluster) -> Result<Observed, Failure> {
    observe(loaded, name, cluster).await.map_err(|failure| failure.within(format!("cluster {name}")))
}

/// The jobs that the pods tell of, and how many there are.
async fn jobs(
    loaded: &Loaded,
    name: &ClusterName,
    cluster: &DesiredCluster,
    ui: Ui,
    now: Timestamp,
) -> Result<(String, String), Failure> {
    let observed = look(loaded, name, cluster).await?;
    let pods = observed.live.lives().await.map_err(|failure| failure.within(format!("cluster {name}")))?;
    let owner = owner(&loaded.desired);
    let namespaces = cluster.spec.rebalance.as_ref().map(|asked| asked.namespaces.as_slice()).unwrap_or_default();
    let counts = |life: &PodLife| namespaces.is_empty() || namespaces.contains(&life.pod.namespace);
    let of = |life: &PodLife| owner(&life.pod).filter(|_| counts(life)).map(ToString::to_string);
    let (jobs, unknown) = jobs_of_pods(&pods, of, now);
    for (count, what) in [
        (unknown.running, "still run: their time so far counts"),
        (unknown.waiting, "wait and are left out: nobody knows how long they will run"),
        (unknown.endless, "ended without saying when, and are left out"),
    ] {
        if count > 0 {
            ui.note(&format!("note: {count} jobs {what}"));
        }
    }
    let last = jobs.iter().map(|job| job.submit + job.duration).max().unwrap_or(0);
    if last > 0 {
        ui.note(&format!("note: replay them with --warmup 0 --horizon {last}"));
    }
    Ok((jobs_csv(&jobs)?, format!("{} jobs of {name}", jobs.len())))
}

/// The groups and their GPU machines, and how many there are.
async fn groups(
    loaded: &Loaded,
    name: &ClusterName,
    cluster: &DesiredCluster,
    now: Timestamp,
) -> Result<(String, String), Failure> {
    let observed = look(loaded, name, cluster).await?;
    let connection = cluster.spec.connection.clone();
    let sight = rebalance::Sight { connection, nodes: observed.nodes, pods: Vec::new() };
    let groups = groups_of(&rebalance::decide(loaded, name, &sight, now)?.input);
    Ok((groups_csv(&groups)?, format!("{} groups of {name}", groups.len())))
}
