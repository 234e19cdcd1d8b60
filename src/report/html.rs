//! A plan as one HTML page that needs nothing else.

use askama::Template;

use super::binds::{self, BindRow};
use super::group::{Waiting, alike, fold_names, waiting};
use super::plan::{PlanView, why};
use crate::plan::{ClusterPlan, Plan, Refusal};

#[derive(Template)]
#[template(path = "plan.html")]
struct Page<'p> {
    title: &'static str,
    plan: &'p Plan,
    total: String,
    refused: bool,
    clusters: Vec<ClusterView<'p>>,
}

struct ClusterView<'p> {
    plan: &'p ClusterPlan,
    counts: String,
    refusals: &'p [Refusal],
    rows: Vec<Row<'p>>,
    waiting: Vec<Waiting<'p>>,
    binds: Vec<BindRow<'p>>,
    bind_lines: Vec<String>,
    absent: String,
    unmanaged: String,
    open: bool,
}

struct Row<'p> {
    nodes: Vec<&'p str>,
    changes: Vec<Cell>,
}

struct Cell {
    kind: &'static str,
    sign: &'static str,
    key: String,
    from: Option<String>,
    to: Option<String>,
    why: String,
    note: String,
    fights: bool,
}

/// A plan as one HTML page, without anything loaded from elsewhere.
pub fn html(plan: &Plan, view: PlanView) -> Result<String, askama::Error> {
    let title = if view.compares { "What this branch changes" } else { "drover plan" };
    let clusters = plan.clusters.iter().map(|cluster| cluster_view(cluster, view)).collect();
    let page = Page { title, plan, total: plan.counts().to_string(), refused: plan.is_refused(), clusters }.render()?;
    Ok(page.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"))
}

fn cluster_view(plan: &ClusterPlan, view: PlanView) -> ClusterView<'_> {
    let rows = alike(plan, view.full).into_iter().map(|alike| {
        let changes = alike.changes().iter().enumerate().map(|(index, change)| {
            let (kind, sign) = match (&change.from, &change.to) {
                (None, _) => ("add", "+"),
                (Some(_), Some(_)) => ("change", "~"),
                (Some(_), None) => ("remove", "−"),
            };
            let by = change.set_by.as_ref();
            Cell {
                kind,
                sign,
                key: change.key.clone(),
                from: change.from.clone(),
                to: change.to.clone(),
                why: why(&alike, index, view),
                note: by.map(|by| format!("live value set by {}", by.manager)).unwrap_or_default(),
                fights: by.is_some_and(|by| by.fights),
            }
        });
        Row { changes: changes.collect(), nodes: alike.nodes.iter().map(|node| node.node.as_str()).collect() }
    });
    ClusterView {
        counts: plan.counts().to_string(),
        refusals: &plan.refusals,
        rows: rows.collect(),
        waiting: waiting(plan),
        binds: plan.kubelet.as_ref().map(binds::rows).unwrap_or_default(),
        bind_lines: plan.kubelet.as_ref().map(binds::lines).unwrap_or_default(),
        absent: fold_names(plan.absent.iter().map(|absent| absent.node.as_str())),
        unmanaged: fold_names(plan.unmanaged.iter().map(String::as_str)),
        open: !plan.counts().is_nothing() || plan.is_refused() || plan.unreachable.is_some(),
        plan,
    }
}
