//! Others change nodes between the plan and its apply: each label counts by itself.

use serde_json::{Value, json};

use super::support::{labels, node, shared, state_of, versions};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role};
use crate::support::state::State;

/// Nodes of the group `NAME-old` that a saved plan moves to the group `NAME-new`, and gives `train` and takes `vgpu`.
fn planned(plane: &ControlPlane, name: &str, count: usize) -> State {
    let nodes: Vec<String> = (1..=count).map(|number| format!("{name}-{number}")).collect();
    let old = format!("{name}-old");
    plane.create_nodes(nodes.iter().map(|node| NodeSpec::new(node).label("org", &old).label("vgpu", "true")));
    let (state, new) = (state_of(plane), format!("{name}-new"));
    state.group(&new);
    for node in &nodes {
        state.node("prod", node, &format!("{{group: {new}, workloads: [train]}}"));
    }
    state.drover(&["plan", "--out", "plan.json"]).expect(0);
    state
}

/// What a kubelet does every few seconds.
fn heartbeat(plane: &ControlPlane, name: &str) {
    let mut conditions = node(plane, name)["status"]["conditions"].clone();
    conditions[0]["lastHeartbeatTime"] = json!("2026-01-01T00:00:00Z");
    let (path, status) = (format!("/api/v1/nodes/{name}/status"), json!({"status": {"conditions": conditions}}));
    plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &status))).accepted(&path);
}

#[test]
fn a_label_changed_since_the_plan_is_stale_and_nothing_else_is() {
    let plane = shared();
    let state = planned(plane, "stale", 5);
    plane.kubectl(["label", "--overwrite", "node", "stale-1", "org=stale-else", "stale-rack=r1"]);
    plane.kubectl(["annotate", "node", "stale-2", "example.org/note=keep"]);
    heartbeat(plane, "stale-1");
    heartbeat(plane, "stale-3");
    plane.kubectl(["label", "node", "stale-4", "vgpu-", "train=true"]);
    plane.kubectl(["delete", "node", "stale-5"]);

    let report = state.drover(&["apply", "plan.json", "--yes", "--format", "json"]).expect(1).json();
    let cluster = &report["clusters"][0];
    let gone = |key: &str, expected: Value| json!({"node": "stale-5", "key": key, "expected": expected, "found": null, "nodeGone": true});
    assert_eq!(
        cluster["stale"],
        json!([
            {"node": "stale-1", "key": "org", "expected": "stale-old", "found": "stale-else", "nodeGone": false},
            gone("org", json!("stale-old")),
            gone("train", Value::Null),
            gone("vgpu", json!("true")),
        ])
    );
    assert_eq!((&cluster["failed"], &cluster["notDone"]), (&json!([]), &json!([])));
    assert_eq!((&cluster["nodes"], &cluster["labels"]), (&json!(3), &json!(11)), "all but the stale ones");
    assert_eq!(labels(plane, "stale-1"), "org=stale-else stale-rack=r1 train=true");
    for name in ["stale-2", "stale-3", "stale-4"] {
        assert_eq!(labels(plane, name), "org=stale-new train=true", "{name}");
    }
    assert_eq!(node(plane, "stale-2")["metadata"]["annotations"]["example.org/note"], "keep");

    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(1);
    let said = "stale  stale-1 org: planned from \"stale-old\", but it is \"stale-else\" now; left alone";
    assert!(ran.out.contains(said), "{}", ran.out);
    assert!(ran.out.contains("stale-5 org: planned from \"stale-old\", but the node is gone"), "{}", ran.out);
}

#[test]
fn heartbeats_make_nothing_stale_and_a_saved_plan_can_be_applied_again() {
    let plane = shared();
    let state = planned(plane, "beat", 2);
    heartbeat(plane, "beat-1");
    heartbeat(plane, "beat-2");
    state.drover(&["apply", "plan.json", "--yes"]).expect(0);
    assert_eq!(labels(plane, "beat-1"), "org=beat-new train=true");

    let before = versions(plane, ["beat-1", "beat-2"]);
    let report = state.drover(&["apply", "plan.json", "--yes", "--format", "json"]).expect(0).json();
    assert_eq!(report["clusters"][0]["stale"], json!([]), "what is done already is done, not stale");
    assert_eq!(versions(plane, ["beat-1", "beat-2"]), before);
}
