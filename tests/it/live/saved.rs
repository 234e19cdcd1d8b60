//! A saved plan against a state that went on since.

use super::support::{labels, shared, state_of, versions};
use crate::support::control_plane::{ControlPlane, NodeSpec};
use crate::support::state::State;

/// A committed state whose saved plan labels one node.
fn planned(plane: &ControlPlane, name: &str) -> State {
    plane.create_nodes([NodeSpec::new(name), NodeSpec::new(format!("{name}-other"))]);
    let state = state_of(plane);
    state.node("prod", name, "{workloads: [train]}").commit("train there");
    state.drover(&["plan", "--out", "plan.json"]).expect(0);
    state
}

#[test]
fn a_plan_is_refused_when_the_state_asks_for_something_else_now() {
    let plane = shared();
    let state = planned(plane, "moved");
    let before = versions(plane, ["moved"]);
    let old = state.git(&["rev-parse", "HEAD"]);
    state.node("prod", "moved", "{workloads: [notebook]}");
    let new = state.commit("notebooks instead");

    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(1);
    let said = "prod/moved train: planned \"true\", now asked for no label";
    assert!(ran.err.contains("the plan is stale") && ran.err.contains(said), "{}", ran.err);
    assert!(ran.err.contains(&old[..10]) && ran.err.contains(&new[..10]), "both revisions are named: {}", ran.err);
    assert_eq!(versions(plane, ["moved"]), before, "nothing is written");

    state.git(&["rm", "--quiet", "-r", "state/nodes", "state/clusters"]);
    state.cluster("dev", "{file: none.yaml}").commit("the cluster left the state");
    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(1);
    assert!(ran.err.contains("prod"), "{}", ran.err);
    assert_eq!(versions(plane, ["moved"]), before, "nothing is written");
}

#[test]
fn a_plan_whose_changes_are_the_same_at_the_new_revision_is_applied() {
    let plane = shared();
    let state = planned(plane, "same");
    state.node("prod", "same-other", "{workloads: [service]}");
    let new = state.commit("another node");

    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(0);
    assert!(ran.err.contains("its changes are the same at ") && ran.err.contains(&new[..10]), "{}", ran.err);
    assert_eq!(labels(plane, "same"), "train=true");
    assert_eq!(labels(plane, "same-other"), "", "the saved plan is applied as it was reviewed");
}

#[test]
fn a_plan_that_the_api_server_finds_invalid_shows_what_the_server_says() {
    let plane = shared();
    let state = planned(plane, "wrong");
    state.edit("plan.json", "\"to\": \"true\"", "\"to\": \"not a label value\"");
    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(1);
    assert!(ran.out.contains("failed wrong: the API server refused to patch nodes (422)"), "{}", ran.out);
    assert!(ran.out.contains("a valid label must be an empty string or consist of"), "{}", ran.out);
    assert_eq!(labels(plane, "wrong"), "");
}
