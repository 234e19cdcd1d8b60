use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use futures::future::join_all;
use jiff::Timestamp;

use super::Outcome;
use super::common::{AllowArgs, ClusterArgs, Format, RkeArgs, SignerArgs, StateArgs, json, signalled};
use crate::adapters::files;
use crate::engine::kubelet::{Operator, StatePlace};
use crate::engine::pass::{Live, Observed};
use crate::engine::{self, ApplyReport, Loaded, Pass, Wanted};
use crate::error::Failure;
use crate::model::{ClusterName, Mode};
use crate::plan::{ClusterPlan, KubeletPlan, PLAN_VERSION, Plan, alien_removal, gate_again, outdated};
use crate::report::{PlanView, outcome_text, plan_text};
use crate::ui::Ui;

/// Make the clusters as the state says
///
/// Shows the plan and asks before anything is changed; --yes answers for automation. A saved plan is applied as it was
/// reviewed: a label that somebody changed since then is left alone and reported, and a plan whose changes the state no
/// longer asks for is refused. Binds of kubelets change after the labels of their cluster. Interrupting finishes what is in flight and tells what was not done.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// A plan saved with `drover plan --out`
    #[arg(value_name = "PLAN")]
    plan: Option<PathBuf>,

    #[command(flatten)]
    clusters: ClusterArgs,
    #[command(flatten)]
    allow: AllowArgs,
    #[command(flatten)]
    rke: RkeArgs,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// How many nodes of a cluster are written at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,

    /// How the report is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn run(args: &ApplyArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    let loaded = args.state.load_and_tell(ui, now)?;
    if !loaded.is_valid() {
        return Err(
            Failure::new("the state does not validate, so nothing of it is applied").hint("mend the problems above")
        );
    }
    let wanted = args.clusters.wanted(&args.allow);
    let mut pass = match &args.plan {
        None => engine::plan(&loaded, &wanted, now).await?,
        Some(path) => saved(path, &loaded, &wanted, ui, now).await?,
    };
    loaded.blame(pass.plan.sources_mut());
    if args.format == Format::Text {
        ui.out(&plan_text(&pass.plan, PlanView::default()))?;
    }
    if pass.plan.is_refused() {
        ui.note(&format!("nothing was applied: refused {}", refused_by(&pass.plan)));
        return finish(args, ui, &pass.plan, ApplyReport::default(), Outcome::Refused);
    }
    if !args.yes && changes_anything(&pass) {
        if !ui.can_ask() {
            return Err(Failure::new("nothing was applied: there is no terminal to ask on")
                .hint("pass --yes to apply without asking"));
        }
        if !ui.ask("Apply these changes?")? {
            ui.note("nothing was applied");
            return Ok(Outcome::Done);
        }
    }
    let stop = stop_on_signal(ui);
    let progress = ui.progress(&pass.plan);
    let mut report = engine::apply(&pass.plan, &pass, args.parallel.into(), &stop, &progress).await;
    if !stop.load(Ordering::Relaxed) {
        apply_binds(args, &loaded, &pass, &mut report, (&stop, &progress), now).await?;
    }
    drop(progress);
    finish(args, ui, &pass.plan, report, Outcome::Done)
}

/// Changes the binds of kubelets, which comes after the labels: those that go are gone by then.
async fn apply_binds(
    args: &ApplyArgs,
    loaded: &Loaded,
    pass: &Pass,
    report: &mut ApplyReport,
    how: (&AtomicBool, &dyn engine::Progress),
    now: Timestamp,
) -> Result<(), Failure> {
    let changes = |cluster: &ClusterPlan| cluster.kubelet.as_ref().is_some_and(KubeletPlan::changes_anything);
    if !pass.plan.clusters.iter().any(changes) {
        return Ok(());
    }
    let place = match loaded.root() {
        Some(root) => StatePlace::Folder(root.to_path_buf()),
        None => StatePlace::Repository(Box::new(args.state.writer(false, &SignerArgs::default(), None)?)),
    };
    let operator = Operator { rke: args.rke.command(), place };
    let work = pass.plan.clusters.iter().zip(&report.clusters).map(|(plan, labels)| {
        let observed = pass.observed.get::<str>(&plan.cluster);
        engine::kubelet::apply(loaded, plan, observed, labels, &operator, how, now)
    });
    let done = join_all(work.collect::<Vec<_>>()).await;
    for (outcome, kubelet) in report.clusters.iter_mut().zip(done) {
        outcome.kubelet = kubelet;
    }
    Ok(())
}

fn finish(args: &ApplyArgs, ui: Ui, plan: &Plan, report: ApplyReport, outcome: Outcome) -> Result<Outcome, Failure> {
    match args.format {
        Format::Text => ui.out(&outcome_text(&report))?,
        Format::Json => ui.out(&json(&report)?)?,
    }
    let unreachable = plan.clusters.iter().any(ClusterPlan::is_partly_unknown);
    let whole = !report.interrupted && report.clusters.iter().all(engine::ClusterOutcome::is_whole);
    Ok(if outcome == Outcome::Done && (unreachable || !whole) { Outcome::Error } else { outcome })
}

/// The guards that hold a plan back, as `in prod by running-pods; in dev by empty-state`.
fn refused_by(plan: &Plan) -> String {
    let refused = plan.clusters.iter().filter(|cluster| cluster.is_refused()).map(|cluster| {
        let holding = cluster.refusals.iter().filter(|refusal| refusal.allowed.is_none());
        let guards: Vec<&str> = holding.map(|refusal| refusal.guard.name()).collect();
        format!("in {} by {}", cluster.cluster, guards.join(", "))
    });
    refused.collect::<Vec<_>>().join("; ")
}

/// Whether there is a change that could be written.
fn changes_anything(pass: &Pass) -> bool {
    writable(pass).next().is_some()
}

fn writable(pass: &Pass) -> impl Iterator<Item = &ClusterPlan> {
    pass.plan.clusters.iter().filter(|cluster| {
        let live = pass.observed.get::<str>(&cluster.cluster).map(|observed| &observed.live);
        let labels = !cluster.nodes.is_empty() && engine::apply::not_writable(cluster, live).is_none();
        let binds = cluster.kubelet.as_ref().is_some_and(KubeletPlan::changes_anything);
        labels || (binds && cluster.mode == Mode::Enforce && !matches!(live, Some(Live::Dump(_))))
    })
}

/// Sets a flag on the first interrupt; the second ends the process at once.
fn stop_on_signal(ui: Ui) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    tokio::spawn(async move {
        while signalled().await {
            if flag.swap(true, Ordering::Relaxed) {
                #[expect(clippy::exit, reason = "a person who interrupts twice wants out at once")]
                std::process::exit(130);
            }
            ui.note("interrupted: finishing what is in flight (once more to stop at once)");
        }
    });
    stop
}

/// A saved plan, checked against the state and the clusters of today.
async fn saved(path: &Path, loaded: &Loaded, wanted: &Wanted, ui: Ui, now: Timestamp) -> Result<Pass, Failure> {
    let mut plan = read_plan(path)?;
    if !wanted.clusters.is_empty() {
        plan.clusters.retain(|cluster| wanted.clusters.contains(&cluster.cluster));
    }
    if !plan.complete {
        return Err(Failure::new("the plan was made from a state that does not validate").hint("make a new plan"));
    }
    // Also where the state is the same: a file can be changed by hand.
    still_asked(&plan, loaded)?;
    if plan.state.digest != loaded.revision.digest {
        ui.note(&format!(
            "the plan was made at {}; its changes are the same at {}",
            plan.state.short(),
            loaded.revision.short()
        ));
    }
    let mut pass = Pass { plan: engine::pass::empty(loaded, now), observed: Default::default() };
    let revisits = plan.clusters.into_iter().map(|cluster| revisit(cluster, loaded, wanted, ui, now));
    for revisited in join_all(revisits).await {
        let (name, cluster, observed) = revisited?;
        pass.observed.extend(observed.map(|observed| (name, observed)));
        pass.plan.clusters.push(cluster);
    }
    Ok(pass)
}

/// A cluster of a saved plan, guarded by what is live today.
async fn revisit(
    mut cluster: ClusterPlan,
    loaded: &Loaded,
    wanted: &Wanted,
    ui: Ui,
    now: Timestamp,
) -> Result<(ClusterName, ClusterPlan, Option<Observed>), Failure> {
    let Some((name, desired)) = loaded.desired.clusters.get_key_value(cluster.cluster.as_str()) else {
        return Err(
            Failure::new(format!("the state has no cluster {:?} any more", cluster.cluster)).hint("make a new plan")
        );
    };
    cluster.mode = desired.spec.mode;
    if let Some(cause) = cluster.unreachable.take() {
        ui.note(&format!("{name}: was unreachable when the plan was made, so it has no changes there ({cause})"));
    }
    if cluster.nodes.is_empty()
        && cluster.waiting.is_empty()
        && cluster.kubelet.is_none()
        && cluster.refusals.is_empty()
    {
        return Ok((name.clone(), cluster, None));
    }
    match engine::observe(loaded, name, desired).await {
        Ok(observed) => {
            let vocabulary = &loaded.desired.vocabulary;
            let alien = alien_removal(&cluster, vocabulary, &observed.nodes);
            if let Some((node, key)) = alien {
                return Err(Failure::new(format!(
                    "the plan removes the label {key} of {node} in {name}, which drover did not set"
                ))
                .hint("make and review a new plan"));
            }
            gate_again(&mut cluster, desired, vocabulary, &observed.nodes, &wanted.allow, now);
            cluster.refusals = engine::pass::guard(loaded, desired, &cluster, &observed, wanted, now).await;
            Ok((name.clone(), cluster, Some(observed)))
        }
        Err(failure) => {
            cluster.unreachable = Some(failure.to_string());
            Ok((name.clone(), cluster, None))
        }
    }
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
    let text = files::read_text(path)?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| {
        Failure::caused(format!("{} is not a saved plan", path.display()), &error)
            .hint("save one with `drover plan --out FILE`")
    })?;
    if plan.version != PLAN_VERSION {
        return Err(Failure::new(format!(
            "the plan has the version {:?}, this drover applies {PLAN_VERSION:?}",
            plan.version
        ))
        .hint("make a new plan"));
    }
    Ok(plan)
}

fn still_asked(plan: &Plan, loaded: &Loaded) -> Result<(), Failure> {
    const SHOWN: usize = 5;
    let outdated = outdated(plan, &loaded.desired);
    if outdated.is_empty() {
        return Ok(());
    }
    let value = |value: &Option<String>| value.as_deref().map_or("no label".to_owned(), |value| format!("{value:?}"));
    let mut list: Vec<String> = outdated
        .iter()
        .take(SHOWN)
        .map(|o| {
            format!(
                "{}/{} {}: planned {}, now asked for {}",
                o.cluster,
                o.node,
                o.key,
                value(&o.planned),
                value(&o.asked)
            )
        })
        .collect();
    if outdated.len() > SHOWN {
        list.push(format!("and {} more", outdated.len() - SHOWN));
    }
    Err(Failure::new(format!(
        "the plan is stale: it was made at {}, and the state at {} asks for something else: {}",
        plan.state.short(),
        loaded.revision.short(),
        list.join("; ")
    ))
    .hint("make and review a new plan"))
}
