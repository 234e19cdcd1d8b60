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
use crate::engine;
use crate::engine::pass::{self, selected};
use crate::error::Failure;
use crate::ui::Ui;

/// Dump the live nodes and pods of a cluster to a file
///
/// The dump holds only what drover reads. A Cluster document can name it as `connection: {file: …}`, so that plans can
/// be made and tested without the cluster.
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
    match &args.out {
        None => ui.out(&text)?,
        Some(path) => {
            files::replace(path, &text)?;
            ui.note(&format!("wrote {said} to {}", path.display()));
        }
    }
    Ok(Outcome::Done)
}
