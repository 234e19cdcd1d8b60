//! The files that a decision changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Decision;
use crate::error::Failure;
use crate::manifest::edit::set_group;
use crate::model::{Desired, DesiredCluster, GroupName};

/// A file of a state, as it is and as it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEdit {
    /// Its name, relative to the root of the state.
    pub file: Arc<str>,
    /// Its text.
    pub before: String,
    /// Its text after the moves.
    pub after: String,
}

/// The files that a decision changes. `read` gives the text of a file of the state that `desired` was read from.
pub fn edits(
    desired: &Desired,
    decision: &Decision,
    read: impl Fn(&str) -> Result<String, Failure>,
) -> Result<Vec<FileEdit>, Failure> {
    let mut edits: BTreeMap<Arc<str>, FileEdit> = BTreeMap::new();
    for made in &decision.moves {
        let node = desired.clusters.get(&made.cluster).and_then(|cluster| cluster.nodes.get(&made.node));
        let node = node.ok_or_else(|| {
            Failure::new(format!("the state has no machine {} in cluster {}", made.node, made.cluster))
        })?;
        let file = &node.origin.file;
        if !edits.contains_key(file) {
            let before = read(file)?;
            edits.insert(file.clone(), FileEdit { file: file.clone(), after: before.clone(), before });
        }
        if let Some(edit) = edits.get_mut(file) {
            edit.after = set_group(file, &edit.after, (&made.cluster, &made.node), &made.to).map_err(|error| {
                Failure::new(error.to_string()).hint("give the machine a `group` line of its own, then move it again")
            })?;
        }
    }
    Ok(edits.into_values().collect())
}

/// Whether a state is another one with exactly the moves of a decision made.
pub fn only_moved(before: &Desired, after: &Desired, decision: &Decision) -> bool {
    let groups_of = |cluster: &DesiredCluster| -> BTreeMap<String, Option<GroupName>> {
        cluster.nodes.values().map(|node| (node.name.to_string(), node.group.clone())).collect()
    };
    let expected = |name: &str, cluster: &DesiredCluster| {
        let mut groups = groups_of(cluster);
        for made in decision.moves.iter().filter(|made| made.cluster == name) {
            groups.insert(made.node.to_string(), Some(made.to.clone()));
        }
        groups
    };
    let labels = |desired: &Desired| desired.groups.values().map(|group| group.org.clone()).collect::<Vec<_>>();
    before.fleet == after.fleet
        && labels(before) == labels(after)
        && before.clusters.len() == after.clusters.len()
        && before.clusters.iter().zip(&after.clusters).all(|((name, before), (same, after))| {
            name == same && before.spec == after.spec && expected(name.as_str(), before) == groups_of(after)
        })
}
