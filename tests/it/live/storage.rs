//! Storage on real API servers: what agents are asked for, what waits for their word, and what they lose.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::support::{changes, connection, labels};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role};
use crate::support::state::State;

const STORAGE: &str =
    "{root: /data/k8s, directories: [{path: kubeflow/minio}, {path: infra/mysql, mode: '0777', roles: [mysql]}]}";

/// A cluster with machines, and a state that asks for their storage and for labels that attract work.
fn stored(name: &str, machines: &[&str]) -> (ControlPlane, State) {
    let plane = ControlPlane::start_named(name);
    plane.create_nodes(machines.iter().map(|name| NodeSpec::new(*name)));
    let state = State::new();
    state.cluster("prod", &format!("{}\n  storage: {STORAGE}", connection(&plane, Role::Drover)));
    state.group("ads");
    for machine in machines {
        state.node("prod", machine, "{group: ads, devices: {cpu: true}, workloads: [train]}");
    }
    (plane, state)
}

fn path(node: &str) -> String {
    format!("/apis/drover.dev/v1/nodestorages/{node}")
}

fn storage(plane: &ControlPlane, node: &str) -> Value {
    plane.get(&path(node))
}

/// What an agent would report now.
fn report(plane: &ControlPlane, node: &str, verdict: &str, reason: &str) {
    let generation = &storage(plane, node)["metadata"]["generation"];
    let status = json!({ "status": {
        "observedGeneration": generation, "checked": Timestamp::now().to_string(), "verdict": verdict,
        "reason": reason, "message": "as the test says", "kubelet": "Same",
    }});
    let path = format!("{}/status", path(node));
    plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &status))).accepted(&path);
}

#[test]
fn labels_that_attract_work_follow_the_word_of_the_agent() {
    let (plane, state) = stored("stored", &["st-1"]);
    let plan = state.drover(&["plan", "--format", "json", "--detailed-exitcode"]).expect(2).json();
    assert_eq!(changes(&plan), ["st-1 cpu: none -> true"]);
    assert_eq!(plan["clusters"][0]["nodes"][0]["storage"]["to"]["root"], "/data/k8s");
    let ran = state.drover(&["apply", "--yes"]).expect(0);
    assert!(ran.out.contains("applied 1 label, storage of 1 node on 1 node"), "{}", ran.out);
    let asked = &storage(&plane, "st-1")["spec"];
    assert_eq!(asked["directories"], json!({ "kubeflow/minio": {} }), "mysql is not its role");
    assert_eq!(labels(&plane, "st-1"), "cpu=true");

    // Nobody answers: nothing more to do, and yet a difference.
    let ran = state.drover(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(
        ran.out.contains("st-1  waits for storage: org=ads train=true  its agent has not answered yet"),
        "{}",
        ran.out
    );
    let ran = state.drover(&["status"]).expect(0);
    assert!(ran.out.contains("prod: 0 in sync, 0 drifting, 1 waiting for storage"), "{}", ran.out);

    report(&plane, "st-1", "Verified", "StorageVerified");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(&plane, "st-1"), "cpu=true org=ads train=true");
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);

    report(&plane, "st-1", "Unknown", "ProbeTimeout");
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);

    report(&plane, "st-1", "Failed", "NotMounted");
    let ran = state.drover(&["apply", "--yes"]).expect(0);
    assert!(ran.out.contains("NotMounted: as the test says"), "the plan says why: {}", ran.out);
    assert_eq!(labels(&plane, "st-1"), "cpu=true");
    let ran = state.drover(&["explain", "st-1"]).expect(0);
    assert!(ran.out.contains("storage   not as it must be: NotMounted: as the test says"), "{}", ran.out);

    let ran = state.drover(&["apply", "--yes", "--allow", "storage-unverified"]).expect(0);
    assert!(ran.out.contains("applied 2 labels"), "who says so gets them: {}", ran.out);
    report(&plane, "st-1", "Verified", "StorageVerified");
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn what_an_agent_is_asked_for_is_replaced_only_while_it_is_what_the_plan_shows() {
    let (plane, state) = stored("restored", &["rs-1", "rs-2"]);
    state.drover(&["apply", "--yes"]).expect(0);
    state.edit("state/clusters/prod.yaml", "kubeflow/minio", "kubeflow/global");
    state.drover(&["plan", "--out", "plan.json"]).expect(0);
    // A word of the agent makes nothing stale, another wish does.
    report(&plane, "rs-1", "Failed", "RootMissing");
    let other = json!({ "spec": { "root": "/data/other" } });
    plane.request(Role::Admin, "PATCH", &path("rs-2"), Some((MERGE_PATCH, &other))).accepted("rs-2");
    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(1);
    let stale = "stale  rs-2 storage root: planned from \"/data/k8s\", but it is \"/data/other\" now; left alone";
    assert!(ran.out.contains(stale), "{}", ran.out);
    assert_eq!(storage(&plane, "rs-1")["spec"]["directories"], json!({ "kubeflow/global": {} }));
    assert_eq!(storage(&plane, "rs-2")["spec"]["root"], "/data/other");

    // A plan whose wish the state no longer has is refused whole.
    state.edit("state/clusters/prod.yaml", "kubeflow/global", "kubeflow/pipeline");
    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(1);
    assert!(ran.err.contains("the plan is stale"), "{}", ran.err);

    // Who adopts the cluster elsewhere gets its storage, too.
    state.drover(&["apply", "--yes"]).expect(0);
    let adopted = State::new();
    let kubeconfig = plane.kubeconfig(Role::Drover).display().to_string();
    adopted.drover(&["import", "--kubeconfig", &kubeconfig, "--cluster", "prod"]).expect(0);
    assert!(adopted.read("state/clusters/prod.yaml").contains("root: /data/k8s"));
    adopted.drover(&["plan", "--detailed-exitcode"]).expect(0);

    // Nobody is asked for a storage that the state has dropped.
    state.edit("state/clusters/prod.yaml", "{root", "{verify: none, root");
    state.drover(&["apply", "--yes"]).expect(0);
    let left = plane.get("/apis/drover.dev/v1/nodestorages");
    assert_eq!(left["items"], json!([]));
    assert_eq!(labels(&plane, "rs-1"), "cpu=true org=ads train=true", "labels wait for nobody then");
}

#[test]
fn a_cluster_without_agents_says_what_is_missing() {
    let (plane, state) = stored("agentless", &["al-1"]);
    plane.kubectl(["delete", "crd", "nodestorages.drover.dev"]);
    let ran = state.drover(&["plan"]).expect(0);
    assert!(ran.out.contains("the cluster knows no NodeStorage objects"), "{}", ran.out);
    assert!(ran.out.contains("deploy/nodestorages.yaml"), "{}", ran.out);
    assert!(ran.out.contains("al-1  waits for storage: org=ads train=true"), "{}", ran.out);
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(&plane, "al-1"), "cpu=true");
}

#[test]
fn a_missing_right_is_named() {
    let (plane, state) = stored("rightless", &["rl-1"]);
    state.cluster("prod", &format!("{}\n  storage: {STORAGE}", connection(&plane, Role::Blind)));
    let ran = state.drover(&["plan"]).expect(0);
    assert!(ran.out.contains("drover may not list nodestorages"), "{}", ran.out);
}
