//! Whose labels are whose on a live node: rules 2 and 3 of the design.

use serde_json::{Value, json};

use super::support::{changes, labels, node, shared, state_of, versions};
use crate::support::control_plane::{MERGE_PATCH, NodeSpec, Role};

#[test]
fn a_write_changes_the_labels_that_are_drovers_and_nothing_else() {
    let plane = shared();
    let foreign = |node: NodeSpec| node.label("example.org/pool", "a").label("own-rack", "r1");
    plane.create_nodes([
        foreign(NodeSpec::new("own-1")).label("node-role.kubernetes.io/worker", "").label("train", "true"),
        foreign(NodeSpec::new("own-2")).label("org", "own-ads").label("cpu", "true"),
        foreign(NodeSpec::new("own-3")).label("org", "own-old").label("cpu", "true"),
    ]);
    plane.kubectl(["label", "node", "own-1", "org=own-old", "vgpu=true", "service=yes"]);
    plane.kubectl(["annotate", "node", "own-1", "example.org/note=keep"]);
    plane.kubectl(["cordon", "own-1"]);
    let (before, others) = (node(plane, "own-1"), versions(plane, ["own-2", "own-3"]));

    let state = state_of(plane);
    state
        .group("own-ads")
        .node("prod", "own-1", "{group: own-ads, workloads: [train], labels: {own.example.org/zone: z1}}")
        .node("prod", "own-2", "{group: own-ads, devices: {cpu: true}}");
    let ran = state.drover(&["plan", "--format", "json"]).expect(0);
    assert_eq!(
        changes(&ran.json()),
        [
            "own-1 org: own-old -> own-ads",
            "own-1 own.example.org/zone: none -> z1",
            "own-1 service: yes -> none",
            "own-1 vgpu: true -> none",
        ]
    );
    state.drover(&["apply", "--yes"]).expect(0);

    assert_eq!(
        labels(plane, "own-1"),
        "example.org/pool=a node-role.kubernetes.io/worker= org=own-ads own-rack=r1 own.example.org/zone=z1 train=true"
    );
    assert_eq!(versions(plane, ["own-2", "own-3"]), others, "a node as it should be, and an unmanaged one");
    let mut after = node(plane, "own-1");
    let kubelet = |node: &Value| node["metadata"]["labels"]["kubernetes.io/hostname"].clone();
    assert_eq!(kubelet(&after), kubelet(&before));
    let drover = taken(&mut after["metadata"]["managedFields"], "drover");
    let keys = json!({"f:metadata": {"f:labels": {"f:org": {}, "f:own.example.org/zone": {}}}});
    assert_eq!((&drover["operation"], &drover["fieldsV1"]), (&json!("Update"), &keys));
    assert_eq!(but_for_labels(after), but_for_labels(before), "only labels change");
}

/// Takes the entry of a field manager.
fn taken(entries: &mut Value, manager: &str) -> Value {
    let entries = entries.as_array_mut().expect("managed fields");
    let index = entries.iter().position(|entry| entry["manager"] == manager);
    entries.remove(index.unwrap_or_else(|| panic!("nothing is managed by {manager}: {entries:?}")))
}

/// The node without what every change of a label changes too.
fn but_for_labels(mut node: Value) -> Value {
    let metadata = node["metadata"].as_object_mut().expect("metadata");
    for field in ["labels", "managedFields", "resourceVersion"] {
        assert!(metadata.remove(field).is_some(), "{field}");
    }
    node
}

#[test]
fn a_dropped_label_goes_only_where_drover_set_it() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("drop-1")]);
    plane.kubectl(["label", "node", "drop-1", "drop-theirs=1"]);
    let state = state_of(plane);
    state.node("prod", "drop-1", "{labels: {drop-ours: '1', drop-taken: '1', drop-theirs: '1'}}");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "drop-1"), "drop-ours=1 drop-taken=1 drop-theirs=1");
    plane.kubectl(["label", "--overwrite", "node", "drop-1", "drop-taken=2"]);

    state.node("prod", "drop-1", "{}");
    let plan = state.drover(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(changes(&plan), ["drop-1 drop-ours: 1 -> none"]);
    assert_eq!(plan["clusters"][0]["nodes"][0]["changes"][0]["reason"], "dropped");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "drop-1"), "drop-taken=2 drop-theirs=1");
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn labels_that_another_manager_takes_back_are_drift_and_name_it() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("fight-1")]);
    let state = state_of(plane);
    state.node("prod", "fight-1", "{workloads: [train]}");
    state.drover(&["apply", "--yes"]).expect(0);
    state.write("fight.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: fight-1, labels: {train: 'no'}}\n");
    let file = state.path("fight.yaml").display().to_string();
    plane.kubectl(["apply", "--server-side", "--force-conflicts", "--field-manager=other-tool", "--filename", &file]);

    let plan = state.drover(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(changes(&plan), ["fight-1 train: no -> true"]);
    let by = &plan["clusters"][0]["nodes"][0]["changes"][0]["setBy"];
    assert_eq!((&by["manager"], &by["fights"]), (&json!("other-tool"), &json!(true)));
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "fight-1"), "train=true");
}

#[test]
fn a_node_without_any_label_gets_its_first_ones_and_gives_them_back() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("bare-1")]);
    let bare = json!({"metadata": {"labels": null}});
    let path = "/api/v1/nodes/bare-1";
    plane.request(Role::Admin, "PATCH", path, Some((MERGE_PATCH, &bare))).accepted(path);
    assert_eq!(node(plane, "bare-1")["metadata"]["labels"], Value::Null);

    let state = state_of(plane);
    state.node("prod", "bare-1", "{workloads: [train]}");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "bare-1"), "train=true");
    state.node("prod", "bare-1", "{}");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "bare-1"), "");
}
