//! Where a commit puts machines: the groups that the documents of changed files name, before and after.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::manifest::decode::Manifest;
use crate::manifest::parse;
use crate::model::{ClusterName, GroupName, NodeManifest, NodeName};

/// A machine of a cluster.
pub type Machine = (ClusterName, NodeName);

/// Where the state has a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a group.
    Group(GroupName),
    /// In no group.
    NoGroup,
    /// It has no document.
    Absent,
    /// Its document, or one beside it, cannot be read.
    Unreadable,
}

impl Place {
    /// As a commit's trailers write it.
    pub fn shown(&self) -> &str {
        match self {
            Self::Group(group) => group.as_str(),
            Self::NoGroup => "(none)",
            Self::Absent => "(absent)",
            Self::Unreadable => "(unreadable)",
        }
    }
}

/// A machine is elsewhere after a commit than it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The machine.
    pub machine: Machine,
    /// Where it was.
    pub from: Place,
    /// Where it is.
    pub to: Place,
    /// Whether the branch went this way: a merge may have left it out.
    pub counts: bool,
}

/// What a commit did to the documents of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The machines that it put elsewhere.
    pub turns: Vec<Turn>,
    /// What else it changed, for a person.
    pub beyond: BTreeSet<String>,
}

/// What a file was, and what it is; none where it was or is not there.
pub(super) type Versions = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What became of the documents of files that were so and are so now.
pub(super) fn changes(files: &[Versions]) -> Changes {
    let (mut before, mut after) = (Documents::default(), Documents::default());
    for (old, new) in files {
        let (old, new) = (documents(old.as_deref()), documents(new.as_deref()));
        before.read(&old, &new);
        after.read(&new, &old);
    }
    let mut changes = Changes::default();
    let machines: BTreeSet<&Machine> = before.nodes.keys().chain(after.nodes.keys()).collect();
    for machine in machines {
        let (from, to) = (before.place(machine), after.place(machine));
        if let (Some(old), Some(new)) = (before.nodes.get(machine), after.nodes.get(machine))
            && without_group(old) != without_group(new)
        {
            changes.beyond.insert(format!("more than the group of {}", machine.1));
        }
        if from != to {
            changes.turns.push(Turn { machine: machine.clone(), from, to, counts: true });
        }
    }
    if before.others != after.others {
        changes.beyond.insert("documents other than those of machines".to_owned());
    }
    changes
}

/// The documents of a text, each with the line that begins it. A line that begins with three hyphens begins a document
/// wherever it stands, so that those that did not change need not be parsed.
fn documents(text: Option<&[u8]>) -> Vec<&[u8]> {
    let Some(text) = text else { return Vec::new() };
    let (mut found, mut begin) = (Vec::new(), 0);
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if text[at + 1..].starts_with(b"---") {
            found.push(&text[begin..=at]);
            begin = at + 1;
        }
    }
    found.push(&text[begin..]);
    found
}

#[derive(Default)]
struct Documents {
    nodes: BTreeMap<Machine, std::sync::Arc<NodeManifest>>,
    others: Vec<Manifest>,
    is_broken: bool,
}

impl Documents {
    /// Reads those of `own` that `other` has not.
    fn read(&mut self, own: &[&[u8]], other: &[&[u8]]) {
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        for document in other {
            *known.entry(document).or_default() += 1;
        }
        for document in own {
            match known.get_mut(document) {
                Some(left) if *left > 0 => *left -= 1,
                _ => self.parse(document),
            }
        }
    }

    fn parse(&mut self, document: &[u8]) {
        let parsed = parse(&"history".into(), document);
        self.is_broken |= parsed.problems.iter().any(|problem| problem.is_error());
        for document in parsed.documents {
            match document.manifest {
                Manifest::Node(node) => {
                    let machine = (node.metadata.cluster.clone(), node.metadata.name.clone());
                    self.nodes.insert(machine, node);
                }
                other => self.others.push(other),
            }
        }
    }

    fn place(&self, machine: &Machine) -> Place {
        match self.nodes.get(machine) {
            Some(node) => node.spec.group.clone().map_or(Place::NoGroup, Place::Group),
            None if self.is_broken => Place::Unreadable,
            None => Place::Absent,
        }
    }
}

fn without_group(node: &NodeManifest) -> NodeManifest {
    let mut node = node.clone();
    node.spec.group = None;
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, group: &str) -> String {
        format!(
            "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: prod}}\nspec: {{group: {group}}}\n"
        )
    }

    fn turns(files: &[(Option<String>, Option<String>)]) -> Vec<String> {
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        let files: Vec<_> = files.iter().map(|(old, new)| (bytes(old), bytes(new))).collect();
        let shown = |turn: &Turn| format!("{} {} -> {}", turn.machine.1, turn.from.shown(), turn.to.shown());
        changes(&files).turns.iter().map(shown).collect()
    }

    #[test]
    fn a_commit_is_what_its_documents_become() {
        let two = |one: &str, two: &str| Some(format!("{}---\n{}", node("n1", one), node("n2", two)));
        assert_eq!(turns(&[(two("ads", "web"), two("web", "web"))]), ["n1 ads -> web"]);
        // Another file, order or file name is no move.
        let swapped = Some(format!("# c\n{}---\n{}", node("n2", "web"), node("n1", "ads")));
        assert_eq!(turns(&[(two("ads", "web"), swapped.clone())]), [""; 0]);
        assert_eq!(turns(&[(two("ads", "web"), None), (None, swapped)]), [""; 0]);
        assert_eq!(turns(&[(two("ads", "web"), Some(node("n2", "lab")))]), ["n1 ads -> (absent)", "n2 web -> lab"]);
        assert_eq!(turns(&[(Some(node("n1", "ads")), Some("a: {".to_owned()))]), ["n1 ads -> (unreadable)"]);
        assert_eq!(turns(&[(None, Some(node("n1", "ads")))]), ["n1 (absent) -> ads"]);
    }

    #[test]
    fn what_is_no_move_is_told() {
        let bytes = |text: String| Some(text.into_bytes());
        let more = node("n1", "web").replace("}\n", ", shareable: true}\n").replace("prod, shareable: true}", "prod}");
        let found = changes(&[(bytes(node("n1", "ads")), bytes(more))]);
        assert_eq!(found.beyond.into_iter().collect::<Vec<_>>(), ["more than the group of n1"]);
        let group = "apiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: ads}\n".to_owned();
        assert_eq!(changes(&[(None, bytes(group))]).beyond.len(), 1);
    }
}
