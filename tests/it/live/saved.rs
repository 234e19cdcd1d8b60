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
fn a_plan_that_was_changed_by_hand_is_refused() {
    let plane = shared();
    let state = planned(plane, "forged");
    plane.kubectl(["label", "node", "forged", "forged-other", "forged.example.org/owner=somebody"]);
    let before = versions(plane, ["forged", "forged-other"]);
    let plan = state.read("plan.json");
    let forged = |from: &str, to: &str, says: &[&str]| {
        assert!(plan.contains(from), "{plan}");
        state.write("plan.json", plan.replace(from, to));
        let ran = state.drover(&["apply", "plan.json", "--yes", "--allow", "running-pods"]).expect(1);
        says.iter().for_each(|said| assert!(ran.err.contains(said), "{said}: {}", ran.err));
        assert_eq!(versions(plane, ["forged", "forged-other"]), before, "nothing is written");
    };
    let stale = "the plan is stale";
    forged(
        "\"to\": \"true\"",
        "\"to\": \"false\"",
        &[stale, "prod/forged train: planned \"false\", now asked for \"true\""],
    );
    forged("\"node\": \"forged\"", "\"node\": \"forged-other\"", &[stale, "prod/forged-other train"]);
    forged("\"node\": \"forged\"", "\"node\": \"../pods/x\"", &[stale, "prod/../pods/x train"]);
    // A label of somebody else's is asked for by nobody, and yet not drover's to remove.
    let change = |key: &str, rest: &str| (format!("\"key\": \"{key}\""), format!("{rest}\"reason\""));
    let (key, _) = change("train", "");
    let (alien, removal) = change("forged.example.org/owner", "\"from\": \"somebody\", ");
    let text = plan.replace(&key, &alien).replace("\"to\": \"true\",", "").replace("\"reason\"", &removal);
    state.write("plan.json", text);
    let ran = state.drover(&["apply", "plan.json", "--yes", "--allow", "running-pods"]).expect(1);
    let said = "the plan removes the label forged.example.org/owner of forged in prod, which drover did not set";
    assert!(ran.err.contains(said), "{}", ran.err);
    assert_eq!(versions(plane, ["forged", "forged-other"]), before, "nothing is written");
}
