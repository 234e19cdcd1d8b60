//! Laws of the plan, for all states and clusters that chance makes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use drover::manifest::decode::Manifest;
use drover::manifest::{Document, link, parse};
use drover::model::observed::FIELD_MANAGER;
use drover::model::{Desired, Manager, ObservedCluster, ObservedNode};
use drover::plan::{PLAN_VERSION, Plan, StateRevision, compare, diff, outdated};

const KEYS: [&str; 10] =
    ["cpu", "gpu", "org", "share", "train", "mysql", "rack", "note", "kubernetes.io/os", "example.org/x"];

fn live_node() -> impl Strategy<Value = (BTreeMap<String, String>, BTreeSet<String>)> {
    let values = prop::sample::select(&["true", "false", "ads", ""][..]);
    let labels = prop::collection::btree_map(prop::sample::select(&KEYS[..]), values, 0..8);
    let owned = prop::collection::btree_set(prop::sample::select(&KEYS[..]), 0..4);
    (labels, owned).prop_map(|(labels, owned)| {
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        (labels, owned.into_iter().map(str::to_owned).collect())
    })
}

fn live_cluster() -> impl Strategy<Value = ObservedCluster> {
    prop::collection::btree_map("n-[0-9]", live_node(), 0..8).prop_map(|nodes| {
        let nodes = nodes.into_iter().map(|(name, (labels, owned))| {
            let keys = owned.into_iter().collect();
            let drover = Manager { name: FIELD_MANAGER.into(), applies: false, time: None, keys };
            (name.clone(), ObservedNode { name, labels, managers: vec![drover], ..ObservedNode::default() })
        });
        ObservedCluster { nodes: nodes.collect(), ..ObservedCluster::default() }
    })
}

fn node_spec() -> impl Strategy<Value = String> {
    let group = prop::option::of(prop::sample::select(&["ads", "web"][..]));
    let keys = prop::sample::select(&["rack", "note", "example.org/x"][..]);
    let labels = prop::collection::btree_map(keys, "[a-z0-9]{1,4}", 0..3);
    (group, any::<bool>(), any::<bool>(), any::<bool>(), labels).prop_map(|(group, share, cpu, train, labels)| {
        let group = group.map_or(String::new(), |group| format!("group: {group}, "));
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect();
        let (train, labels) = (if train { "[train]" } else { "[]" }, labels.join(", "));
        format!("{{{group}shareable: {share}, devices: {{cpu: {cpu}}}, workloads: {train}, labels: {{{labels}}}}}")
    })
}

/// The text of a state of two clusters.
fn state_text() -> impl Strategy<Value = String> {
    let nodes = || prop::collection::btree_map("n-[0-9]", node_spec(), 0..8);
    (nodes(), nodes()).prop_map(|(one, two)| {
        const HEAD: &str = "---\napiVersion: drover.dev/v1\nkind: ";
        let mut text = String::new();
        for group in ["ads", "web"] {
            text += &format!("{HEAD}Group\nmetadata: {{name: {group}}}\n");
        }
        for (cluster, nodes) in [("one", one), ("two", two)] {
            text += &format!("{HEAD}Cluster\nmetadata: {{name: {cluster}}}\nspec: {{connection: {{context: x}}}}\n");
            for (name, spec) in nodes {
                text += &format!("{HEAD}Node\nmetadata: {{name: {name}, cluster: {cluster}}}\nspec: {spec}\n");
            }
        }
        text
    })
}

fn documents(text: &str) -> Vec<Document> {
    let parsed = parse(&"state.yaml".into(), text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:#?}\n{text}", parsed.problems);
    parsed.documents
}

fn desired(documents: &[Document]) -> Desired {
    let linked = link(documents, &[], jiff::Timestamp::UNIX_EPOCH, None);
    assert!(linked.problems.is_empty(), "{:#?}", linked.problems);
    linked.desired
}

/// Whether a document is this cluster or a node of it.
fn belongs_to(document: &Document, cluster: &str) -> bool {
    match &document.manifest {
        Manifest::Cluster(manifest) => manifest.metadata.name == cluster,
        Manifest::Node(manifest) => manifest.metadata.cluster == cluster,
        Manifest::Fleet(_) | Manifest::Group(_) => false,
    }
}

proptest! {
    #[test]
    fn what_was_applied_differs_no_more(text in state_text(), live in live_cluster()) {
        let desired = desired(&documents(&text));
        for (name, cluster) in &desired.clusters {
            let plan = diff(name.as_str(), cluster, &desired.vocabulary, &live);
            let again = diff(name.as_str(), cluster, &desired.vocabulary, &plan.applied_to(&live));
            prop_assert_eq!(again.nodes, vec![]);
        }
    }

    #[test]
    fn only_what_is_drovers_is_touched(text in state_text(), live in live_cluster()) {
        let desired = desired(&documents(&text));
        let cluster = &desired.clusters["one"];
        let plan = diff("one", cluster, &desired.vocabulary, &live);
        for node in &plan.nodes {
            let document = cluster.nodes.get(node.node.as_str());
            prop_assert!(document.is_some(), "{} is unmanaged", node.node);
            for change in &node.changes {
                let asked = document.is_some_and(|document| document.label(&change.key).is_some());
                let set_before = live.nodes[&node.node].set_by_drover(&change.key);
                prop_assert!(asked || desired.vocabulary.owns(&change.key) || set_before, "{:?}", change);
                prop_assert_eq!(&change.from, &live.nodes[&node.node].labels.get(&change.key).cloned());
                prop_assert_ne!(&change.from, &change.to);
            }
        }
    }

    #[test]
    fn the_order_of_documents_changes_nothing(text in state_text(), live in live_cluster()) {
        let mut documents = documents(&text);
        let forwards = desired(&documents);
        documents.reverse();
        let backwards = desired(&documents);
        for (name, cluster) in &forwards.clusters {
            let plan = diff(name.as_str(), cluster, &forwards.vocabulary, &live);
            prop_assert_eq!(plan, diff(name.as_str(), &backwards.clusters[name], &backwards.vocabulary, &live));
        }
    }

    #[test]
    fn clusters_are_planned_apart(text in state_text(), live in live_cluster()) {
        let all = documents(&text);
        let both = desired(&all);
        let alone: Vec<Document> = all.into_iter().filter(|document| !belongs_to(document, "two")).collect();
        let alone = desired(&alone);
        let plan = |state: &Desired| diff("one", &state.clusters["one"], &state.vocabulary, &live);
        prop_assert_eq!(plan(&both), plan(&alone));
    }

    #[test]
    fn a_following_revision_is_joined_as_if_it_were_the_first(text in state_text(), gone in any::<prop::sample::Index>()) {
        let mut documents = documents(&text);
        let before = desired(&documents);
        let document = documents.remove(gone.index(documents.len()));
        let fresh = link(&documents, &[], jiff::Timestamp::UNIX_EPOCH, None);
        let following = link(&documents, &[], jiff::Timestamp::UNIX_EPOCH, Some(&before));
        prop_assert_eq!(&following.problems, &fresh.problems, "without {:?}", document.manifest);
        for (name, cluster) in &fresh.desired.clusters {
            prop_assert_eq!(&following.desired.clusters[name].nodes, &cluster.nodes);
        }
    }

    #[test]
    fn a_state_differs_from_itself_in_nothing(text in state_text()) {
        let desired = desired(&documents(&text));
        prop_assert_eq!(compare(&desired, &desired, jiff::Timestamp::UNIX_EPOCH), vec![]);
    }

    #[test]
    fn a_fresh_plan_is_never_outdated(text in state_text(), live in live_cluster()) {
        let desired = desired(&documents(&text));
        let plans = desired.clusters.iter().map(|(name, cluster)| diff(name.as_str(), cluster, &desired.vocabulary, &live));
        let plan = Plan {
            version: PLAN_VERSION.into(),
            state: StateRevision { source: String::new(), commit: None, dirty: true, digest: String::new() },
            observed_at: jiff::Timestamp::UNIX_EPOCH,
            complete: true,
            clusters: plans.collect(),
        };
        prop_assert_eq!(outdated(&plan, &desired), vec![]);
    }

    #[test]
    fn writing_and_reading_keep_the_meaning(text in state_text()) {
        for document in documents(&text) {
            let written = document.manifest.write().expect("YAML");
            let again = documents(&written);
            prop_assert_eq!(again.len(), 1);
            prop_assert_eq!(&again[0].manifest, &document.manifest, "{}", written);
        }
    }
}
