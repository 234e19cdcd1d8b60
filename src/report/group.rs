//! Nodes that change alike, shown once: a plan for a thousand machines stays readable.

use std::collections::BTreeMap;

use crate::plan::{Change, ClusterPlan, NodePlan, Reason};

/// Nodes with the same changes.
pub(super) struct Alike<'p> {
    /// The nodes, ordered by name.
    pub nodes: Vec<&'p NodePlan>,
}

impl<'p> Alike<'p> {
    /// The changes, as the first node has them.
    pub(super) fn changes(&self) -> &'p [Change] {
        &self.nodes[0].changes
    }

    /// Where a change is asked for, on all nodes together.
    pub(super) fn place(&self, index: usize) -> String {
        let first = &self.nodes[0].changes[index].source;
        let same_file = self.nodes.iter().all(|node| node.changes[index].source.origin.file == first.origin.file);
        let same_line = self.nodes.iter().all(|node| node.changes[index].source.origin == first.origin);
        let commit = match &first.commit {
            Some(commit) if self.nodes.iter().all(|node| node.changes[index].source.commit == first.commit) => {
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

type Likeness<'p> = Vec<(&'p str, Option<&'p str>, Option<&'p str>, Reason, Option<(&'p str, bool)>)>;

/// Groups nodes with the same changes; `apart` keeps every node by itself.
pub(super) fn alike(plan: &ClusterPlan, apart: bool) -> Vec<Alike<'_>> {
    const FROM: usize = 3;
    let mut groups: BTreeMap<Likeness<'_>, Vec<&NodePlan>> = BTreeMap::new();
    for node in &plan.nodes {
        groups.entry(likeness(node)).or_default().push(node);
    }
    let mut rows: Vec<Alike<'_>> = Vec::new();
    for nodes in groups.into_values() {
        if apart || nodes.len() < FROM {
            rows.extend(nodes.into_iter().map(|node| Alike { nodes: vec![node] }));
        } else {
            rows.push(Alike { nodes });
        }
    }
    // Large groups first, then node by node in the order of names.
    rows.sort_by(|a, b| b.nodes.len().cmp(&a.nodes.len()).then_with(|| a.nodes[0].node.cmp(&b.nodes[0].node)));
    rows
}

fn likeness(node: &NodePlan) -> Likeness<'_> {
    let changes = node.changes.iter().map(|change| {
        let by = change.set_by.as_ref().map(|by| (by.manager.as_str(), by.fights));
        (change.key.as_str(), change.from.as_deref(), change.to.as_deref(), change.reason, by)
    });
    changes.collect()
}

/// Names with consecutive numbers drawn together: `gpu-[001-012], web-7`.
pub(super) fn fold_names<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut runs: Vec<(&str, &str, &str, u64)> = Vec::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        let number = digits.parse::<u64>().ok();
        match (runs.last_mut(), number) {
            (Some((last_stem, _, last, next)), Some(number))
                if *last_stem == stem && *next == number && last.len() == digits.len() =>
            {
                *last = digits;
                *next = number + 1;
            }
            (_, Some(number)) => runs.push((stem, digits, digits, number + 1)),
            (_, None) => runs.push((name, "", "", 0)),
        }
    }
    let shown = runs.iter().map(|(stem, first, last, _)| match first == last {
        true => format!("{stem}{first}"),
        false => format!("{stem}[{first}-{last}]"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::fold_names;

    #[test]
    fn names_with_consecutive_numbers_are_drawn_together() {
        assert_eq!(fold_names(["gpu-001", "gpu-002", "gpu-003", "gpu-007", "web"]), "gpu-[001-003], gpu-007, web");
        assert_eq!(fold_names(["n9", "n10"]), "n9, n10");
        assert_eq!(fold_names(["a", "a"]), "a, a");
        assert_eq!(fold_names(["x99999999999999999999999"]), "x99999999999999999999999");
        assert_eq!(fold_names([]), "");
    }
}
