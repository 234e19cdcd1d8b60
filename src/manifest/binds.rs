//! What is wrong with the kubelet section of a Cluster document, beyond the syntax of its binds.

use std::collections::BTreeSet;

use super::problem::{Problem, SourceText};
use super::yaml::{Mark, Step};
use crate::model::cluster::{Connection, Kubelet, KubeletManager, Storage};
use crate::model::desired::KubeletOrigins;
use crate::model::kubelet::{BindParts, deciding, shows};
use crate::model::{ClusterManifest, Origin};

const KUBELET: [Step<'static>; 2] = [Step::Key("spec"), Step::Key("kubelet")];

/// The places of what the kubelet section asks for.
pub(super) fn origins(cluster: &ClusterManifest, source: &SourceText, mark: &Mark) -> Option<KubeletOrigins> {
    let kubelet = cluster.spec.kubelet.as_ref()?;
    let origin = |path: &[Step<'_>]| {
        let place = mark.place(&[&KUBELET, path].concat());
        Origin { file: source.file.clone(), line: place.line, column: place.column }
    };
    let items = |field: &'static str, count: usize| {
        (0..count).map(|index| origin(&[Step::Key(field), Step::Index(index)])).collect()
    };
    Some(KubeletOrigins {
        manager: origin(&[Step::Key("manager")]),
        binds: items("extraBinds", kubelet.extra_binds.len()),
        removed: items("removeBinds", kubelet.remove_binds.len()),
    })
}

/// The problems of the kubelet section.
pub(super) fn problems(cluster: &ClusterManifest, source: &SourceText, mark: &Mark) -> Vec<Problem> {
    let Some(kubelet) = &cluster.spec.kubelet else { return Vec::new() };
    let mut found = Found { source, mark, problems: Vec::new() };
    found.manager(kubelet);
    found.lists(kubelet);
    if let Some(storage) = cluster.spec.storage.as_ref().filter(|storage| !storage.local)
        && kubelet.manager.has_binds()
    {
        found.storage(kubelet, storage);
    }
    found.problems
}

struct Found<'s> {
    source: &'s SourceText,
    mark: &'s Mark,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn error(&mut self, rule: &'static str, path: &[Step<'_>], message: String, help: impl Into<String>) {
        let place = match path.last() {
            Some(Step::Key(_)) => self.mark.key_place(&[&KUBELET, path].concat()),
            _ => self.mark.place(&[&KUBELET, path].concat()),
        };
        self.problems.push(self.source.error(rule, place, message).help(help));
    }

    fn manager(&mut self, kubelet: &Kubelet) {
        let sections = [
            (KubeletManager::Rke, "rke", kubelet.rke.is_some()),
            (KubeletManager::Rancher, "rancher", kubelet.rancher.is_some()),
        ];
        for (manager, name, is_there) in sections {
            match (kubelet.manager == manager, is_there) {
                (true, false) => {
                    let place = self.mark.place(&[KUBELET[0], KUBELET[1], Step::Key("manager")]);
                    let (message, help) = match manager {
                        KubeletManager::Rke => (
                            "drover does not know where the cluster.yml of this cluster lies",
                            "add `rke: {config: PATH}`: the path of its cluster.yml, relative to the root of the state",
                        ),
                        _ => (
                            "drover does not know which cluster of which Rancher this is",
                            "add `rancher: {connection: {kubeconfig: FILE}, cluster: c-xxxxx}`: how the cluster that Rancher runs in is reached, and the id that it gave this one",
                        ),
                    };
                    self.problems.push(self.source.error("kubelet-manager", place, message).help(help));
                }
                (false, true) => {
                    let message = format!("`{name}` means nothing to the manager `{}`", kubelet.manager);
                    self.error(
                        "kubelet-manager",
                        &[Step::Key(name)],
                        message,
                        format!("remove it, or write `manager: {name}`"),
                    );
                }
                _ => {}
            }
        }
        if let Some(rke) = &kubelet.rke
            && (rke.config.trim().is_empty() || rke.config.chars().any(char::is_control))
        {
            let path = [Step::Key("rke"), Step::Key("config")];
            self.error(
                "kubelet-manager",
                &path,
                "this is no path of a file".to_owned(),
                "write the path of the cluster.yml",
            );
        }
        if let Some(rancher) = &kubelet.rancher {
            let Connection { kubeconfig, context, in_cluster, file } = &rancher.connection;
            let ways = [kubeconfig.is_some() || context.is_some(), *in_cluster].into_iter().filter(|way| *way).count();
            if ways != 1 || file.is_some() {
                let message = "the connection does not say how the cluster that Rancher runs in is reached";
                let path = [Step::Key("rancher"), Step::Key("connection")];
                self.error(
                    "bad-connection",
                    &path,
                    message.to_owned(),
                    "give a kubeconfig (and context), or `inCluster: true`",
                );
            }
        }
    }

    fn lists(&mut self, kubelet: &Kubelet) {
        if !kubelet.manager.has_binds() {
            for (field, is_empty) in
                [("extraBinds", kubelet.extra_binds.is_empty()), ("removeBinds", kubelet.remove_binds.is_empty())]
            {
                if !is_empty {
                    let message = "with `manager: none` the kubelet runs on the host itself, where binds do not exist";
                    let help = "remove the list: such a kubelet sees every mount of its machine";
                    self.error("no-binds", &[Step::Key(field)], message.to_owned(), help);
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (index, bind) in kubelet.extra_binds.iter().enumerate() {
            if !seen.insert(bind.destination()) {
                let message = format!("two binds have the destination {}", bind.destination());
                let path = [Step::Key("extraBinds"), Step::Index(index)];
                self.error("duplicate-bind", &path, message, "keep one of them");
            }
        }
        for (index, removed) in kubelet.remove_binds.iter().enumerate() {
            if seen.contains(removed.as_str()) {
                let message = format!("the bind to {removed} is asked for and to be removed");
                let path = [Step::Key("removeBinds"), Step::Index(index)];
                self.error("duplicate-bind", &path, message, "remove it from one of the two lists");
            }
        }
    }

    /// The storage of machines is of no use to pods where their kubelet does not see it.
    fn storage(&mut self, kubelet: &Kubelet, storage: &Storage) {
        let binds = || kubelet.extra_binds.iter().map(|bind| bind.as_str());
        let root = storage.root.as_str();
        let place = self.mark.place(&[Step::Key("spec"), Step::Key("storage"), Step::Key("root")]);
        let Some(bind) = shows(binds(), root) else {
            let message = match deciding(binds(), root) {
                Some(bind) => format!(
                    "the kubelet sees {} at {}, and so not the storage root {root}",
                    bind.source, bind.destination
                ),
                None => format!("no bind shows the kubelet the storage root {root}"),
            };
            let help = format!("add {root}:{root}:rslave to `kubelet.extraBinds`");
            self.problems.push(self.source.error("unbound-storage", place, message).help(help));
            return;
        };
        // The engine follows a link that is itself the source of a bind; below a source it stays a link.
        if let Some(link) = storage.link.as_ref().filter(|_| bind.source != root)
            && shows(binds(), link.as_str()).is_none()
        {
            let message = format!("the kubelet sees the link {root}, but not {link}, where it leads to");
            let help = format!(
                "add {root}:{root}:rslave to `kubelet.extraBinds`: a bind of the link itself is one of what it leads to"
            );
            self.problems.push(self.source.error("unbound-storage", place, message).help(help));
        }
        if !bind.propagates() {
            let index = kubelet.extra_binds.iter().position(|known| BindParts::of(known.as_str()) == bind);
            let place = self.mark.place(&[
                KUBELET[0],
                KUBELET[1],
                Step::Key("extraBinds"),
                Step::Index(index.unwrap_or_default()),
            ]);
            let message =
                format!("what is mounted below {} after the kubelet has started stays invisible to it", bind.source);
            let help =
                "add the option `rslave`: a kubelet that starts before the mount otherwise writes to the local disk";
            self.problems.push(self.source.warning("bind-propagation", place, message).help(help));
        }
    }
}
