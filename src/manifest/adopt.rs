//! Documents for a cluster that is live, such that they change nothing: how a cluster is put under git.

use std::collections::{BTreeMap, BTreeSet};

use super::write::{WriteError, document};
use crate::model::cluster::{ClusterKind, ClusterMetadata, Connection, Directory, Kubelet, Storage, Verify};
use crate::model::fleet::{FleetKind, FleetMetadata};
use crate::model::group::{GroupKind, GroupMetadata};
use crate::model::node::{Devices, Gpu, NodeKind, NodeMetadata, StorageException, Workload};
use crate::model::path::{Bind, StoragePath};
use crate::model::storage::WantedDirectory;
use crate::model::vocabulary::{fixed, is_reserved};
use crate::model::{
    ApiVersion, ClusterManifest, ClusterName, ClusterSpec, Desired, FleetManifest, FleetSpec, GroupManifest, GroupName,
    GroupSpec, LabelKey, LabelValue, Mode, NodeManifest, NodeSpec, ObservedCluster, ObservedKubelet, ObservedNode,
    ObservedStorage, StorageWanted, Vocabulary,
};

/// What to adopt.
pub struct Adoption<'a> {
    /// The name that the cluster gets.
    pub cluster: ClusterName,
    /// How it is reached.
    pub connection: Connection,
    /// Whether drover may change it.
    pub mode: Mode,
    /// Its live nodes.
    pub live: &'a ObservedCluster,
    /// The state that it joins.
    pub state: &'a Desired,
    /// Whether that state has a Fleet already.
    pub has_fleet: bool,
    /// Prefixes of label keys that are declared as well, beside the keys without a prefix.
    pub prefixes: &'a [String],
    /// How its kubelets are configured, and their live binds, where that is adopted.
    pub kubelet: Option<&'a (Kubelet, ObservedKubelet)>,
}

/// The documents of an adopted cluster.
pub struct Adopted {
    /// Files by name, relative to the root of the state.
    pub files: BTreeMap<String, String>,
    /// Vocabulary labels whose values no document can say; they are left alone.
    pub left_alone: Vec<String>,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many groups are new.
    pub groups: usize,
}

/// Writes the documents for what is live.
pub fn adopt(adoption: &Adoption<'_>) -> Result<Adopted, WriteError> {
    let mut adopted = Adopted { files: BTreeMap::new(), left_alone: Vec::new(), nodes: 0, groups: 0 };
    if !adoption.has_fleet {
        let metadata = FleetMetadata { name: crate::model::text::known("fleet") };
        let fleet =
            FleetManifest { api_version: ApiVersion::V1, kind: FleetKind::It, metadata, spec: FleetSpec::default() };
        adopted.files.insert("fleet.yaml".to_owned(), document(&fleet)?);
    }
    let common = common_storage(adoption.live);
    let spec = ClusterSpec {
        connection: adoption.connection.clone(),
        mode: adoption.mode,
        timeout: None,
        kubelet: adoption.kubelet.map(|(kubelet, seen)| with_binds(kubelet, seen, &mut adopted.left_alone)),
        storage: common.as_ref().map(storage_of),
        bootstrap: None,
        rebalance: None,
        windows: Vec::new(),
        allow: Vec::new(),
        suspend: None,
    };
    let metadata = ClusterMetadata { name: adoption.cluster.clone() };
    let cluster = ClusterManifest { api_version: ApiVersion::V1, kind: ClusterKind::It, metadata, spec };
    adopted.files.insert(format!("clusters/{}.yaml", adoption.cluster), document(&cluster)?);

    let (groups, new_groups) = groups(adoption);
    for (name, org) in &new_groups {
        let spec = GroupSpec { org: (org.as_str() != name.as_str()).then(|| org.clone()), ..GroupSpec::default() };
        let metadata = GroupMetadata { name: name.clone() };
        let group = GroupManifest { api_version: ApiVersion::V1, kind: GroupKind::It, metadata, spec };
        adopted.files.insert(format!("groups/{name}.yaml"), document(&group)?);
    }
    adopted.groups = new_groups.len();

    for node in adoption.live.nodes.values() {
        let Ok(name) = node.name.parse() else { continue };
        let mut spec = node_spec(node, adoption, &groups);
        spec.storage = exception(adoption.live.storage.get(&node.name), common.as_ref());
        adopted.left_alone.extend(spec.unmanaged.iter().map(|key| {
            format!("{}: {key}={}", node.name, node.labels.get(key.as_str()).map_or("(none)", String::as_str))
        }));
        let metadata = NodeMetadata { name, cluster: adoption.cluster.clone() };
        let manifest = NodeManifest { api_version: ApiVersion::V1, kind: NodeKind::It, metadata, spec };
        adopted.files.insert(format!("nodes/{}/{}.yaml", adoption.cluster, node.name), document(&manifest)?);
        adopted.nodes += 1;
    }
    Ok(adopted)
}

/// What the agents of most machines are asked for.
fn common_storage(live: &ObservedCluster) -> Option<StorageWanted> {
    let mut kinds: Vec<(&StorageWanted, usize)> = Vec::new();
    for wanted in live.storage.values().filter_map(|seen| seen.wanted.as_ref()) {
        match kinds.iter_mut().find(|(known, _)| *known == wanted) {
            Some((_, count)) => *count += 1,
            None => kinds.push((wanted, 1)),
        }
    }
    kinds.into_iter().max_by_key(|(_, count)| *count).map(|(wanted, _)| wanted.clone())
}

/// The same as a Cluster document says it.
fn storage_of(wanted: &StorageWanted) -> Storage {
    let directory = |(path, directory): (&StoragePath, &WantedDirectory)| Directory {
        path: path.clone(),
        mode: directory.mode.clone(),
        owner: directory.owner.clone(),
        roles: Vec::new(),
    };
    Storage {
        root: wanted.root.clone(),
        link: wanted.link.clone(),
        file_systems: wanted.file_systems.clone(),
        sources: wanted.sources.clone(),
        directories: wanted.directories.iter().map(directory).collect(),
        local: wanted.local,
        min_free: wanted.min_free_bytes.and_then(|bytes| bytes.to_string().parse().ok()),
        write_test: wanted.write_test,
        verify: Verify::Agent,
        probe_timeout: format!("{}s", wanted.timeout_seconds).parse().ok(),
        stale_after: None,
    }
}

/// How a machine's storage departs from that.
fn exception(seen: Option<&ObservedStorage>, common: Option<&StorageWanted>) -> Option<StorageException> {
    let (own, common) = (seen?.wanted.as_ref()?, common?);
    let differs = (own.local, &own.link) != (common.local, &common.link);
    let reason = "as it was when the cluster was adopted".to_owned();
    differs.then(|| StorageException { local: own.local, link: own.link.clone(), reason })
}

/// The kubelet section with all live binds that a state can say.
fn with_binds(kubelet: &Kubelet, seen: &ObservedKubelet, left_alone: &mut Vec<String>) -> Kubelet {
    let mut kubelet = kubelet.clone();
    for bind in &seen.binds {
        match bind.parse::<Bind>() {
            Ok(bind) if !kubelet.extra_binds.iter().any(|known| known.destination() == bind.destination()) => {
                kubelet.extra_binds.push(bind);
            }
            _ => left_alone.push(format!("the kubelet bind {bind}")),
        }
    }
    kubelet
}

type Groups = BTreeMap<LabelValue, GroupName>;

/// The group of every group label that is live, and which of them the state does not have yet.
fn groups(adoption: &Adoption<'_>) -> (Groups, Vec<(GroupName, LabelValue)>) {
    let mut groups: Groups =
        adoption.state.groups.iter().map(|(name, group)| (group.org.clone(), name.clone())).collect();
    let mut names: BTreeSet<GroupName> = adoption.state.groups.keys().cloned().collect();
    let mut new = Vec::new();
    let key = adoption.state.vocabulary.group().as_str();
    let orgs: BTreeSet<&String> = adoption.live.nodes.values().filter_map(|node| node.labels.get(key)).collect();
    for org in orgs.into_iter().filter_map(|org| org.parse::<LabelValue>().ok()).filter(|org| !org.as_str().is_empty())
    {
        if groups.contains_key(&org) {
            continue;
        }
        let name = free_name(&slug(org.as_str()), &names);
        names.insert(name.clone());
        groups.insert(org.clone(), name.clone());
        new.push((name, org));
    }
    (groups, new)
}

/// A label value as a name: lower case, with `-` for what a name may not hold.
fn slug(org: &str) -> String {
    let slug: String = org.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    slug.trim_matches('-').to_owned()
}

fn free_name(slug: &str, taken: &BTreeSet<GroupName>) -> GroupName {
    let base: String = slug.chars().take(58).collect();
    let numbered = (2..10_000).map(|number| format!("{base}-{number}"));
    let names =
        std::iter::once(base.clone()).chain(numbered).filter_map(|name| name.trim_end_matches('-').parse().ok());
    names.into_iter().find(|name| !taken.contains(name)).unwrap_or_else(|| crate::model::text::known("adopted"))
}

fn node_spec(node: &ObservedNode, adoption: &Adoption<'_>, groups: &Groups) -> NodeSpec {
    let vocabulary = &adoption.state.vocabulary;
    let keys = vocabulary.spec();
    let label = |key: &LabelKey| node.labels.get(key.as_str()).map(String::as_str);
    let on = |key: &LabelKey| label(key) == Some("true");
    let model = label(&keys.gpu_type).filter(|model| !model.is_empty()).and_then(|model| model.parse().ok());
    let gpu = match (on(&keys.gpu), model) {
        (true, Some(model)) => Gpu::Model(model),
        (true, None) => Gpu::Any,
        (false, _) => Gpu::None,
    };
    let workloads = [Workload::Train, Workload::Notebook, Workload::Service];
    let mut spec = NodeSpec {
        group: label(&keys.group).and_then(|org| groups.get(org)).cloned(),
        shareable: on(&keys.share),
        devices: Devices { cpu: on(&keys.cpu), gpu, vgpu: on(&keys.vgpu), rdma: on(&keys.rdma) },
        workloads: workloads.into_iter().filter(|workload| on(vocabulary.workload_key(*workload))).collect(),
        platform: vocabulary.platform().iter().filter(|role| on(role)).cloned().collect(),
        labels: custom_labels(node, vocabulary, adoption.prefixes),
        ..NodeSpec::default()
    };
    // What the document would not say as it is live is left alone, so that adopting changes nothing.
    let org = spec.group.as_ref().and_then(|group| groups.iter().find(|(_, name)| *name == group)).map(|(org, _)| org);
    let asked: BTreeMap<LabelKey, LabelValue> =
        vocabulary.labels_of(&spec, org).into_iter().map(|(key, value, _)| (key, value)).collect();
    let all = fixed(keys).into_iter().map(|(key, _)| key).chain(vocabulary.platform());
    let by_default = adoption.state.fleet.default_group.is_some() && spec.group.is_none();
    spec.unmanaged = all
        .filter(|key| {
            label(key) != asked.get(*key).map(LabelValue::as_str) || (by_default && *key == vocabulary.group())
        })
        .cloned()
        .collect();
    spec.unmanaged.dedup();
    spec
}

fn custom_labels(node: &ObservedNode, vocabulary: &Vocabulary, prefixes: &[String]) -> BTreeMap<LabelKey, LabelValue> {
    let labels =
        node.labels.iter().filter_map(|(key, value)| Some((key.parse::<LabelKey>().ok()?, value.parse().ok()?)));
    let wanted = |key: &LabelKey| match key.prefix() {
        None => true,
        Some(prefix) => !is_reserved(key) && prefixes.iter().any(|wanted| wanted.trim_end_matches('/') == prefix),
    };
    labels.filter(|(key, _)| !vocabulary.owns(key.as_str()) && wanted(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{link, parse};
    use crate::plan::diff;

    fn live(nodes: &[(&str, &[(&str, &str)])]) -> ObservedCluster {
        let nodes = nodes.iter().map(|(name, labels)| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            ((*name).to_owned(), ObservedNode { name: (*name).to_owned(), labels, ..ObservedNode::default() })
        });
        ObservedCluster { nodes: nodes.collect(), ..ObservedCluster::default() }
    }

    #[test]
    fn adopting_changes_nothing_whatever_is_live() {
        let live = live(&[
            ("a", &[("cpu", "true"), ("org", "Ads_Team"), ("gpu", "true"), ("gpu-type", "A100"), ("rack", "r1")]),
            (
                "b",
                &[("share", "false"), ("train", "yes"), ("org", ""), ("gpu-type", "T4"), ("kubernetes.io/os", "linux")],
            ),
            (
                "c",
                &[("gpu", "true"), ("mysql", "true"), ("istio", "false"), ("org", "ads-team"), ("example.org/x", "1")],
            ),
            ("d", &[]),
        ]);
        let prefixes = ["example.org".to_owned()];
        let adoption = Adoption {
            cluster: crate::model::text::known("prod"),
            connection: Connection { file: Some("live.yaml".into()), ..Connection::default() },
            mode: Mode::Enforce,
            live: &live,
            state: &Desired::default(),
            has_fleet: false,
            prefixes: &prefixes,
            kubelet: None,
        };
        let adopted = adopt(&adoption).expect("documents");
        let parsed: Vec<_> =
            adopted.files.iter().map(|(name, text)| parse(&name.as_str().into(), text.as_bytes())).collect();
        let problems: Vec<_> = parsed.iter().flat_map(|parsed| &parsed.problems).collect();
        assert!(problems.is_empty(), "{problems:#?}");
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let linked = link(parsed.iter().flat_map(|parsed| &parsed.documents), &[], now, None);
        assert!(linked.problems.is_empty(), "{:#?}", linked.problems);
        let cluster = &linked.desired.clusters["prod"];
        let plan = diff("prod", cluster, &linked.desired.vocabulary, &live);
        assert_eq!(plan.nodes, [], "adopting changes nothing");
        assert_eq!(adopted.left_alone.len(), 5, "{:?}", adopted.left_alone);
        let custom = &cluster.nodes["c"].label("example.org/x").map(|label| label.value.to_string());
        assert_eq!(custom.as_deref(), Some("1"));
        assert!(linked.desired.groups.contains_key("ads-team") && linked.desired.groups.contains_key("ads-team-2"));
    }
}
