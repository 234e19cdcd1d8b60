use std::path::PathBuf;

use clap::Args;
use futures::future::join_all;
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, Format, SignerArgs, StateArgs, json};
use crate::adapters::files;
use crate::engine::pass::{observe, selected};
use crate::engine::rebalance::{Sight, decide, rebalance, stuck};
use crate::engine::{Loaded, Written};
use crate::error::Failure;
use crate::model::{ClusterName, DesiredCluster};
use crate::rebalance::Record;
use crate::report::{ClusterRebalance, RebalanceReport, rebalance_text};
use crate::ui::Ui;

/// Decide which machines should go to which groups, by load
///
/// One pass of the rebalancer: reads what pods request, run on and wait for, and shows the moves that the policy of each
/// cluster makes of it, what each is for, what it costs whom, and why other machines were not taken. Without --commit or
/// --push nothing is changed.
///
/// A move is a commit: `drover apply`, or `drover run`, makes it true. --push decides on the newest state of the server,
/// not on the files here, and again where somebody else was faster.
#[derive(Debug, Args)]
pub(super) struct RebalanceArgs {
    #[command(flatten)]
    clusters: ClusterArgs,

    /// Commit the moves to the branch that is checked out here
    #[arg(long, conflicts_with = "push")]
    commit: bool,

    /// Commit the moves to the branch on the server: that of --repo and --rev, or the one that is pulled from here
    #[arg(long)]
    push: bool,

    /// Write what the decision was made from, and the decision, to this file; of one cluster
    #[arg(long, value_name = "FILE", conflicts_with_all = ["commit", "push"])]
    record: Option<PathBuf>,

    /// Decide again from such a file instead of looking at clusters
    #[arg(long, value_name = "FILE", conflicts_with_all = ["commit", "push", "clusters", "record", "state", "repo", "rev"])]
    replay: Option<PathBuf>,

    #[command(flatten)]
    signers: SignerArgs,

    /// How the decision is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn run(args: &RebalanceArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let report = match &args.replay {
        Some(file) => replay(file, now)?,
        None => {
            let loaded = args.state.load_and_look(&args.clusters, ui, now)?;
            if !loaded.is_valid() {
                return Err(Failure::new("nothing is decided by a state that does not validate")
                    .hint("mend the problems above"));
            }
            if loaded.committed().is_some_and(|(git, _)| git.is_shallow()) && !args.push {
                is_shallow(args.commit, ui)?;
            }
            look_and_decide(args, &loaded, now).await?
        }
    };
    match args.format {
        Format::Text => ui.out(&rebalance_text(&report))?,
        Format::Json => ui.out(&json(&report)?)?,
    }
    let of = |is: fn(&ClusterRebalance) -> bool| report.clusters.iter().any(is);
    Ok(match () {
        () if of(|cluster| cluster.failure.is_some()) => Outcome::Error,
        () if of(|cluster| cluster.dropped.is_some()) => Outcome::Refused,
        () => Outcome::Done,
    })
}

/// Where only the newest part of the history is here, earlier moves and what people took back may not be.
fn is_shallow(commits: bool, ui: Ui) -> Result<(), Failure> {
    let what = "only the newest part of the history is here, so that budgets, cooldowns and vetoes may be missed";
    match commits {
        true => Err(Failure::new(what).hint("fetch the rest with `git fetch --unshallow`, or decide with --push")),
        false => {
            ui.note(&format!("note: {what}; `git fetch --unshallow` brings the rest"));
            Ok(())
        }
    }
}

async fn look_and_decide(args: &RebalanceArgs, loaded: &Loaded, now: Timestamp) -> Result<RebalanceReport, Failure> {
    let clusters = selected(loaded, &args.clusters.wanted(&AllowArgs::default()))?;
    if args.record.is_some() && clusters.len() != 1 {
        let names: Vec<&str> = clusters.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::new("a record is of one cluster")
            .hint(format!("choose with --cluster among {}", names.join(", "))));
    }
    let sights = join_all(clusters.iter().map(|(name, cluster)| look(loaded, name, cluster))).await;
    let mut report = RebalanceReport::new(now);
    for ((name, _), sight) in clusters.into_iter().zip(sights) {
        report.clusters.push(match sight.and_then(|sight| of_cluster(args, loaded, name, &sight, now)) {
            Ok(decided) => decided,
            Err(failure) => ClusterRebalance::failed(name, &failure),
        });
    }
    Ok(report)
}

async fn look(loaded: &Loaded, name: &ClusterName, cluster: &DesiredCluster) -> Result<Sight, Failure> {
    let observed = observe(loaded, name, cluster).await?;
    let pods = observed.live.work().await?;
    Ok(Sight { connection: cluster.spec.connection.clone(), nodes: observed.nodes, pods })
}

fn of_cluster(
    args: &RebalanceArgs,
    loaded: &Loaded,
    name: &ClusterName,
    sight: &Sight,
    now: Timestamp,
) -> Result<ClusterRebalance, Failure> {
    let (record, written) = if args.commit || args.push {
        let done = rebalance(&args.state.writer(args.push, &args.signers, None)?, name, sight, now)?;
        (done.record, done.written)
    } else {
        (Some(decide(loaded, name, sight, now)?), None)
    };
    let Some(record) = record else {
        return Ok(ClusterRebalance::dropped(name, written));
    };
    if let Some(path) = &args.record {
        files::replace(path, &json(&record)?)?;
    }
    let stuck = stuck(&record, &sight.pods);
    Ok(ClusterRebalance::of(record.decision, stuck, written))
}

/// Decides from a record alone, and compares.
fn replay(file: &std::path::Path, now: Timestamp) -> Result<RebalanceReport, Failure> {
    let shown = file.display();
    let text = files::read_regular(file)?;
    let record = Record::parse(&text).map_err(|error| {
        Failure::new(format!("{shown}: {error}"))
            .hint("records lie below .drover/decisions in the state; --record writes one")
    })?;
    record.replay().map_err(|error| {
        Failure::new(format!("{shown}: {error}")).hint("it was changed by hand, or made by another version of drover")
    })?;
    let mut report = RebalanceReport::new(now);
    report.clusters.push(ClusterRebalance::of(record.decision, Vec::new(), None::<Written>));
    Ok(report)
}
