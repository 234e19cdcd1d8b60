//! What a Cluster and its Nodes say of storage: paths that fit together, roles that exist.

use std::collections::BTreeSet;

use super::{At, Linker};
use crate::manifest::hints;
use crate::manifest::yaml::Step;
use crate::model::{ClusterManifest, LabelKey, NodeManifest};

const STORAGE: [Step<'static>; 2] = [Step::Key("spec"), Step::Key("storage")];

impl Linker<'_> {
    /// What is wrong with the storage of a cluster.
    pub(super) fn storage(&mut self, cluster: &ClusterManifest, at: At<'_>) {
        let Some(storage) = &cluster.spec.storage else { return };
        let place = |rest: &[Step<'_>]| at.value(&[&STORAGE, rest].concat());
        if let Some(link) = &storage.link
            && holds(storage.root.as_str(), link.as_str())
        {
            let message = format!("{} cannot be a link into itself", storage.root);
            let problem = at.source.error("bad-storage", place(&[Step::Key("link")]), message);
            self.problems.push(problem.help("name the directory inside the mount that it leads to, or remove `link`"));
        }
        for (index, source) in storage.sources.iter().enumerate().filter(|(_, source)| source.trim().is_empty()) {
            let message = format!("{source:?} names nothing that could be mounted");
            let problem = at.source.error("bad-storage", place(&[Step::Key("sources"), Step::Index(index)]), message);
            self.problems.push(problem.help("write it as `mount` shows it, for example 10.0.0.5:/k8s"));
        }
        let mut seen = BTreeSet::new();
        for (index, directory) in storage.directories.iter().enumerate() {
            let item = [Step::Key("directories"), Step::Index(index)];
            if !seen.insert(&directory.path) {
                let message = format!("the directory {} is listed twice", directory.path);
                let problem = at.source.error("duplicate-directory", place(&item), message);
                self.problems.push(problem.help("keep one of them"));
            }
            for (number, role) in directory.roles.iter().enumerate() {
                if self.desired.vocabulary.platform().contains(role) {
                    continue;
                }
                let known: Vec<&str> = self.desired.vocabulary.platform().iter().map(LabelKey::as_str).collect();
                let help = hints::choose(role.as_str(), &known)
                    .unwrap_or_else(|| "list it under `labels.platform` of the Fleet".to_owned());
                let place = place(&[item[0], item[1], Step::Key("roles"), Step::Index(number)]);
                let problem = at.source.error("unknown-role", place, format!("there is no platform role `{role}`"));
                self.problems.push(problem.help(help));
            }
        }
    }

    /// What is wrong with the storage of a machine that departs from that of its cluster.
    pub(super) fn storage_exception(&mut self, node: &NodeManifest, at: At<'_>) {
        if node.spec.storage.is_none() {
            return;
        }
        let cluster = self.desired.clusters.get(&node.metadata.cluster);
        if cluster.is_some_and(|cluster| cluster.spec.storage.is_none()) {
            let message = format!("`{}` has no storage to depart from", node.metadata.cluster);
            let problem = at.source.error("bad-storage", at.key(&STORAGE), message);
            self.problems.push(problem.help("give the Cluster a `storage`, or remove this one"));
        }
    }
}

/// Whether a path is another one, or lies below it.
fn holds(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
