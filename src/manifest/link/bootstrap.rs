//! What of a Cluster sets up its machines: where it stands, and where two of its fields must agree.

use std::collections::BTreeMap;

use super::At;
use crate::manifest::problem::Problem;
use crate::manifest::yaml::{Mark, Parts, Step};
use crate::model::bootstrap::{Bootstrap, Engine, Join, Mount, NODE, Naming, TOKEN};
use crate::model::cluster::{KubeletManager, Storage};
use crate::model::path::HostPath;
use crate::model::storage::DISTRIBUTED;
use crate::model::{ClusterManifest, ClusterSpec, Origin, Places, secret};

const RULE: &str = "bad-bootstrap";

/// The places of everything that a machine is set up by.
pub(super) fn places(at: At<'_>) -> Places {
    let mut places = Vec::new();
    for section in ["storage", "bootstrap"] {
        let path = [Step::Key("spec"), Step::Key(section)];
        if let Some(mark) = at.mark.get(&path) {
            places.push((section.into(), at.origin(at.key(&path))));
            collect(at, mark, section, &mut places);
        }
    }
    places.into_iter().collect()
}

fn collect(at: At<'_>, mark: &Mark, path: &str, places: &mut Vec<(Box<str>, Origin)>) {
    match &mark.parts {
        Parts::None => {}
        Parts::Sequence(parts) => {
            for (index, part) in parts.iter().enumerate() {
                let path = format!("{path}[{index}]");
                places.push((path.as_str().into(), at.origin(part.place)));
                collect(at, part, &path, places);
            }
        }
        Parts::Mapping(parts) => {
            for (key, place, part) in parts {
                let path = format!("{path}.{key}");
                places.push((path.as_str().into(), at.origin(*place)));
                collect(at, part, &path, places);
            }
        }
    }
}

/// What is wrong with the `bootstrap` section of a Cluster.
pub(super) fn check(cluster: &ClusterManifest, at: At<'_>) -> Vec<Problem> {
    let spec = &cluster.spec;
    let Some(bootstrap) = &spec.bootstrap else { return Vec::new() };
    let mut checker = Checker { at, problems: Vec::new() };
    checker.secrets(bootstrap);
    checker.runtime(spec, bootstrap);
    if let Some(mount) = &bootstrap.mount {
        checker.mount(spec.storage.as_ref(), mount);
    }
    checker.images(bootstrap);
    if let Some(join) = &bootstrap.join {
        checker.join(join);
    }
    checker.problems
}

struct Checker<'d> {
    at: At<'d>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn error(&mut self, path: &[Step<'_>], message: impl Into<String>, help: impl Into<String>) {
        let whole: Vec<Step<'_>> = section(path);
        let problem = self.at.source.error(RULE, self.at.value(&whole), message);
        self.problems.push(problem.help(help));
    }

    /// Git keeps what was ever written, and every reader of the state reads it.
    fn secrets(&mut self, bootstrap: &Bootstrap) {
        let mut texts: Vec<(Vec<Step<'_>>, &str)> = Vec::new();
        if let Some(join) = &bootstrap.join {
            texts.push((vec![Step::Key("join"), Step::Key("command")], join.command.as_str()));
            if let Some(command) = join.token.as_ref().and_then(|token| token.command.as_ref()) {
                texts.push((vec![Step::Key("join"), Step::Key("token"), Step::Key("command")], command.as_str()));
            }
        }
        if let Some(mount) = &bootstrap.mount {
            texts.push((vec![Step::Key("mount"), Step::Key("source")], mount.source.as_str()));
            let options = mount.options.iter().enumerate();
            texts.extend(options.map(|(index, option)| {
                (vec![Step::Key("mount"), Step::Key("options"), Step::Index(index)], option.as_str())
            }));
        }
        for (path, text) in texts {
            let Some(found) = secret::literal(text) else { continue };
            let help = match path[0] {
                Step::Key("join") => {
                    "revoke it: git keeps it. Write {token} in its place, and say with `join.token` from which command or file the machine gets it"
                }
                _ => {
                    "revoke it: git keeps it. Keep it in a file on the machine, and name that file in an option such as secretfile="
                }
            };
            let mut problem = self.at.source.error(
                "secret-in-state",
                self.at.key(&section(&path)),
                "this looks like a token or password",
            );
            problem.text = problem.text.replace(found, &"*".repeat(found.chars().count())).into();
            self.problems.push(problem.help(help));
        }
    }

    fn runtime(&mut self, spec: &ClusterSpec, bootstrap: &Bootstrap) {
        let Some(runtime) = &bootstrap.runtime else { return };
        let rke = spec.kubelet.as_ref().is_some_and(|kubelet| kubelet.manager != KubeletManager::None);
        if rke && runtime.engine != Engine::Docker {
            let message = "RKE1 runs the kubelet in Docker, and this cluster is one of RKE1 by `kubelet.manager`";
            self.error(&[Step::Key("runtime"), Step::Key("type")], message, "write `type: docker`");
        }
        let (Some(root), Some(storage)) = (&runtime.data_root, &spec.storage) else { return };
        let around = std::iter::once(&storage.root).chain(&storage.link);
        if !storage.local && around.into_iter().any(|around| is_within(root, around)) {
            let message =
                format!("the runtime would keep its images on the distributed file system, below {}", storage.root);
            self.error(&[Step::Key("runtime"), Step::Key("dataRoot")], message, "name a folder on a local disk");
        }
    }

    fn mount(&mut self, storage: Option<&Storage>, mount: &Mount) {
        let Some(storage) = storage else {
            let message = "the cluster has no `storage` that this mount could be for";
            return self.error(&[Step::Key("mount")], message, "add `storage` with its `root`, or remove `mount`");
        };
        if storage.local {
            let place = self.at.key(&section(&[Step::Key("mount")]));
            let problem = self.at.source.warning(RULE, place, "nothing is mounted where `storage.local` is true");
            self.problems.push(problem.help("remove one of the two"));
        }
        let shown = mount.shown_as();
        let counts: Vec<&str> = match storage.file_systems.as_slice() {
            [] => DISTRIBUTED.to_vec(),
            named => named.iter().map(String::as_str).collect(),
        };
        if !counts.iter().any(|counted| shown.iter().any(|shown| shown == counted)) {
            let message = format!("`storage.fileSystems` does not count the type `{}`", mount.file_system);
            let help = format!("it counts {}: the mount could never be verified", counts.join(", "));
            self.error(&[Step::Key("mount"), Step::Key("type")], message, help);
        }
        let matches = |pattern: &String| is_source(pattern, mount.source.as_str());
        if mount.keeps_source() && !storage.sources.is_empty() && !storage.sources.iter().any(matches) {
            let message = format!("`storage.sources` does not allow {}", mount.source);
            let help = format!("it allows {}: the mount could never be verified", storage.sources.join(", "));
            self.error(&[Step::Key("mount"), Step::Key("source")], message, help);
        }
        let inside = storage.link.as_ref().unwrap_or(&storage.root);
        match &mount.mount_point {
            Some(point) if !is_within(inside, point) => {
                let what = if storage.link.is_some() { "storage.link" } else { "storage.root" };
                let message = format!("`{what}` is {inside}, which lies outside of {point}");
                let help = "mount the file system at that path or above it, or let `storage.link` lead into the mount";
                self.error(&[Step::Key("mount"), Step::Key("mountPoint")], message, help);
            }
            None if storage.link.is_some() => {
                let help = format!("add `mountPoint`: {inside}, or a folder above it");
                self.error(
                    &[Step::Key("mount")],
                    "the storage is reached by a link, so that the mount is somewhere else",
                    help,
                );
            }
            _ => {}
        }
    }

    fn images(&mut self, bootstrap: &Bootstrap) {
        if !bootstrap.images.is_empty() && bootstrap.runtime.is_none() {
            let help = "add `runtime` with its `type`";
            self.error(&[Step::Key("images")], "nothing says which runtime keeps the images", help);
        }
        let mut names = BTreeMap::new();
        for (index, set) in bootstrap.images.iter().enumerate() {
            let here = [Step::Key("images"), Step::Index(index)];
            let at = |field| [here[0], here[1], Step::Key(field)];
            match (set.naming, &set.registry) {
                (Naming::Platform, None) => {
                    self.error(&at("naming"), "nothing says which prefix `platform` takes off", "add `registry`");
                }
                (Naming::Rancher, Some(_)) => {
                    self.error(
                        &at("registry"),
                        "`rancher` takes off nothing but `rancher/`",
                        "remove it, or write `naming: platform`",
                    );
                }
                _ => {}
            }
            if set.images.is_empty() && set.files.is_empty() {
                self.error(&here, "this lists no images", "list `images`, or name `files` that do");
            }
            for (item, image) in set.images.iter().enumerate() {
                let other = names.insert(set.in_mirror(image), image);
                if let Some(other) = other.filter(|other| *other != image) {
                    let message =
                        format!("`{image}` and `{other}` have the same name in the mirror: {}", set.in_mirror(image));
                    self.error(
                        &[here[0], here[1], Step::Key("images"), Step::Index(item)],
                        message,
                        "pull one of them from another mirror",
                    );
                }
            }
        }
    }

    fn join(&mut self, join: &Join) {
        let command = [Step::Key("join"), Step::Key("command")];
        let asks = join.command.as_str().contains(TOKEN);
        match &join.token {
            None if asks => {
                let help = "say with `join.token` from which command or file the machine gets it";
                self.error(&command, format!("nothing says where {TOKEN} comes from"), help);
            }
            Some(_) if !asks => {
                let message = format!("the command has no {TOKEN}");
                self.error(&command, message, format!("write {TOKEN} where the token belongs, or remove `join.token`"));
            }
            Some(source) if source.command.is_some() == source.file.is_some() => {
                let message = "the token comes either from a command or from a file";
                self.error(&[Step::Key("join"), Step::Key("token")], message, "keep one of `command` and `file`");
            }
            _ => {}
        }
        let words = join
            .command
            .as_str()
            .match_indices('{')
            .filter(|(start, _)| !join.command.as_str()[..*start].ends_with('$'));
        let unknown = words.filter_map(|(start, _)| {
            let rest = &join.command.as_str()[start..];
            let word = &rest[..=rest.find('}')?];
            let is_name = word[1..word.len() - 1].chars().all(|c| c.is_ascii_lowercase()) && word.len() > 2;
            (is_name && word != TOKEN && word != NODE).then_some(word)
        });
        if let Some(word) = unknown.into_iter().next() {
            self.error(&command, format!("{word} stands for nothing"), format!("drover fills in {TOKEN} and {NODE}"));
        }
    }
}

fn section<'s>(path: &[Step<'s>]) -> Vec<Step<'s>> {
    [Step::Key("spec"), Step::Key("bootstrap")].into_iter().chain(path.iter().copied()).collect()
}

/// Whether a path is another one, or lies below it.
fn is_within(path: &HostPath, around: &HostPath) -> bool {
    path.as_str().strip_prefix(around.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a source is what `storage.sources` names; a `*` at the end stands for any rest.
fn is_source(pattern: &str, source: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == source, |begin| source.starts_with(begin))
}
