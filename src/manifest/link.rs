//! The documents of a repository joined into the desired state: names are unique, references exist, labels do not
//! collide. Every document that is right is kept; every one that is not is reported.

mod bootstrap;
mod storage;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::decode::{Document, Manifest};
use super::hints;
use super::problem::{Problem, SourceText};
use super::yaml::{Mark, Place, Step};
use crate::model::cluster::Connection;
use crate::model::desired::DesiredGroup;
use crate::model::fleet::VocabularySpec;
use crate::model::node::Hold;
use crate::model::vocabulary::{Field, is_reserved, meanings};
use crate::model::{
    ClusterManifest, ClusterName, Desired, DesiredCluster, DesiredLabel, DesiredNode, FleetManifest, FleetSpec,
    GroupManifest, GroupName, LabelKey, NodeManifest, NodeName, Origin, Vocabulary,
};

/// A repository joined into one state.
#[derive(Debug, Clone)]
pub struct Linked {
    /// What it asks for, as far as it is right.
    pub desired: Desired,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Joins documents. `broken` names the documents that could not be read; `now` decides which holds have expired.
///
/// `previous` is what an earlier revision was joined into without any problem: nodes whose documents and surroundings
/// are the same are taken over from it.
pub fn link<'d>(
    documents: impl IntoIterator<Item = &'d Document>,
    broken: &[(&'static str, String)],
    now: Timestamp,
    previous: Option<&Desired>,
) -> Linked {
    let mut linker = Linker { broken, now, previous, problems: Vec::new(), desired: Desired::default() };
    let (mut fleets, mut clusters, mut groups, mut nodes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for document in documents {
        let at = At { source: &document.source, mark: &document.mark };
        match &document.manifest {
            Manifest::Fleet(manifest) => fleets.push((manifest.as_ref(), at)),
            Manifest::Cluster(manifest) => clusters.push((manifest.as_ref(), at)),
            Manifest::Group(manifest) => groups.push((manifest.as_ref(), at)),
            Manifest::Node(manifest) => nodes.push((manifest, at)),
        }
    }
    linker.fleet(&fleets);
    linker.clusters(&clusters);
    linker.groups(&groups);
    linker.default_group(&fleets);
    linker.notifications(&fleets);
    linker.keep_previous_if_alike();
    linker.nodes(&nodes, fleets.first());
    linker.guarantees(&groups);
    Linked { desired: linker.desired, problems: linker.problems }
}

/// A document's places.
#[derive(Clone, Copy)]
struct At<'d> {
    source: &'d SourceText,
    mark: &'d Mark,
}

impl At<'_> {
    fn value(&self, path: &[Step<'_>]) -> Place {
        self.mark.place(path)
    }

    fn key(&self, path: &[Step<'_>]) -> Place {
        self.mark.key_place(path)
    }

    fn name(&self) -> Place {
        self.value(&[Step::Key("metadata"), Step::Key("name")])
    }

    fn origin(&self, place: Place) -> Origin {
        Origin { file: self.source.file.clone(), line: place.line, column: place.column }
    }
}

struct Linker<'b> {
    broken: &'b [(&'static str, String)],
    now: Timestamp,
    previous: Option<&'b Desired>,
    problems: Vec<Problem>,
    desired: Desired,
}

impl Linker<'_> {
    fn is_broken(&self, kind: &str, name: &str) -> bool {
        self.broken.iter().any(|(k, n)| *k == kind && n == name)
    }

    /// The names of a kind, also of documents that are wrong otherwise.
    fn known<'k>(&'k self, kind: &str, names: impl Iterator<Item = &'k str>) -> Vec<&'k str> {
        let broken =
            self.broken.iter().filter(|(k, name)| *k == kind && !name.is_empty()).map(|(_, name)| name.as_str());
        names.chain(broken).collect()
    }

    fn twice(&mut self, what: &str, at: At<'_>, first: &Origin) {
        let message = format!("{what} is defined twice; first in {first}");
        self.problems
            .push(at.source.error("duplicate-name", at.name(), message).help("remove one of the two documents"));
    }

    fn fleet(&mut self, fleets: &[(&FleetManifest, At<'_>)]) {
        let Some((fleet, at)) = fleets.first() else { return };
        for (_, other) in &fleets[1..] {
            let message = format!("a repository has one Fleet; the first is in {}", at.origin(at.name()));
            self.problems
                .push(other.source.error("duplicate-name", other.name(), message).help("join the two documents"));
        }
        let spec = &fleet.spec;
        self.vocabulary(&spec.labels, *at);
        self.ended(spec.suspend.as_ref(), "suspend", "the suspension of the fleet", *at);
        self.desired.vocabulary = Arc::new(Vocabulary::new(spec.labels.clone()));
        self.desired.fleet = Arc::new(spec.clone());
    }

    /// The keys of the vocabulary mean one thing each, and none of them belongs to somebody else.
    fn vocabulary(&mut self, labels: &VocabularySpec, at: At<'_>) {
        let mut seen: BTreeMap<&LabelKey, (&str, Vec<Step<'_>>)> = BTreeMap::new();
        for (key, meaning, index) in meanings(labels) {
            let field = [Step::Key("spec"), Step::Key("labels"), Step::Key(meaning)].into_iter();
            let path: Vec<Step<'_>> = field.chain(index.map(Step::Index)).collect();
            if let Some((first, other)) = seen.get(key) {
                // What has its default stands nowhere.
                let place = if at.mark.get(&path).is_some() { at.value(&path) } else { at.value(other) };
                let problem = match *first == meaning {
                    true => at.source.error("duplicate-value", place, format!("`{key}` is listed twice")),
                    false => {
                        let message = format!("the key `{key}` is that of both `{first}` and `{meaning}`");
                        at.source.error("label-collision", place, message)
                    }
                };
                self.problems.push(problem.help("give each meaning a key of its own"));
            } else {
                seen.insert(key, (meaning, path.clone()));
            }
            if is_reserved(key) {
                let message = format!("`{key}` belongs to Kubernetes and cannot be part of the vocabulary");
                let problem = at.source.error("reserved-label", at.value(&path), message);
                self.problems.push(problem.help("use a domain of your own"));
            }
        }
    }

    /// Warns of a hold whose time is over.
    fn ended(&mut self, hold: Option<&Hold>, field: &str, what: &str, at: At<'_>) {
        if let Some(hold) = hold.filter(|hold| hold.until.has_passed(self.now)) {
            let place = at.value(&[Step::Key("spec"), Step::Key(field), Step::Key("until")]);
            let message = format!("{what} ended on {}", hold.until);
            self.problems.push(at.source.warning("expired-hold", place, message).help("remove it, or extend it"));
        }
    }

    fn clusters(&mut self, clusters: &[(&ClusterManifest, At<'_>)]) {
        for (cluster, at) in clusters {
            let name = &cluster.metadata.name;
            if let Some(first) = self.desired.clusters.get(name) {
                let origin = first.origin.clone();
                self.twice(&format!("the cluster `{name}`"), *at, &origin);
                continue;
            }
            self.connection(cluster, *at);
            self.twin(cluster, *at);
            self.problems.extend(super::binds::problems(cluster, at.source, at.mark));
            self.storage(cluster, *at);
            self.problems.extend(bootstrap::check(cluster, *at));
            self.ended(cluster.spec.suspend.as_ref(), "suspend", &format!("the suspension of `{name}`"), *at);
            for (index, allow) in cluster.spec.allow.iter().enumerate() {
                if allow.until.has_passed(self.now) {
                    let place =
                        at.value(&[Step::Key("spec"), Step::Key("allow"), Step::Index(index), Step::Key("until")]);
                    let message =
                        format!("the allowance for `{}` ended on {}: the guard holds again", allow.guard, allow.until);
                    self.problems
                        .push(at.source.warning("expired-allow", place, message).help("remove it, or extend it"));
                }
            }
            let origin = at.origin(at.name());
            let kubelet = super::binds::origins(cluster, at.source, at.mark);
            let spec = Arc::new(cluster.spec.clone());
            let places = bootstrap::places(*at);
            let nodes = BTreeMap::new();
            self.desired.clusters.insert(name.clone(), DesiredCluster { spec, origin, kubelet, places, nodes });
        }
    }

    fn connection(&mut self, cluster: &ClusterManifest, at: At<'_>) {
        let connection = &cluster.spec.connection;
        let path = [Step::Key("spec"), Step::Key("connection")];
        let by_kubeconfig = connection.kubeconfig.is_some() || connection.context.is_some();
        let ways = [by_kubeconfig, connection.in_cluster, connection.file.is_some()];
        let message = match ways.into_iter().filter(|way| *way).count() {
            0 => "the connection says no way to reach the cluster",
            1 => return,
            _ => "the connection says more than one way to reach the cluster",
        };
        self.problems.push(
            at.source
                .error("bad-connection", at.key(&path), message)
                .help("give a kubeconfig (and context), or `inCluster: true`, or `file`"),
        );
    }

    /// Warns of two documents that lead to one cluster: each would undo what the other asks for.
    fn twin(&mut self, cluster: &ClusterManifest, at: At<'_>) {
        let connection = &cluster.spec.connection;
        let same = |other: &&DesiredCluster| other.spec.connection == *connection;
        if connection.file.is_some() || *connection == Connection::default() {
            return;
        }
        if let Some(first) = self.desired.clusters.values().find(same) {
            let message = format!("the connection leads to the same cluster as that of {}", first.origin);
            let place = at.key(&[Step::Key("spec"), Step::Key("connection")]);
            let problem = at.source.warning("duplicate-connection", place, message);
            self.problems.push(problem.help("let only one Cluster document lead to each cluster"));
        }
    }

    fn groups(&mut self, groups: &[(&GroupManifest, At<'_>)]) {
        let mut orgs: HashMap<_, Origin> = HashMap::new();
        for (group, at) in groups {
            let name = &group.metadata.name;
            if let Some(first) = self.desired.groups.get(name) {
                let origin = first.origin.clone();
                self.twice(&format!("the group `{name}`"), *at, &origin);
                continue;
            }
            let org = group.spec.org.clone().unwrap_or_else(|| name.into());
            let place =
                if group.spec.org.is_some() { at.value(&[Step::Key("spec"), Step::Key("org")]) } else { at.name() };
            if org.as_str().is_empty() {
                let problem = at.source.error("bad-value", place, "the group label would be empty");
                self.problems.push(problem.help("give `org` a value, or remove it to use the group's name"));
            } else if let Some(first) = orgs.get(&org) {
                let message = format!("the value `{org}` already means another group; see {first}");
                self.problems
                    .push(at.source.error("duplicate-org", place, message).help("give each group a value of its own"));
            }
            orgs.entry(org.clone()).or_insert_with(|| at.origin(place));
            let (spec, origin) = (Arc::new(group.spec.clone()), at.origin(at.name()));
            self.desired.groups.insert(name.clone(), DesiredGroup { org, spec, origin });
        }
    }

    fn default_group(&mut self, fleets: &[(&FleetManifest, At<'_>)]) {
        let Some((FleetManifest { spec: FleetSpec { default_group: Some(group), .. }, .. }, at)) = fleets.first()
        else {
            return;
        };
        if !self.desired.groups.contains_key(group) && !self.is_broken("Group", group.as_str()) {
            let place = at.value(&[Step::Key("spec"), Step::Key("defaultGroup")]);
            let problem = self.unknown_group(group, *at, place);
            self.problems.push(problem);
        }
    }

    fn notifications(&mut self, fleets: &[(&FleetManifest, At<'_>)]) {
        let Some((fleet, at)) = fleets.first() else { return };
        for (index, notification) in fleet.spec.notifications.iter().enumerate() {
            let place = |field, item: Option<usize>| {
                let path = [Step::Key("spec"), Step::Key("notifications"), Step::Index(index), Step::Key(field)];
                at.value(&path.into_iter().chain(item.map(Step::Index)).collect::<Vec<_>>())
            };
            if notification.secret_file.is_some() && !notification.form.is_signable() {
                let message = format!("messages of type `{}` are not signed", notification.form.name());
                let problem = at.source.error("bad-notification", place("secretFile", None), message);
                self.problems.push(problem.help("remove `secretFile`: the address alone is the secret"));
            }
            for (item, cluster) in notification.clusters.iter().enumerate() {
                if !self.desired.clusters.contains_key(cluster) && !self.is_broken("Cluster", cluster.as_str()) {
                    let problem = self.unknown_cluster(cluster, *at, place("clusters", Some(item)));
                    self.problems.push(problem);
                }
            }
        }
    }

    /// Nodes can only be taken over where the vocabulary and the groups are as they were.
    fn keep_previous_if_alike(&mut self) {
        let orgs = |desired: &Desired| {
            desired.groups.iter().map(|(name, group)| (name.clone(), group.org.clone())).collect::<Vec<_>>()
        };
        let alike = |previous: &&Desired| previous.fleet == self.desired.fleet && orgs(previous) == orgs(&self.desired);
        self.previous = self.previous.filter(alike);
    }

    fn unknown_group(&self, group: &GroupName, at: At<'_>, place: Place) -> Problem {
        let known = self.known("Group", self.desired.groups.keys().map(GroupName::as_str));
        let help = hints::choose(group.as_str(), &known)
            .unwrap_or_else(|| format!("add a document of `kind: Group` named {group}"));
        at.source.error("unknown-group", place, format!("there is no group `{group}`")).help(help)
    }

    fn unknown_cluster(&self, cluster: &ClusterName, at: At<'_>, place: Place) -> Problem {
        let known = self.known("Cluster", self.desired.clusters.keys().map(ClusterName::as_str));
        let help = hints::choose(cluster.as_str(), &known)
            .unwrap_or_else(|| format!("add a document of `kind: Cluster` named {cluster}"));
        at.source.error("unknown-cluster", place, format!("there is no cluster `{cluster}`")).help(help)
    }

    fn nodes(&mut self, nodes: &[(&Arc<NodeManifest>, At<'_>)], fleet: Option<&(&FleetManifest, At<'_>)>) {
        let default = fleet.and_then(|(fleet, at)| {
            let origin = at.origin(at.value(&[Step::Key("spec"), Step::Key("defaultGroup")]));
            fleet.spec.default_group.as_ref().map(|group| (group, origin))
        });
        let mut by_cluster: BTreeMap<&ClusterName, Vec<(&Arc<NodeManifest>, At<'_>)>> = BTreeMap::new();
        for (node, at) in nodes {
            by_cluster.entry(&node.metadata.cluster).or_default().push((node, *at));
        }
        for (cluster, mut nodes) in by_cluster {
            if !self.desired.clusters.contains_key(cluster) {
                if !self.is_broken("Cluster", cluster.as_str()) {
                    let place = |at: &At<'_>| at.value(&[Step::Key("metadata"), Step::Key("cluster")]);
                    let problems: Vec<_> =
                        nodes.iter().map(|(_, at)| self.unknown_cluster(cluster, *at, place(at))).collect();
                    self.problems.extend(problems);
                }
                continue;
            }
            // Ordered, the nodes need no look-up each, and a name that is given twice stands beside its first.
            nodes.sort_by(|(a, _), (b, _)| a.metadata.name.cmp(&b.metadata.name));
            let mut resolved: Vec<(NodeName, Arc<DesiredNode>)> = Vec::with_capacity(nodes.len());
            let previous = self.previous.and_then(|previous| previous.clusters.get(cluster));
            let mut previous = previous.into_iter().flat_map(|cluster| cluster.nodes.values()).peekable();
            for (node, at) in nodes {
                if let Some(before) = previous.next_if(|before| is_unchanged(before, node)) {
                    resolved.push((before.name.clone(), before.clone()));
                    continue;
                }
                let name = &node.metadata.name;
                if let Some((_, first)) = resolved.last().filter(|(last, _)| last == name) {
                    let origin = first.origin.clone();
                    self.twice(&format!("the node `{name}` of cluster `{cluster}`"), at, &origin);
                    continue;
                }
                while previous.next_if(|before| before.name < *name).is_some() {}
                let before =
                    previous.next_if(|before| before.name == *name).filter(|before| is_unchanged(before, node));
                let new = before.cloned().unwrap_or_else(|| Arc::new(self.node(node, at, default.as_ref())));
                resolved.push((name.clone(), new));
            }
            if let Some(cluster) = self.desired.clusters.get_mut(cluster) {
                cluster.nodes = resolved.into_iter().collect();
            }
        }
    }

    fn node(&mut self, node: &Arc<NodeManifest>, at: At<'_>, default: Option<&(&GroupName, Origin)>) -> DesiredNode {
        let spec = &node.spec;
        self.check_labels(node, at);
        self.storage_exception(node, at);
        self.ended(spec.hold.as_ref(), "hold", &format!("the hold of `{}`", node.metadata.name), at);
        // A node that leaves the group label alone is in no group by default.
        let default = default.filter(|_| !spec.unmanaged.contains(self.desired.vocabulary.group()));
        let group = spec.group.as_ref().or(default.map(|(group, _)| *group));
        let org = group.and_then(|group| self.desired.groups.get(group)).map(|group| group.org.clone());
        if let (Some(group), None) = (&spec.group, &org)
            && !self.is_broken("Group", group.as_str())
        {
            let problem = self.unknown_group(group, at, at.value(&[Step::Key("spec"), Step::Key("group")]));
            self.problems.push(problem);
        }
        let labels = self.desired.vocabulary.labels_of(spec, org.as_ref()).into_iter().map(|(key, value, field)| {
            let origin = match (&field, default) {
                (Field::Group, Some((_, origin))) if spec.group.is_none() => origin.clone(),
                _ => at.origin(at.mark.place(&steps_of(&field)[..])),
            };
            DesiredLabel { key, value, origin }
        });
        DesiredNode {
            name: node.metadata.name.clone(),
            group: group.cloned(),
            origin: at.origin(at.name()),
            document: node.clone(),
            labels: labels.collect(),
            unmanaged: spec.unmanaged.clone(),
            hold: spec.hold.clone(),
        }
    }

    fn check_labels(&mut self, node: &NodeManifest, at: At<'_>) {
        let vocabulary = self.desired.vocabulary.clone();
        let spec = Step::Key("spec");
        for key in node.spec.labels.keys() {
            let path = [spec, Step::Key("labels"), Step::Key(key.as_str())];
            if let Some(field) = vocabulary.field_of(key.as_str()) {
                let message = format!("the label `{key}` belongs to the vocabulary");
                self.problems.push(
                    at.source.error("label-collision", at.key(&path), message).help(format!("say it with `{field}`")),
                );
            } else if is_reserved(key) {
                let message =
                    format!("the label `{key}` is in a domain that belongs to Kubernetes or to drover itself");
                self.problems
                    .push(at.source.error("reserved-label", at.key(&path), message).help("use a domain of your own"));
            }
        }
        for (index, role) in node.spec.platform.iter().enumerate() {
            let place = at.value(&[spec, Step::Key("platform"), Step::Index(index)]);
            if !vocabulary.platform().contains(role) {
                let known: Vec<&str> = vocabulary.platform().iter().map(LabelKey::as_str).collect();
                let problem = at.source.error("unknown-role", place, format!("there is no platform role `{role}`"));
                let help = hints::choose(role.as_str(), &known);
                self.problems.push(
                    problem.help(help.unwrap_or_else(|| "list it under `labels.platform` of the Fleet".to_owned())),
                );
            } else if node.spec.platform[..index].contains(role) {
                let problem = at.source.error("duplicate-value", place, format!("`{role}` is listed twice"));
                self.problems.push(problem.help("keep one of them"));
            }
        }
        for (index, workload) in node.spec.workloads.iter().enumerate() {
            if node.spec.workloads[..index].contains(workload) {
                let place = at.value(&[spec, Step::Key("workloads"), Step::Index(index)]);
                let message = format!("`{}` is listed twice", vocabulary.workload_key(*workload));
                self.problems.push(at.source.error("duplicate-value", place, message).help("keep one of them"));
            }
        }
        for (index, key) in node.spec.unmanaged.iter().enumerate() {
            let place = at.value(&[spec, Step::Key("unmanaged"), Step::Index(index)]);
            if !vocabulary.owns(key.as_str()) {
                let message = format!("`{key}` is not a key of the vocabulary: drover leaves it alone anyway");
                self.problems.push(at.source.error("bad-unmanaged", place, message).help("remove it"));
            }
        }
        if node.spec.unmanaged.is_empty() {
            return;
        }
        let org = crate::model::LabelValue::yes();
        let asked = vocabulary.labels_of(&node.spec, node.spec.group.as_ref().map(|_| &org));
        for (key, _, field) in asked.iter().filter(|(key, _, _)| node.spec.unmanaged.contains(key)) {
            let message = format!("`{key}` is both asked for and listed under `unmanaged`");
            self.problems.push(
                at.source.error("bad-unmanaged", at.value(&steps_of(field)), message).help("keep one of the two"),
            );
        }
    }

    fn guarantees(&mut self, groups: &[(&GroupManifest, At<'_>)]) {
        for (group, at) in groups {
            let name = &group.metadata.name;
            for cluster in group.spec.ceiling.keys().filter(|cluster| !self.desired.clusters.contains_key(*cluster)) {
                let path = [Step::Key("spec"), Step::Key("ceiling"), Step::Key(cluster.as_str())];
                if !self.is_broken("Cluster", cluster.as_str()) {
                    let problem = self.unknown_cluster(cluster, *at, at.key(&path));
                    self.problems.push(problem);
                }
            }
            for (cluster, guarantee) in &group.spec.guarantee {
                let path = [Step::Key("spec"), Step::Key("guarantee"), Step::Key(cluster.as_str()), Step::Key("nodes")];
                if !self.desired.clusters.contains_key(cluster) {
                    if !self.is_broken("Cluster", cluster.as_str()) {
                        let problem = self.unknown_cluster(cluster, *at, at.key(&path[..3]));
                        self.problems.push(problem);
                    }
                    continue;
                }
                let nodes = self.desired.clusters.get(cluster).map(|cluster| cluster.nodes.values());
                let size = nodes.into_iter().flatten().filter(|node| node.group.as_ref() == Some(name)).count() as u32;
                // A node that could not be read may well be in this group.
                let unsure = self.broken.iter().any(|(kind, _)| *kind == "Node");
                if let Some(nodes) = guarantee.nodes
                    && nodes > size
                    && !unsure
                {
                    let message = format!(
                        "the guarantee is larger than the group: `{name}` has {size} of {nodes} nodes in `{cluster}`"
                    );
                    let problem = at.source.error("guarantee-too-large", at.value(&path), message);
                    self.problems.push(problem.help("lower the guarantee, or add nodes to the group"));
                }
            }
        }
    }
}

/// Whether a node is as an earlier revision had it. A hold expires by itself, and the line that gives a default group may
/// have moved.
fn is_unchanged(before: &DesiredNode, node: &Arc<NodeManifest>) -> bool {
    node.spec.hold.is_none() && node.spec.group.is_some() && Arc::ptr_eq(&before.document, node)
}

fn steps_of(field: &Field) -> Vec<Step<'_>> {
    let spec = Step::Key("spec");
    match field {
        Field::Group => vec![spec, Step::Key("group")],
        Field::Shareable => vec![spec, Step::Key("shareable")],
        Field::Device(name) => vec![spec, Step::Key("devices"), Step::Key(name)],
        Field::Workload(index) => vec![spec, Step::Key("workloads"), Step::Index(*index)],
        Field::Platform(index) => vec![spec, Step::Key("platform"), Step::Index(*index)],
        Field::Label(key) => vec![spec, Step::Key("labels"), Step::Key(key.as_str())],
    }
}
