//! Guards, on what the API server says of nodes and pods: exit 3, and nothing is written until someone allows it.

use serde_json::{Value, json};

use super::support::{changes, connection, labels, refusals, shared, state_of, versions};
use crate::support::control_plane::{ControlPlane, NodeSpec, PodSpec, Role};
use crate::support::state::State;

/// A plan that is refused, in JSON; applying it writes none of the nodes.
fn refused(state: &State, plane: &ControlPlane, nodes: &[&str]) -> Value {
    let before = versions(plane, nodes.iter().copied());
    let plan = state.drover(&["plan", "--format", "json"]).expect(3).json();
    let ran = state.drover(&["apply", "--yes"]).expect(3);
    assert!(ran.err.contains("nothing was applied: refused in prod by "), "{}", ran.err);
    assert!(ran.out.contains("! refused by "), "the plan is printed whole: {}", ran.out);
    assert_eq!(versions(plane, nodes.iter().copied()), before, "nothing is written");
    plan
}

/// A node of the group `NAME-ads` that leaves it, with pods of every kind.
fn with_pods(plane: &ControlPlane, name: &str) -> State {
    let org = format!("{name}-ads");
    plane.create_nodes([NodeSpec::new(name).label("org", &org)]);
    let pod = |pod: &str| PodSpec::on_node(format!("{name}-{pod}"), name).namespace(name);
    let affine = |key: &str, operator: &str, value: &str| json!([{"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}]);
    plane.create_pods([
        pod("selects").selecting("org", &org),
        pod("prefers").node_affinity(&affine("org", "In", &org)),
        pod("avoids").node_affinity(&affine("org", "NotIn", "elsewhere")),
        pod("anywhere"),
        pod("ended").selecting("org", &org).phase("Succeeded"),
        pod("misfit").selecting("org", "elsewhere"),
    ]);
    let state = state_of(plane);
    state.node("prod", name, "{workloads: [train]}");
    state
}

#[test]
fn running_pods_that_would_lose_their_node_are_listed_and_keep_it() {
    let plane = shared();
    let state = with_pods(plane, "pods-1");
    let plan = refused(&state, plane, &["pods-1"]);
    assert_eq!(changes(&plan), ["pods-1 org: pods-1-ads -> none", "pods-1 train: none -> true"]);
    assert_eq!(
        refusals(&plan["clusters"][0]),
        ["running-pods: 2 running pods would no longer match their nodes \
          | pods-1/pods-1-prefers on pods-1 | pods-1/pods-1-selects on pods-1"]
    );
    let ran = state.drover(&["apply", "--yes", "--allow", "too-many-nodes"]).expect(3);
    assert!(ran.out.contains("! refused by running-pods"), "one guard does not lift another: {}", ran.out);
    let ran = state.drover(&["apply", "--yes", "--allow", "running-pods"]).expect(0);
    assert!(ran.out.contains("! running-pods is allowed (--allow running-pods)"), "{}", ran.out);
    assert_eq!(labels(plane, "pods-1"), "train=true");
}

#[test]
fn an_allowance_in_the_state_lifts_its_guard_until_it_expires() {
    let plane = shared();
    let state = with_pods(plane, "pods-2");
    let allow = |until: &str| {
        let entry = format!("{{guard: running-pods, until: {until}, owner: ann@example.org, reason: drained}}");
        format!("{}\n  allow: [{entry}]", connection(plane, Role::Drover))
    };
    state.cluster("prod", &allow("2020-01-01"));
    refused(&state, plane, &["pods-2"]);
    state.cluster("prod", &allow("2999-01-01"));
    let ran = state.drover(&["apply", "--yes"]).expect(0);
    let said = "! running-pods is allowed (ann@example.org until 2999-01-01: drained)";
    assert!(ran.out.contains(said), "{}", ran.out);
    assert_eq!(labels(plane, "pods-2"), "train=true");
}

#[test]
fn a_pod_that_came_after_the_plan_keeps_its_node_too() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("late-guard-1").label("org", "late-ads")]);
    let state = state_of(plane);
    state.node("prod", "late-guard-1", "{}");
    state.drover(&["plan", "--out", "plan.json"]).expect(0);
    plane.create_pods([PodSpec::on_node("late-pod", "late-guard-1").selecting("org", "late-ads")]);
    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(3);
    assert!(ran.out.contains("default/late-pod on late-guard-1"), "{}", ran.out);
    assert_eq!(labels(plane, "late-guard-1"), "org=late-ads");
}

#[test]
fn pods_are_found_on_many_changed_nodes_as_well() {
    let plane = shared();
    let names: Vec<String> = (1..=9).map(|number| format!("wide-{number}")).collect();
    plane.create_nodes(names.iter().map(|name| NodeSpec::new(name).label("vgpu", "true")));
    plane.create_pods([PodSpec::on_node("wide-pod", "wide-9").selecting("vgpu", "true")]);
    let state = state_of(plane);
    for name in &names {
        state.node("prod", name, "{}");
    }
    let plan = refused(&state, plane, &["wide-1", "wide-9"]);
    assert_eq!(
        refusals(&plan["clusters"][0]),
        ["running-pods: 1 running pod would no longer match its node | default/wide-pod on wide-9"]
    );
}

#[test]
fn too_many_nodes_at_once_are_refused() {
    let plane = shared();
    let names: Vec<String> = (0..10).map(|number| format!("many-{number}")).collect();
    plane.create_nodes(names.iter().map(NodeSpec::new));
    let state = state_of(plane);
    for (name, index) in names.iter().zip(0..) {
        state.node("prod", name, if index < 4 { "{workloads: [train]}" } else { "{}" });
    }
    let plan = refused(&state, plane, &["many-0", "many-3"]);
    assert_eq!(
        refusals(&plan["clusters"][0]),
        ["too-many-nodes: 4 of 10 managed nodes would change (40 %, the limit is 30 %)"]
    );
    state.node("prod", "many-3", "{}");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!([labels(plane, "many-2"), labels(plane, "many-3")], ["train=true", ""]);
}

#[test]
fn the_last_node_of_a_platform_role_keeps_it() {
    let plane = shared();
    let role = |name: &str| NodeSpec::new(name).label("role-db", "true");
    plane.create_nodes([role("role-1"), role("role-2")]);
    let state = state_of(plane);
    state.write(
        "state/fleet.yaml",
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: fleet}\nspec: {labels: {platform: [role-db]}}\n",
    );
    state.node("prod", "role-1", "{}").node("prod", "role-2", "{}");
    let plan = refused(&state, plane, &["role-1", "role-2"]);
    assert_eq!(
        refusals(&plan["clusters"][0]),
        [
            "last-platform-role: no node would have the platform role role-db any more | role-db is on role-1, role-2 today"
        ]
    );
    state.node("prod", "role-2", "{platform: [role-db]}");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!([labels(plane, "role-1"), labels(plane, "role-2")], ["", "role-db=true"]);
}

#[test]
fn a_group_keeps_what_it_is_guaranteed() {
    let plane = shared();
    let member = |name: &str| NodeSpec::new(name).label("org", "least-ads").gpus(8);
    plane.create_nodes([member("least-1"), member("least-2"), member("least-3")]);
    let state = state_of(plane);
    state.write(
        "state/groups/least-ads.yaml",
        "apiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: least-ads}\nspec: {guarantee: {prod: {nodes: 1, gpus: 16}}}\n",
    );
    state.node("prod", "least-1", "{}").node("prod", "least-3", "{group: least-ads}");
    let plan = refused(state.node("prod", "least-2", "{}"), plane, &["least-1", "least-2"]);
    assert_eq!(
        refusals(&plan["clusters"][0]),
        ["below-guarantee: a group would fall under its guarantee | least-ads: 24 → 8 GPUs, guaranteed 16"]
    );
    state.node("prod", "least-2", "{group: least-ads}");
    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!([labels(plane, "least-1"), labels(plane, "least-2")], ["", "org=least-ads"]);
}

#[test]
fn a_state_that_lost_all_its_nodes_is_refused() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("emptied-1")]);
    let state = state_of(plane);
    state.node("prod", "emptied-1", "{workloads: [train]}");
    state.drover(&["apply", "--yes"]).expect(0);
    std::fs::remove_dir_all(state.path("state/nodes")).expect("the documents go");

    let plan = refused(&state, plane, &["emptied-1"]);
    let found = refusals(&plan["clusters"][0]);
    let said = "empty-state: state has no node of this cluster any more, yet drover manages ";
    assert!(found.len() == 1 && found[0].starts_with(said), "{found:?}");
    state.drover(&["apply", "--yes", "--allow", "empty-state"]).expect(0);
    assert_eq!(labels(plane, "emptied-1"), "train=true", "nobody manages it any more, and it stays as it was");
}
