//! A plan as a comment on a pull request: a table of clusters, and a block for each that can be opened.

use std::fmt::Write;

use super::binds;
use super::group::{alike, fold_names, waiting};
use super::plan::{PlanView, why};
use super::style::{clean, count};
use crate::plan::{ClusterPlan, KubeletPlan, Plan};

/// What GitHub accepts as a comment, in characters.
pub const MARKDOWN_LIMIT: usize = 65_536;

/// Names of a group of nodes beyond this many characters are cut.
const NAMES: usize = 400;

/// A plan as Markdown of fewer than `limit` characters: worst clusters first, and what does not fit is counted.
pub fn markdown(plan: &Plan, view: PlanView, limit: usize) -> String {
    let mut clusters: Vec<&ClusterPlan> = plan.clusters.iter().collect();
    clusters.sort_by_key(|cluster| std::cmp::Reverse(severity(cluster)));

    let mut text = heading(plan, view);
    let table_budget = limit / 4;
    table(&mut text, &clusters, table_budget);
    let closing = "\n_Cut to fit a comment. The whole plan: `drover plan --format html`._\n";
    let budget = limit.saturating_sub(closing.len() + 1);
    let mut cut = false;
    for (index, cluster) in clusters.iter().enumerate() {
        let left = clusters.len() - index;
        // Each cluster may use what is left but for a few lines for each one after it.
        let room = budget.saturating_sub(length(&text)).saturating_sub((left - 1) * RESERVED);
        match block(cluster, view, room) {
            Some((block, whole)) => {
                text.push_str(&block);
                cut |= !whole;
            }
            None => cut = true,
        }
    }
    if cut {
        text.push_str(closing);
    }
    text
}

/// Characters kept for the heading of a cluster that comes later.
const RESERVED: usize = 400;

fn length(text: &str) -> usize {
    text.chars().count()
}

fn severity(cluster: &ClusterPlan) -> (bool, bool, usize, usize, usize) {
    let counts = cluster.counts();
    (cluster.is_refused(), cluster.unreachable.is_some(), counts.remove, counts.change, counts.add)
}

fn heading(plan: &Plan, view: PlanView) -> String {
    let title = if view.compares { "drover: what this branch changes" } else { "drover plan" };
    let mut text = format!("### {title}\n\n");
    let verdict = match (plan.is_refused(), plan.counts().is_nothing()) {
        (true, _) => "🛑 **Refused by a guard.** Nothing of this plan would be applied.",
        (false, true) => "✅ **No difference.**",
        (false, _) => "Ready to apply.",
    };
    let _ = writeln!(text, "{verdict} State {} @ {}.\n", code(&plan.state.source), code(&plan.state.short()));
    if !plan.complete {
        text.push_str("🛑 **This state does not validate**; the plan shows the rest of it and cannot be applied.\n\n");
    }
    text
}

fn table(text: &mut String, clusters: &[&ClusterPlan], budget: usize) {
    text.push_str("| cluster | nodes | labels | + | ~ | − | |\n|---|--:|--:|--:|--:|--:|---|\n");
    for (index, cluster) in clusters.iter().enumerate() {
        if length(text) > budget {
            let _ = writeln!(text, "| … and {} more | | | | | | |", clusters.len() - index);
            return;
        }
        let counts = cluster.counts();
        let mut notes = Vec::new();
        if cluster.unreachable.is_some() {
            notes.push("unreachable".to_owned());
        }
        if counts.storage > 0 {
            notes.push(format!("storage of {}", count(counts.storage, "node")));
        }
        if counts.restarts > 0 {
            notes.push(format!("♻️ {}", count(counts.restarts, "kubelet")));
        }
        if counts.waiting > 0 {
            notes.push(format!("⏳ {} for storage", count(counts.waiting, "node")));
        }
        notes.extend(
            cluster
                .refusals
                .iter()
                .filter(|refusal| refusal.allowed.is_none())
                .map(|refusal| format!("🛑 {}", refusal.guard)),
        );
        let _ = writeln!(
            text,
            "| **{}** | {} | {} | {} | {} | {} | {} |",
            cluster.cluster,
            counts.nodes,
            counts.labels(),
            counts.add,
            counts.change,
            counts.remove,
            notes.join(", ")
        );
    }
}

/// A cluster as a block that fits into `room` characters, and whether it is whole; none where not even its title fits.
fn block(cluster: &ClusterPlan, view: PlanView, room: usize) -> Option<(String, bool)> {
    if cluster.counts().is_nothing()
        && cluster.refusals.is_empty()
        && cluster.unreachable.is_none()
        && cluster.notes.is_empty()
        && cluster.kubelet.is_none()
    {
        return Some((String::new(), true));
    }
    const END: &str = "\n</details>\n";
    const MORE: usize = 80;
    let open = if cluster.is_refused() || cluster.unreachable.is_some() { " open" } else { "" };
    let title = if cluster.unreachable.is_some() { "unreachable".to_owned() } else { cluster.counts().to_string() };
    let mut text = format!("\n<details{open}><summary><b>{}</b>: {title}</summary>\n\n", cluster.cluster);
    let fits = |text: &String, piece: &str| length(text) + length(piece) + END.len() + MORE <= room;
    if !fits(&text, "") {
        return None;
    }
    let mut whole = true;
    let mut pieces: Vec<String> = preface(cluster, view);
    let rows = alike(cluster, view.full);
    if !rows.is_empty() {
        pieces.push("| node | label or storage | from | to | why |\n|---|---|---|---|---|\n".to_owned());
    }
    let shown_pieces = pieces.len();
    pieces.extend(rows.iter().map(|alike| row(alike, view)));
    for (index, piece) in pieces.iter().enumerate() {
        if !fits(&text, piece) {
            let hidden: usize = rows.iter().skip(index.saturating_sub(shown_pieces)).map(|row| row.nodes.len()).sum();
            let _ = writeln!(text, "\n… and {hidden} more node{}.", if hidden == 1 { "" } else { "s" });
            whole = false;
            break;
        }
        text.push_str(piece);
    }
    text.push_str(END);
    Some((text, whole))
}

fn preface(cluster: &ClusterPlan, view: PlanView) -> Vec<String> {
    const DETAILS: usize = 30;
    let mut pieces = Vec::new();
    if let Some(cause) = &cluster.unreachable {
        pieces.push(format!("⚠️ Unreachable: {}\n\n", escaped(cause)));
    }
    for refusal in &cluster.refusals {
        let title = match &refusal.allowed {
            Some(by) => format!("⚠️ `{}` is allowed ({})", refusal.guard, escaped(by)),
            None => format!("🛑 **Refused by `{}`**", refusal.guard),
        };
        let mut piece = format!("{title}: {}\n", escaped(&refusal.message));
        for detail in refusal.details.iter().take(DETAILS) {
            let _ = writeln!(piece, "- {}", escaped(detail));
        }
        if refusal.details.len() > DETAILS {
            let _ = writeln!(piece, "- … and {} more", refusal.details.len() - DETAILS);
        }
        pieces.push(piece + "\n");
    }
    pieces.extend(waiting(cluster).into_iter().map(|waiting| {
        let labels = waiting.labels.split(' ').map(code).collect::<Vec<_>>().join(" ");
        let names = names(std::iter::once(waiting.nodes.as_str()));
        format!("⏳ {names} waits for its storage with {labels}: {}\n\n", escaped(waiting.why))
    }));
    pieces.extend(cluster.notes.iter().map(|note| format!("{}\n\n", escaped(note))));
    pieces.extend(cluster.kubelet.iter().map(kubelet));
    if !cluster.absent.is_empty() {
        pieces.push(format!(
            "Absent, labelled when they join: {}\n\n",
            names(cluster.absent.iter().map(|absent| absent.node.as_str()))
        ));
    }
    if !cluster.unmanaged.is_empty() {
        let title = if view.compares { "No longer managed, left as they are" } else { "Unmanaged, never touched" };
        pieces.push(format!("{title}: {}\n\n", names(cluster.unmanaged.iter().map(String::as_str))));
    }
    pieces
}

fn kubelet(plan: &KubeletPlan) -> String {
    let mut text = format!("**Kubelet binds** ({})\n", plan.manager);
    for row in binds::rows(plan) {
        let bind = [row.from, row.to].into_iter().flatten().map(code).collect::<Vec<_>>().join(" → ");
        let what = match row.sign {
            '+' => "added",
            '~' => "changed",
            _ => "removed",
        };
        let _ = writeln!(text, "- {what}: {bind} ({})", escaped(&row.why));
    }
    binds::lines(plan).iter().for_each(|line| text += &format!("- {}\n", escaped(line)));
    text + "\n"
}

fn row(row: &super::group::Alike<'_>, view: PlanView) -> String {
    let mut text = String::new();
    let nodes = match row.nodes.as_slice() {
        [node] => code(&node.node),
        nodes => format!("{}: {}", count(nodes.len(), "node"), names(nodes.iter().map(|node| node.node.as_str()))),
    };
    for (index, change) in row.changes().iter().enumerate() {
        let cell = |value: &Option<String>| {
            value
                .as_deref()
                .map(|value| if value.is_empty() { "(empty)".to_owned() } else { code(value) })
                .unwrap_or_default()
        };
        let fights = match &change.set_by {
            Some(by) if by.fights => format!(" ⚠️ fights {}", code(&by.manager)),
            Some(by) => format!(" (live value set by {})", code(&by.manager)),
            None => String::new(),
        };
        let nodes = if index == 0 { nodes.as_str() } else { "" };
        let (from, to) =
            (cell(&change.from), if change.to.is_none() { "_removed_".to_owned() } else { cell(&change.to) });
        let _ = writeln!(
            text,
            "| {nodes} | {} | {from} | {to} | {}{fights} |",
            code(&change.key),
            escaped(&why(row, index, view))
        );
    }
    text
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let folded = clean(&fold_names(names));
    match folded.char_indices().nth(NAMES) {
        Some((end, _)) => code(&format!("{}…", &folded[..end])),
        None => code(&folded),
    }
}

/// Text as a code span, in which nothing is markup.
fn code(text: &str) -> String {
    let text = clean(text).replace('|', "\\|");
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// Text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '@' => {
                safe.push('\\');
                safe.push(c);
            }
            _ => safe.push(c),
        }
    }
    safe
}
