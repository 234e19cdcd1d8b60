use std::collections::BTreeMap;

use super::*;
use crate::manifest::{link, parse};
use crate::model::Desired;
use crate::model::storage::{StorageReason, StorageReport};
use crate::plan::diff;

const STATE: &str = "
apiVersion: drover.dev/v1
kind: Cluster
metadata: {name: prod}
spec:
  connection: {file: live.yaml}
  storage:
    root: /data/k8s
    directories: [{path: kubeflow/minio}, {path: infra/mysql, mode: '0777', owner: '999:999', roles: [mysql]}]
---
apiVersion: drover.dev/v1
kind: Group
metadata: {name: ads}
---
apiVersion: drover.dev/v1
kind: Node
metadata: {name: gpu-1, cluster: prod}
spec: {group: ads, devices: {cpu: true}, workloads: [train]}
---
apiVersion: drover.dev/v1
kind: Node
metadata: {name: nfs-1, cluster: prod}
spec: {platform: [mysql], storage: {local: true, reason: it serves the file system}}
";

fn state(text: &str) -> Desired {
    let parsed = parse(&"state.yaml".into(), text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:#?}", parsed.problems);
    let linked = link(&parsed.documents, &[], now(), None);
    assert!(linked.problems.is_empty(), "{:#?}", linked.problems);
    linked.desired
}

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().expect("a time")
}

fn report(reason: StorageReason) -> StorageReport {
    serde_json::from_value(serde_json::json!({
        "observedGeneration": 3, "checked": "2026-11-25T11:58:00Z", "verdict": reason.verdict(), "reason": reason,
        "message": "what the agent says", "bootId": "b1",
    }))
    .expect("a report")
}

/// The cluster as the state asks for it, but for labels; agents have not answered.
fn live(desired: &Desired) -> ObservedCluster {
    let cluster = &desired.clusters["prod"];
    let storage = cluster.storage().expect("storage");
    let node = |node: &std::sync::Arc<DesiredNode>| {
        let live = ObservedNode { name: node.name.to_string(), boot_id: "b1".into(), ..ObservedNode::default() };
        (node.name.to_string(), live)
    };
    let seen = |node: &std::sync::Arc<DesiredNode>| {
        let wanted = Some(storage.of(node).into_owned());
        (node.name.to_string(), ObservedStorage { wanted, generation: 3, report: None })
    };
    ObservedCluster {
        nodes: cluster.nodes.values().map(node).collect(),
        storage: cluster.nodes.values().map(seen).collect(),
        ..ObservedCluster::default()
    }
}

fn answered(mut live: ObservedCluster, reason: StorageReason) -> ObservedCluster {
    live.storage.values_mut().for_each(|seen| seen.report = Some(report(reason)));
    live
}

fn plan(desired: &Desired, live: &ObservedCluster, allow: &[Guard]) -> ClusterPlan {
    let cluster = &desired.clusters["prod"];
    let mut plan = diff("prod", cluster, &desired.vocabulary, live);
    gate(&mut plan, cluster, &desired.vocabulary, live, &allow.iter().copied().collect(), now());
    plan
}

/// `key=value` of what is set, `-key` of what is taken off, on gpu-1.
fn changes(plan: &ClusterPlan) -> Vec<String> {
    let changes = plan.nodes.iter().filter(|node| node.node == "gpu-1").flat_map(|node| &node.changes);
    let shown = |change: &Change| match &change.to {
        Some(value) => format!("{}={value}", change.key),
        None => format!("-{}", change.key),
    };
    changes.map(shown).collect()
}

fn waiting(plan: &ClusterPlan) -> Vec<String> {
    let nodes = plan.waiting.iter().map(|node| {
        let labels: Vec<String> = node.labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
        format!("{} {}: {}", node.node, labels.join(" "), node.why)
    });
    nodes.collect()
}

#[test]
fn each_machine_is_asked_for_what_it_needs() {
    let desired = state(STATE);
    let bare = ObservedCluster { storage: BTreeMap::new(), ..live(&desired) };
    let plan = diff("prod", &desired.clusters["prod"], &desired.vocabulary, &bare);
    let asked = |name: &str| {
        let node = plan.nodes.iter().find(|node| node.node == name).expect("the node is planned");
        node.storage.as_ref().and_then(|change| change.to.clone()).expect("it is asked for storage")
    };
    let paths = |wanted: &StorageWanted| wanted.directories.keys().map(ToString::to_string).collect::<Vec<_>>();
    let (gpu, nfs) = (asked("gpu-1"), asked("nfs-1"));
    assert_eq!((gpu.local, paths(&gpu)), (false, vec!["kubeflow/minio".to_owned()]));
    assert_eq!((nfs.local, paths(&nfs)), (true, vec!["infra/mysql".to_owned(), "kubeflow/minio".to_owned()]));
    assert_eq!(nfs.directories["infra/mysql"].owner.as_ref().map(|owner| owner.ids()), Some((999, 999)));
    let after = plan.applied_to(&bare);
    let again = diff("prod", &desired.clusters["prod"], &desired.vocabulary, &after);
    assert_eq!(again.nodes, [], "what was asked for is asked for no more");
}

#[test]
fn a_storage_that_state_has_dropped_is_asked_for_no_more() {
    let desired = state(STATE);
    let live = live(&desired);
    let dropped = state(&STATE.replace("storage:\n    root", "windows: []\n  storage:\n    verify: none\n    root"));
    let plan = diff("prod", &dropped.clusters["prod"], &dropped.vocabulary, &live);
    let gone = plan.nodes.iter().filter_map(|node| node.storage.as_ref()).filter(|change| change.to.is_none());
    assert_eq!(gone.count(), 2);
    assert!(plan.applied_to(&live).storage.is_empty());
}

#[test]
fn what_attracts_work_waits_until_storage_is_verified() {
    let desired = state(STATE);
    let unanswered = live(&desired);
    let first = plan(&desired, &unanswered, &[]);
    assert_eq!(changes(&first), ["cpu=true"], "other labels do not wait");
    assert_eq!(waiting(&first), ["gpu-1 org=ads train=true: its agent has not answered yet"]);
    let applied = first.applied_to(&unanswered);
    let second = plan(&desired, &applied, &[]);
    assert_eq!((changes(&second), second.waiting.len()), (vec![], 1), "it still waits, and nothing else is planned");

    let verified = answered(applied.clone(), StorageReason::StorageVerified);
    let third = plan(&desired, &verified, &[]);
    assert_eq!((changes(&third).join(" "), third.waiting.len()), ("org=ads train=true".to_owned(), 0));

    let allowed = plan(&desired, &applied, &[Guard::StorageUnverified]);
    assert_eq!((changes(&allowed).join(" "), allowed.waiting.len()), ("org=ads train=true".to_owned(), 0));
}

#[test]
fn what_attracts_work_is_taken_off_only_where_storage_is_known_to_be_wrong() {
    let desired = state(STATE);
    let verified = answered(live(&desired), StorageReason::StorageVerified);
    let settled = plan(&desired, &verified, &[]).applied_to(&verified);
    for unsure in [StorageReason::ProbeTimeout, StorageReason::KubeletNotFound, StorageReason::AgentFailed] {
        let unsure = plan(&desired, &answered(settled.clone(), unsure), &[]);
        assert_eq!((changes(&unsure), waiting(&unsure)), (vec![], vec![]), "nobody knows: nothing moves");
    }
    let lost = answered(settled, StorageReason::NotMounted);
    let off = plan(&desired, &lost, &[]);
    assert_eq!(changes(&off), ["-org", "-train"]);
    assert_eq!(waiting(&off), ["gpu-1 org=ads train=true: NotMounted: what the agent says"]);
    assert!(off.nodes[0].changes.iter().all(|change| change.reason == Reason::StorageFailed && change.why.is_some()));

    let applied = off.applied_to(&lost);
    let rest = plan(&desired, &applied, &[]);
    assert_eq!((changes(&rest), rest.waiting.len()), (vec![], 1));
    let back = plan(&desired, &answered(applied, StorageReason::StorageVerified), &[]);
    assert_eq!(changes(&back), ["org=ads", "train=true"], "it comes back by itself");
}

#[test]
fn a_reviewed_plan_takes_off_only_what_was_reviewed_and_still_must() {
    let desired = state(STATE);
    let verified = answered(live(&desired), StorageReason::StorageVerified);
    let settled = plan(&desired, &verified, &[]).applied_to(&verified);
    let lost = answered(settled.clone(), StorageReason::NotMounted);
    let again = |reviewed: &ClusterPlan, live: &ObservedCluster| {
        let mut plan = reviewed.clone();
        gate_again(&mut plan, &desired.clusters["prod"], &desired.vocabulary, live, &BTreeSet::new(), now());
        plan
    };
    let reviewed = plan(&desired, &lost, &[]);
    assert_eq!(changes(&again(&reviewed, &lost)), ["-org", "-train"]);
    assert_eq!(changes(&again(&reviewed, &settled)), [""; 0], "the storage is right again");
    let nothing = plan(&desired, &settled, &[]);
    assert_eq!(changes(&again(&nothing, &lost)), [""; 0], "nobody reviewed that");
    let labels = plan(&desired, &verified, &[]);
    let held = again(&labels, &lost);
    assert_eq!((changes(&held).join(" "), held.waiting.len()), ("cpu=true".to_owned(), 1), "storage was lost since");
}

#[test]
fn only_a_young_word_about_what_is_asked_for_now_counts() {
    let desired = state(STATE);
    let cluster = &desired.clusters["prod"];
    let (storage, node) = (cluster.storage().expect("storage"), &cluster.nodes["gpu-1"]);
    let good = answered(live(&desired), StorageReason::StorageVerified);
    let judge = |change: &dyn Fn(&mut ObservedStorage), at: &str| {
        let mut seen = good.storage["gpu-1"].clone();
        change(&mut seen);
        standing(&storage, node, &good.nodes["gpu-1"], Some(&seen), at.parse().expect("a time"))
    };
    let noon = "2026-11-25T12:00:00Z";
    let change_report = |seen: &mut ObservedStorage, change: &dyn Fn(&mut StorageReport)| {
        seen.report.as_mut().into_iter().for_each(change);
    };
    assert_eq!(judge(&|_| {}, noon), Standing::Verified);
    assert_eq!(judge(&|_| {}, "2026-11-25T12:13:00Z"), Standing::Verified);
    for (change, at) in [
        (&(|_: &mut ObservedStorage| {}) as &dyn Fn(&mut ObservedStorage), "2026-11-25T12:13:01Z"),
        (&|_| {}, "2026-11-25T11:52:00Z"),
        (&|seen| seen.report = None, noon),
        (&|seen| seen.generation = 4, noon),
        (&|seen| seen.wanted = None, noon),
        (&|seen| change_report(seen, &|report| report.boot_id = "b2".into()), noon),
    ] {
        assert!(matches!(judge(change, at), Standing::Unknown(_)), "{at}");
    }
    assert!(matches!(
        standing(&storage, node, &good.nodes["gpu-1"], None, now()),
        Standing::Unknown(why) if why == "its agent was not asked yet"
    ));
    let wakes = next_change(cluster, &good, now()).expect("it grows old");
    assert_eq!(wakes.to_string(), "2026-11-25T12:13:00.01Z");
}

#[test]
fn where_storage_cannot_be_looked_at_nothing_is_asked_for_and_everything_waits() {
    let desired = state(STATE);
    let blind = ObservedCluster { storage_unseen: Some("no right".into()), storage: BTreeMap::new(), ..live(&desired) };
    let plan = plan(&desired, &blind, &[]);
    assert!(plan.nodes.iter().all(|node| node.storage.is_none()));
    assert_eq!(plan.notes, ["storage is not looked at: no right"]);
    assert_eq!(waiting(&plan), ["gpu-1 org=ads train=true: storage is not looked at in this cluster"]);
}
