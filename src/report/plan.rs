//! A plan as aligned text.

use std::fmt::Write;

use super::binds;
use super::group::{Alike, alike, first_names, fold_names, waiting};
use super::style::{STYLES, clean, count, paint};
use crate::model::Mode;
use crate::plan::{Change, ClusterPlan, KubeletPlan, Plan, Reason, Refusal};

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanView {
    /// Every node by itself, also where many change alike, and long lists whole.
    pub full: bool,
    /// The plan compares two states: nothing is live.
    pub compares: bool,
}

/// A plan as aligned, coloured text.
pub fn plan_text(plan: &Plan, view: PlanView) -> String {
    let mut text = String::new();
    let line = format!("state: {} @ {}", clean(&plan.state.source), plan.state.short());
    let _ = writeln!(text, "{}", paint(STYLES.dim, line));
    if !plan.complete {
        let _ = writeln!(
            text,
            "{}",
            paint(STYLES.remove, "this state does not validate: the plan shows the rest of it and cannot be applied")
        );
    }
    for cluster in &plan.clusters {
        text.push('\n');
        cluster_text(&mut text, cluster, view);
    }
    text.push('\n');
    let _ = writeln!(text, "{}", paint(STYLES.bold, total(plan)));
    text
}

fn total(plan: &Plan) -> String {
    let unreachable = plan.clusters.iter().filter(|cluster| cluster.unreachable.is_some()).count();
    let refused = plan.clusters.iter().filter(|cluster| cluster.is_refused()).count();
    let mut parts = Vec::new();
    match (plan.counts().is_nothing(), plan.clusters.len() - unreachable) {
        (true, 0) => {} // everything is unreachable, or two states are alike
        (true, seen) => parts.push(format!("no difference in {}", count(seen, "cluster"))),
        _ => parts.push(format!("total: {}", plan.counts())),
    }
    if unreachable > 0 {
        parts.push(format!("{} unreachable", count(unreachable, "cluster")));
    }
    if refused > 0 {
        parts.push(format!(
            "refused by a guard in {}: nothing of this plan would be applied",
            count(refused, "cluster")
        ));
    }
    if parts.is_empty() { "no difference".to_owned() } else { parts.join("; ") }
}

fn cluster_text(text: &mut String, cluster: &ClusterPlan, view: PlanView) {
    let name = paint(STYLES.bold, &cluster.cluster);
    let mode = if cluster.mode == Mode::Observe {
        paint(STYLES.dim, " (observed only, never written)")
    } else {
        String::new()
    };
    if let Some(cause) = &cluster.unreachable {
        let _ = writeln!(text, "{name}: {}", paint(STYLES.remove, format!("unreachable: {}", clean(cause))));
        return;
    }
    let _ = match cluster.counts().is_nothing() {
        true => writeln!(text, "{name}: {}{mode}", paint(STYLES.add, "no difference")),
        false => writeln!(text, "{name}: {}{mode}", cluster.counts()),
    };
    for note in &cluster.notes {
        let _ = writeln!(text, "  {}", clean(note));
    }
    let rows = alike(cluster, view.full);
    let widths = Widths::of(&rows);
    for row in &rows {
        row_text(text, row, &widths, view);
    }
    if let Some(kubelet) = &cluster.kubelet {
        kubelet_text(text, kubelet);
    }
    others_text(text, cluster, view);
    for refusal in &cluster.refusals {
        refusal_text(text, refusal, cluster.mode);
    }
}

fn kubelet_text(text: &mut String, kubelet: &KubeletPlan) {
    let _ = writeln!(text, "  {}", paint(STYLES.bold, format!("kubelet binds ({})", kubelet.manager)));
    for row in binds::rows(kubelet) {
        let style = match row.sign {
            '+' => STYLES.add,
            '~' => STYLES.change,
            _ => STYLES.remove,
        };
        let bind = [row.from, row.to].into_iter().flatten().map(clean).collect::<Vec<_>>().join(" → ");
        let _ = writeln!(text, "    {}  {}", paint(style, format!("{} {bind}", row.sign)), paint(STYLES.dim, row.why));
    }
    for line in binds::lines(kubelet) {
        let _ = writeln!(text, "    {line}");
    }
}

/// The widths of the columns of a cluster.
struct Widths {
    key: usize,
    value: usize,
}

impl Widths {
    fn of(rows: &[Alike<'_>]) -> Self {
        let widest = |measure: fn(&Change) -> usize| {
            rows.iter().flat_map(Alike::changes).map(|change| measure(change)).max().unwrap_or(0)
        };
        Self {
            key: widest(|change| change.key.chars().count()),
            value: widest(|change| value_of(change).chars().count()),
        }
    }
}

fn value_of(change: &Change) -> String {
    let shown = |value: &str| if value.is_empty() { "\"\"".to_owned() } else { clean(value) };
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{} → {}", shown(from), shown(to)),
        (None, Some(value)) | (Some(value), None) => shown(value),
        (None, None) => String::new(),
    }
}

fn row_text(text: &mut String, row: &Alike<'_>, widths: &Widths, view: PlanView) {
    let _ = match row.nodes.as_slice() {
        [node] => writeln!(text, "  {}", paint(STYLES.bold, clean(&node.node))),
        nodes => {
            let names = fold_names(nodes.iter().map(|node| node.node.as_str()));
            writeln!(text, "  {}: {}", paint(STYLES.bold, count(nodes.len(), "node")), clean(&names))
        }
    };
    for (index, change) in row.changes().iter().enumerate() {
        let (sign, style) = match (&change.from, &change.to) {
            (None, _) => ('+', STYLES.add),
            (Some(_), Some(_)) => ('~', STYLES.change),
            (Some(_), None) => ('-', STYLES.remove),
        };
        let (key, value) = (clean(&change.key), value_of(change));
        let cells = format!("{sign} {key:<0$}  {value:<1$}", widths.key, widths.value);
        let _ = write!(text, "    {}  {}", paint(style, cells), paint(STYLES.dim, why(row, index, view)));
        if let Some(by) = &change.set_by {
            let when = by.time.map(|time| time.strftime(" on %Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
            let note = format!("live value set by {}{when}", clean(&by.manager));
            let _ = match by.fights {
                true => write!(text, "  {}", paint(STYLES.remove, format!("fights: {note}"))),
                false => write!(text, "  {}", paint(STYLES.dim, note)),
            };
        }
        text.push('\n');
    }
}

/// Why a change is in the plan, and where that is written.
pub(super) fn why(row: &Alike<'_>, index: usize, view: PlanView) -> String {
    let place = clean(&row.place(index));
    let change = &row.changes()[index];
    match change.reason {
        Reason::Asked => place,
        Reason::NotAsked => format!("not asked for by {place}"),
        // Without the cluster nobody knows who set it there.
        Reason::Dropped if view.compares => format!("no longer asked for by {place}, removed where drover set it"),
        Reason::Dropped => format!("set by drover before, no longer asked for by {place}"),
        Reason::StorageFailed => {
            format!("taken off, asked for by {place}: {}", clean(change.why.as_deref().unwrap_or_default()))
        }
    }
}

/// Names of nodes that nothing changes on.
fn listed<'n>(names: impl Iterator<Item = &'n str>, view: PlanView) -> String {
    if view.full { fold_names(names) } else { first_names(names) }
}

fn others_text(text: &mut String, cluster: &ClusterPlan, view: PlanView) {
    for waiting in waiting(cluster) {
        let labels = paint(STYLES.change, format!("waits for storage: {}", clean(&waiting.labels)));
        let _ = writeln!(text, "  {}  {labels}  {}", clean(&waiting.nodes), paint(STYLES.dim, clean(waiting.why)));
    }
    if !cluster.absent.is_empty() {
        let names = listed(cluster.absent.iter().map(|absent| absent.node.as_str()), view);
        let _ = writeln!(text, "  {} {}", paint(STYLES.dim, "absent, labelled when they join:"), clean(&names));
    }
    if !cluster.unmanaged.is_empty() {
        let names = listed(cluster.unmanaged.iter().map(String::as_str), view);
        let title = if view.compares { "no longer managed, left as they are:" } else { "unmanaged, never touched:" };
        let _ = writeln!(text, "  {} {}", paint(STYLES.dim, title), clean(&names));
    }
}

fn refusal_text(text: &mut String, refusal: &Refusal, mode: Mode) {
    const SHOWN: usize = 12;
    let title = match &refusal.allowed {
        Some(by) => paint(STYLES.change, format!("! {} is allowed ({})", refusal.guard, clean(by))),
        // What is only observed is never applied, and so never refused.
        None if mode == Mode::Observe => paint(STYLES.dim, format!("! would be refused by {}", refusal.guard)),
        None => paint(STYLES.remove, format!("! refused by {}", refusal.guard)),
    };
    let _ = writeln!(text, "  {title}: {}", clean(&refusal.message));
    for detail in refusal.details.iter().take(SHOWN) {
        let _ = writeln!(text, "      {}", clean(detail));
    }
    if refusal.details.len() > SHOWN {
        let _ = writeln!(text, "      … and {} more", refusal.details.len() - SHOWN);
    }
    if refusal.allowed.is_none() && mode == Mode::Enforce {
        let hint = format!(
            "if this is meant: --allow {0}, or an `allow` entry for {0} in the Cluster document",
            refusal.guard
        );
        let _ = writeln!(text, "      {}", paint(STYLES.dim, hint));
    }
}
