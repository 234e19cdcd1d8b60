//! Nodes that change alike, shown once: a plan for a thousand machines stays readable.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::plan::{Change, ClusterPlan, NodePlan, Reason, Source, StorageChange, WaitingNode};

/// Nodes whose labels, or whose storage, change alike.
pub(super) struct Alike<'p> {
    /// The nodes, ordered by name.
    pub nodes: Vec<&'p NodePlan>,
    /// The changes, as the first node has them.
    changes: Vec<Cow<'p, Change>>,
    of_storage: bool,
}

impl<'p> Alike<'p> {
    fn labels(nodes: Vec<&'p NodePlan>) -> Self {
        Self { changes: nodes[0].changes.iter().map(Cow::Borrowed).collect(), nodes, of_storage: false }
    }

    fn storage(nodes: Vec<&'p NodePlan>) -> Self {
        let changes = nodes[0].storage.iter().flat_map(StorageChange::changes).map(Cow::Owned);
        Self { changes: changes.collect(), nodes, of_storage: true }
    }

    /// The changes, as the first node has them.
    pub(super) fn changes(&self) -> &[Cow<'p, Change>] {
        &self.changes
    }

    /// Where a node's change is asked for.
    fn source(&self, node: &'p NodePlan, index: usize) -> Option<&'p Source> {
        match self.of_storage {
            true => node.storage.as_ref().map(|change| &change.source),
            false => node.changes.get(index).map(|change| &change.source),
        }
    }

    /// Where a change is asked for, on all nodes together.
    pub(super) fn place(&self, index: usize) -> String {
        let first = &self.changes[index].source;
        let all =
            |same: &dyn Fn(&Source) -> bool| self.nodes.iter().all(|node| self.source(node, index).is_some_and(same));
        let same_file = all(&|source| source.origin.file == first.origin.file);
        let same_line = all(&|source| source.origin == first.origin);
        let commit = match &first.commit {
            Some(commit) if all(&|source| source.commit == first.commit) => {
                format!(" ({} {}, {})", commit.id, commit.author, commit.date)
            }
            _ => String::new(),
        };
        let place = match (same_line, same_file) {
            (true, _) => first.origin.to_string(),
            (false, true) => format!("{} ({} lines)", first.origin.file, self.nodes.len()),
            (false, false) => format!("{} and {} more", first.origin, self.nodes.len() - 1),
        };
        place + &commit
    }
}

type Likeness<'p> = Vec<LabelLikeness<'p>>;
type LabelLikeness<'p> = (&'p str, Option<&'p str>, Option<&'p str>, Reason, Option<(&'p str, bool)>, Option<&'p str>);

/// Groups nodes with the same changes of labels, and then those with the same changes of storage; `apart` keeps every
/// node by itself.
pub(super) fn alike(plan: &ClusterPlan, apart: bool) -> Vec<Alike<'_>> {
    let mut groups: BTreeMap<Likeness<'_>, Vec<&NodePlan>> = BTreeMap::new();
    for node in plan.nodes.iter().filter(|node| !node.changes.is_empty()) {
        groups.entry(likeness(node)).or_default().push(node);
    }
    let mut storages: Vec<Vec<&NodePlan>> = Vec::new();
    for node in &plan.nodes {
        let Some(change) = &node.storage else { continue };
        let is_same = |other: &&NodePlan| {
            other.storage.as_ref().is_some_and(|other| (&other.from, &other.to) == (&change.from, &change.to))
        };
        match storages.iter_mut().find(|nodes| nodes.first().is_some_and(is_same)) {
            Some(nodes) => nodes.push(node),
            None => storages.push(vec![node]),
        }
    }
    let mut rows = rows(groups.into_values(), apart, Alike::labels);
    rows.extend(self::rows(storages.into_iter(), apart, Alike::storage));
    rows
}

/// Large groups first, then node by node in the order of names.
fn rows<'p>(
    groups: impl Iterator<Item = Vec<&'p NodePlan>>,
    apart: bool,
    of: fn(Vec<&'p NodePlan>) -> Alike<'p>,
) -> Vec<Alike<'p>> {
    const FROM: usize = 3;
    let mut rows: Vec<Alike<'_>> = Vec::new();
    for nodes in groups {
        match apart || nodes.len() < FROM {
            true => rows.extend(nodes.into_iter().map(|node| of(vec![node]))),
            false => rows.push(of(nodes)),
        }
    }
    rows.sort_by(|a, b| b.nodes.len().cmp(&a.nodes.len()).then_with(|| a.nodes[0].node.cmp(&b.nodes[0].node)));
    rows
}

fn likeness(node: &NodePlan) -> Likeness<'_> {
    let changes = node.changes.iter().map(|change| {
        let by = change.set_by.as_ref().map(|by| (by.manager.as_str(), by.fights));
        (change.key.as_str(), change.from.as_deref(), change.to.as_deref(), change.reason, by, change.why.as_deref())
    });
    changes.collect()
}

/// Nodes that wait with the same labels for the same reason, shown once.
pub(super) struct Waiting<'p> {
    /// The names, drawn together.
    pub nodes: String,
    /// The labels, as `org=ads train=true`.
    pub labels: String,
    /// What is wrong with their storage, or why that is not known.
    pub why: &'p str,
}

/// Groups nodes that wait with the same labels for the same reason.
pub(super) fn waiting(plan: &ClusterPlan) -> Vec<Waiting<'_>> {
    let labels = |node: &WaitingNode| {
        node.labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect::<Vec<_>>().join(" ")
    };
    let mut groups: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for node in &plan.waiting {
        groups.entry((&node.why, labels(node))).or_default().push(&node.node);
    }
    groups.into_iter().map(|((why, labels), nodes)| Waiting { nodes: fold_names(nodes), labels, why }).collect()
}

/// Names drawn together that differ in their number alone, as Slurm writes them: `gpu-[001-012,017], web-7`.
pub(super) fn fold_names<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    folded(&runs(names))
}

/// The same, cut to what a person reads on the way to something else: the rest is counted.
pub(super) fn first_names<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const ENOUGH: usize = 40;
    let runs = runs(names);
    let (shown, hidden) = runs.split_at(runs.len().min(ENOUGH));
    let hidden: u64 = hidden.iter().map(|run| run.count).sum();
    if hidden == 0 { folded(shown) } else { format!("{} and {hidden} more", folded(shown)) }
}

/// Names with consecutive numbers.
struct Run<'n> {
    stem: &'n str,
    first: &'n str,
    last: &'n str,
    number: Option<u64>,
    count: u64,
}

impl Run<'_> {
    fn numbers(&self) -> String {
        if self.count == 1 { self.first.to_owned() } else { format!("{}-{}", self.first, self.last) }
    }
}

fn runs<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<Run<'n>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        let number = digits.parse::<u64>().ok();
        let follows = |run: &Run<'_>| {
            let next = run.number.and_then(|number| number.checked_add(run.count));
            run.stem == stem && run.last.len() == digits.len() && next.is_some() && next == number
        };
        match runs.last_mut() {
            Some(run) if follows(run) => {
                run.last = digits;
                run.count += 1;
            }
            _ if number.is_some() => runs.push(Run { stem, first: digits, last: digits, number, count: 1 }),
            _ => runs.push(Run { stem: name, first: "", last: "", number, count: 1 }),
        }
    }
    runs
}

fn folded(runs: &[Run<'_>]) -> String {
    let alike = runs.chunk_by(|a, b| a.stem == b.stem && a.number.is_some() && b.number.is_some());
    let shown = alike.map(|runs| match runs {
        [run] if run.count == 1 => format!("{}{}", run.stem, run.first),
        runs => format!("{}[{}]", runs[0].stem, runs.iter().map(Run::numbers).collect::<Vec<_>>().join(",")),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{first_names, fold_names};

    #[test]
    fn names_that_differ_in_their_number_are_drawn_together() {
        assert_eq!(fold_names(["gpu-001", "gpu-002", "gpu-003", "gpu-007", "web"]), "gpu-[001-003,007], web");
        assert_eq!(fold_names(["n9", "n10"]), "n[9,10]");
        assert_eq!(fold_names(["a", "a"]), "a, a");
        assert_eq!(fold_names(["a-1", "b-1", "a-2"]), "a-1, b-1, a-2");
        assert_eq!(fold_names(["x99999999999999999999999"]), "x99999999999999999999999");
        assert_eq!(fold_names([&u64::MAX.to_string()[..]; 2]), "[18446744073709551615,18446744073709551615]");
        assert_eq!(fold_names([]), "");
    }

    #[test]
    fn long_lists_are_cut_and_the_rest_is_counted() {
        let names: Vec<String> =
            (0..1000).filter(|number| number % 10 > 1).map(|number| format!("gpu-{number:03}")).collect();
        let shown = first_names(names.iter().map(String::as_str));
        assert!(shown.starts_with("gpu-[002-009,012-019,") && shown.ends_with("392-399] and 480 more"), "{shown}");
        assert_eq!(first_names(["a", "b"]), "a, b");
    }
}
